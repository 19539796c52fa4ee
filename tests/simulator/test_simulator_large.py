"""Large pools: saved, loaded, read in bulk and worked with like small ones."""

import json
import socket
import xmlrpc.client
from datetime import timedelta
from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

import pytest

from vmss.simulator import Simulator, wire
from vmss.simulator.build import build_pool
from vmss.simulator.copies import Pattern
from vmss.simulator.images import Image

from .client import Client, Connect, Post, Serve
from .conftest import START

GIB, MIB = 1024**3, 1024**2
SNAPSHOTS = 10
DISKS = 2
SRS = 4
POLICY = {
    "name_label": "daily", "name_description": "", "enabled": True, "type": "snapshot", "retained_snapshots": "10",
    "frequency": "daily", "schedule": {"hour": "4", "min": "0"},
}  # fmt: skip


def large_pool(sim: Simulator, vms: int) -> str:
    """Fill a new simulator with so many VMs of 2 disks and 10 snapshots; return a session.

    The first two are made through the API. All others are their copies.
    """
    session = build_pool(sim.call, hosts=2, srs=SRS, vms=0).session
    root = Client(sim, session)
    policies = [str(root("VMSS.create", POLICY)) for _ in range(2)]
    made = [_vm_with_snapshots(root, number, policies[number]) for number in range(2)]
    patterns = [Pattern(sim, vm) for vm in made]
    for number in range(2, vms):
        patterns[number % 2].copy("vm%05d" % number)
    for sr in root("SR.get_all"):
        repository = sim.storage.manager.repository(sr)
        repository.capacity = max(repository.capacity, 2 * repository.used)
        sim.db.set("SR", sr, "physical_size", repository.capacity)
        root("SR.scan", sr)
    return session


def _vm_with_snapshots(root: Client, number: int, policy: str) -> str:
    """Make a VM with its disks on two SRs and ten scheduled snapshots, in each of them some data."""
    name = "vm%05d" % number
    vm = str(root.vm(name))
    srs = root("SR.get_all")
    disks = [root.disk(vm, srs[2 * number + device], 10 * GIB, str(device), name) for device in range(DISKS)]
    root("VM.set_snapshot_schedule", vm, policy)
    if number == 0:
        root("VM.start", vm, False, False)
    user = root.login("__dom0__vmss")
    for count in range(SNAPSHOTS):
        for disk in disks:
            root("simulator.write", disk, 64 * MIB)
        user("VM.snapshot", vm, "%s snapshot %d" % (name, count), [])
    return vm


# --- tests ---

VMS = 120


class Saved(NamedTuple):
    """A large pool that no test changes, a client of it, the file it was saved to, and its randomness then."""

    sim: Simulator
    root: Client
    path: str
    random: Any


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> Any:
    sim = Simulator(seed=1, now=START)
    root = Client(sim, large_pool(sim, VMS))
    path = str(tmp_path_factory.mktemp("large") / "state.json")
    sim.save(path)
    return Saved(sim, root, path, sim.random.getstate())


@pytest.fixture
def root(saved: Saved) -> Any:
    """A client that only reads."""
    return saved.root


def test_a_large_pool_comes_back_from_its_file_record_for_record(saved: Saved) -> None:
    sim, loaded = saved.sim, Simulator.load(saved.path)
    assert len(loaded.db.tables["VM"].rows) == VMS * (1 + SNAPSHOTS) + 2
    for name, table in sim.db.tables.items():
        if table.cls.persistent:
            assert loaded.db.tables[name].rows == table.rows
            assert list(loaded.db.tables[name].rows) == list(table.rows)
            assert loaded.db.tables[name].uuids == table.uuids
            assert _as_sets(loaded.db.tables[name].back) == _as_sets(table.back)
            for ref in table.rows:
                assert _unordered(loaded.db.record(name, ref)) == _unordered(sim.db.record(name, ref))
    assert loaded.messages.records == sim.messages.records
    assert loaded.messages.times == sim.messages.times and len(sim.messages.times) > 10 * VMS
    assert loaded.random.getstate() == saved.random


def _as_sets(back: Any) -> Any:
    return {field: {target: set(refs) for target, refs in index.items()} for field, index in back.items()}


def _unordered(record: Any) -> Any:
    """The back sides of relations have no order of their own."""
    return {name: sorted(map(str, value)) if isinstance(value, list) else value for name, value in record.items()}


def test_the_trees_of_disks_come_back_too(saved: Saved) -> None:
    sim, loaded = saved.sim, Simulator.load(saved.path)
    for sr, repository in sim.storage.manager.repositories.items():
        other = loaded.storage.manager.repositories[sr]
        assert (other.used, other.virtual, other.hidden) == (repository.used, repository.virtual, repository.hidden)
        assert {name: set(image.children) for name, image in other.images.items()} == {
            name: set(image.children) for name, image in repository.images.items()
        }
        assert {name: _image(image) for name, image in other.images.items()} == {
            name: _image(image) for name, image in repository.images.items()
        }
        assert max(repository.depth(name) for name in repository.images) > SNAPSHOTS


def _image(image: Image) -> Tuple[Any, ...]:
    return image.virtual, image.used, image.size, image.parent, image.hidden, image.raw, image.inflated, image.fault


def test_a_file_is_one_json_document_with_all_tables(saved: Saved) -> None:
    document = json.loads(Path(saved.path).read_text())
    assert {cls: len(rows) for cls, rows in document["tables"].items()} == {
        cls: len(table.rows) for cls, table in saved.sim.db.tables.items() if table.cls.persistent
    }
    assert len(document["messages"]) == len(saved.sim.messages.records)
    assert document["storage"] == saved.sim.storage.manager.dump()


def test_an_empty_pool_is_saved_and_loaded_like_any_other(tmp_path: Path) -> None:
    sim, path = Simulator(seed=1, now=START), str(tmp_path / "state.json")
    sim.save(path)
    assert json.loads(Path(path).read_text())["messages"] == {}
    loaded = Simulator.load(path)
    assert {name: table.rows for name, table in loaded.db.tables.items()} == {
        name: table.rows for name, table in sim.db.tables.items()
    }


def test_a_loaded_pool_goes_on_working(saved: Saved) -> None:
    loaded = Simulator.load(saved.path)
    root = Client(loaded, loaded.call("session.login_with_password", "root", ""))
    vm = root("VM.get_by_name_label", "vm%05d" % (VMS - 1))[0]
    before = _disks(root)
    snapshot = root("VM.snapshot", vm, "one more", [])
    assert root("VM.get_snapshots", vm)[0] == snapshot and len(root("VM.get_snapshots", vm)) == SNAPSHOTS + 1
    root("VM.destroy", root("VM.get_by_name_label", "vm%05d snapshot 0" % (VMS - 1))[0])
    assert len(root("VM.get_snapshots", vm)) == SNAPSHOTS
    # The disks of a snapshot stay when it is destroyed; without them their base copies have one child left.
    for disk in (root("VBD.get_VDI", vbd) for vbd in root("VM.get_VBDs", vm)):
        oldest = min(root("VDI.get_snapshots", disk), key=lambda vdi: root("VDI.get_snapshot_time", vdi))
        root("VDI.destroy", oldest)
    assert _disks(root) > before - DISKS
    root.sim.set_time(root.sim.now() + timedelta(hours=1))
    # One more snapshot of an unchanged disk needs no base copy; the two base copies are merged away.
    assert _disks(root) == before - DISKS


def _disks(root: Client) -> int:
    images = sum(len(repository.images) for repository in root.sim.storage.manager.repositories.values())
    assert images == len(root("VDI.get_all"))
    return images


# --- over the socket ---


def test_bulk_reads_answer_over_the_socket(root: Client, serve: Serve, connect: Connect) -> None:
    api = connect(serve(root.sim)).xenapi
    (vm,) = api.VM.get_by_name_label("vm00100")
    snapshots = api.VM.get_all_records_where('field "snapshot_of" = "%s"' % vm)
    assert set(snapshots) == set(api.VM.get_snapshots(vm)) and len(snapshots) == SNAPSHOTS
    assert all(row["is_vmss_snapshot"] and row["snapshot_of"] == vm for row in snapshots.values())
    disk = api.VBD.get_VDI(api.VM.get_VBDs(vm)[0])
    assert set(api.VDI.get_all_records_where('field "snapshot_of" = "%s"' % disk)) == set(api.VDI.get_snapshots(disk))
    assert sum(len(row["VDIs"]) for row in api.SR.get_all_records().values()) == len(api.VDI.get_all())


@pytest.mark.parametrize(
    "method, params, count",
    [
        ("VM.get_all_records", (), VMS * (1 + SNAPSHOTS) + 2),
        ("VDI.get_all_records_where", ('field "is_a_snapshot" = "true"',), VMS * SNAPSHOTS * DISKS),
        ("event.from", (["vm"], "", 1.0), VMS * (1 + SNAPSHOTS) + 2),
    ],
)
def test_the_largest_answers_are_whole(
    root: Client, serve: Serve, post: Post, method: str, params: Any, count: int
) -> None:
    expected = root(method, *params)
    assert len(expected.get("events", expected)) == count
    body = xmlrpc.client.dumps((root.session, *params), method).encode()
    assert post(serve(root.sim), body)[2] == wire.encode_xml_success(expected)


def test_the_same_records_come_over_json_rpc(root: Client, serve: Serve, connect: Connect, post: Post) -> None:
    server = serve(root.sim)
    body = {"jsonrpc": "2.0", "method": "VBD.get_all_records", "params": [root.session], "id": 1}
    records = json.loads(post(server, json.dumps(body).encode(), "/jsonrpc")[2].decode())["result"]
    assert len(records) == VMS * (1 + SNAPSHOTS) * DISKS
    seen = connect(server).xenapi.VBD.get_all_records()
    assert {ref: row["VDI"] for ref, row in records.items()} == {ref: row["VDI"] for ref, row in seen.items()}


def _request(method: str, *params: Any) -> bytes:
    body = xmlrpc.client.dumps(params, method).encode()
    return b"POST /RPC2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _answers(reader: Any, count: int) -> List[bytes]:
    """The bodies of so many answers, one after another on a connection."""
    bodies = []
    for _ in range(count):
        length = 0
        for line in iter(reader.readline, b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        bodies.append(reader.read(length))
    return bodies


def test_small_calls_are_answered_in_order_beside_bulk_reads(root: Client, serve: Serve) -> None:
    server = serve(root.sim)
    refs = root("VM.get_all")[:20]
    names = [root("VM.get_name_label", ref).encode() for ref in refs]
    small = b"".join(_request("VM.get_name_label", root.session, ref) for ref in refs)
    bulk = _request("VM.get_all_records", root.session)
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for connection in sockets:
        connection.connect(str(server.socket_path))
        connection.settimeout(60)
    # The first two do not read what they have asked for until all others have been served.
    sockets[0].sendall(bulk + small)
    sockets[1].sendall(bulk + bulk)
    for connection in sockets[2:]:
        connection.sendall(small)
    for connection in [sockets[2], sockets[3], sockets[0]]:
        with connection.makefile("rb") as reader:
            if connection is sockets[0]:
                assert len(_answers(reader, 1)[0]) > 10 * 1024 * len(refs)
            assert all(name in body for name, body in zip(names, _answers(reader, len(refs))))
    with sockets[1].makefile("rb") as reader:
        first, second = _answers(reader, 2)
    assert first == second
    for connection in sockets:
        connection.close()
