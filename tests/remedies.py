"""The remedies of the product, found in its source: every text that tells somebody what to do."""

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Set, Tuple

from tests.documents import ROOT

# Where remedies are; `cli` and `xe` have usage texts, and the simulator is no part of what an administrator runs.
FOLDERS = ("core", "edges", "insight", "installation", "passes")

# What has the form of a command, or names a file or a variable to look into.
COMMAND = re.compile(
    r"\bvmss (run|status|doctor|install|next|history|list|show|prune|assign|unassign|coverage|notify|xe)\b"
    r"|\bxe [a-z]+(-[a-z]+)+|xe-toolstack-restart"
    r"|\b(systemctl|chmod|chown|chronyc|timedatectl|kill|mv|rpm|df) [-/+0-9a-zA-Z%{]|VMSS_(XAPI|USER|PASSWORD)\b"
    r"|/(var/log|etc/vmss|etc/cron)"
)
# The argument of a call that is a remedy, and the names of what is one.
ARGUMENT = {"Finding": 4, "Failure": 2, "_alert": 1, "_text": 3, "LockError": 1, "SettingsError": 1}
NAMES = re.compile(r"remedy|_refused\Z|_set_again\Z")


def remedies() -> Dict[str, str]:
    """The texts, as they stand in the source with their `%s`, and where each is."""
    found: Dict[str, str] = {}
    for path in _sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node, text in _of_module(tree):
            found.setdefault(text, "%s:%d" % (path.relative_to(ROOT), getattr(node, "lineno", 0)))
    return found


def _sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / "vmss" / folder).rglob("*.py"))
    yield ROOT / "vmss" / "plugin.py"


def _of_module(tree: ast.Module) -> Iterator[Tuple[ast.AST, str]]:
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    docs = _docstrings(tree)
    for node in ast.walk(tree):
        text = _constant(node)
        if text is not None and id(node) not in docs and " " in text and COMMAND.search(text):
            yield node, text
        for value in _remedies_of(node):
            for text in _texts(value, constants):
                if text.strip(" ;:.") and not re.match(r"%s\.?\Z", text):
                    yield node, text


def _docstrings(tree: ast.Module) -> Set[int]:
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _constant(node: ast.AST) -> Optional[str]:
    value = node.value if isinstance(node, ast.Constant) else getattr(node, "s", None)  # `s` on Python 3.6
    return value if isinstance(value, str) else None


def _remedies_of(node: ast.AST) -> Iterator[ast.AST]:
    """The expressions in a node whose value is a remedy."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        at = ARGUMENT.get(name)
        if at is not None and len(node.args) > at:
            yield node.args[at]
        if at is not None:
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "remedy")
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "remedy":
        yield node.value
    elif isinstance(node, ast.FunctionDef) and NAMES.search(node.name):
        yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value is not None)


def _texts(node: ast.AST, constants: Mapping[str, ast.AST]) -> Iterator[str]:
    """The texts that an expression may be, with what is filled in left out."""
    text = _constant(node)
    if text is not None:
        yield text
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        yield from _texts(node.left, constants)
    elif isinstance(node, ast.BinOp):
        yield from _texts(node.left, constants)
        yield from _texts(node.right, constants)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, constants)
        yield from _texts(node.orelse, constants)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        yield from _texts(node.func.value, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from _texts(constants[node.id], constants)
