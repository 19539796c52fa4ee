"""Clients that nobody here wrote work against the embedded xapi: Xen Orchestra's, and xapi's own for Python."""

import json
import os
import shutil
import socket
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Tuple

import pytest
import XenAPI

from vmss.simulator import Simulator
from vmss.simulator.build import Pool
from vmss.simulator.server import Server

from .client import Client, Serve

FOREIGN = Path(__file__).resolve().parent / "foreign"
SCRIPT = "xen_api_client.mjs"
NODE_MIN = 18
INSTALL = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
# Without a registry npm would go on trying for minutes.
PATIENCE = ["--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
INSTALL_TIMEOUT_S = 300.0
SCRIPT_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 60.0
pytestmark = pytest.mark.timeout(540)  # an installation, a script, and what is around them
ROUNDS_MAX = 100

WATCHED = ("VM", "VDI", "VBD", "SR", "PBD", "host", "pool", "message")
ALERT = "a < b & c\nü"


def run(words: List[str], **options: Any) -> Tuple[int, str, str]:
    """Run a program; return its exit status, its output and its complaints."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace")


def unusable(reason: str) -> NoReturn:
    """Skip the test, but not where somebody relies on it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def xen_api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and an installed xen-api beside it, where Node.js looks for it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        pytest.skip("Node.js is not installed")
    if npm is None:
        unusable("npm is not installed")
    version = run([node, "--version"])[1].strip()
    if int(version.lstrip("v").split(".")[0]) < NODE_MIN:
        unusable("xen-api needs Node.js %d, this is %s" % (NODE_MIN, version))
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("package.json", SCRIPT):
        shutil.copy(str(FOREIGN / name), str(folder / name))
    try:
        status, _, complaints = run([npm] + INSTALL + PATIENCE, cwd=str(folder), timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        unusable("npm has not installed xen-api in %d seconds" % INSTALL_TIMEOUT_S)
    if status != 0:
        unusable("npm cannot install xen-api: %s" % "; ".join(complaints.splitlines()[:4]))
    return folder


def url(server: Server) -> str:
    return "http://%s:%d" % (server.http_address or ("", 0))


def calls(sim: Simulator) -> Dict[str, int]:
    return {name: cost.calls for name, cost in sim.traffic().items()}


def disks_of(root: Client, vm: str) -> List[str]:
    vbds = [root("VBD.get_record", vbd) for vbd in root("VM.get_VBDs", vm)]
    return [vbd["VDI"] for vbd in vbds if vbd["type"] == "Disk"]


def to_the_second(time: datetime) -> str:
    return time.strftime("%Y%m%d%H%M%S")


# --- Xen Orchestra's client ---


@pytest.fixture
def told(xen_api: Path, sim: Simulator, pool: Pool, serve: Serve) -> Any:
    """Run the script with one of xen-api's transports; the value of a call is what it saw."""

    def tell(transport: str) -> Any:
        # The client's timeouts are by the wall clock, and it always has an event.from of a minute open: virtual time
        # would jump by that minute whenever the client thinks. Twenty times as fast, a snapshot takes no time either.
        sim.run_clock(sim.now(), 20.0)
        server = serve(sim, http=("127.0.0.1", 0))
        environment = dict(
            os.environ, XAPI_URL=url(server), XAPI_USER="root", XAPI_PASSWORD=sim.password, XAPI_TRANSPORT=transport
        )
        environment.pop("DEBUG", None)
        words = [str(shutil.which("node")), SCRIPT]
        status, output, complaints = run(words, cwd=str(xen_api), env=environment, timeout=SCRIPT_TIMEOUT_S)
        assert status == 0, complaints
        return json.loads(output)

    return tell


@pytest.mark.parametrize("transport", ["json-rpc", "xml-rpc"])
def test_xen_orchestras_client_sees_by_events_what_it_does(
    told: Callable[[str], Any], sim: Simulator, pool: Pool, root: Client, transport: str
) -> None:
    before = {cls: sorted(root(cls + ".get_all")) for cls in WATCHED}
    sim.reset_counts()
    saw = told(transport)
    count = calls(sim)
    assert saw["complaints"] == []

    assert {cls: sorted(saw["objects"][cls]) for cls in WATCHED} == before
    (the_pool,) = before["pool"]
    assert saw["pool"]["ref"] == the_pool and saw["pool"]["uuid"] == root("pool.get_uuid", the_pool)
    assert saw["master"] == root("host.get_name_label", root("pool.get_master", the_pool))

    policy = saw["policy"]["ref"]
    record = root("VMSS.get_record", policy)
    for field in ("uuid", "name_label", "enabled", "type", "frequency", "schedule"):
        assert saw["policy"][field] == record[field], field
    assert record["name_label"] == "täglich <&>" and record["schedule"] == {"hour": "2", "min": "30"}
    # XML-RPC has xapi's numbers as text.
    assert int(saw["policy"]["retained_snapshots"]) == record["retained_snapshots"] == 3
    assert saw["policy"]["name_description"] == "made by xen-api"
    assert saw["changed"]["name_description"] == record["name_description"] == "changed"

    vm = saw["vm"]["ref"]
    assert saw["policy"]["VMs"] == [] and saw["assigned"]["VMs"] == record["VMs"] == [vm]
    assert vm in pool.running and saw["vm"]["uuid"] == root("VM.get_uuid", vm)
    assert saw["vm"]["snapshot_schedule"] == root("VM.get_snapshot_schedule", vm) == policy

    snapshot = saw["snapshot"]
    assert snapshot["ref"] == saw["snapshotResult"] and snapshot["class"] == "VM"
    assert snapshot["name_label"] == "by xen-api" and snapshot["is_a_snapshot"] is True
    assert snapshot["is_vmss_snapshot"] is False and snapshot["power_state"] == "Halted"
    assert snapshot["snapshot_of"] == vm and saw["snapshotOf"] == root("VM.get_name_label", vm)
    assert sorted(disk["snapshot_of"] for disk in saw["disks"]) == sorted(disks_of(root, vm))
    assert all(disk["is_a_snapshot"] is True for disk in saw["disks"]) and len(saw["disks"]) == 2
    assert saw["failure"] == {"code": "HANDLE_INVALID", "params": ["VM", "OpaqueRef:nothing"], "status": "failure"}

    alert = root("message.get_record", saw["alert"]["ref"])
    for seen in (saw["alert"], saw["alertRecord"]):
        for field in ("uuid", "name", "cls", "obj_uuid", "body"):
            assert seen[field] == alert[field], field
        assert int(seen["priority"]) == alert["priority"] == 1
        assert "".join(filter(str.isdigit, seen["timestamp"]))[:14] == to_the_second(alert["timestamp"])
    assert alert["cls"] == "VMSS" and alert["obj_uuid"] == record["uuid"] and alert["body"] == ALERT

    assert root.error("VM.get_record", snapshot["ref"]) == ["HANDLE_INVALID", "VM", snapshot["ref"]]
    assert root("VM.get_snapshots", vm) == []
    for disk in saw["disks"]:
        assert root.error("VDI.get_record", disk["ref"]) == ["HANDLE_INVALID", "VDI", disk["ref"]]
    tasks = root("task.get_all_records").values()
    # What SR.create leaves, and the storage's own.
    assert {task["name_label"] for task in tasks} <= {"Async.PBD.plug", "Garbage Collection"}
    assert count["session.login_with_password"] == count["session.logout"] == 1


# --- xapi's own client for Python ---


class Watcher:
    """A client's copy of some classes of objects, kept by event.from as xapi's documentation has it."""

    def __init__(self, session: Any, classes: List[str]) -> None:
        self.wait = getattr(session.xenapi.event, "from")
        self.classes = classes
        self.token = ""
        self.objects: Dict[Tuple[str, str], Dict[str, Any]] = {}

    def get(self, cls: str, ref: str) -> Dict[str, Any]:
        return self.objects.get((cls, ref), {})

    def until(self, happened: Callable[[], Any]) -> None:
        for _ in range(ROUNDS_MAX):
            if happened():
                return
            answer = self.wait(self.classes, self.token, CALL_TIMEOUT_S / 2)
            self.token = answer["token"]
            for event in answer["events"]:
                if event["operation"] == "del":
                    self.objects.pop((event["class"], event["ref"]), None)
                else:
                    self.objects[event["class"], event["ref"]] = event["snapshot"]
        pytest.fail("it has not happened in %d rounds" % ROUNDS_MAX)

    def task_result(self, task: str) -> str:
        """Wait for a task to succeed; return what it has to say."""
        self.until(lambda: self.get("task", task).get("status", "pending") != "pending")
        record = self.get("task", task)
        assert record["status"] == "success", record["error_info"]
        result = record["result"]
        assert result.startswith("<value>") and result.endswith("</value>")
        return str(result[len("<value>") : -len("</value>")])


@pytest.fixture
def session(sim: Simulator, pool: Pool, serve: Serve) -> Iterator[Any]:
    """The published client with its own transport, not logged in; none of its calls waits for ever."""
    server = serve(sim, http=("127.0.0.1", 0))
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CALL_TIMEOUT_S)
    with XenAPI.Session(url(server)) as client:
        yield client
    socket.setdefaulttimeout(before)


def test_xapis_own_python_client_sees_by_events_what_it_does(
    session: Any, sim: Simulator, pool: Pool, root: Client
) -> None:
    sim.reset_counts()
    session.login_with_password("root", sim.password, "1.0", "a foreign client")
    api = session.xenapi
    watcher = Watcher(session, ["vmss", "vm", "task", "message"])
    vm = pool.running[0]
    watcher.until(lambda: watcher.get("vm", vm))
    seen = {ref for cls, ref in watcher.objects if cls == "vm"}
    assert seen == set(root("VM.get_all"))

    policy = api.VMSS.create(
        {"name_label": "nightly", "type": "snapshot", "frequency": "daily", "schedule": {"hour": "2", "min": "30"}}
    )
    watcher.until(lambda: watcher.get("vmss", policy))
    record = root("VMSS.get_record", policy)
    for field in ("uuid", "name_label", "enabled", "type", "frequency", "schedule"):
        assert watcher.get("vmss", policy)[field] == record[field], field
    api.VM.set_snapshot_schedule(vm, policy)
    watcher.until(lambda: watcher.get("vmss", policy)["VMs"] == [vm])
    watcher.until(lambda: watcher.get("vm", vm)["snapshot_schedule"] == policy)

    task = api.Async.VM.snapshot(vm, "by XenAPI")
    snapshot = watcher.task_result(task)
    watcher.until(lambda: watcher.get("vm", snapshot) and snapshot in watcher.get("vm", vm)["snapshots"])
    assert watcher.get("vm", snapshot)["uuid"] == root("VM.get_uuid", snapshot)
    assert watcher.get("vm", snapshot)["snapshot_of"] == vm and root("VM.get_snapshots", vm) == [snapshot]
    api.task.destroy(task)
    watcher.until(lambda: not watcher.get("task", task))

    alert = api.message.create("VMSS_SNAPSHOT_FAILED", "1", "VMSS", record["uuid"], ALERT)
    watcher.until(lambda: watcher.get("message", alert))
    read = api.message.get_all_records()[alert]
    kept = root("message.get_record", alert)
    assert read == watcher.get("message", alert) and int(read["priority"]) == kept["priority"] == 1
    for field in ("uuid", "name", "cls", "obj_uuid", "body"):
        assert read[field] == kept[field], field
    assert kept["body"] == ALERT and kept["obj_uuid"] == record["uuid"]

    with pytest.raises(XenAPI.Failure) as caught:
        api.VMSS.destroy(policy)
    assert caught.value.details == ["VMSS_HAS_VM"]
    disks = disks_of(root, snapshot)
    assert watcher.task_result(api.Async.VM.destroy(snapshot)) == ""
    for disk in disks:
        assert watcher.task_result(api.Async.VDI.destroy(disk)) == ""
    watcher.until(lambda: not watcher.get("vm", snapshot))
    assert root("VM.get_snapshots", vm) == []
    api.session.logout()
    assert calls(sim)["session.login_with_password"] == calls(sim)["session.logout"] == 1
