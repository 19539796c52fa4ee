"""The documents say what is true: their tables are those of the code."""

import ast
import inspect
import os
import re
import textwrap
from typing import Iterator

import pytest

from tests.documents import DOCUMENTS, ROOT, anchors, links, read, table
from vmss.core import failures, messages, plan
from vmss.edges.settings import Settings
from vmss.edges.settings_table import SETTINGS, described, shown
from vmss.insight.checks import CHECKS
from vmss.installation.install import FILES
from vmss.passes import orphans


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in links(name):
        path, _, anchor = target.partition("#")
        place = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
        assert (ROOT / place).exists(), "%s: %s" % (name, target)
        if anchor:
            assert anchor in anchors(place), "%s: %s" % (name, target)


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {"README.md"}
    while new:
        name = new.pop()
        reached.add(name)
        targets = {os.path.normpath(os.path.join(os.path.dirname(name), link.split("#")[0])) for link in links(name)}
        new |= {target for target in targets if target in DOCUMENTS and target not in reached}
    assert reached == set(DOCUMENTS)


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 140


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "SECURITY.md"])
def test_every_file_that_is_named_exists(name: str) -> None:
    named = re.findall(r"`((?:vmss|tests|docs|packaging|plugins|cron\.d|benchmarks|\.ci|\.git)[\w./*-]*)`", read(name))
    for path in named:
        assert "/" not in path or list(ROOT.glob(path)), "%s: %s" % (name, path)


def test_every_setting_is_in_the_table_with_its_default_and_reason() -> None:
    rows = table("docs/settings.md", "setting")
    for setting in SETTINGS:
        default = getattr(Settings(), setting.name)
        text = shown(default)
        assert "| `%s` | %s | %s |" % (setting.name, text or "(empty)", described(setting)) in rows
    assert len(rows) == len(SETTINGS)


def test_every_check_of_the_doctor_is_in_the_table() -> None:
    assert [row.split("`")[1] for row in table("docs/monitoring.md", "check")] == [check.name for check in CHECKS]


def test_every_installed_file_is_in_the_tables() -> None:
    rows = "".join(table("docs/install.md", "file"))
    for file in FILES:
        assert "`%s`" % file.path in rows


def test_every_alert_is_in_the_table_with_its_priority() -> None:
    rows = table("docs/alerts-and-log.md", "alert")
    for name, priority in messages.PRIORITIES.items():
        assert any(row.startswith("| `%s` | %d |" % (name, priority)) for row in rows), name
    assert len(rows) == len(messages.PRIORITIES)


def test_every_error_of_our_own_is_in_the_table() -> None:
    rows = table("docs/alerts-and-log.md", "error")
    ours = [code for code in failures.CATALOGUE if code.startswith("VMSS_")]
    assert [row.split("`")[1] for row in rows] == ours


def _texts(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may be, as they stand in the source: `%` and what is filled in left out."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        yield from _texts(node.left)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    else:
        text = node.value if isinstance(node, ast.Constant) else getattr(node, "s", None)  # `s` on Python 3.6
        if isinstance(text, str):
            yield text


def _log_lines() -> Iterator[str]:
    """The texts of all lines that the code writes to the log."""
    for path in sorted(set((ROOT / "vmss").rglob("*.py")) - set((ROOT / "vmss" / "simulator").rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ("log", "_log"):
                    yield from _texts(node.args[0])
    for lines in (plan.left_alone, orphans.Orphan.line.fget):  # type: ignore[attr-defined]
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(lines)))):
            if isinstance(node, (ast.Yield, ast.Return)) and node.value:
                yield from _texts(node.value)


def test_every_line_of_the_log_is_explained() -> None:
    lines = [line for line in _log_lines() if line != "%s"]
    assert len(lines) > 35
    rows = [row.split(" | ")[0] for row in table("docs/alerts-and-log.md", "text")]
    for line in lines:
        parts = [re.escape(part) for part in re.split("%[sd]", line)]
        assert any(re.search("`%s`" % ".+?".join(parts), row) for row in rows), line


def test_every_remedy_is_a_sentence() -> None:
    for code, failure in failures.CATALOGUE.items():
        assert failure.remedy.endswith(".") and not failure.sentence.endswith("."), code
        assert failure.kind in (failures.TRANSIENT, failures.PERMANENT, failures.OUTCOME_UNKNOWN, failures.OPERATOR)
