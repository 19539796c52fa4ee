"""Tries one mutation in a copy of the project: does the suite notice it, does the simulation?"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

from tests.mutations.catalogue import Mutation
from tests.mutations.worlds import NOTICED

ROOT = Path(__file__).resolve().parent.parent.parent
_NOT_COPIED = (".*", "__pycache__", "build", "*.egg-info")
# Tests of texts and of the package, which are about the files as they are committed; and these tests themselves.
_LEFT_OUT = ("test_packaging", "test_mutations", "test_readme_transcripts")
# Of all others, those that see most go first.
_NEXT = ("trouble", "run", "convergence", "killed", "journal", "suspended", "owed", "orphans", "hostile", "status")
# A suite that takes so many seconds hangs, and a world of the simulation has its own limit.
_LONGEST_S = 1800


class Noticed(NamedTuple):
    """Who notices a mutation, in words; empty: nobody. None: not asked."""

    suite: Optional[str]
    simulation: Optional[str]


def fault_of(mutation: Mutation) -> str:
    """Why a mutation cannot be made; empty if it can."""
    text = (ROOT / mutation.path).read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        return "stands %d times in %s: %r" % (text.count(mutation.old), mutation.path, mutation.old)
    try:
        compile(text.replace(mutation.old, mutation.new), mutation.path, "exec")
    except SyntaxError as error:
        return "%s is no Python with it: %s" % (mutation.path, error)
    missing = [name for name in mutation.tests if not (ROOT / "tests" / ("test_%s.py" % name)).exists()]
    return "no such tests: %s" % ", ".join(missing) if missing else ""


def tried(mutation: Optional[Mutation], suite: bool, seconds: float) -> Noticed:
    """Try a mutation, None for the product as it is: with the suite, and with the simulation for so many seconds of a
    processor, 0 for not at all."""
    with _copy(mutation) as copy:
        return Noticed(
            _suite(copy, mutation.tests if mutation is not None else ()) if suite else None,
            _simulation(copy, seconds) if seconds else None,
        )


@contextmanager
def _copy(mutation: Optional[Mutation]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vmss_mutation_"))
    copy = folder / "project"
    try:
        shutil.copytree(str(ROOT), str(copy), ignore=shutil.ignore_patterns(*_NOT_COPIED))
        if mutation is not None:
            path = copy / mutation.path
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        yield copy
    finally:
        shutil.rmtree(str(folder))


def _run(copy: Path, *words: str) -> Tuple[int, str]:
    """The exit status of a Python process in the copy, and what it printed."""
    done = subprocess.run(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=str(copy),
        # The copy goes before an installed package; and which tests somebody else runs is nothing to it.
        env=dict(os.environ, PYTHONPATH=str(copy), PYTEST_ADDOPTS=""),
        timeout=_LONGEST_S,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _suite(copy: Path, first: Tuple[str, ...]) -> str:
    """The first test that fails, those of these files first."""
    named = ["tests/test_%s.py" % name for name in first]
    then = ["tests/test_%s.py" % name for name in _NEXT if name not in first]
    done = named + then + ["tests/%s.py" % name for name in _LEFT_OUT]
    others = sorted(str(path.relative_to(copy)) for path in (copy / "tests").rglob("test_*.py"))
    rest = [name for name in others if name not in done]
    rest.sort(key=lambda name: "simulation/" in name)  # which takes longest
    for files in (named, then, rest):
        failed = _failed(copy, files) if files else ""
        if failed:
            return failed
    return ""


def _failed(copy: Path, files: List[str]) -> str:
    try:
        status, text = _run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files)
    except subprocess.TimeoutExpired:
        return "it hangs: %s" % " ".join(files)
    if status == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    return failed.group(1) if failed else text[-200:]


def _simulation(copy: Path, seconds: float) -> str:
    status, text = _run(copy, "-m", "tests.mutations.worlds", str(seconds))
    last = (text.strip().splitlines() or ["nothing"])[-1]
    if status not in (0, NOTICED):
        return "it does not even begin: %s" % last
    return last if status == NOTICED else ""
