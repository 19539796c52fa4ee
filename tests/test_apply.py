"""`vmss apply` and `vmss export`: schedules as data, brought to a pool, told beforehand, and copied to another pool."""

import io
import json
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import ROOT
from tests.front import Front, Lose
from tests.pool import VM, TestPool
from tests.terminal import on_terminal
from tests.test_assign import Command, rows, schedule_of
from tests.test_assign import vmss as command_line
from tests.test_commands import tls
from tests.test_commands import vmss as command
from vmss.core import differences
from vmss.core.declared import Declared, document, exactly, read
from vmss.core.differences import UNCHANGED
from vmss.core.frequencies import FREQUENCIES
from vmss.core.policy import TYPES, from_record
from vmss.core.problem import BadInput
from vmss.core.records import NULL
from vmss.edges.sessions import NoSession
from vmss.edges.settings import parsed
from vmss.edges.settings_table import OF_A_SCHEDULE, TABLE
from vmss.edges.xapi import Xapi
from vmss.insight import declarations
from vmss.insight.reading import reading
from vmss.passes import applying

vmss, https = command_line, tls  # fixtures

NIGHTLY: Dict[str, Any] = {
    "description": "every VM of production",
    "enabled": True,
    "type": "snapshot",
    "frequency": "daily",
    "schedule": {"min": 30, "hour": 2},
    "retained_snapshots": 7,
}
ABSENT = "00000000-0000-0000-0000-000000000000"


def written(folder: Path, name: str = "schedules.json", **schedules: Any) -> str:
    path = folder / name
    path.write_text(json.dumps({"version": 1, "schedules": schedules}), encoding="utf-8")
    return str(path)


def records(pool: TestPool) -> Dict[str, Dict[str, Any]]:
    """The schedules of a pool by name, as xapi has them, without what differs in each pool."""
    own = ("uuid", "VMs", "last_run_time", "name_label")
    return {
        str(record["name_label"]): {key: value for key, value in record.items() if key not in own}
        for record in pool.call("VMSS.get_all_records").values()
    }


def told(said: Tuple[int, str, str]) -> List[Tuple[Any, ...]]:
    return [(row["schedule"], row["change"], row["from"], row["to"], row["result"]) for row in rows(said)]


# What is done


def test_schedules_are_made_as_declared_and_a_second_time_there_is_nothing_to_do(pool: TestPool, vmss: Command) -> None:
    file = written(
        pool.folder,
        nightly=NIGHTLY,
        weekly={
            "type": "checkpoint",
            "frequency": "weekly",
            "schedule": {"days": ["Friday", "monday"]},
            "enabled": False,
        },
    )
    made = [
        ("nightly", "create", None, "every day at 02:30, snapshot, keeps 7"),
        ("weekly", "create", None, "Mondays and Fridays at 00:00, checkpoint, keeps 7, disabled"),
    ]
    said = vmss("apply", file, "--dry-run")
    assert said[::2] == (0, "") and said[1].endswith("2 schedules would be created; nothing was changed\n")
    assert told(vmss("apply", file, "--dry-run", "--json")) == [row + ("to do",) for row in made]
    assert records(pool) == {}
    words = ("apply", file, "--dry-run", "--color", "never")
    where, conf = pool.place.xapi, pool.place.config
    screen = on_terminal(*words, width=80, VMSS_XAPI=where, VMSS_CONFIG=conf)
    assert "every day at" in screen and "…" not in screen and max(map(len, screen.splitlines()[1:6])) <= 80
    assert told(vmss("apply", file, "--json")) == [row + ("done",) for row in made]
    assert records(pool) == {
        "nightly": {
            "name_description": "every VM of production", "enabled": True, "type": "snapshot", "frequency": "daily",
            "schedule": {"min": "30", "hour": "2"}, "retained_snapshots": "7",
        },
        "weekly": {
            "name_description": "", "enabled": False, "type": "checkpoint", "frequency": "weekly",
            "schedule": {"min": "0", "hour": "0", "days": "Monday,Friday"}, "retained_snapshots": "7",
        },
    }  # fmt: skip
    uuids = {pool.uuid("VMSS", ref) for ref in pool.call("VMSS.get_all")}
    found = rows(vmss("apply", file, "--json"))
    assert [row["result"] for row in found] == ["unchanged"] * 2 and {row["uuid"] for row in found} == uuids
    assert vmss("apply", file)[1].endswith("2 schedules unchanged\n")


def test_each_difference_is_told_and_what_the_file_does_not_say_stays(pool: TestPool, vmss: Command) -> None:
    vm = pool.vm("web")
    pool.policy([vm], "nightly", name_description="old", schedule={"min": "15"}, retained_snapshots="9", enabled=False)
    pool.policy(name="other")
    file = written(
        pool.folder,
        nightly={
            "description": "new",
            "enabled": True,
            "type": "checkpoint",
            "frequency": "weekly",
            "schedule": {"min": 45, "hour": "22", "days": "Sunday"},
            "retained_snapshots": 3,
        },
    )
    before = records(pool)
    changes = [
        ("nightly", "description", "old", "new"),
        ("nightly", "type", "snapshot", "checkpoint"),
        ("nightly", "schedule", "every hour at :15", "Sundays at 22:45"),
        ("nightly", "retained_snapshots", 9, 3),
        ("nightly", "enabled", False, True),
    ]
    status, out, err = vmss("apply", file, "--dry-run", "--json")
    assert told((status, out, err))[:-1] == [row + ("to do",) for row in changes] and records(pool) == before
    assert "'nightly' keeps 3 snapshots of each VM instead of 9: its next runs delete older ones" in err
    assert told(vmss("apply", file, "--json")) == [row + ("done",) for row in changes] + [
        ("other", None, None, "every hour at :15, snapshot, keeps 2", "not declared")
    ]
    after = records(pool)
    assert after["nightly"]["schedule"] == {"min": "45", "hour": "22", "days": "Sunday"}
    assert after["other"] == before["other"] and schedule_of(pool, vm) == "nightly"
    # Lines end in the pool as in XML, whatever they end with here.
    lines = written(pool.folder, nightly={"description": "one\r\ntwo\rthree"})
    assert vmss("apply", lines)[0] == 0 and records(pool)["nightly"]["name_description"] == "one\ntwo\nthree"
    assert vmss("apply", lines)[1].endswith("1 schedule unchanged; 1 schedule not declared, and left alone\n")
    after = records(pool)
    # One field alone.
    assert vmss("apply", written(pool.folder, nightly={"enabled": False}))[0] == 0
    assert records(pool)["nightly"] == dict(after["nightly"], enabled=False)
    assert vmss("apply", written(pool.folder, nightly={"schedule": {"hour": 3}}))[0] == 0
    assert records(pool)["nightly"]["schedule"] == {"min": "45", "hour": "3", "days": "Sunday"}


def test_vms_are_put_on_schedules_and_what_goes_is_told(pool: TestPool, vmss: Command) -> None:
    web, db, tagged, old = (pool.vm(name, [pool.sr(name)]) for name in ("web1", "db[1]", "mail", "old"))
    pool.policy([old, db], "nightly", retained_snapshots="7")
    pool.call("VM.add_tags", tagged, "production")
    for hour in (10, 11, 12, 13):
        pool.at(hour, 15)
        pool.tick()
    file = written(
        pool.folder,
        nightly={"vms": {"names": ["web*", "absent*"], "tags": ["production"]}},
        few={"type": "snapshot", "frequency": "hourly", "schedule": {"min": 30}, "retained_snapshots": 2,
             "vms": {"uuids": [pool.uuid("VM", db).upper()]}},
    )  # fmt: skip
    status, out, err = vmss("apply", file, "--json")
    moved = [(row["schedule"], row["vm"], row["from"], row["result"]) for row in json.loads(out) if row["vm"]]
    assert status == 0 and moved == [
        ("few", "db[1]", "nightly", "done"), ("nightly", "web1", None, "done"), ("nightly", "mail", None, "done"),
    ]  # fmt: skip
    assert [schedule_of(pool, vm) for vm in (web, db, tagged, old)] == ["nightly", "few", "nightly", "nightly"]
    assert "'few' keeps 2 snapshots of each VM: its next run deletes 3 older ones of 'db[1]'" in err
    assert "schedule 'nightly': no VM has a name that matches 'absent*'" in err
    assert "2 VMs of 'nightly' are not in the document: left on it" in err
    gone = [row["deletes"] for row in json.loads(out) if row["vm"] == "db[1]"][0]
    before = [snapshot["uuid"] for snapshot in pool.snapshots(db)]
    pool.at(13, 30)
    pool.tick()
    assert gone == before[:3] and [one["uuid"] for one in pool.snapshots(db)][:-1] == before[3:]
    assert vmss("apply", file)[1].endswith("2 schedules unchanged\n")


def test_what_is_not_declared_is_deleted_on_request_only_and_its_snapshots_stay(pool: TestPool, vmss: Command) -> None:
    vms = [pool.vm(name, [pool.sr(name)]) for name in ("one", "two")]
    pool.policy(vms, "old")
    pool.at(10, 15)
    pool.tick()
    file = written(pool.folder, nightly=dict(NIGHTLY, vms={"names": ["two"]}))
    assert vmss("apply", file, "--dry-run", "--delete-others")[0] == 0 and list(records(pool)) == ["old"]
    assert vmss("apply", written(pool.folder, "a.json", nightly=NIGHTLY))[1].endswith(
        "1 schedule created; 1 schedule not declared, and left alone\n"
    )
    status, out, err = vmss("apply", file, "--delete-others")
    assert status == 0 and out.endswith("1 schedule deleted; 1 VM put on schedules; 1 schedule unchanged\n")
    assert "'old' is deleted: 1 VM of it is on no schedule then, and no run deletes their snapshots" in err
    assert list(records(pool)) == ["nightly"] and [schedule_of(pool, vm) for vm in vms] == ["", "nightly"]
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]


def test_what_xapi_refuses_is_told_and_the_rest_is_done(pool: TestPool, vmss: Command) -> None:
    vm = pool.vm("web")
    pool.policy(name="nightly", enabled=False)
    pool.call("simulator.restrict", "VSS", True)
    quiesced: Dict[str, Any] = {"type": "snapshot_with_quiesce"}
    wanted: Dict[str, Any] = {
        "a": {**NIGHTLY, **quiesced, "vms": {"names": ["web"]}},
        "nightly": dict(quiesced, description="new", enabled=True),
        "weekly": NIGHTLY,
    }
    file = written(pool.folder, **wanted)
    status, out, err = vmss("apply", file, "--json")
    assert status == 1 and [(row["schedule"], row["change"], row["result"]) for row in json.loads(out)] == [
        ("a", "create", "refused"),
        ("nightly", "description", "done"),
        ("nightly", "type", "refused"),
        ("nightly", "enabled", "not done"),
        ("weekly", "create", "done"),
        ("a", "VM", "not done"),
    ]
    assert "nightly: type: " in err and "(LICENCE_RESTRICTION VSS)" in err and schedule_of(pool, vm) == ""
    # Mended, the next run does the rest.
    for schedule in wanted.values():
        schedule["type"] = "snapshot"
    written(pool.folder, **wanted)
    assert vmss("apply", file)[0] == 0 and records(pool)["nightly"]["enabled"] is True
    assert schedule_of(pool, vm) == "a" and vmss("apply", file)[1].endswith("3 schedules unchanged\n")


def test_between_the_two_calls_of_a_new_frequency_no_schedule_runs_at_a_time_that_nobody_chose(
    pool: TestPool, vmss: Command
) -> None:
    pool.policy(name="nightly", frequency="daily", schedule={"hour": "2", "min": "30"})
    fault = {"method": "VMSS.set_frequency", "action": "error", "error": '["INTERNAL_ERROR", "stuck"]', "count": "1"}
    pool.call("simulator.add_fault", fault)
    new = {"frequency": "weekly", "schedule": {"hour": 22, "min": 45, "days": ["Friday"]}}
    file = written(pool.folder, nightly=dict(new, enabled=False))
    status, _, err = vmss("apply", file)
    assert status == 1 and "nightly: schedule: " in err
    found = records(pool)["nightly"]
    # It was to rest, and rests before all else.
    assert (found["frequency"], found["enabled"]) == ("daily", False)
    assert found["schedule"] == {"hour": "22", "min": "45", "days": "Friday"}
    assert vmss("apply", file)[0] == 0 and records(pool)["nightly"] == dict(found, frequency="weekly")


def test_it_works_over_https(tmp_path: Path, https: Dict[str, str]) -> None:
    xapi = Xapi(https["VMSS_XAPI"], ca_file=str(tmp_path / "crt"))
    xapi.login("root", https["VMSS_PASSWORD"])
    vm = xapi.call("VM.create", dict(VM, name_label="web"))
    ended = command(tmp_path, "apply", written(tmp_path, nightly=dict(NIGHTLY, vms={"names": ["web"]})), **https)
    assert (ended.status, ended.err) == (0, "") and ended.out.endswith("1 schedule created; 1 VM put on schedules\n")
    assert xapi.call("VM.get_snapshot_schedule", vm) != NULL
    xapi.close()


# What is not done


@pytest.mark.parametrize(
    "schedules, why",
    [
        ([], "schedules: a list is not a map"),
        ({"": {}}, "schedules: a name must not be empty"),
        ({"n\r": NIGHTLY}, "schedule 'n\\x0d': a name must not have a carriage return"),
        ({"n": []}, "schedule 'n': a list is not a map"),
        ({"n": {"retaind": 7}}, "schedule 'n': there is no key 'retaind'"),
        ({"n": {"retained": 7}}, "schedule 'n': there is no key 'retained': did you mean 'retained_snapshots'?"),
        ({"n": {"retained_snapshots": 11}}, "schedule 'n': retained_snapshots: '11' is not within 1 to 10"),
        ({"n": {"retained_snapshots": 7.5}}, "schedule 'n': retained_snapshots: '7.5' is neither a number nor a text"),
        ({"n": {"enabled": "yes"}}, "schedule 'n': enabled: 'yes' is neither true nor false"),
        ({"n": {"type": "disk"}}, "'disk' is not one of snapshot, checkpoint, snapshot_with_quiesce"),
        ({"n": {"frequency": ["daily"]}}, "schedule 'n': frequency: a list is not one of hourly, daily, weekly"),
        ({"n": {"schedule": {"minute": 0}}}, "schedule 'n': schedule: there is no key 'minute'"),
        ({"n": {"schedule": {"min": 10}}}, "schedule 'n': schedule:min: '10' is not 0, 15, 30 or 45"),
        ({"n": {"schedule": {"days": "Sonntag"}}}, "schedule:days: 'Sonntag' is not a list of English day names"),
        ({"n": {"schedule": {"days": ["Monday", "monday"]}}}, "schedule:days: 'Monday,monday' has a day twice"),
        (
            {"n": {"frequency": "hourly", "schedule": {"hour": 2}}},
            "schedule:hour: a schedule that is hourly has only min",
        ),
        ({"n": {"description": 7}}, "schedule 'n': description: '7' is not a text"),
        ({"n": {"description": "a\0b"}}, "schedule 'n': description: 'a\\x00b' has a character that xapi cannot store"),
        ({"n": {"description": "x" * 10001}}, "is longer than 10000 characters"),
        ({"n": {"vms": ["web"]}}, "schedule 'n': vms: a list is not a map"),
        ({"n": {"vms": {"names": "web*"}}}, "schedule 'n': vms: names: 'web*' is not a list"),
        ({"n": {"vms": {"uuids": ["web"]}}}, "schedule 'n': vms: uuids: 'web' is no uuid"),
        (
            {"old": {"vms": {"uuids": [ABSENT]}}},
            "is the uuid of no VM, or of a template, snapshot or dom0: nothing was",
        ),
        (
            {"n": {"enabled": True}},
            "schedule 'n': type is missing: the pool has no such schedule, and a new one needs it",
        ),
        ({"old": {"schedule": {"hour": 2}}}, "'old': schedule:hour: a schedule that is hourly has only min"),
        ({"two": {"enabled": False}}, "schedule 'two': 2 schedules of the pool have this name: "),
        (
            {"a": dict(NIGHTLY, vms={"names": ["w*"]}), "b": dict(NIGHTLY, vms={"names": ["web"]})},
            "schedules 'a' and 'b': the VM 'web' is meant by both, and can be on one only: nothing was changed",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_place_and_nothing_is_changed(
    pool: TestPool, vmss: Command, schedules: Any, why: str
) -> None:
    pool.vm("web")
    for name in ("old", "two", "two"):
        pool.policy(name=name)
    before = pool.call("VMSS.get_all_records")
    path = pool.folder / "a\nfile.json"
    whole = {"z": NIGHTLY} if isinstance(schedules, dict) else {}
    path.write_text(json.dumps({"version": 1, "schedules": dict(schedules, **whole) if whole else schedules}))
    status, out, err = vmss("apply", str(path))
    assert (status, out) == (2, "") and len(err.splitlines()) == 1, err
    assert err.startswith("vmss: %s/a\\x0afile.json: " % pool.folder) and why in err
    assert pool.call("VMSS.get_all_records") == before


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "is empty"),
        ("{", "line 1, column 2: is not JSON"),
        ('{"version": 1,\n "schedules": {"n": {}, "n": {}}}', "schedules: 'n' is there twice"),
        (
            '{"version": 1, "schedules": {"n": {"type": "snapshot", "type": "checkpoint"}}}',
            "'n': 'type' is there twice",
        ),
        ('{"schedules": {}}', "version is missing"),
        ('{"version": 1}', "schedules is missing"),
        ('{"version": true, "schedules": {}}', "version: 'True' is not 1, which is the one that this vmss reads"),
        ('{"version": 2, "schedules": {}}', "version: '2' is not 1"),
        ('{"version": 1, "schedule": {}}', "the document: there is no key 'schedule': did you mean 'schedules'?"),
        ("[" * 100000, "is not JSON"),
        ('{"version": %s, "schedules": {}}' % ("1" * 5000), "schedules.json: "),
        (b"\xff", "line 1: is not UTF-8"),
        ('{"version": 1, "schedules": {"\\ud800": {}}}', "has a character that xapi cannot store"),
        (" " * ((4 << 20) + 1), "cannot be read: it is larger than 4 MiB"),
    ],
)
def test_what_is_no_document_is_one_line_with_its_name(pool: TestPool, vmss: Command, text: Any, why: str) -> None:
    path = pool.folder / "schedules.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, out, err = vmss("apply", str(path))
    assert (status, out) == (2, "") and len(err.splitlines()) == 1 and why in err, err
    assert err.startswith("vmss: %s: " % path)


def test_nothing_is_repeated_of_a_file_that_is_no_document(pool: TestPool, vmss: Command) -> None:
    path = pool.folder / "secrets"
    for text in ("root:$6$secret:19000:0", "[secret]\npassword = secret\n", '"secret"', '{"a": "secret"}', "a: secret"):
        path.write_text(text + "\n")
        status, out, err = vmss("apply", str(path))
        assert (status, out) == (2, "") and len(err.splitlines()) == 1, err
        assert "secret" not in err.replace(str(path), ""), err


def test_a_file_that_cannot_be_read_is_told_and_a_pipe_is_not_waited_for(pool: TestPool, vmss: Command) -> None:
    os.mkfifo(str(pool.folder / "pipe"))
    for name, why in (("absent", "No such file"), ("pipe", "it is not a regular file"), (".", "Is a directory")):
        status, out, err = vmss("apply", str(pool.folder / name))
        assert (status, out) == (2, "") and len(err.splitlines()) == 1 and "cannot be read: " + why in err, err


# YAML

YAML = """
version: 1
schedules:
  nightly: &base  # every VM of production
    type: snapshot
    frequency: daily
    schedule: {hour: 2, min: 30}
    retained_snapshots: 7
    enabled: yes
  weekly:
    <<: *base
    frequency: weekly
    schedule:
      days: [Monday, Friday]
"""


def test_yaml_is_read_where_pyyaml_is_there(pool: TestPool, vmss: Command) -> None:
    pytest.importorskip("yaml")
    path = pool.folder / "schedules.yaml"
    path.write_text(YAML)
    assert vmss("apply", str(path))[0] == 0
    assert records(pool)["nightly"]["schedule"] == {"hour": "2", "min": "30"}
    assert records(pool)["weekly"]["schedule"] == {"hour": "0", "min": "0", "days": "Monday,Friday"}
    for text, why in (
        (YAML + "  nightly: {}\n", "schedules: 'nightly' is there twice"),
        (YAML.replace("weekly:", "on:"), "line 10, column 3: is not YAML: the name on is not a text: put it in quotes"),
        (YAML.replace("weekly:", "7:"), "the name 7 is not a text: put it in quotes"),
        (YAML + "  ? [a]\n  : {}\n", "the name that is a list or a map is not a text"),
        (YAML + "\tx", "is not YAML"),
        (YAML.replace("{hour", "!!python/object:os.system {hour"), "is not YAML: could not determine a constructor"),
        (YAML.replace("30", "2026-13-45"), "is not YAML: month must be in 1..12"),
        ("a: &a [x]\nb: &b [*a,*a]\nversion: &c [*b,*b]\nschedules: {}\n", "there is no key 'a'"),
    ):
        path.write_text(text)
        status, out, err = vmss("apply", str(path))
        assert (status, out) == (2, "") and len(err.splitlines()) == 1 and why in err, err


def test_yaml_without_pyyaml_is_one_line_that_says_what_to_do(
    pool: TestPool, vmss: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pool.folder / "schedules.yaml"
    path.write_text(YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)  # as where it is not installed
    status, out, err = vmss("apply", str(path))
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert "is not JSON; YAML is read where Python has the package PyYAML" in err
    assert "(%s -m pip install PyYAML)" % sys.executable in err
    path.write_text(" \n")  # what is left of an export that has failed
    assert vmss("apply", str(path)) == (2, "", "vmss: %s: is empty\n" % path)
    path.write_text(json.dumps({"version": 1, "schedules": {"nightly": NIGHTLY}}))
    assert vmss("apply", str(path))[0] == 0  # JSON is read under any name


# The export


def test_what_is_exported_and_applied_to_another_pool_is_the_same(
    pool: TestPool, tmp_path: Path, vmss: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "another").mkdir()
    vms = [pool.vm(name) for name in ("web*", "web1", "db")]
    pool.policy(vms[:1], "nightly", name_description="a\nb ü", type="checkpoint", enabled=False)
    pool.policy(vms[1:], "weekly", frequency="weekly", schedule={"days": "Friday,Monday", "hour": "0x7"})
    status, out, err = vmss("export")
    assert (status, err) == (0, "") and "vms" not in out
    assert json.loads(out)["schedules"]["weekly"]["schedule"] == {"min": 0, "hour": 7, "days": ["Monday", "Friday"]}
    names = vmss("export", "--vms", "name")[1]
    assert json.loads(names)["schedules"]["nightly"]["vms"] == {"names": ["web[*]"]}
    uuids = json.loads(vmss("export", "weekly", "--vms", "uuid")[1])["schedules"]
    assert {name: one["vms"] for name, one in uuids.items()} == {
        "weekly": {"uuids": [pool.uuid("VM", vm) for vm in (vms[2], vms[1])]}
    }
    # What was exported is what there is.
    path = pool.folder / "exported"
    path.write_text(names)
    assert vmss("apply", str(path))[1].endswith("2 schedules unchanged\n")
    with TestPool(tmp_path / "another") as other:
        there = {name: other.vm(name) for name in ("web*", "web1", "db")}
        monkeypatch.setenv("VMSS_XAPI", other.place.xapi)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names.encode())))
        assert vmss("apply", "-")[0] == 0
        for found in (records(pool), records(other)):
            assert found["weekly"].pop("schedule")["days"] in ("Friday,Monday", "Monday,Friday")
            assert found["nightly"]["name_description"] == "a\nb ü"
        assert {name: schedule_of(other, vm) for name, vm in there.items()} == {
            "web*": "nightly", "web1": "weekly", "db": "weekly"
        }  # fmt: skip
        assert vmss("export", "--vms", "name")[1] == names


def test_what_no_document_can_declare_is_refused_with_the_command_that_mends_it(pool: TestPool, vmss: Command) -> None:
    same = [pool.policy(name="same") for _ in range(2)]
    status, out, err = vmss("export")
    assert (status, out) == (2, "") and "2 schedules have the name 'same'; give it another one: vmss xe" in err
    mend = err.strip().split("vmss xe ")[1].replace("NAME", "").split()
    assert vmss("xe", *mend)[0] == 0
    status, out, err = vmss("export")
    assert (status, out) == (2, "") and "a schedule has no name; give it another one: vmss xe" in err
    assert vmss("xe", *err.strip().split("vmss xe ")[1].replace("NAME", "another").split())[0] == 0
    assert sorted(json.loads(vmss("export")[1])["schedules"]) == ["another", "same"]
    # The same of a document that means one of several.
    one, other = (pool.uuid("VMSS", pool.policy(name="twice")) for _ in range(2))
    file = written(pool.folder, twice={"enabled": False})
    status, out, err = vmss("apply", file)
    assert (status, out) == (2, "") and one in err and other in err
    assert vmss("xe", *err.strip().split("vmss xe ")[1].replace("NAME", "once").replace("UUID", other).split())[0] == 0
    assert vmss("apply", file)[0] == 0 and records(pool)["once"]["enabled"] and not records(pool)["twice"]["enabled"]
    # Names of VMs that would mean others, too.
    for policy in same:
        pool.call("VM.set_snapshot_schedule", pool.vm("web"), policy)
    assert "several VMs are called 'web', and not all of them are on one schedule" in vmss("export", "--vms", "name")[2]


# Properties

NAMES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"), min_size=1, max_size=5
)


@st.composite
def declared(draw: Any, name: Optional[str] = None, whole: bool = True) -> Declared:
    frequency = draw(st.sampled_from(sorted(FREQUENCIES)))
    values = {
        "minute": st.sampled_from([0, 15, 30, 45]),
        "hour": st.integers(0, 23),
        "days": st.frozensets(st.integers(0, 6), min_size=1),
    }
    keys = [key.member for key in FREQUENCIES[frequency].keys if whole or draw(st.booleans())]
    either = (lambda some: some) if whole else st.none().__or__
    return Declared(
        name=draw(NAMES) if name is None else name,
        description=draw(either(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=5))),
        enabled=draw(either(st.booleans())),
        type=draw(either(st.sampled_from(TYPES[:2]))),
        frequency=frequency,
        times=tuple((member, draw(values[member])) for member in keys),
        retained=draw(either(st.integers(1, 10))),
    )


@given(st.lists(declared(), max_size=3, unique_by=lambda one: one.name), st.lists(NAMES, max_size=3))
def test_a_document_reads_as_it_was_written(schedules: List[Declared], names: Sequence[str]) -> None:
    wanted = [one._replace(vms=exactly(names)) for one in sorted(schedules, key=lambda one: one.name)]
    assert read(json.loads(json.dumps(document(wanted)))) == wanted
    for name, selector in zip(names, exactly(names)):
        assert fnmatchcase(name, str(selector.name)) and not fnmatchcase(name + "x", str(selector.name))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), lambda inner: (
    st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["version", "schedules", "n", "type", "schedule", "min", "vms", "names", "frequency"]), inner
    )
), max_leaves=12))  # fmt: skip
def test_anything_else_is_a_mistake_and_never_a_crash(value: Any) -> None:
    for whole in (value, {"version": 1, "schedules": value}, {"version": 1, "schedules": {"n": value}}):
        try:
            read(whole)
        except BadInput as mistake:
            assert "\n" not in str(mistake)


@settings(max_examples=15)
@given(declared("nightly"), declared("nightly", whole=False), st.integers(0, 7))
def test_applied_twice_the_second_time_changes_nothing_and_one_that_was_killed_goes_on(
    tmp_path_factory: pytest.TempPathFactory, first: Declared, second: Declared, calls: int
) -> None:
    with TestPool(tmp_path_factory.mktemp("apply")) as pool:
        apply(pool, [first])
        assert present(pool) == [first]
        assert [target.action for target in apply(pool, [first])] == [UNCHANGED]
        # The second one dies after so many calls, and is begun anew.
        left = [calls]

        def die(method: str) -> None:
            if method.startswith("VMSS.set_"):
                left[0] -= 1
                if left[0] < 0:
                    raise Lose

        front = str(pool.folder / "front")
        Front(front, pool.socket, before=die)
        try:
            apply(pool, [second], "unix:" + front)
        except NoSession:
            assert left[0] < 0
        assert policies_run(pool)
        apply(pool, [second])
        assert [target.action for target in apply(pool, [second])] == [UNCHANGED]
        (found,) = present(pool)
        for field in ("description", "enabled", "type", "frequency", "retained"):
            wanted = getattr(second, field)
            assert getattr(found, field) == (getattr(first, field) if wanted is None else wanted)
        assert set(second.times) <= set(found.times)
        # The same in an empty pool.
        apply(pool, [], delete_others=True)
        assert pool.call("VMSS.get_all") == []
        apply(pool, [found])
        assert present(pool) == [found]


def apply(
    pool: TestPool, wanted: Sequence[Declared], xapi: str = "", delete_others: bool = False
) -> Sequence[differences.Target]:
    around = pool.surroundings()
    with reading(around._replace(place=around.place._replace(xapi=xapi or around.place.xapi))) as session:
        intent = declarations.intended(session, "-", wanted, delete_others)
        targets, _ = applying.carry_out(session.xapi, intent.targets, intent.changes)
        assert not any(target.refused for target in targets)
        return targets


def present(pool: TestPool) -> List[Declared]:
    with reading(pool.surroundings()) as session:
        return read(declarations.exported(session, [], None)[0])


def policies_run(pool: TestPool) -> bool:
    """Whether each schedule is one that xapi and a pass understand."""
    return all(from_record(ref, record) for ref, record in pool.call("VMSS.get_all_records").items())


# deploy/ansible


def test_the_example_of_an_inventory_says_what_the_role_and_vmss_take() -> None:
    yaml = pytest.importorskip("yaml")
    folder = ROOT / "deploy" / "ansible"
    role = yaml.safe_load((folder / "roles" / "vmss" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    pools = yaml.safe_load((folder / "inventory.example.yml").read_text(encoding="utf-8"))["pools"]
    of_each = [pools["vars"]] + [pool.get("vars", {}) for pool in pools["children"].values()]
    for variables in of_each:
        assert {name for name in variables if name.startswith("vmss_")} <= {*role, "vmss_schedules"}
        if "vmss_schedules" in variables:
            assert read({"version": 1, "schedules": variables["vmss_schedules"]})
        of_one = variables.get("vmss_settings_of_schedules", {})
        tables = [(TABLE, variables.get("vmss_settings", {}))] + [(OF_A_SCHEDULE, one) for one in of_one.values()]
        for known, values in tables:
            assert parsed({name: str(value) for name, value in values.items()}, known)[1] == {}
