"""docs/xapi-facts.md has every section that a comment refers to, and names files that exist."""

import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Pattern

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/xapi-facts.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
HEADINGS = re.findall("^##+ (.+)$", TEXT, re.MULTILINE)
FACTS: Dict[str, str] = dict(re.findall(r"^### (.+)\n\n((?:.*\n)*?)(?=##|\Z)", TEXT, re.MULTILINE))


def sources() -> Iterator[Path]:
    """The files whose comments may refer to the page; this one only speaks of it."""
    for folder in ("vmss", "tests", "benchmarks", "packaging", "plugins", "cron.d", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path != Path(__file__).resolve() and path.suffix in ("", ".py", ".spec", ".cron"):
                yield path
    yield ROOT / "setup.py"


def documents() -> List[Path]:
    return sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md"))


def wrong_citations(text: str) -> List[str]:
    """What follows the page's name where that is not `, HEADING` and the end of a sentence, a bracket or a line."""
    wrong = []
    for match in re.finditer(re.escape(PAGE), text):
        rest = text[match.end() :]
        if not any(_cited(heading).match(rest) for heading in HEADINGS):
            wrong.append(rest[:60])
    return wrong


def _cited(heading: str) -> Pattern[str]:
    # A comment may be wrapped between any two words.
    words = [re.escape(word) for word in [","] + heading.split(" ")]
    return re.compile(r"(?: |\n[ \t]*#?[ \t]*)".join(words) + r"(?=[).;:\"]|\n|\Z)")


def anchor(heading: str) -> str:
    """The name by which a link reaches a heading, as GitHub forms it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_citation_names_a_section_of_the_page() -> None:
    found = 0
    for path in sources():
        text = path.read_text(encoding="utf-8")
        found += text.count(PAGE)
        assert wrong_citations(text) == [], path
    assert found > 15


@pytest.mark.parametrize(
    "text", ["(%s, No such section)", "(%s, Storage errors and others)", "(%s)", "(%s, f.4)", "(%s, storage errors)"]
)
def test_a_citation_of_nothing_is_seen(text: str) -> None:
    assert len(wrong_citations(text % PAGE)) == 1


@pytest.mark.parametrize(
    "text", ["# (%s, Storage errors)", "# see %s, Storage\n    # errors.\n", "    # %s, Storage errors\n    x = 1\n"]
)
def test_a_citation_may_be_wrapped(text: str) -> None:
    assert wrong_citations(text % PAGE) == []


def test_nothing_refers_to_notes_that_a_stranger_does_not_have() -> None:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bfacts,? [a-z]\.[0-9]|(?<!docs/)xapi-facts\.md", text), path


def test_every_link_to_a_section_leads_to_one() -> None:
    anchors = {anchor(heading) for heading in HEADINGS}
    for path in documents():
        text = path.read_text(encoding="utf-8")
        linked = re.findall(r"xapi-facts\.md#([^)\s]+)", text) + (
            re.findall(r"\]\(#([^)\s]+)\)", text) if path == ROOT / PAGE else []
        )
        assert set(linked) <= anchors, path


def test_every_heading_can_be_told_from_the_others() -> None:
    assert [heading for heading, times in Counter(map(anchor, HEADINGS)).items() if times > 1] == []
    assert len(FACTS) == TEXT.count("\n### ")
    for heading in HEADINGS:
        assert [other for other in HEADINGS if _cited(heading).match(", " + other)] == [heading]


@pytest.mark.parametrize("heading", sorted(FACTS))
def test_every_fact_says_where_it_comes_from_and_who_relies_on_it(heading: str) -> None:
    text = " ".join(FACTS[heading].split())
    assert re.search(r"\*Source:\* |\bObserved|\bsource in xen-api\b|tests/simulator/golden", text)
    assert "*Relied on by:* `" in text


@pytest.mark.parametrize("name", [PAGE, "SECURITY.md"])
def test_the_files_that_a_page_names_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:vmss|tests|benchmarks|packaging|plugins|cron\.d|docs)/[\w./-]+)`", text)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
