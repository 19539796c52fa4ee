"""The deaths of xapi and of its hosts: what is lost, what stays, what goes on, and that the model stays sound."""

import http.client
import xmlrpc.client
from collections import Counter
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict, List, Tuple

import pytest

from vmss.simulator import Durations, Simulator, XapiError
from vmss.simulator.build import Pool, build_pool, vdi_record
from vmss.simulator.call import Origin
from vmss.simulator.errors import Dropped
from vmss.simulator.images import Repository

from .client import Client, Connect, Serve, UnixConnection
from .conftest import START

GIB = 1024**3
MIB = 1024**2
NULL = "OpaqueRef:NULL"
WAYS = ("clean", "kill", "host")
Make = Callable[..., Client]


@pytest.fixture
def make() -> Make:
    """A client of a simulator whose storage operations take two seconds each."""

    def made(**changes: Any) -> Any:
        odds: Dict[str, Any] = {
            "lost_wakeup": 0.0, "half_made": 0.0, "orphan_finishes": 1.0, "without_source": 0.0, **changes,
        }  # fmt: skip
        sim = Simulator(seed=1, now=START, durations=Durations(vdi_snapshot=(2.0, 2.0), vdi_destroy=(2.0, 2.0), **odds))
        return Client(sim, sim.call("session.login_with_password", "root", ""))

    return made


@pytest.fixture
def client(make: Make) -> Client:
    return make()


def again(client: Client) -> Any:
    """A new session, for the old one is gone."""
    return client.login("root")


def wait(client: Client, seconds: float) -> None:
    client.sim.set_time(client.sim.now() + timedelta(seconds=seconds))


def restart(client: Client, way: str = "clean", seconds: float = 0.0) -> Any:
    client.sim.call("simulator.restart", NULL, way, seconds)
    return again(client)


def machine(client: Client, disks: int = 1, kind: str = "ext", name: str = "vm") -> Tuple[str, str]:
    """A VM with disks that hold data; the VM and the SR."""
    sr, vm = client.sr(kind), client.vm(name)
    for number in range(disks):
        client("simulator.write", client.disk(vm, sr, GIB, str(number), "disk%d" % number), 10 * MIB)
    client("pool.sync_database")
    return vm, sr


def snapshot_disks(client: Client) -> Any:
    return client("VDI.get_all_records_where", 'field "is_a_snapshot" = "true"')


def from_network(client: Client, host: str, trusted: bool, name: str, *params: Any) -> Any:
    """A call that arrives at a certain host."""
    ended: List[Any] = []
    client.sim.begin(name, list(params), Origin(trusted, host), lambda *end: ended.append(end))
    client.sim.kernel.run_due()
    while not ended:
        assert client.sim.kernel.advance()
    result, error = ended[0]
    if error is not None:
        raise error
    return result


def refusal(client: Client, host: str, trusted: bool, name: str, *params: Any) -> Any:
    with pytest.raises(XapiError) as caught:
        from_network(client, host, trusted, name, *params)
    return caught.value.details


# --- a clean end ---


def test_a_clean_end_takes_sessions_and_tasks_and_leaves_objects_and_messages(client: Client) -> None:
    vm, _ = machine(client)
    snap = client("VM.snapshot", vm, "snap")
    task = client("Async.VM.snapshot", vm, "second")
    client.task_end(task)
    messages = client("message.get_all")
    new = restart(client)
    assert client.error("VM.get_all") == ["SESSION_INVALID", client.session]
    assert new.error("task.get_record", task) == ["HANDLE_INVALID", "task", task]
    assert new("VM.get_name_label", snap) == "snap" and new("message.get_all") == messages


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_for_an_answer_loses_the_connection(client: Client, way: str) -> None:
    vm, _ = machine(client)
    ended: List[Any] = []
    token = client("event.from", ["pool"], "", 0.0)["token"]
    for name, params in (("VM.snapshot", [vm, "snap", []]), ("event.from", [["pool"], token, 3600.0])):
        client.sim.begin(name, [client.session, *params], Origin(True), lambda *end: ended.append(end))
        client.sim.kernel.run_due()
    wait(client, 0.5)
    assert ended == []
    restart(client, way)
    assert len(ended) == 2 and all(isinstance(error, Dropped) for _, error in ended)


def test_a_clean_end_waits_for_the_driver_and_its_disk_stays_without_a_vm(client: Client) -> None:
    vm, _ = machine(client, 2)
    client("Async.VM.snapshot", vm, "snap")
    before = client.sim.now()
    new = restart(client)
    # One disk was under way; the other was not begun.
    (disk,) = snapshot_disks(new).values()
    assert disk["snapshot_of"] != NULL and disk["VBDs"] == []
    assert new("VM.get_snapshots", vm) == []
    assert 1 <= (new.sim.now() - before).total_seconds() <= 3


@pytest.mark.parametrize("unmarked", [0.0, 1.0])
def test_the_disk_under_way_at_a_clean_end_may_lack_its_source_and_its_mark(make: Make, unmarked: float) -> None:
    client = make(without_source=1.0, unmarked=unmarked)
    vm, _ = machine(client)
    source = client("VBD.get_VDI", client("VM.get_VBDs", vm)[0])
    client("Async.VM.snapshot", vm, "snap")
    new = restart(client)
    (left,) = [row for ref, row in new("VDI.get_all_records").items() if row["managed"] and ref != source]
    assert left["snapshot_of"] == NULL and left["VBDs"] == [] and left["is_a_snapshot"] is not bool(unmarked)
    live = new("VDI.get_record", source)
    assert left["name_label"] == live["name_label"] and left["virtual_size"] == live["virtual_size"]
    assert left["sm_config"]["vhd-parent"] == live["sm_config"]["vhd-parent"]
    # A snapshot that is taken in peace has all of it.
    assert new("VDI.get_snapshot_of", new("VDI.snapshot", source, {})) == source


def test_a_clean_end_in_a_checkpoint_leaves_the_vm_suspended_with_its_memory(client: Client) -> None:
    vm, sr = machine(client)
    client("VM.set_suspend_SR", vm, sr)
    client("VM.start", vm, False, False)
    client("Async.VM.checkpoint", vm, "x")
    while client("VM.get_power_state", vm) == "Running":
        wait(client, 0.5)
    new = restart(client)
    record = new("VM.get_record", vm)
    assert record["power_state"] == "Suspended" and record["current_operations"] == {} and record["snapshots"] == []
    assert new("VDI.get_type", record["suspend_VDI"]) == "suspend"
    new("VM.resume", vm, False, False)
    assert new("VM.get_power_state", vm) == "Running"


def test_the_last_disk_of_a_snapshot_stays_without_a_vm_too(client: Client) -> None:
    vm, _ = machine(client)
    client("Async.VM.snapshot", vm, "snap")
    new = restart(client)
    assert len(snapshot_disks(new)) == 1 and new("VM.get_snapshots", vm) == []


def test_a_clean_end_waits_no_longer_than_a_minute(client: Client) -> None:
    _, sr = machine(client)
    (disk,) = client("VDI.get_all")
    client("simulator.write", disk, GIB)
    client.sim.durations = client.sim.durations._replace(merge_bytes_per_second=1e6)
    client("Async.VDI.copy", disk, sr)
    before = client.sim.now()
    new = restart(client)
    assert 59 <= (new.sim.now() - before).total_seconds() <= 61
    wait(new, 2000)
    # The copy was made all the same, and a scan shows it.
    assert len(new("VDI.get_all")) == 1
    new("SR.scan", sr)
    assert [new("VDI.get_name_label", vdi) for vdi in new("VDI.get_all") if vdi != disk] == [""]


def test_while_xapi_ends_it_takes_no_calls(client: Client) -> None:
    vm, _ = machine(client)
    client("Async.VM.snapshot", vm, "snap")
    client.sim.begin("simulator.restart", [NULL, "clean", 0.0], Origin(True), lambda result, error: None)
    client.sim.kernel.run_due()
    with pytest.raises(Dropped):
        client("VM.get_all")
    wait(client, 5)
    assert again(client)("VM.get_all")


def test_operations_are_forgotten_and_others_allowed_again(client: Client) -> None:
    vm, sr = machine(client)
    client("Async.VM.snapshot", vm, "snap")
    client("pool.sync_database")
    (disk,) = [vbd["VDI"] for vbd in client("VBD.get_all_records").values()]
    assert client("VDI.get_current_operations", disk) and client("SR.get_allowed_operations", sr) == []
    new = restart(client, "kill")
    for cls, ref in (("VM", vm), ("SR", sr), ("VDI", disk)):
        assert new(cls + ".get_current_operations", ref) == {}
        assert "snapshot" in " ".join(new(cls + ".get_allowed_operations", ref))
    assert "destroy" in new("VM.get_allowed_operations", vm) and "destroy" in new("VDI.get_allowed_operations", disk)


def test_a_token_from_before_sees_every_object_come(client: Client) -> None:
    vm, _ = machine(client)
    token = client("event.from", ["vm"], "", 0.0)["token"]
    assert client("event.from", ["vm"], token, 0.0)["events"] == []
    new = restart(client)
    events = new("event.from", ["vm"], token, 0.0)["events"]
    assert {event["operation"] for event in events} == {"add"}
    assert sorted(event["ref"] for event in events) == sorted(new("VM.get_all"))


def test_what_xapi_keeps_in_memory_is_empty_after_a_restart(client: Client) -> None:
    policy = client("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    client.sim.vmss_backup["x"] = "y"
    client("event.register", ["vm"])
    new = restart(client)
    assert client.sim.vmss_backup == {} and client.sim.event_queues == {}
    assert client.sim.waiting.count == 0 and client.sim.checkpoints.waiting == {}
    assert new.error("event.next")[0] == "SESSION_NOT_REGISTERED"
    assert new("VMSS.get_all") == [policy]


@pytest.mark.parametrize("way", WAYS)
def test_the_licence_is_what_it_was_also_where_xapi_has_not_written_it(client: Client, way: str) -> None:
    (pool,), (host,) = client("pool.get_all"), client("host.get_all")
    for restricted, word in ((True, "true"), (False, "false")):
        client("simulator.restrict", "VMSS", restricted)
        client = restart(client, way)
        assert client("pool.get_restrictions", pool)["restrict_vmss"] == word
        assert client("host.get_license_params", host)["restrict_vmss"] == word


def test_sets_come_in_another_order(client: Client) -> None:
    vm, _ = machine(client)
    snaps = [client("VM.snapshot", vm, str(number)) for number in range(8)]
    assert client("VM.get_snapshots", vm) == snaps[::-1]
    new = restart(client)
    assert new("VM.get_snapshots", vm) != snaps[::-1] and sorted(new("VM.get_snapshots", vm)) == sorted(snaps)


def test_a_restart_of_no_known_way_or_no_time_is_refused(client: Client) -> None:
    assert client.error("simulator.restart", "softly", 0.0) == ["INVALID_VALUE", "way", "softly"]
    assert client.error("simulator.restart", "kill", -1.0)[:2] == ["INVALID_VALUE", "seconds"]
    assert client("VM.get_all")


# --- a sudden end ---


def test_a_snapshot_that_was_not_written_leaves_its_disks_to_the_next_scan(client: Client) -> None:
    vm, sr = machine(client, 2)
    client("VM.snapshot", vm, "snap")
    new = restart(client, "kill")
    assert new("VM.get_snapshots", vm) == [] and snapshot_disks(new) == {}
    new("SR.scan", sr)
    found = [row for row in new("VDI.get_all_records").values() if row["name_label"] == "" and row["managed"]]
    assert len(found) == 2
    assert all(row["VBDs"] == [] and not row["is_a_snapshot"] and row["snapshot_of"] == NULL for row in found)


def test_a_destroyed_snapshot_comes_back_without_its_disks(client: Client) -> None:
    vm, sr = machine(client)
    snap = client("VM.snapshot", vm, "snap")
    client("pool.sync_database")
    (disk,) = snapshot_disks(client)
    client("VM.destroy", snap)
    client("VDI.destroy", disk)
    new = restart(client, "kill")
    assert new("VM.get_snapshots", vm) == [snap] and disk in snapshot_disks(new)
    new("SR.scan", sr)
    assert new.error("VDI.get_record", disk) == ["HANDLE_INVALID", "VDI", disk]
    # Its VBD dangles until the database is tidied.
    (vbd,) = new("VM.get_VBDs", snap)
    wait(new, 31)
    assert new("VM.get_VBDs", snap) == [] and new.error("VBD.get_record", vbd)[0] == "HANDLE_INVALID"


def test_a_written_database_loses_nothing(client: Client) -> None:
    vm, _ = machine(client)
    kept = client("VM.snapshot", vm, "kept")
    gone = client("VM.snapshot", vm, "gone")
    client("VM.destroy", gone)
    client("pool.sync_database")
    new = restart(client, "kill")
    assert new("VM.get_snapshots", vm) == [kept]


def test_after_five_minutes_the_database_is_written_by_itself(client: Client) -> None:
    vm, _ = machine(client)
    client("VM.snapshot", vm, "early")
    wait(client, 300)
    client("VM.set_name_label", vm, "late")
    new = restart(client, "kill")
    assert len(new("VM.get_snapshots", vm)) == 1 and new("VM.get_name_label", vm) == "vm"


def test_a_database_written_in_the_middle_keeps_disks_without_a_vm(client: Client) -> None:
    vm, sr = machine(client, 3)
    client("Async.VM.snapshot", vm, "snap")
    wait(client, 5)
    client("pool.sync_database")
    new = restart(client, "kill")
    disks = snapshot_disks(new)
    assert len(disks) == 2 and all(row["snapshot_of"] != NULL and row["VBDs"] == [] for row in disks.values())
    wait(new, 10)
    new("SR.scan", sr)
    # The third disk finished with nobody to tell.
    assert len([1 for row in new("VDI.get_all_records").values() if row["name_label"] == "" and row["managed"]]) == 1
    assert sorted(snapshot_disks(new)) == sorted(disks) and new("VM.get_snapshots", vm) == []


@pytest.mark.parametrize("odds, found", [(0.0, 0), (1.0, 1)])
def test_a_driver_without_xapi_finishes_or_does_not(make: Make, odds: float, found: int) -> None:
    client = make(orphan_finishes=odds)
    vm, sr = machine(client)
    client("Async.VM.snapshot", vm, "snap")
    wait(client, 1)
    new = restart(client, "kill")
    wait(new, 5)
    new("SR.scan", sr)
    named = [row for row in new("VDI.get_all_records").values() if row["managed"] and row["name_label"] == ""]
    assert snapshot_disks(new) == {}
    assert len(named) == found


def test_a_second_death_takes_back_no_more_than_the_first(client: Client) -> None:
    vm, _ = machine(client)
    client("VM.set_name_label", vm, "lost")
    new = restart(client, "kill")
    new("VM.set_name_description", vm, "lost too")
    newer = restart(new, "kill")
    assert newer("VM.get_name_label", vm) == "vm" and newer("VM.get_name_description", vm) == ""


def test_a_guest_whose_start_was_lost_writes_no_more(client: Client) -> None:
    vm, _ = machine(client)
    client("VM.start", vm, False, False)
    new = restart(client, "kill")
    assert new("VM.get_power_state", vm) == "Halted"
    (repository,) = new.sim.storage.manager.repositories.values()
    assert [image.writing_since for image in repository.images.values()] == [None]


# --- the whole host ---


def test_a_lost_host_leaves_a_disk_paused_until_its_pbd_is_plugged_anew(client: Client) -> None:
    vm, sr = machine(client)
    client("Async.VM.snapshot", vm, "snap")
    wait(client, 1)
    new = restart(client, "host")
    (disk,) = new("VDI.get_all")
    assert "paused" in new("VDI.get_sm_config", disk)
    text = "Failed to snapshot VDI [opterr=['MAP_DUPLICATE_KEY', 'VDI', 'sm_config', '%s', 'paused']]" % disk
    for _ in range(2):
        assert new.error("VM.snapshot", vm, "x") == ["SR_BACKEND_FAILURE_82", "", text, ""]
        new("SR.scan", sr)
    (pbd,) = new("SR.get_PBDs", sr)
    new("PBD.unplug", pbd)
    new("PBD.plug", pbd)
    assert "paused" not in new("VDI.get_sm_config", disk)
    new("VM.snapshot", vm, "works")


def test_a_lost_host_leaves_no_disk_paused_that_no_driver_worked_on(client: Client) -> None:
    machine(client)
    new = restart(client, "host")
    assert all("paused" not in row["sm_config"] for row in new("VDI.get_all_records").values())


# --- while it is away ---


def test_for_a_while_nobody_listens_and_then_xapi_is_booting(client: Client) -> None:
    client.sim.call("simulator.restart", NULL, "kill", 60.0)
    with pytest.raises(Dropped):
        again(client)
    wait(client, 31)
    with pytest.raises(XapiError) as caught:
        again(client)
    assert caught.value.details == ["HOST_STILL_BOOTING"]
    # To set the clock back does not make it longer.
    wait(client, -3600)
    wait(client, 30)
    assert again(client)("VM.get_all")


def test_nothing_is_collected_while_xapi_is_away(client: Client) -> None:
    disk = client("VDI.create", vdi_record("d", client.sr(), GIB))
    client("simulator.write", disk, MIB)
    client("VDI.destroy", client("VDI.snapshot", disk, {}))
    client("pool.sync_database")
    client.sim.call("simulator.restart", NULL, "kill", 2000.0)
    wait(client, 1990)
    assert len(client.sim.db.tables["VDI"].rows) == 2
    wait(client, 330)
    assert len(client.sim.db.tables["VDI"].rows) == 1


def test_the_collectors_begin_anew_after_a_restart(client: Client) -> None:
    disk = client("VDI.create", vdi_record("d", client.sr(), GIB))
    client("simulator.write", disk, MIB)
    client("VDI.destroy", client("VDI.snapshot", disk, {}))
    wait(client, 200)
    new = restart(client)
    (task,) = new("task.get_all")
    assert new("task.get_name_label", task) == "Garbage Collection"
    wait(client, 290)
    assert len(new("VDI.get_all")) == 2
    wait(client, 30)
    assert len(new("VDI.get_all")) == 1 and new.error("task.get_status", task)[0] == "HANDLE_INVALID"


def test_the_agents_start_time_is_that_of_the_restart(client: Client) -> None:
    wait(client, 1000)
    new = restart(client, "kill")
    (host,) = new("host.get_all")
    assert new("host.get_other_config", host)["agent_start_time"] == "%d." % new.sim.kernel.now()


def test_over_the_socket_idle_connections_are_closed_and_calls_break_off(
    client: Client, serve: Serve, connect: Connect
) -> None:
    vm, _ = machine(client)
    server = serve(client.sim)
    idle, busy = UnixConnection(server.socket_path), UnixConnection(server.socket_path)
    body = encode_xml_call("VM.get_all", client.session)
    idle.request("POST", "/", body)
    assert b"Success" in idle.getresponse().read()
    rule = {"method": "VM.snapshot", "action": "hang"}
    client("simulator.add_fault", rule)
    busy.request("POST", "/", encode_xml_call("VM.snapshot", client.session, vm, "x"))
    watcher = connect(server)
    while watcher.xenapi.simulator.get_faults()[0]["struck"] == "0":
        pass
    client.sim.call("simulator.restart", NULL, "kill", 0.0)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        busy.getresponse()
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        idle.request("POST", "/", body)
        idle.getresponse()
    assert connect(server).xenapi.pool.get_all()


def encode_xml_call(name: str, *params: Any) -> str:
    return xmlrpc.client.dumps(params, name)


# --- hosts ---


@pytest.fixture
def pair(root: Client, pool: Pool) -> Any:
    """A client of a pool of two hosts; the coordinator and the member."""
    coordinator = root.sim.hosts.coordinator
    (member,) = [host for host in pool.hosts if host != coordinator]
    return root, coordinator, member


def test_a_member_forwards_what_comes_over_its_own_socket(pair: Any) -> None:
    root, _, member = pair
    session = from_network(root, member, True, "session.login_with_password", "root", "")
    assert root("session.get_this_host", session) == member
    assert from_network(root, member, True, "VM.get_all", session) == root("VM.get_all")


def test_a_member_sends_the_network_to_the_coordinator(pair: Any) -> None:
    root, coordinator, member = pair
    expected = ["HOST_IS_SLAVE", root("host.get_address", coordinator)]
    assert refusal(root, member, False, "session.login_with_password", "root", "simulator") == expected
    assert refusal(root, member, False, "VM.get_all", root.session) == expected


def test_a_member_without_its_coordinator_answers_little(pair: Any) -> None:
    root, coordinator, member = pair
    root("pool.sync_database")
    root("simulator.kill_host", coordinator)
    with pytest.raises(Dropped):
        root("VM.get_all")
    assert refusal(root, member, True, "VM.get_all", root.session) == ["HOST_STILL_BOOTING"]
    session = from_network(root, member, True, "session.slave_local_login_with_password", "root", "")
    assert from_network(root, member, True, "host.is_in_emergency_mode", session) is True
    from_network(root, member, True, "session.local_logout", session)
    assert refusal(root, member, True, "session.local_logout", session) == ["SESSION_INVALID", session]
    with pytest.raises(XapiError) as caught:
        root.sim.call("simulator.restart", NULL, "kill", 0.0)
    assert caught.value.details == ["CANNOT_CONTACT_HOST", coordinator]
    root.sim.call("simulator.fail_over", NULL, member, "kill", 0.0)
    new = again(root)
    (pool,) = new("pool.get_all")
    assert new("pool.get_master", pool) == member and root.sim.hosts.coordinator == member
    # What it is stays so, whatever the next death takes back.
    newer = restart(new, "kill")
    assert newer("pool.get_master", pool) == member
    wait(newer, 601)
    assert newer.error("host.call_plugin", coordinator, "x", "y", {}) == ["HOST_OFFLINE", coordinator]


def test_a_coordinator_that_has_power_again_starts_anew(pair: Any) -> None:
    root, coordinator, _ = pair
    root("pool.sync_database")
    root("simulator.kill_host", coordinator)
    root.sim.call("simulator.start_host", NULL, coordinator)
    assert root.error("VM.get_all") == ["SESSION_INVALID", root.session]
    new = again(root)
    wait(new, 700)
    assert len(new("VM.get_all")) == 8 and new.sim.hosts.is_live(coordinator)


def test_no_guest_outlives_its_host(pair: Any) -> None:
    root, coordinator, member = pair
    guests = {}
    for host in (coordinator, member):
        guests[host] = root.vm("guest")
        root.disk(guests[host], root("SR.get_all")[0])
        root("VM.start_on", guests[host], host, False, False)
    root("pool.sync_database")

    def states(client: Client) -> List[str]:
        return [client("VM.get_power_state", guests[host]) for host in (coordinator, member)]

    # The guests live on without xapi, and the pool does not know of a death before the host is back.
    for way in ("clean", "kill"):
        root = restart(root, way)
    root("simulator.kill_host", member)
    assert states(root) == ["Running", "Running"]
    for method in ("hard_shutdown", "clean_shutdown", "pause", "suspend"):
        assert root.error("VM." + method, guests[member]) == ["CANNOT_CONTACT_HOST", member]
    assert root("VM.get_current_operations", guests[member]) == {}
    root("simulator.start_host", member)
    assert states(root) == ["Running", "Halted"] and root("VM.get_resident_on", guests[member]) == NULL
    root("simulator.start_host", member)
    root("VM.start_on", guests[member], member, False, False)
    root("pool.sync_database")
    root = restart(root, "host")
    assert states(root) == ["Halted", "Running"]
    (vbd,) = root("VM.get_VBDs", guests[coordinator])
    assert not root("VBD.get_currently_attached", vbd)
    root("VM.start_on", guests[coordinator], coordinator, False, False)
    root("pool.sync_database")
    root("simulator.kill_host", coordinator)
    root.sim.call("simulator.fail_over", NULL, member, "kill", 0.0)
    root = again(root)
    assert states(root) == ["Running", "Running"]
    root("simulator.start_host", coordinator)
    assert states(root) == ["Halted", "Running"]


def test_the_clock_of_a_dead_host_cannot_be_read(pair: Any) -> None:
    root, _, member = pair
    root("simulator.kill_host", member)
    for method in ("host.get_servertime", "host.get_server_localtime"):
        assert root.error(method, member) == ["CANNOT_CONTACT_HOST", member]


def test_a_host_that_dies_breaks_off_what_it_does_and_frees_what_it_held(pair: Any) -> None:
    root, _, member = pair
    vm = root.vm("guest")
    sr = root("SR.get_all")[0]
    root.keep_memory_on(sr)
    root.disk(vm, sr)
    root("VM.start_on", vm, member, False, False)
    first = root("Async.VM.checkpoint", vm, "x")
    second = root("Async.VM.checkpoint", vm, "y")
    wait(root, 1)
    assert root("VM.get_current_operations", vm)
    root("simulator.kill_host", member)
    for task in (first, second):
        assert root.task_end(task)["error_info"] == ["CANNOT_CONTACT_HOST", member]
    assert root("VM.get_current_operations", vm) == {} and root.sim.checkpoints.waiting == {}
    wait(root, 60)
    assert all(row["current_operations"] == {} for row in root("SR.get_all_records").values())
    check_sound(root.sim)


def test_a_snapshot_on_a_dying_host_fails_and_another_host_takes_the_next(pair: Any) -> None:
    root, _, member = pair
    vm = next(vm for vm in root("VM.get_all") if root("VM.get_VBDs", vm) and root("VM.get_power_state", vm) == "Halted")
    ends: List[Any] = []
    root("pool.sync_database")
    for _ in range(6):
        task = root("Async.VM.snapshot", vm, "x")
        wait(root, 0.2)
        root("simulator.kill_host", member)
        ends.append(root.task_end(task)["error_info"])
        root("simulator.start_host", member)
    # The host of a snapshot is drawn.
    assert ends.count([]) > 0 and ends.count(["CANNOT_CONTACT_HOST", member]) > 0
    root("simulator.kill_host", member)
    wait(root, 601)
    for _ in range(4):
        root("VM.snapshot", vm, "y")


def test_after_ten_minutes_a_dead_host_is_offline_and_one_that_came_back_is_not(pair: Any) -> None:
    root, _, member = pair
    call: Any = ("host.call_plugin", member, "x", "y", {})
    root("simulator.kill_host", member)
    wait(root, 590)
    assert root.error(*call) == ["CANNOT_CONTACT_HOST", member]
    root("simulator.start_host", member)
    root("simulator.kill_host", member)
    # The ten minutes count from the second death.
    wait(root, 590)
    assert root.error(*call) == ["CANNOT_CONTACT_HOST", member]
    wait(root, 11)
    assert root.error(*call) == ["HOST_OFFLINE", member]
    root("simulator.start_host", member)
    assert root.error(*call) == ["XENAPI_MISSING_PLUGIN", "x"]


def test_a_host_whose_return_was_lost_is_heard_of_again(pair: Any) -> None:
    root, _, member = pair
    root("simulator.kill_host", member)
    wait(root, 601)
    root("pool.sync_database")
    root("simulator.start_host", member)
    new = restart(root, "kill")
    assert new.sim.hosts.is_live(member)
    assert new.error("host.call_plugin", member, "x", "y", {}) == ["XENAPI_MISSING_PLUGIN", "x"]


def test_a_new_coordinator_misses_a_dead_host_by_itself(pair: Any) -> None:
    root, _, member = pair
    root("pool.sync_database")
    root("simulator.kill_host", member)
    wait(root, 601)
    # The database is older than that.
    new = restart(root, "kill")
    wait(new, 601)
    assert new.error("host.call_plugin", member, "x", "y", {}) == ["HOST_OFFLINE", member]


PLUGIN = """#!/usr/bin/env python3
import sys, xmlrpc.client
(session, args), function = xmlrpc.client.loads(sys.argv[1])
print(xmlrpc.client.dumps(({"Status": "Success", "Value": session},), "", methodresponse=True))
"""


@pytest.fixture
def plugged(tmp_path: Path) -> Any:
    """A pool with a plugin that says which session it got."""
    path = tmp_path / "say"
    path.write_text(PLUGIN)
    path.chmod(0o755)
    sim = Simulator(seed=1, now=START, plugins=str(tmp_path))
    root = Client(sim, sim.call("session.login_with_password", "root", ""))
    root("host.create", "", "host2", "", "host2", "192.0.2.2")
    member = next(host for host in root("host.get_all") if host != sim.hosts.coordinator)
    return root, member


def test_a_plugin_on_a_member_gets_a_session_below_the_callers(plugged: Any) -> None:
    root, member = plugged
    seen: List[Dict[str, Any]] = []
    create = root.sim.sessions.create

    def noted(*args: Any, **options: Any) -> str:
        session = str(create(*args, **options))
        seen.append({"ref": session, **root.sim.db.record("session", session)})
        return session

    root.sim.sessions.create = noted
    said = root("host.call_plugin", member, "say", "x", {})
    (record,) = seen
    assert said == record["ref"] != root.session
    assert record["parent"] == root.session and record["pool"] and record["this_host"] == member
    assert not root.sim.db.exists("session", said)
    assert root("host.call_plugin", root.sim.hosts.coordinator, "say", "x", {}) == root.session


def test_whether_a_snapshot_is_scheduled_is_decided_by_the_topmost_session(root: Client, vmss_user: Client) -> None:
    sessions = root.sim.sessions
    child = sessions.create("root", "", True, parent=vmss_user.session, pool=True)
    grandchild = sessions.create("root", "", True, parent=child, pool=True)
    lone = sessions.create("__dom0__vmss", "", True, parent=root.session)
    assert sessions.is_scheduled_snapshot(grandchild) and not sessions.is_scheduled_snapshot(lone)
    vmss_user("session.logout")
    assert not sessions.is_scheduled_snapshot(grandchild)


# --- soak ---


def check_indexes(sim: Simulator) -> None:
    """The indexes of the database are what the rows say."""
    for table in sim.db.tables.values():
        assert table.uuids == {row["uuid"]: ref for ref, row in table.rows.items()}
        assert set(table.created) == set(table.rows)
        if table.has_label:
            labels: Dict[str, Any] = {}
            for ref, row in table.rows.items():
                labels.setdefault(row["name_label"], set()).add(ref)
            assert {label: set(refs) for label, refs in table.labels.items()} == labels
        for field, index in table.back.items():
            back: Dict[str, Any] = {}
            for ref, row in table.rows.items():
                if row[field] not in ("", NULL):
                    back.setdefault(row[field], set()).add(ref)
            assert {target: set(refs) for target, refs in index.items()} == back


def check_repository(repository: Repository) -> None:
    """The tree is one, and the sums are those of its images."""
    images = repository.images
    children: Any = Counter(image.parent for image in images.values() if image.parent is not None)
    for name, image in images.items():
        assert image.parent is None or image.parent in images
        assert len(image.children) == children[name] and all(images[child].parent == name for child in image.children)
        assert (name in repository.hidden) == image.hidden
        assert not image.children or image.hidden
        assert 0 <= image.used <= image.virtual and image.size == repository.size_of(image)
        assert 1 <= repository.depth(name) <= 31
    assert repository.used == sum(image.size for image in images.values())


def check_sound(sim: Simulator) -> None:
    """What must hold at any moment."""
    check_indexes(sim)
    for repository in sim.storage.manager.repositories.values():
        check_repository(repository)
    waiters = sum(len(condition.waiters) for condition in sim.waiting.conditions.values())
    assert sim.waiting.count == waiters
    busy = [
        (cls, ref, row["current_operations"])
        for cls in ("VM", "SR", "VDI")
        for ref, row in sim.db.tables[cls].rows.items()
        if row["current_operations"]
    ]
    calls = sum(1 for process in sim.kernel._alive if process.domain.partition(":")[0] == "xapi")
    assert not busy or calls
    if not calls:
        assert sim.waiting.count == 0 and sim.checkpoints.waiting == {}


def check_scanned(sim: Simulator) -> None:
    """After a scan of every SR each record has its image, and each image its record."""
    root = Client(sim, sim.call("session.login_with_password", "root", ""))
    for sr in root("SR.get_all"):
        root("SR.scan", sr)
        repository = sim.storage.manager.repository(sr)
        names = {sim.db.row("VDI", vdi)["uuid"] for vdi in root("SR.get_VDIs", sr)}
        assert names == set(repository.images)
        for vdi in root("SR.get_VDIs", sr):
            row = sim.db.row("VDI", vdi)
            assert row["sm_config"].get("vhd-parent") == repository.images[row["uuid"]].parent
            assert row["managed"] != repository.images[row["uuid"]].hidden


class Soak:
    """One client that does this and that, in the background, and lets xapi and its hosts die."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.sim = Simulator(seed=seed, now=START)
        self.root = self.login()
        self.root("host.create", "", "host2", "", "host2", "192.0.2.2")
        for kind in ("ext", "lvm"):
            sr = self.root.sr(kind, 400 * GIB)
            for number in range(2):
                vm = self.root.vm("%s%d" % (kind, number))
                for device in range(2):
                    self.root.disk(vm, sr, GIB, str(device))
        self.root("pool.sync_database")
        self.root.sim.db.written()

    def login(self) -> Client:
        return Client(self.sim, self.sim.call("session.login_with_password", "root", ""))

    def pick(self, cls: str, **wanted: Any) -> str:
        rows = self.sim.db.tables[cls].rows
        found = [ref for ref, row in rows.items() if all(row[key] == value for key, value in wanted.items())]
        return self.random.choice(found) if found else NULL

    def step(self) -> None:
        draw = self.random.random()
        if draw < 0.06:
            self.sim.call("simulator.restart", NULL, self.random.choice(WAYS), self.random.choice((0.0, 0.0, 20.0)))
            self.survive()
        elif draw < 0.1:
            self.lose_host()
        elif draw < 0.4:
            wait(self.root, self.random.choice((0.3, 2.0, 10.0, 60.0, 400.0)))
        else:
            self.call(*self.random.choice(self.calls()))

    def survive(self) -> None:
        """Wait until somebody answers again."""
        while not self.sim.hosts.is_up(self.sim.hosts.coordinator):
            wait(self.root, 5)
        self.root = self.login()

    def lose_host(self) -> None:
        host = self.random.choice(list(self.sim.db.tables["host"].rows))
        self.sim.call("simulator.kill_host", NULL, host)
        wait(self.root, self.random.choice((0.5, 700.0)))
        others = [other for other in self.sim.db.tables["host"].rows if other not in self.sim.hosts.dead]
        if host == self.sim.hosts.coordinator and others and self.random.random() < 0.5:
            self.sim.call("simulator.fail_over", NULL, others[0], self.random.choice(WAYS), 0.0)
            wait(self.root, 1)
        self.sim.call("simulator.start_host", NULL, host)
        self.survive()

    def calls(self) -> List[Any]:
        live = {"is_a_snapshot": False, "is_control_domain": False}
        vm, snap = self.pick("VM", **live), self.pick("VM", is_a_snapshot=True)
        disk, sr = self.pick("VDI", managed=True), self.pick("SR")
        return [
            ("Async.VM.snapshot", vm, "s"), ("Async.VM.snapshot", vm, "s"), ("Async.VM.checkpoint", vm, "c"),
            ("Async.VM.start", vm, False, False), ("Async.VM.hard_shutdown", vm), ("Async.VM.destroy", snap),
            ("Async.VM.revert", snap), ("Async.VDI.destroy", self.pick("VDI", is_a_snapshot=True)),
            ("Async.VDI.snapshot", disk, {}), ("Async.VDI.copy", disk, sr), ("Async.SR.scan", sr),
            ("Async.VM.clone", vm, "k"), ("simulator.write", disk, self.random.choice((MIB, 100 * MIB))),
            ("Async.VDI.resize", disk, str(self.random.choice((2, 3)) * GIB)), ("pool.sync_database",),
            ("task.cancel", self.pick("task")), ("VBD.destroy", self.pick("VBD")),
        ]  # fmt: skip

    def call(self, *call: Any) -> None:
        try:
            self.root(*call)
        except XapiError as error:
            if error.code == "SESSION_INVALID":
                self.root = self.login()
            assert error.code != "INTERNAL_ERROR", error.details


@pytest.mark.parametrize("seed", range(8))
def test_whatever_dies_whenever_the_model_stays_sound(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    soak = Soak(seed)
    for _ in range(150):
        soak.step()
        check_sound(soak.sim)
    wait(soak.root, 3600)
    check_sound(soak.sim)
    assert not [row for row in soak.sim.db.tables["task"].rows.values() if "INTERNAL_ERROR" in row["error_info"]]
    check_scanned(soak.sim)
    # A bug of the simulator is logged, whatever becomes of the call.
    assert [record.getMessage() for record in caplog.records] == []


def test_the_same_seed_gives_the_same_history() -> None:
    histories = []
    for _ in range(2):
        soak = Soak(42)
        for _ in range(120):
            soak.step()
        db = soak.sim.db
        rows = {name: dict(db.dump_table(table)) for name, table in db.tables.items() if table.cls.persistent}
        histories.append((rows, soak.sim.storage.manager.dump(), soak.sim.kernel.now()))
    assert histories[0] == histories[1]


def test_the_domains_of_a_host_have_a_number_each(client: Client) -> None:
    pool = build_pool(client.sim.call, hosts=2, srs=1, vms=6)
    here, there = pool.hosts

    def start(root: Client, number: int, host: str) -> int:
        vm = pool.vms[number]
        if root("VM.get_power_state", vm) == "Running":
            root("VM.hard_shutdown", vm)
        root("VM.start_on", vm, host, False, False)
        return int(root("VM.get_domid", vm))

    newest = start(client, 0, here)
    # One that has stopped leaves its number unused.
    assert start(client, 0, here) == newest + 1
    # One that comes from another host brings its number along.
    brought = [start(client, 1, there) for _ in range(20)][-1]
    client("VM.pool_migrate", pool.vms[1], here, {})
    assert brought > newest + 1
    assert start(client, 2, here) == brought + 1
    # A host that was dead begins anew.
    client("pool.sync_database")
    assert start(restart(client, "host"), 0, here) == 1
