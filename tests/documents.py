"""The documents of this repository, as tests read them."""

import re
from pathlib import Path
from typing import Iterator, List, Set, Tuple

ROOT = Path(__file__).resolve().parent.parent


def _all() -> Iterator[str]:
    for pattern in ("*.md", "docs/*.md", "benchmarks/README.md", "deploy/*/README.md", "vmss/simulator/README.md"):
        yield from sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


# All documents, by their paths.
DOCUMENTS = tuple(_all())


def read(name: str) -> str:
    """A document."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """A section of a document, without its heading, up to the next heading of the same or a higher level."""
    level = heading.split(" ", 1)[0]
    text = read(name).split("\n%s\n" % heading, 1)[1]
    return re.split(r"^#{1,%d} " % len(level), text, flags=re.MULTILINE)[0]


def table(name: str, heading: str) -> List[str]:
    """The rows of the tables of a document whose first column has this heading, as they are written."""
    rows = re.findall(r"^\| %s \|.*\n\|[-|]+\|\n((?:\|.*\n)*)" % re.escape(heading), read(name), re.MULTILINE)
    assert rows, "%s has no table of %s" % (name, heading)
    return "".join(rows).splitlines()


def blocks(name: str) -> List[Tuple[str, str]]:
    """The blocks of code of a document: the language of each, empty if none is given, and its text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", read(name), re.DOTALL | re.MULTILINE)


def shell_lines(name: str) -> List[str]:
    """The command lines in a document's shell blocks, without their comments."""
    lines = [line for language, text in blocks(name) if language == "sh" for line in text.splitlines()]
    stripped = [re.sub(r"(^|\s{2,})#.*", "", line).strip() for line in lines]
    return [line for line in stripped if line]


def links(name: str) -> List[str]:
    """The targets of a document's links that do not begin with a scheme: `PATH`, `PATH#ANCHOR` or `#ANCHOR`."""
    text = _without_code(read(name))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^]]+\]: +(\S+)", text, re.MULTILINE)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(name: str) -> Set[str]:
    """The anchors that hosting pages give to a document's headings."""
    found: Set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", _without_code(read(name), spans=False), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while anchor + ("-%d" % number if number else "") in found:
            number += 1
        found.add(anchor + ("-%d" % number if number else ""))
    return found


def _without_code(text: str, spans: bool = True) -> str:
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "``", text) if spans else text
