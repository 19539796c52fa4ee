"""A server from before July 2024, such as XCP-ng 8.2, which has no `get_all_where`."""

import re
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from tests.front import Front
from tests.pool import TestPool
from tests.test_commands import vmss
from vmss.core.pruning import DELETED, Prune
from vmss.edges.xapi import Refused, Xapi

CLASSES = ("VM", "VDI", "VBD", "SR", "host_metrics")
ROOT = Path(__file__).resolve().parent.parent


def forget_where(pool: TestPool) -> None:
    """From here on the server is an older one."""
    for cls in CLASSES:
        method = cls + ".get_all_where"
        error = '["MESSAGE_METHOD_UNKNOWN", "%s"]' % method
        rule = {"method": method, "action": "error", "error": error, "count": "0"}
        pool.call("simulator.add_fault", rule)


@pytest.fixture
def used(pool: TestPool) -> TestPool:
    """Two VMs with snapshots, and two on no schedule, of which one has some."""
    vms = [pool.vm(name, [pool.sr(name)]) for name in ("one", "two", "off", "never")]
    pool.policy(vms[:3], "nightly")
    for hour in (9, 10):
        pool.at(hour, 15)
        pool.tick()
    pool.call("VM.set_snapshot_schedule", vms[2], "OpaqueRef:NULL")
    pool.call("VM.add_tags", vms[3], "test")
    return pool


@pytest.fixture
def xapi(used: TestPool) -> Iterator[Xapi]:
    xapi = Xapi(used.place.xapi)
    xapi.login("root", "")
    yield xapi
    xapi.close()


def test_only_one_module_asks_for_references_by_a_condition() -> None:
    asking = [path for path in (ROOT / "vmss").glob("*/**/*.py") if "get_all_where" in path.read_text(encoding="utf-8")]
    assert {str(path.relative_to(ROOT)) for path in asking if "simulator" not in path.parts} == {"vmss/edges/xapi.py"}


@pytest.mark.parametrize("cls", CLASSES)
def test_it_tells_references_with_their_records(used: TestPool, xapi: Xapi, cls: str) -> None:
    newer = sorted(xapi.refs(cls, "true"))
    assert newer
    forget_where(used)
    assert sorted(xapi.refs(cls, "true")) == newer
    assert xapi.refs("VM", 'field "name__label" = "one"') == used.call("VM.get_by_name_label", "one")


def test_it_is_asked_for_the_method_that_it_lacks_once(used: TestPool) -> None:
    forget_where(used)
    path = used.socket + ".front"
    front = Front(path, used.socket)
    xapi = Xapi("unix:" + path)
    xapi.login("root", "")
    for _ in range(3):
        xapi.refs("VM", "true")
    xapi.close()
    assert front.calls.count("VM.get_all_where") == 1


def test_another_error_is_one(used: TestPool, xapi: Xapi) -> None:
    with pytest.raises(Refused):
        xapi.refs("VM", "this is no condition")


@pytest.mark.parametrize("words", [["status"], ["metrics"], ["coverage"]])
def test_a_command_says_the_same_of_it(used: TestPool, words: List[str]) -> None:
    def said() -> Any:
        done = vmss(used.folder, *words, VMSS_XAPI=used.place.xapi)
        assert "MESSAGE_METHOD_UNKNOWN" not in done.out + done.err
        # When it was read.
        return done.status, re.sub(r"(?m)^vmss_(read|last).*$", "", done.out)

    newer = said()
    assert newer[0] < 3
    forget_where(used)
    assert said() == newer


def test_a_run_and_a_prune_delete_there_too(used: TestPool) -> None:
    forget_where(used)
    used.at(11, 15)
    assert used.tick().status == 0
    assert [len(used.snapshots(used.call("VM.get_by_name_label", name)[0])) for name in ("one", "off")] == [2, 2]
    assert used.tick(prune=Prune(DELETED)).status == 0
    assert used.snapshots(used.call("VM.get_by_name_label", "off")[0]) == []
