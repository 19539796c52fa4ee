"""xapi's housekeeping: which sessions and tasks it removes and when, and records that lead nowhere."""

from datetime import timedelta
from typing import Any, List

import pytest

from vmss.simulator import Simulator
from vmss.simulator.build import vbd_record, vdi_record
from vmss.simulator.call import Headers, Origin

from .client import Client

GIB = 1024**3
NULL = "OpaqueRef:NULL"
HOUR = 3600.0


def wait(client: Client, seconds: float) -> None:
    """Let time pass, and one round of upkeep after it."""
    client.sim.set_time(client.sim.now() + timedelta(seconds=seconds))
    client.sim.sessions.last_used[client.session] = client.sim.kernel.now()


def exists(client: Client, cls: str, ref: str) -> bool:
    return client.sim.db.exists(cls, ref)


def finished(client: Client, count: int = 1) -> List[Any]:
    """Tasks that have ended, one a second."""
    tasks = []
    for number in range(count):
        client.sim.kernel.upkeep_due = None
        wait(client, 1)
        task = client.sim.dispatcher.new_task("task%d" % number, client.session)
        client.sim.dispatcher.finish_task(task, None, None)
        tasks.append(task)
    client.sim.kernel.upkeep_due = client.sim.kernel.now() + 30
    return tasks


def pending(client: Client, session: Any = None) -> Any:
    return client.sim.dispatcher.new_task("pending", session or client.session)


def log_in(sim: Simulator, count: int, **fields: Any) -> List[Any]:
    """Sessions of one kind, the oldest first."""
    sessions = []
    user, originator = fields.pop("user", "root"), fields.pop("originator", "")
    for number in range(count):
        session = sim.sessions.create(user, originator, True, **fields)
        sim.sessions.last_used[session] = sim.kernel.now() - count + number
        sessions.append(session)
    return sessions


# --- tasks ---


def test_a_finished_task_is_kept_for_65_minutes(root: Client) -> None:
    (task,) = finished(root)
    wait(root, 65 * 60 - 1)
    assert exists(root, "task", task)
    wait(root, 31)
    assert not exists(root, "task", task)


def test_a_pending_task_without_progress_goes_after_a_day_and_two_looks(root: Client) -> None:
    task = pending(root)
    wait(root, 24 * HOUR - 1)
    wait(root, 30)
    # It is old now, and was looked at once.
    assert exists(root, "task", task)
    wait(root, 30)
    assert not exists(root, "task", task)


def test_a_pending_task_that_gets_on_stays(root: Client) -> None:
    task = pending(root)
    for number in range(1, 6):
        wait(root, 10 * HOUR)
        root.sim.db.set("task", task, "progress", number / 10)
    assert exists(root, "task", task)
    wait(root, 30)
    wait(root, 30)
    assert not exists(root, "task", task)


def test_two_hundred_young_tasks_are_kept(root: Client) -> None:
    tasks = finished(root, 200)
    wait(root, 31)
    assert all(exists(root, "task", task) for task in tasks)


@pytest.mark.parametrize("done, waiting, kept", [(201, 0, 0), (120, 81, 80), (150, 60, 50), (1, 200, 1)])
def test_of_more_than_two_hundred_tasks_too_few_finished_ones_are_kept(
    root: Client, done: int, waiting: int, kept: int
) -> None:
    """xapi keeps 200 less the finished ones, where it means less the pending ones."""
    tasks = finished(root, done)
    others = [pending(root) for _ in range(waiting)]
    wait(root, 31)
    assert [task for task in tasks if exists(root, "task", task)] == tasks[done - kept :]
    assert all(exists(root, "task", task) for task in others)


def test_a_pending_task_that_was_destroyed_goes_once_it_has_ended(root: Client) -> None:
    sr = root.sr()
    task = root("Async.VDI.create", vdi_record("d", sr, GIB))
    root("task.destroy", task)
    assert root("task.get_current_operations", task) == {"task": "destroy"}
    assert root.task_end(task)["status"] == "success" and len(root("VDI.get_all")) == 1
    assert exists(root, "task", task)
    wait(root, 31)
    assert not exists(root, "task", task)
    still = pending(root)
    root("task.destroy", still)
    wait(root, 31)
    assert exists(root, "task", still)


def test_a_cancel_forgets_that_a_task_was_to_be_destroyed(root: Client) -> None:
    """xapi writes all of current_operations then (xapi: ocaml/xapi/xapi_task.ml)."""
    task = pending(root)
    root("task.destroy", task)
    root("task.cancel", task)
    assert list(root("task.get_current_operations", task).values()) == ["cancel"]
    root("task.destroy", task)
    assert sorted(root("task.get_current_operations", task).values()) == ["cancel", "destroy"]


def test_what_a_client_has_said_of_a_tasks_end_stands(root: Client) -> None:
    sr = root.sr()
    task = root("Async.VDI.create", vdi_record("d", sr, GIB))
    root("task.set_status", task, "cancelled")
    wait(root, 20)
    assert len(root("VDI.get_all")) == 1
    record = root("task.get_record", task)
    assert (record["status"], record["result"], record["progress"]) == ("cancelled", "", 0.0)


def test_only_who_owns_a_task_or_operates_the_pool_may_change_it(root: Client) -> None:
    def client(user: str, role: str) -> Client:
        return Client(root.sim, root("simulator.create_session", user, role))

    eve, operator = client("eve", "vm-admin"), client("olga", "pool-operator")
    mine = eve("task.create", "mine", "")
    other, text = root("task.create", "other", ""), "No permission in user session. (Roles with this permission: "
    denied = ["RBAC_PERMISSION_DENIED", "task.destroy/any", text + "pool-admin, pool-operator)"]
    for call in (("task.cancel",), ("task.destroy",), ("task.set_progress", 0.5)):
        assert eve.error(call[0], other, *call[1:]) == denied
        eve(call[0], mine, *call[1:])
        operator(call[0], other, *call[1:])


# --- sessions ---


def test_a_session_lives_for_a_day_without_use(root: Client) -> None:
    idle, used = root.login("root"), root.login("root")
    for _ in range(5):
        wait(root, 5 * HOUR)
        used("VM.get_all")
    assert exists(root, "session", used.session)
    assert idle.error("VM.get_all") == ["SESSION_INVALID", idle.session]


@pytest.mark.parametrize("fields, limit", [
    ({}, 400), ({"user": ""}, 400), ({"pool": True, "originator": "x"}, 400), ({"originator": "xe"}, 500),
    ({"user": "__dom0__vmss"}, 500),
])  # fmt: skip
def test_of_each_kind_of_session_the_youngest_are_kept(root: Client, fields: Any, limit: int) -> None:
    sessions = log_in(root.sim, limit + 3, **fields)
    wait(root, 31)
    # The client's own session counts among the external ones, as the youngest.
    extra = 1 if limit == 400 and "pool" not in fields else 0
    assert [s for s in sessions if exists(root, "session", s)] == sessions[3 + extra :]


def test_kinds_of_sessions_do_not_crowd_each_other_out(root: Client) -> None:
    kinds: List[Any] = [{"originator": "a"}, {"originator": "b"}, {"user": "u", "originator": "a"}, {"user": "v"}]
    kinds.append({"pool": True})
    sessions = [session for kind in kinds for session in log_in(root.sim, 400, **kind)]
    # A user with a name is one group, whatever the originator.
    more = log_in(root.sim, 101, user="u", originator="b")
    wait(root, 31)
    gone = [s for s in sessions + more if not exists(root, "session", s)]
    assert len(gone) == 1 and root.sim.db.exists("session", more[-1])


def test_a_session_that_works_is_never_removed_nor_is_one_below_it(root: Client) -> None:
    parent = root.login("root").session
    child = root.sim.sessions.create("root", "", True, parent=parent, pool=True)
    grandchild = root.sim.sessions.create("root", "", True, parent=child, pool=True)
    task = pending(root, parent)
    for number in range(1, 4):
        wait(root, 20 * HOUR)
        root.sim.db.set("task", task, "progress", number / 10)
    assert all(exists(root, "session", session) for session in (parent, child, grandchild))
    root.sim.dispatcher.finish_task(task, None, None)
    wait(root, 31)
    assert not any(exists(root, "session", session) for session in (parent, child, grandchild))


def test_what_a_session_below_does_keeps_none_above(root: Client) -> None:
    """xapi looks upward from each session: ocaml/xapi/db_gc_util.ml."""
    parent = root.login("root").session
    child = root.sim.sessions.create("root", "", True, parent=parent, pool=True)
    task = pending(root, child)
    wait(root, 20 * HOUR)
    root.sim.db.set("task", task, "progress", 0.5)
    wait(root, 20 * HOUR)
    assert exists(root, "session", child) and not exists(root, "session", parent)


def test_sessions_that_work_do_not_count_among_too_many(root: Client) -> None:
    sessions = log_in(root.sim, 502, user="u")
    for session in sessions[:2]:
        pending(root, session)
    wait(root, 31)
    assert all(exists(root, "session", session) for session in sessions)


# --- records ---


def test_an_attachment_of_a_lost_disk_goes_within_half_a_minute(root: Client) -> None:
    sr, vm = root.sr(), root.vm()
    disk = root.disk(vm, sr)
    uuid = root("VDI.get_uuid", disk)
    assert root.sim.storage.manager.repository(sr).images.pop(uuid)
    root("SR.scan", sr)
    (vbd,) = root("VM.get_VBDs", vm)
    assert root.error("VM.snapshot", vm, "x") == ["NO_HOSTS_AVAILABLE"]
    wait(root, 31)
    assert root("VM.get_VBDs", vm) == [] and not exists(root, "VBD", vbd)
    root("VM.snapshot", vm, "x")


def test_a_forgotten_sr_takes_its_pbds_along_and_empties_drives(root: Client) -> None:
    isos, sr, vm = root.sr("iso"), root.sr(), root.vm()
    root("VDI.introduce", "", "a.iso", "", isos, "user", False, True, {}, "a.iso", {}, {}, True, "1000")
    (iso,) = root("SR.get_VDIs", isos)
    root("VBD.create", dict(vbd_record(vm, iso, "3"), type="CD", mode="RO"))
    root.disk(vm, sr)
    for each in (isos, sr):
        (pbd,) = root("SR.get_PBDs", each)
        root("PBD.unplug", pbd)
        root("SR.forget", each)
    wait(root, 31)
    assert root("PBD.get_all") == [] and root("VDI.get_all") == []
    (vbd,) = root("VM.get_VBDs", vm)
    record = root("VBD.get_record", vbd)
    assert record["type"] == "CD" and record["empty"] and record["VDI"] == NULL
    assert "insert" in record["allowed_operations"]


def test_an_empty_drive_leads_nowhere_and_stays(root: Client) -> None:
    vm = root.vm()
    vbd = root("VBD.create", vbd_record(vm, NULL, "3"))
    root.sim.upkeep.dangling = True
    wait(root, 31)
    assert root("VM.get_VBDs", vm) == [vbd]


# --- when ---


def test_while_xapi_is_away_nothing_is_kept_in_order(root: Client) -> None:
    vm, sr = root.vm(), root.sr()
    root.disk(vm, sr)
    root("pool.sync_database")
    vbds = dict(root.sim.db.tables["VBD"].rows)
    root.sim.call("simulator.restart", NULL, "kill", 1000.0)
    (disk,) = root.sim.db.tables["VDI"].rows
    root.sim.db.delete("VDI", disk)
    root.sim.set_time(root.sim.now() + timedelta(seconds=900))
    assert list(root.sim.db.tables["VBD"].rows) == list(vbds)
    root.sim.set_time(root.sim.now() + timedelta(seconds=131))
    assert root.sim.db.tables["VBD"].rows == {}


def test_upkeep_goes_on_when_the_clock_was_set_back(root: Client) -> None:
    wait(root, -48 * HOUR)
    (task,) = finished(root)
    wait(root, 66 * 60)
    assert not exists(root, "task", task)


def test_a_message_without_links_is_found_by_its_time_only_and_can_be_destroyed(root: Client) -> None:
    uuid = root("VM.get_uuid", root.vm())
    create = ("message.create", "NAME", "3", "VM", uuid)
    before = root(*create, "before")
    token = root("event.from", ["message"], "", 0.0)["token"]
    root("simulator.collide", 1)
    assert root(*create, "lost") == "OpaqueRef:NULL"
    after = root(*create, "after")
    assert root("message.get_all") == [before, after]
    assert set(root("message.get", "VM", uuid, "19700101T00:00:00Z")) == {before, after}
    assert [event["ref"] for event in root("event.from", ["message"], token, 0.0)["events"]] == [after]
    for records in (
        root("message.get_all_records"),
        root("message.get_since", "19700101T00:00:00Z"),
        root("message.get_all_records_where", 'field "obj_uuid" = "%s"' % uuid),
    ):
        (lost,) = set(records) - {before, after}
        assert len(records) == 3 and records[lost]["body"] == "lost"
    assert root.error("message.get_record", lost) == ["HANDLE_INVALID", "message", lost]
    assert root.error("message.get_by_uuid", records[lost]["uuid"])[0] == "UUID_INVALID"
    root("message.destroy", lost)
    assert set(root("message.get_all_records")) == {before, after}


def test_after_an_older_database_came_back_the_numbers_of_its_messages_come_again(root: Client) -> None:
    uuid, pool = root("VM.get_uuid", root.vm()), root("pool.get_all")[0]
    root("pool.sync_database")
    refs = [root("message.create", "NAME", "3", "VM", uuid, str(number)) for number in range(20)]
    assert "OpaqueRef:NULL" not in refs
    root("simulator.restart", "kill", 0.0)
    again = root.login("root")
    created = [again("message.create", "NAME", "3", "VM", uuid, str(number)) for number in range(60)]
    lost = created.count("OpaqueRef:NULL")
    assert 0 < lost <= 20
    assert len(again("message.get_all_records")) == 80 and len(again("message.get_all")) == 80 - lost
    # What was on disk is not lost, and no number comes again.
    again("pool.add_to_other_config", pool, "a", "b")
    again("simulator.restart", "clean", 0.0)
    again = root.login("root")
    assert "OpaqueRef:NULL" not in [again("message.create", "NAME", "3", "VM", uuid, "x") for _ in range(60)]


def test_a_client_over_its_rate_waits_and_its_tasks_begin_later(root: Client) -> None:
    vm, sim = root.vm(), root.sim
    root("simulator.limit_rate", "", 15.0, 2.0)

    def lasts(name: str, *params: Any) -> float:
        before = sim.now()
        root(name, *params)
        return (sim.now() - before).total_seconds()

    assert [lasts("VM.get_uuid", vm) for _ in range(15)] == [0.0] * 15
    assert lasts("VM.get_uuid", vm) == 0.5
    # A price above the burst waits for a full bucket, and the next call for what it took too much.
    assert lasts("event.from", ["pool"], "", 0.0) > 7.0
    assert lasts("VM.get_uuid", vm) >= 67.0
    sim.set_time(sim.now() + timedelta(seconds=60))
    before = sim.now()
    tasks = [root("Async.VM.snapshot", vm, "x") for _ in range(2)]
    assert sim.now() == before
    ends = sorted(root("task.get_created", task) for task in tasks)
    assert ends == [before, before]
    root("simulator.limit_rate", "", 1.0, 0.0)
    sim.set_time(sim.now() + timedelta(seconds=60))
    times = sorted(root("VM.get_snapshot_time", snap) for snap in root("VM.get_snapshots", vm))
    assert (times[1] - times[0]).total_seconds() >= 7.0
    for name in ("Caller.create", "Rate_limit.create"):
        assert root.error(name, {}) == ["NOT_IMPLEMENTED", name]
    assert root.error("simulator.limit_rate", "", 0.0, 1.0)[0] == "INVALID_VALUE"


def test_a_limit_is_for_the_user_agents_that_begin_so_and_the_longest_holds(sim: Simulator, root: Client) -> None:
    def wait(agent: str) -> float:
        return sim.rate_limits.delay("VM.get_uuid", Origin(True, headers=Headers(user_agent=agent)))

    root("simulator.limit_rate", "xo", 1.0, 1.0)
    root("simulator.limit_rate", "xo-server", 10.0, 1.0)
    assert [wait(agent) for agent in ("xo", "xo", "xo-server/5", "xo-server/5", "vmss", "vmss")] == [0, 1, 0, 0, 0, 0]
