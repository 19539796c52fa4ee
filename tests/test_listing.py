"""vmss list, show, history and next, against a pool in which real passes have run."""

import argparse
import csv
import io
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests import test_commands
from tests.front import Front, Once, lose
from tests.pool import TestPool
from tests.terminal import on_terminal
from tests.test_commands import one_line, tls, vmss
from vmss.cli.main import COMMANDS
from vmss.core import messages
from vmss.core.problem import BadInput, UnknownPolicy
from vmss.edges.zones import time_zone
from vmss.insight import history, reading
from vmss.insight.history import LATE, Counts

assert tls  # a fixture

LISTINGS = ("list", "show", "history", "next")


def ask(pool: TestPool, *words: str) -> List[Dict[str, Any]]:
    """What a command says in JSON, carried out here."""
    found = json.loads(told(pool, *words, "--json"))
    assert isinstance(found, list)
    return found


def told(pool: TestPool, *words: str) -> str:
    """What a command prints into a pipe."""
    module = import_module("vmss.cli.commands." + words[0])
    out = io.StringIO()
    with reading.reading(pool.surroundings()) as session:
        assert module.show(session, module.parser().parse_args(words[1:]), out) == 0
    return out.getvalue()


@pytest.fixture
def busy(pool: TestPool) -> TestPool:
    """A pool with an hourly and a daily policy that have run, one VM of which fails, and one that has not."""
    sr, other = pool.sr("nfs one"), pool.sr("nfs two")
    web, mail = pool.vm("web", [sr]), pool.vm("mail", [sr, other])
    db = pool.vm("db", [other])
    pool.call("VM.set_blocked_operations", db, {"snapshot": "not now"})
    pool.policy([web], name="hourly")
    pool.policy([mail, db], name="nightly", frequency="daily", schedule={"hour": "10", "min": "15"})
    pool.policy([], name="weekly", frequency="weekly", schedule={"hour": "22", "min": "0", "days": "Monday,Friday"})
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        pool.tick()
    pool.at(12, 30)
    return pool


# list


def test_the_list_tells_when_policies_run_and_how_they_fared(busy: TestPool) -> None:
    hourly, nightly, weekly = ask(busy, "list")
    assert (hourly["name"], hourly["schedule"], hourly["state"], hourly["vms"]) == (
        "hourly",
        "every hour at :15",
        "enabled",
        1,
    )
    assert hourly["last_run"].startswith("2026-03-02T12:15:") and hourly["next_run"] == "2026-03-02T13:15:00Z"
    assert (hourly["last_result"], nightly["last_result"], weekly["last_result"]) == ("succeeded", "failed", None)
    assert nightly["next_run"] == "2026-03-03T10:15:00Z"
    assert (weekly["schedule"], weekly["state"]) == ("Mondays and Fridays at 22:00", "no VMs")
    assert (weekly["last_run"], weekly["next_run"]) == (None, None)
    assert (weekly["frequency"], weekly["hour"], weekly["minute"], weekly["days"]) == (
        "weekly",
        22,
        0,
        ["Monday", "Friday"],
    )
    assert hourly["retained_snapshots"] == 2


def test_into_a_pipe_go_lines_for_grep_and_cut(busy: TestPool) -> None:
    ended = vmss(busy.folder, "list", VMSS_XAPI=busy.place.xapi, TZ="UTC")
    assert (ended.status, ended.err) == (0, "")
    lines = [line.split("\t") for line in ended.out.splitlines()]
    assert [line[0] for line in lines] == ["hourly", "nightly", "weekly"]
    assert {len(line) for line in lines} == {9}
    assert lines[1][5:8] == ["2026-03-02 10:15 UTC", "failed", "2026-03-03 10:15 UTC"]
    assert lines[2][5:8] == ["-", "-", "-"]


def test_a_disabled_policy_has_no_next_run_and_a_late_one_runs_in_the_next_tick(busy: TestPool) -> None:
    policy = busy.call("VMSS.get_by_name_label", "nightly")[0]
    busy.call("VMSS.set_enabled", policy, False)
    busy.at(13, 20)
    hourly, nightly, _ = ask(busy, "list")
    assert (nightly["state"], nightly["enabled"], nightly["next_run"]) == ("disabled", False, None)
    assert hourly["next_run"] == "2026-03-02T13:30:00Z"


def test_a_policy_that_cannot_be_understood_is_listed_with_its_error(busy: TestPool) -> None:
    policy = busy.call("VMSS.get_by_name_label", "nightly")[0]
    busy.simulator.db.set("VMSS", policy, "schedule", {"hour": "10", "min": "99"})
    _, nightly, _ = ask(busy, "list")
    assert nightly["error"] == "schedule:min: '99' is not within 0 to 59" and nightly["vms"] is None
    assert nightly["last_result"] == "failed"
    assert "error: schedule:min: '99'" in told(busy, "list")
    assert ask(busy, "show", "nightly")[0]["error"] == nightly["error"]
    assert [run["result"] for run in ask(busy, "history", "nightly")] == ["failed"]
    ended = vmss(busy.folder, "next", VMSS_XAPI=busy.place.xapi)
    assert "nightly" not in ended.out
    assert "nightly (%s) cannot be understood, and will not run: schedule:min" % busy.uuid("VMSS", policy) in ended.err


def test_both_clocks_are_told_where_they_differ(busy: TestPool) -> None:
    ended = vmss(busy.folder, "list", VMSS_XAPI=busy.place.xapi, TZ="Asia/Tokyo")
    assert ended.out.splitlines()[1].split("\t")[7] == "2026-03-03 10:15 UTC (19:15 JST)"


SHOWN_IN_TOKYO = {
    "America/New_York": "2026-03-02 05:15 EST (19:15 JST)",
    # A server that names no zone: the offset that it has now is all that is known.
    "": "2026-03-02 05:15 UTC-05:00 (19:15 JST)",
}


@pytest.mark.parametrize("named", SHOWN_IN_TOKYO)
def test_the_zone_is_the_coordinators(busy: TestPool, named: str) -> None:
    """Without a setting it is what the server says, whatever the zone of whoever asks."""
    (busy.folder / "conf").write_text("[vmss]\n")
    busy.call("host.set_timezone", busy.host, "America/New_York")
    if not named:
        unknown = json.dumps(["MESSAGE_METHOD_UNKNOWN", "host.get_timezone"])
        busy.call(
            "simulator.add_fault", {"method": "host.get_timezone", "action": "error", "error": unknown, "count": "9"}
        )
    told = [vmss(busy.folder, "list", VMSS_XAPI=busy.place.xapi, TZ=zone).out for zone in ("Asia/Tokyo", "EST5EDT")]
    assert told[0].splitlines()[1].split("\t")[5] == SHOWN_IN_TOKYO[named]
    assert told[1].splitlines()[1].split("\t")[5] == SHOWN_IN_TOKYO[named].partition(" (")[0]


def test_a_zone_that_the_servers_clock_contradicts_does_not_count(busy: TestPool) -> None:
    """Somebody has set the zone of dom0 by hand, and xapi does not know it yet."""
    (busy.folder / "conf").write_text("[vmss]\n")
    busy.call("host.set_timezone", busy.host, "America/New_York")
    path = str(busy.folder / "front")
    Front(path, busy.socket, rewrite=lambda _, answer: answer.replace(b"America/New_York", b"Asia/Tokyo"))
    ended = vmss(busy.folder, "list", VMSS_XAPI="unix:" + path, TZ="UTC")
    assert ended.out.splitlines()[1].split("\t")[5].startswith("2026-03-02 05:15 UTC-05:00")


def test_a_mistake_among_the_pools_settings_is_told_beside_the_list(busy: TestPool) -> None:
    busy.call("pool.add_to_other_config", busy.call("pool.get_all")[0], "vmss:retries", "many")
    ended = vmss(busy.folder, "list", VMSS_XAPI=busy.place.xapi)
    one_line(ended, 0, "vmss: pool.other_config: retries: 'many'", "(ignored)")
    assert len(ended.out.splitlines()) == 3


# show


def test_one_policy_is_shown_with_its_vms(busy: TestPool) -> None:
    (nightly,) = ask(busy, "show", "nightly")
    assert nightly["last_story"] == "An administrator has blocked the operation on this VM: db"
    db, mail = nightly["vm_list"]
    assert (db["name"], db["snapshots"], db["newest_snapshot"], db["power_state"]) == ("db", 0, None, "Halted")
    assert (mail["name"], mail["snapshots"]) == ("mail", 1)
    assert mail["newest_snapshot"].startswith("2026-03-02T10:15:")
    assert ask(busy, "show", nightly["uuid"]) == [nightly]
    lines = told(busy, "show", "nightly").splitlines()
    assert "schedule\tevery day at 10:15" in lines and lines[-1].startswith("mail\ttaken\tHalted\t1\t2026-03-02 10:15")
    assert lines[-2].startswith("db\tmissing\tHalted\t0\t")


def test_what_exceeds_retention_is_shown_with_what_of_it_the_next_run_deletes(pool: TestPool) -> None:
    sr = pool.sr()
    policy = pool.policy([pool.vm("full", [sr]), pool.vm("new", [sr])], retained_snapshots="7")
    for hour in range(10, 16):
        pool.at(hour, 15)
        pool.tick()
    pool.call("VM.destroy", pool.call("VM.get_snapshots", pool.call("VM.get_by_name_label", "new")[0])[0])
    (shown,) = ask(pool, "show", "policy")
    assert (shown["beyond_retention"], [vm["next_deleted"] for vm in shown["vm_list"]]) == (0, [[], []])
    assert "beyond retention" not in told(pool, "show", "policy")
    pool.call("VMSS.set_retained_snapshots", policy, "3")
    (shown,) = ask(pool, "show", "policy")
    full, new = sorted(shown["vm_list"], key=lambda vm: str(vm["name"]))
    assert (shown["beyond_retention"], full["beyond_retention"], new["beyond_retention"]) == (5, 3, 2)
    (vm,) = pool.call("VM.get_by_name_label", "full")
    oldest = [snapshot["uuid"] for snapshot in pool.snapshots(vm)]
    assert [snapshot["uuid"] for snapshot in full["next_deleted"]] == oldest[:2]
    text = told(pool, "show", "policy")
    assert "beyond retention\t5 snapshots; " in text and "vmss prune --policy %s\n" % shown["uuid"] in text
    assert "\t3\t%s of 2026-03-02 10:15 UTC; %s of 2026-03-02 11:15 UTC\t" % tuple(oldest[:2]) in text
    pool.at(16, 15)
    pool.tick()
    gone = set(oldest) - {snapshot["uuid"] for snapshot in pool.snapshots(vm)}
    assert gone == set(oldest[:3])  # those that were shown, and the usual one


def test_a_name_that_several_policies_have_is_refused_with_their_uuids(busy: TestPool) -> None:
    twins = [busy.uuid("VMSS", busy.policy(name="twin")) for _ in range(2)]
    with pytest.raises(BadInput) as error:
        told(busy, "show", "twin")
    assert str(error.value).startswith("2 snapshot schedules are called 'twin'; give the uuid of one: ")
    assert all(uuid in str(error.value) for uuid in twins)
    assert ask(busy, "show", twins[0])[0]["uuid"] == twins[0]


@pytest.mark.parametrize("command", ["show", "history"])
@pytest.mark.parametrize("name", ["nobody", "", "\x1b[2J", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_policy_is_one_clear_line(busy: TestPool, command: str, name: str) -> None:
    ended = vmss(busy.folder, command, name, VMSS_XAPI=busy.place.xapi)
    one_line(ended, 2, "vmss: no snapshot schedule of this pool has the uuid")
    assert "\x1b" not in ended.err and ended.out == ""
    with pytest.raises(UnknownPolicy):
        told(busy, command, name)


def test_a_policy_whose_name_is_the_uuid_of_another_does_not_hide_it(busy: TestPool) -> None:
    uuid = ask(busy, "show", "nightly")[0]["uuid"]
    busy.policy(name=uuid)
    assert ask(busy, "show", uuid)[0]["name"] == "nightly"


# history


def test_the_history_tells_what_failed_and_why(busy: TestPool) -> None:
    runs = ask(busy, "history")
    assert [(run["policy"], run["result"]) for run in runs] == [("hourly", "succeeded")] * 3 + [("nightly", "failed")]
    assert [run["time"][:16] for run in runs[:3]] == ["2026-03-02T12:15", "2026-03-02T11:15", "2026-03-02T10:15"]
    nightly = runs[3]
    assert (nightly["vms"], nightly["taken"], nightly["deleted"]) == (2, 1, 0)
    (failure,) = nightly["failures"]
    assert (failure["vm"], failure["error"][0]) == ("db", "OPERATION_BLOCKED")
    assert failure["uuid"] == busy.uuid("VM", busy.call("VM.get_by_name_label", "db")[0])
    assert failure["reason"] == "An administrator has blocked the operation on this VM"
    assert "nightly\t2026-03-02 10:15 UTC\tfailed\t1 s\tby cron\tAn administrator has blocked" in told(busy, "history")


@pytest.mark.parametrize(
    "last, hours",
    [
        ("1", [12]),
        ("2", [12, 11]),
        ("100", [12, 11, 10]),
        ("1h", [12]),
        ("2h", [12, 11]),
        ("7d", [12, 11, 10]),
        ("9999w", [12, 11, 10]),
    ],
)
def test_how_far_back_it_goes(busy: TestPool, last: str, hours: List[int]) -> None:
    runs = ask(busy, "history", "hourly", "--last", last)
    assert [int(run["time"][11:13]) for run in runs] == hours


def test_a_long_history_is_not_read_to_its_beginning(busy: TestPool) -> None:
    """Each message is a file that xapi reads: it is asked for those of the last slots, if they are enough."""
    uuid = busy.uuid("VMSS", busy.call("VMSS.get_by_name_label", "hourly")[0])
    for hour in range(13, 24):
        busy.at(hour, 15)
        busy.call("message.create", "VMSS_SNAPSHOT_SUCCEEDED", "5", "VMSS", uuid, "%d o'clock" % hour)
    path = str(busy.folder / "front.sock")
    asked: List[str] = []
    front = Front(path, busy.socket, before=asked.append)
    busy.place = busy.place._replace(xapi="unix:" + path)
    assert [run["remark"] for run in ask(busy, "history", "hourly", "--last", "2")] == ["23 o'clock", "22 o'clock"]
    assert front.calls.count("message.get") == 1
    del asked[:]
    assert len(ask(busy, "history", "nightly")) == 1
    assert asked.count("message.get") == 2  # there are not ten: so it asks for all


@pytest.mark.parametrize("last", ["0", "", "-1", "24x", "1.5h", "h", "999999", "10\x1b[2J"])
def test_what_is_not_so_far_back_is_refused(tmp_path: Path, last: str) -> None:
    ended = vmss(tmp_path, "history", "--last", last)
    assert ended.status == 2 and "Traceback" not in ended.err and "\x1b" not in ended.err
    assert "--last: " in ended.err.splitlines()[-1] or "expected one argument" in ended.err


def test_what_failed_is_explained_on_a_terminal(busy: TestPool) -> None:
    shown = on_terminal("history", VMSS_XAPI=busy.place.xapi, VMSS_CONFIG=str(config(busy)))
    assert "\nAn administrator has blocked the operation on this VM: Unblock it:\nxe vm-param-remove " in shown


def test_a_pass_that_was_put_off_is_a_warning(busy: TestPool) -> None:
    uuid = busy.uuid("VMSS", busy.call("VMSS.get_by_name_label", "hourly")[0])
    busy.call("message.create", "VMSS_SNAPSHOT_LOCK_FAILED", "3", "VMSS", uuid, "x")
    assert ask(busy, "history", "hourly", "--last", "1")[0]["result"] == "warning"
    assert ask(busy, "list")[0]["last_result"] == "warning"


def test_a_run_by_hand_that_did_not_begin_leaves_the_last_result_as_it_is(busy: TestPool) -> None:
    uuid = busy.uuid("VMSS", busy.call("VMSS.get_by_name_label", "hourly")[0])
    before = ask(busy, "list")[0]["last_result"]
    body = messages.body(messages.LOCK_FAILED, messages.NOT_RUN + "another pass holds the lock.")
    busy.call("message.create", messages.LOCK_FAILED, "3", "VMSS", uuid, body)
    assert ask(busy, "history", "hourly", "--last", "1")[0]["result"] == "warning"
    assert ask(busy, "list")[0]["last_result"] == before == "succeeded"
    assert ask(busy, "show", "hourly")[0]["last_result"] == before


# next


def test_what_runs_next_and_for_how_long_by_past_runs(busy: TestPool) -> None:
    runs = ask(busy, "next", "--hours", "3")
    assert [run["time"] for run in runs] == ["2026-03-02T13:15:00Z", "2026-03-02T14:15:00Z", "2026-03-02T15:15:00Z"]
    assert {(run["policy"], run["vms"], run["runs"]) for run in runs} == {("hourly", 1, 3)}
    assert 0 < runs[0]["seconds"] < 60 and runs[0]["ends"] > runs[0]["time"]


def test_runs_by_hand_tell_nothing_of_the_length_of_the_next(pool: TestPool) -> None:
    """As it was seen: a run by hand five days after its slot was taken for one that had lasted so long."""
    policy = pool.policy([pool.vm("vm", [pool.sr()])], frequency="weekly", schedule={"days": "Monday", "hour": "10"})
    pool.at(10)
    pool.tick()
    ran = pool.last_run(policy) - pool.simulator.now().replace(hour=10, minute=0, second=0, microsecond=0)
    pool.at(16, 6, day=7)
    pool.tick(policy=pool.uuid("VMSS", policy))
    (run,) = ask(pool, "next", "--hours", "168")
    assert run["runs"] == 1 and abs(run["seconds"] - ran.total_seconds()) <= 1
    told = ask(pool, "history")
    assert [one["start"] for one in told] == ["by hand", "at its slot"]
    assert all(0 < one["seconds"] < 60 for one in told)
    (vm,) = pool.call("VM.get_by_name_label", "vm")
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "no")
    pool.at(10, 45, day=9)
    pool.tick()
    assert "The run was started late, at 2026-03-09 10:45:00 (UTC), and took " in pool.alerts(policy)[-1]["body"]
    assert [one["start"] for one in ask(pool, "history", "--last", "1")] == ["late"]


def test_a_late_run_after_a_long_pause_tells_nothing_of_the_length_of_the_next(pool: TestPool) -> None:
    """As it was seen: it was taken for the length, for no other run lay within the slots that were asked for."""
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm])
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        pool.tick()
    usual = ask(pool, "next", "--hours", "1")[0]
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(840.0, 840.0))
    pool.at(6, 30, day=3)
    pool.tick()
    assert history_of(pool, policy)[-1].start == LATE
    (run,) = ask(pool, "next", "--hours", "1")
    assert usual["runs"] == run["runs"] == 3 and usual["seconds"] == run["seconds"] < 60
    # Where there is no other, it is estimated.
    young = pool.policy([vm], "young")
    pool.call("VMSS.set_last_run_time", young, "20260302T10:00:00Z")
    pool.tick()
    assert history_of(pool, young)[-1].start == LATE
    (run,) = [run for run in ask(pool, "next", "--hours", "1") if run["policy"] == "young"]
    assert run["runs"] == 0


def history_of(pool: TestPool, policy: str) -> List[Counts]:
    """What the runs of a policy tell of themselves, the latest last."""
    found = [history.runs({"": alert})[0].counts for alert in pool.alerts(policy)]
    return [counts for counts in found if counts is not None]


def test_another_zone_changes_neither_lengths_nor_what_status_says(pool: TestPool) -> None:
    """As it was seen: the alerts of before were read on the new clock, and a run took about nine hours."""
    policy = pool.policy([pool.vm("vm", [pool.sr()])])
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        pool.tick()
    pool.at(12, 45)
    before = ask(pool, "next", "--hours", "1")[0]["seconds"]
    (pool.folder / "conf").write_text("[vmss]\nlogin_limit = 0\ntimezone = Asia/Tokyo\n")
    assert ask(pool, "next", "--hours", "1")[0]["seconds"] == before < 60
    assert [counts.began(time_zone("Asia/Tokyo"))[0].hour for counts in history_of(pool, policy)] == [10, 11, 12]
    assert " runs_failed=0 vms_late=0 " in vmss(pool.folder, "status", VMSS_XAPI=pool.place.xapi).out


def test_an_overlap_is_told_with_the_command_that_ends_it(busy: TestPool) -> None:
    ended = vmss(busy.folder, "next", VMSS_XAPI=busy.place.xapi, TZ="UTC")
    uuid = busy.uuid("VMSS", busy.call("VMSS.get_by_name_label", "nightly")[0])
    warning, move = ended.err.splitlines()
    assert warning == ("vmss: nightly is to begin at 2026-03-03 10:15 UTC while hourly has work on nfs one.")
    assert move == "vmss: Move nightly to every day at 10:00: vmss xe vmss-param-set uuid=%s schedule:min=0" % uuid
    (row,) = [run for run in ask(busy, "next") if run["policy"] == "nightly"]
    assert (row["behind"], row["on"], row["move"]) == (["hourly"], ["nfs one"], move.split("10:00: ")[1])
    busy.call("VMSS.remove_from_schedule", busy.call("VMSS.get_by_uuid", uuid), "min")
    busy.call("VMSS.add_to_schedule", busy.call("VMSS.get_by_uuid", uuid), "min", "0")
    assert vmss(busy.folder, "next", VMSS_XAPI=busy.place.xapi).err == ""
    assert all(run["behind"] == [] for run in ask(busy, "next"))


def test_a_move_that_makes_a_policy_due_at_once_says_so(busy: TestPool) -> None:
    """At ten o'clock another policy has work on the storage repository; half past has passed today."""
    (sr,) = busy.call("SR.get_by_name_label", "nfs one")
    busy.policy([busy.vm("more", [sr])], name="more", schedule={"min": "0"})
    move = vmss(busy.folder, "next", VMSS_XAPI=busy.place.xapi).err.splitlines()[-1]
    assert move.startswith("vmss: Move nightly to every day at 10:30 (today's run is then due at once): vmss xe ")
    uuid = busy.uuid("VMSS", busy.call("VMSS.get_by_name_label", "nightly")[0])
    assert move.endswith(" vmss-param-set uuid=%s schedule:min=30" % uuid)


def test_of_a_policy_that_never_ran_it_estimates(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm("vm %d" % number, [sr]) for number in range(3)]
    pool.call("VM.add_to_other_config", vms[0], "vmss:seconds", "100")
    pool.policy(vms, name="new")
    (run,) = ask(pool, "next", "--hours", "1")
    assert (run["runs"], run["seconds"]) == (0, 104)  # two seconds for each disk of which nothing is known


@pytest.mark.parametrize("vms, kind, seconds", [(1, "snapshot", 60), (3, "snapshot", 90), (3, "checkpoint", 180)])
def test_an_estimate_knows_that_plain_snapshots_share_storage(
    pool: TestPool, vms: int, kind: str, seconds: int
) -> None:
    """Of a plain snapshot with disks on two repositories each has half of the work; a checkpoint has both alone."""
    srs = [pool.sr("one"), pool.sr("two")]
    members = [pool.vm("vm %d" % number, srs, running=True) for number in range(vms)]
    for vm in members:
        pool.call("VM.add_to_other_config", vm, "vmss:seconds", "60")
    pool.policy(members, type=kind)
    (run,) = ask(pool, "next", "--hours", "1")
    assert run["seconds"] == seconds


def test_a_run_that_cannot_end_before_its_next_slot_is_told(pool: TestPool) -> None:
    vm = pool.vm("slow", [pool.sr()])
    pool.call("VM.add_to_other_config", vm, "vmss:seconds", "5000")
    pool.policy([vm], name="too often")
    ended = vmss(pool.folder, "next", "--hours", "2", VMSS_XAPI=pool.place.xapi)
    assert "too often cannot end before its next slot: it takes about 1 h 23 min" in ended.err
    assert "Run it less often" in ended.err
    first, second = ask(pool, "next", "--hours", "2")
    assert (first["too_long"], first["missed"], second["missed"], second["ends"]) == (True, False, True, None)


def test_an_unlicensed_pool_is_told_that_nothing_will_run(pool: TestPool) -> None:
    restrictions = dict(pool.call("pool.get_restrictions", pool.call("pool.get_all")[0]), restrict_vmss="true")
    pool.simulator.db.set("pool", pool.call("pool.get_all")[0], "restrictions", restrictions)
    ended = vmss(pool.folder, "next", VMSS_XAPI=pool.place.xapi)
    assert ended.err == "vmss: The pool's licence does not include scheduled snapshots: none will be taken.\n"


@pytest.mark.parametrize("hours", ["0", "x", "-1", "100000"])
def test_hours_out_of_range_are_refused(tmp_path: Path, hours: str) -> None:
    ended = vmss(tmp_path, "next", "--hours", hours)
    assert ended.status == 2 and "--hours" in ended.err.splitlines()[-1]


# All of them


def words_of(command: str) -> List[str]:
    return [command] + (["nightly"] if command == "show" else [])


@pytest.mark.parametrize("command", LISTINGS)
def test_every_form_has_the_same_entries(busy: TestPool, command: str) -> None:
    words = words_of(command)
    entries = ask(busy, *words)
    rows = list(csv.DictReader(io.StringIO(told(busy, *words, "--csv"), newline="")))
    assert [list(row) for row in rows] == [list(entry) for entry in entries] and rows
    for row, entry in zip(rows, entries):
        for key, value in entry.items():
            if isinstance(value, bool):
                assert row[key] == str(value).lower()
            elif isinstance(value, (int, str)) and not str(value).startswith(("=", "+", "-", "@")):
                assert row[key] == str(value)
    if command != "show":
        assert len(told(busy, *words).splitlines()) == len(entries)


@pytest.mark.parametrize("command", LISTINGS)
def test_reading_changes_nothing_and_leaves_no_session(busy: TestPool, command: str) -> None:
    path = str(busy.folder / "front.sock")
    front = Front(path, busy.socket)
    ended = vmss(busy.folder, *words_of(command), VMSS_XAPI="unix:" + path)
    assert ended.status == 0
    assert busy.sessions() == 0
    calls = [call.split(".")[1] for call in front.calls]
    assert calls[0] == "login_with_password" and calls[-1] == "logout"
    assert all(call.startswith("get") for call in calls[1:-1]), front.calls


def test_the_session_is_not_the_plugins(busy: TestPool) -> None:
    """Its name makes xapi take snapshots for scheduled ones."""
    with reading.reading(busy.surroundings()) as session:
        assert busy.call("session.get_auth_user_name", session.xapi.session) == "root"


@pytest.mark.parametrize("command", LISTINGS)
def test_a_pool_without_policies(pool: TestPool, command: str) -> None:
    if command == "show":
        with pytest.raises(UnknownPolicy):
            told(pool, "show", "x")
        return
    assert told(pool, command) == "" and ask(pool, command) == []
    shown = on_terminal(command, VMSS_XAPI=pool.place.xapi, VMSS_CONFIG=str(config(pool)))
    made = "\nvmss xe vmss-create name-label=nightly type=snapshot frequency=daily schedule:hour=2 schedule:min=30 "
    assert made in shown or shown == "Nothing will run in the next 24 hours: see vmss list.\n"


@pytest.mark.parametrize("command", LISTINGS)
def test_without_a_session_they_end_at_once_with_status_3(tmp_path: Path, command: str) -> None:
    words = [command] + (["x"] if command == "show" else [])
    (tmp_path / "conf").write_text("[vmss]\nlogin_limit = 600\n")
    one_line(vmss(tmp_path, *words), 3, "nobody.sock: no session: ", "No such file or directory")
    assert not (tmp_path / "VMSSlog").exists()


def test_a_server_that_hangs_up_is_one_clear_line(busy: TestPool) -> None:
    for method in ("VMSS.get_all_records", "message.get", "pool.get_all_records"):
        path = str(busy.folder / (method + ".sock"))
        Front(path, busy.socket, before=Once(method, lose))
        one_line(vmss(busy.folder, "list", VMSS_XAPI="unix:" + path), 3, "vmss: unix:", method)
        assert busy.sessions() == 0


@pytest.mark.parametrize("words", [["list"], ["history"], ["next"]])
def test_they_read_over_https(tmp_path: Path, tls: Dict[str, str], words: List[str]) -> None:
    (tmp_path / "conf").write_text("[vmss]\nverify_tls = no\nlogin_limit = 0\n")
    ended = vmss(tmp_path, *words, "--json", **tls)
    assert (ended.status, ended.err, json.loads(ended.out)) == (0, "", [])
    one_line(vmss(tmp_path, *words, **dict(tls, VMSS_PASSWORD="wrong")), 3, "SESSION_AUTHENTICATION_FAILED")


def test_a_report_is_made_over_https(tmp_path: Path, tls: Dict[str, str]) -> None:
    (tmp_path / "conf").write_text("[vmss]\nverify_tls = no\nlogin_limit = 0\n")
    ended = vmss(tmp_path, "report", "--html", "-", **tls)
    assert (ended.status, ended.err) == (0, "") and "<h1>This pool has no VM to protect</h1>" in ended.out


@pytest.mark.parametrize("command", LISTINGS)
def test_the_help_has_examples_that_the_command_takes(command: str) -> None:
    module = import_module("vmss.cli.commands." + command)
    parser = module.parser()
    examples = re.findall(r"^  vmss %s(.*?)(?:  .*|\|.*)?$" % command, parser.format_help(), re.MULTILINE)
    assert len(examples) > 2 and command in COMMANDS
    for example in examples:
        assert isinstance(parser.parse_args(example.split()), argparse.Namespace)


# Terminals


def config(pool: TestPool) -> Path:
    path = pool.folder / "terminal.conf"
    path.write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n")
    return path


def test_a_terminal_shows_a_table(busy: TestPool) -> None:
    for command in LISTINGS:
        shown = on_terminal(*words_of(command), VMSS_XAPI=busy.place.xapi, VMSS_CONFIG=str(config(busy)))
        assert "\t" not in shown and "nightly" in shown and "2026-03-02 1" in shown
        assert "\x1b[" in shown


def test_hostile_names_are_shown_as_they_are_and_do_nothing(pool: TestPool) -> None:
    name = "[red]\u202e=1+1\x85[/red][link=file:///x]"
    sr = pool.sr(name)
    vms = [pool.vm(name + str(number), [sr]) for number in range(2)]
    pool.call("VM.set_blocked_operations", vms[1], {"snapshot": "x"})
    for vm in vms:
        pool.policy([vm], name=name, schedule={"min": "0"})
    pool.tick()
    uuid = ask(pool, "list")[0]["uuid"]
    for words in (["list"], ["show", uuid], ["history"], ["next"]):
        shown = on_terminal(*words, width=250, VMSS_XAPI=pool.place.xapi, VMSS_CONFIG=str(config(pool)))
        assert "[red]\\u202e=1+1\\x85[/red][link=file:///x]" in re.sub("\x1b\\[[0-9;]*m", "", shown)
        assert "\u202e" not in shown and "\x85" not in shown and "\x1b]" not in shown
        assert all(entry.get("name", name) == name for entry in ask(pool, *words))


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}]
)
@pytest.mark.parametrize("command", ["show", "history"])
def test_a_schedule_is_found_by_its_name_in_every_locale(pool: TestPool, command: str, locale: Dict[str, str]) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], name="nächtlich")
    pool.at(10, 15)
    pool.tick()
    ended = test_commands.vmss(pool.folder, command, "nächtlich", "--json", VMSS_XAPI=pool.place.xapi, **locale)
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)
    unknown = test_commands.vmss(pool.folder, command, "täglich", VMSS_XAPI=pool.place.xapi, **locale)
    assert unknown.status == 2 and len(unknown.err.splitlines()) == 1
