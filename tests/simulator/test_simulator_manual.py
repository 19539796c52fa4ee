"""The manual of the embedded xapi: its examples work, and its tables are complete."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from vmss.simulator import Dropped, Simulator
from vmss.simulator.build import build_pool
from vmss.simulator.command import add_arguments
from vmss.simulator.faults import ACTIONS, Rule, read_rules
from vmss.simulator.lifecycle import WAYS
from vmss.simulator.server import Server
from vmss.simulator.sr_types import SR_TYPES

from .client import Client
from .recordings import RECORDINGS
from .test_simulator_golden import AGREE

ROOT = Path(__file__).resolve().parent.parent.parent
MANUAL = (ROOT / "vmss" / "simulator" / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    """The code blocks of a language, in order."""
    return re.findall(r"^```%s\n(.*?)^```$" % language, MANUAL, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    return MANUAL.split("\n## %s\n" % title)[1].split("\n## ")[0]


def table(text: str) -> Dict[str, List[str]]:
    """The other cells of the rows that begin with a code word, by that word."""
    rows = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `"))
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.fixture
def beside_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Be in a folder where a pool is served at xapi.sock, as in the manual."""
    monkeypatch.chdir(tmp_path)
    sim = Simulator(seed=1)
    build_pool(sim.call)
    with Server(sim, socket="xapi.sock"):
        yield sim


PYTHON = blocks("python")
PLAIN = [block for block in PYTHON if "import pytest" not in block]
TESTS = [block for block in PYTHON if "import pytest" in block]


def test_there_are_examples() -> None:
    assert len(PLAIN) >= 3 and len(TESTS) == 1 and len(blocks("json")) == 3 and len(blocks("sh")) >= 3


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_an_example_works_by_itself(beside_a_pool: Simulator, number: int) -> None:
    source = PLAIN[number]
    exec(compile(source, "example %d of the manual" % number, "exec"), {"__name__": "__main__"})


def test_the_example_of_a_test_file_passes(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(TESTS[0], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"],
        cwd=str(tmp_path), env=dict(os.environ, PYTHONPATH=str(ROOT), PYTEST_ADDOPTS=""), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    output = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, output
    assert "%d passed" % TESTS[0].count("\ndef test_") in output


def test_every_method_of_the_simulator_is_in_the_table_with_its_parameters(sim: Simulator) -> None:
    methods = {name: method for name, method in sim.dispatcher.methods.items() if name.startswith("simulator.")}
    described = table(section("The simulator's own methods"))
    assert set(described) == set(methods)
    for name, method in methods.items():
        assert described[name][0] == ", ".join("%s (%s)" % (p.name, p.type) for p in method.parameters), name
        assert described[name][1], name


def test_every_option_is_mentioned() -> None:
    parser = argparse.ArgumentParser(prog="vmss simulator", add_help=False)
    add_arguments(parser)
    options = set(re.findall(r"--[a-z][a-z-]+", parser.format_usage()))
    assert len(options) >= 16
    mentioned = set(re.findall(r"--[a-z][a-z-]+", MANUAL))
    assert options <= mentioned
    # And none that there is not, but for those of curl and of the replay.
    assert mentioned - options == {"--unix-socket", "--all", "--help"}


def test_every_field_of_a_fault_is_in_the_table_with_its_default() -> None:
    described = table(section("Faults"))
    assert list(described) == list(Rule._fields)
    defaults = Rule("*", "hang")._asdict()
    for name, (default, meaning) in described.items():
        if name in ("method", "action"):
            assert default == "(needed)"
        else:
            value = defaults[name]
            assert default == ("%g" % value if isinstance(value, (int, float)) else value or "")
        assert meaning, name
    assert set(re.findall(r"`(\w+)`", described["action"][1])) == set(ACTIONS)
    assert set(re.findall(r"`(\w+)`", described["way"][1])) - {"restart"} == set(WAYS)


def rules_of(number: int, folder: Path) -> List[Rule]:
    path = folder / "faults.json"
    path.write_text(blocks("json")[number], encoding="utf-8")
    return read_rules(str(path))


def pool_with_fault(number: int, folder: Path) -> Any:
    """A pool that has long been there, a client, and the fault of an example in force."""
    sim = Simulator(seed=1)
    pool = build_pool(sim.call, srs=1)
    sim.call("pool.sync_database", pool.session)
    (rule,) = rules_of(number, folder)
    sim.faults.add(rule)
    return pool, Client(sim, pool.session)


def test_the_first_fault_is_that_of_one_vm(tmp_path: Path) -> None:
    pool, root = pool_with_fault(0, tmp_path)
    for _ in range(2):
        assert root.error("VM.snapshot", pool.vms[0], "x")[0] == "SR_BACKEND_FAILURE_44"
        task = root.task_end(root("Async.VM.snapshot", pool.vms[0], "x"))
        assert task["error_info"][0] == "SR_BACKEND_FAILURE_44"
    assert root("VM.snapshot", pool.vms[1], "x")


def test_the_second_fault_leaves_a_caller_in_the_dark(tmp_path: Path) -> None:
    pool, root = pool_with_fault(1, tmp_path)
    vm = pool.vms[0]
    for _ in range(2):
        root.task_end(root("Async.VM.snapshot", vm, "x"))
    with pytest.raises(Dropped):
        root("Async.VM.snapshot", vm, "x")
    (task,) = root("task.get_all_where", 'field "name__label" = "Async.VM.snapshot" and field "status" = "pending"')
    root.task_end(task)
    assert len(root("VM.get_snapshots", vm)) == 3


def test_the_third_fault_is_the_one_of_the_example_by_method(tmp_path: Path) -> None:
    (rule,) = rules_of(2, tmp_path)
    assert rule == Rule("VDI.snapshot", "restart", when="after", seconds=20.0)
    assert '{"method": "VDI.snapshot", "action": "restart", "when": "after", "seconds": "20"}' in "".join(PLAIN)


def test_every_way_to_end_and_every_type_of_sr_is_explained() -> None:
    assert set(table(section("Death and restart of xapi"))) == set(WAYS)
    storage = section("Storage")
    assert all("`%s`" % kind in storage for kind in SR_TYPES)


def test_the_figures_of_the_replay_are_those_that_are_tested() -> None:
    checked = section("How it is compared with a real xapi")
    assert all("`%s`" % name in checked for name in RECORDINGS)
    assert all(re.search(r"\b%d\b" % count, checked) for count in AGREE.values())
