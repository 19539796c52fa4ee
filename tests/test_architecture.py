"""The house of docs/architecture.md: who may import whom, what the core may know, and that each module loads alone."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set

import pytest

from tests.simulation.share import share

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vmss"

# Each floor may import from itself and from those below it.
FLOORS = ("core", "edges", "installation", "passes", "insight", "xe", "cli")
# What stands on top: it may import from all floors but cli.
ENTRY_POINTS = ("vmss", "vmss.plugin", "vmss.demo", "vmss.version")
# Who may reach for the terminal's words, and who for the embedded xapi.
MAY_IMPORT_CLI = ("vmss.__main__",)
MAY_IMPORT_SIMULATOR = ("vmss.demo", "vmss.cli.commands.simulator")

# A command reads and changes the pool through insight, passes and xe. It needs the edges only to know where things are,
# and to be stopped; the commands of xe are calls of xapi.
COMMANDS_MAY_IMPORT = ("vmss.edges.settings", "vmss.edges.settings_file", "vmss.edges.surroundings", "vmss.edges.stop")
XE = "vmss.cli.commands.xe"

# The core decides: it needs no module that could read a file, a clock or a socket.
CORE_MAY_IMPORT = {
    "bisect", "calendar", "collections", "contextlib", "dateutil.parser", "datetime", "difflib", "enum", "functools",
    "fnmatch", "heapq", "itertools", "math", "re", "typing", "unicodedata",
}  # fmt: skip


class Import(NamedTuple):
    """One import: by which module, in which line, of which module, and the names that are taken from it."""

    by: str
    line: int
    of: str
    names: List[str]

    def __str__(self) -> str:
        return "%s:%d imports %s" % (self.by, self.line, self.of)


def modules() -> Dict[str, Path]:
    """All modules of the package, by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "data" in path.relative_to(PACKAGE).parts:
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def absolute(name: str, node: ast.ImportFrom) -> str:
    """The module that names are imported from, also where it is given relative to the one that imports."""
    if not node.level:
        return str(node.module)
    parts = name.split(".")
    package = parts if MODULES[name].name == "__init__.py" else parts[:-1]
    return ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else []))


def imports(name: str, tree: ast.AST) -> Iterator[Import]:
    """The imports in a module, those inside functions too; `from vmss.core import plan` imports vmss.core.plan."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name, [])
        elif isinstance(node, ast.ImportFrom):
            base, taken = absolute(name, node), []
            for alias in node.names:
                if base + "." + alias.name in MODULES:
                    yield Import(name, node.lineno, base + "." + alias.name, [])
                else:
                    taken.append(alias.name)
            if taken:
                yield Import(name, node.lineno, base, taken)


class Loaded(ast.NodeTransformer):
    """Leaves of a module what runs when it is loaded: no functions, and nothing that only type checkers see."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return ast.Pass()

    def visit_If(self, node: ast.If) -> ast.AST:
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return ast.Pass() if checking else self.generic_visit(node)


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
IMPORTS = [item for name, tree in TREES.items() for item in imports(name, tree)]
NOT_OURS = sorted({item.of for item in IMPORTS if item.of.partition(".")[0] != "vmss"})


def floor(module: str) -> int:
    """The number of a module's floor; those of the entry points have one above all but cli's."""
    parts = module.split(".")
    if module == "vmss.version":  # a constant: metrics have it too
        return 0
    if len(parts) > 1 and parts[1] in FLOORS:
        return FLOORS.index(parts[1])
    return FLOORS.index("cli")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def broken(items: List[Import]) -> List[str]:
    """What is wrong with these imports, in lines."""
    wrong = []
    for item in items:
        ours, simulator = within(item.of, "vmss"), within(item.of, "vmss.simulator")
        if within(item.by, "vmss.simulator"):
            if ours and not simulator:
                wrong.append("%s: the embedded xapi knows nothing of the product" % str(item))
        elif simulator:
            if item.by not in MAY_IMPORT_SIMULATOR:
                wrong.append("%s: only %s may" % (str(item), " and ".join(MAY_IMPORT_SIMULATOR)))
        elif within(item.of, "vmss.cli") and not within(item.by, "vmss.cli"):
            if item.by not in MAY_IMPORT_CLI:
                wrong.append("%s: only %s may" % (str(item), " and ".join(MAY_IMPORT_CLI)))
        elif within(item.by, "vmss.cli.commands") and within(item.of, "vmss.cli.commands"):
            wrong.append("%s: what commands share is in vmss.cli" % str(item))
        elif within(item.by, "vmss.cli.commands") and within(item.of, "vmss.edges") and item.by != XE:
            if item.of not in COMMANDS_MAY_IMPORT:
                wrong.append("%s: a command only parses words, calls and prints" % str(item))
        elif ours and floor(item.of) > floor(item.by):
            wrong.append("%s: that is upwards" % str(item))
        elif not ours and within(item.by, "vmss.core") and item.of not in CORE_MAY_IMPORT:
            wrong.append("%s: the core has no use for it" % str(item))
        wrong += ["%s: %s is private" % (str(item), taken) for taken in item.names if ours and taken.startswith("_")]
    return wrong


def test_nothing_is_imported_upwards_and_nothing_that_is_not_allowed() -> None:
    assert broken(IMPORTS) == []


@pytest.mark.parametrize(
    "by, line",
    [
        ("vmss.core.plan", "from vmss.edges import world"),
        ("vmss.core.plan", "import socket"),
        ("vmss.core.plan", "import XenAPI"),
        ("vmss.edges.world", "from vmss.passes.run import run"),
        ("vmss.passes.run", "from vmss.insight import state"),
        ("vmss.insight.state", "from vmss.cli import tables"),
        ("vmss.cli.commands.show", "from vmss.cli.commands import list"),
        ("vmss.cli.commands.show", "from vmss.edges import world"),
        ("vmss.plugin", "from vmss.cli.main import main"),
        ("vmss.xe.errors", "from vmss.simulator import datamodel"),
        ("vmss.simulator.server", "from vmss.core.text import one_line"),
        ("vmss.passes.run", "from vmss.edges.world import _vm"),
    ],
)
def test_a_broken_layer_is_seen(by: str, line: str) -> None:
    assert by in MODULES
    assert len(broken(list(imports(by, ast.parse(line))))) == 1


def test_every_folder_is_a_floor_and_every_module_stands_on_one() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(FLOORS) | {"simulator"}
    loose = {name for name in MODULES if len(name.split(".")) <= 2} - {"vmss." + folder for folder in folders}
    assert loose == set(ENTRY_POINTS) | set(MAY_IMPORT_CLI)


def test_nobody_reaches_for_the_private_names_of_another_module() -> None:
    wrong = []
    for name, tree in TREES.items():
        known: Set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and within(str(node.module), "vmss"):
                taken = [(alias.asname or alias.name, "%s.%s" % (node.module, alias.name)) for alias in node.names]
                known.update(local for local, full in taken if full in MODULES)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                wrong += ["%s:%d: %s.%s" % (name, node.lineno, node.value.id, node.attr)] if private else []
    assert wrong == []


def test_the_product_does_not_read_the_files_of_the_embedded_xapi() -> None:
    for name, path in MODULES.items():
        if not within(name, "vmss.simulator"):
            assert "datamodel.json" not in path.read_text(encoding="utf-8"), name


# A module that loads only after another one has been loaded hides a circle. A process that has loaded nothing of ours
# divides itself for each module. What is not ours it has loaded: that is most of the work, and hides no circle of ours.
_EACH_FIRST = """
import contextlib, importlib, os, sys, traceback
failed = 0
not_ours, *names = sys.argv[1:]
for name in not_ours.split(","):
    with contextlib.suppress(ImportError):  # some do without
        importlib.import_module(name)
for name in names:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            print("== import %s first" % name, flush=True)
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(1)
        os._exit(0)
    failed += bool(os.waitpid(child, 0)[1])
sys.exit(bool(failed))
"""


def test_every_module_can_be_the_first_to_be_imported() -> None:
    names = share(name for name in MODULES if name != "vmss.__main__")
    done = subprocess.run(
        [sys.executable, "-c", _EACH_FIRST, ",".join(NOT_OURS)] + names,
        cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")


def cycles(edges: Dict[str, Set[str]]) -> List[str]:
    """The modules that lie on a circle of imports."""
    reached = {}
    for start in edges:
        seen, todo = set(), list(edges[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo.extend(edges.get(name, ()))
        reached[start] = seen
    return sorted(name for name in edges if name in reached[name])


def packages_above(module: str) -> Iterator[str]:
    """The packages that a module lies in: their `__init__` runs before it does."""
    while "." in module:
        module = module.rsplit(".", 1)[0]
        yield module


def loads(name: str, tree: ast.AST) -> Set[str]:
    """The modules that loading this one loads: those it imports, and the packages around them.

    Its own packages are none of them: whoever imports the module has loaded them before.
    """
    of = {item.of for item in imports(name, Loaded().visit(tree)) if item.of in MODULES}
    around = {package for module in of for package in packages_above(module)}
    return of | {package for package in around if not within(name, package)}


def test_no_imports_go_in_a_circle() -> None:
    edges = {name: loads(name, ast.parse(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()}
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert cycles(edges) == []


def test_a_package_that_imports_its_modules_is_part_of_a_circle() -> None:
    edges = {
        "vmss.simulator.lifecycle": "from .classes.vm import power_off",
        "vmss.simulator.classes": "from . import host, vm",
        "vmss.simulator.classes.host": "from .. import lifecycle",
        "vmss.simulator.classes.vm": "from ..errors import XapiError",
    }
    circle = ["vmss.simulator.classes", "vmss.simulator.classes.host", "vmss.simulator.lifecycle"]
    assert cycles({name: loads(name, ast.parse(line)) for name, line in edges.items()}) == circle


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    for name, tree in TREES.items():
        assert isinstance(tree, ast.Module)
        first = (ast.get_docstring(tree) or "").split("\n")[0]
        assert first.endswith((".", ":")), "%s: %r" % (name, first)
