"""What happened beside the calls of traces.jsonl: the plugins on the host, the restart, what another client did."""

import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict

from vmss.simulator import Simulator
from vmss.simulator.call import TRUSTED
from vmss.simulator.values import NULL

from .replay import Replay

# A plugin in the manner of XenAPIPlugin, which is not among what pip installs; `table` is its functions.
DISPATCHING = """
import os, sys, xmlrpc.client
sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
(session, args), name = xmlrpc.client.loads(os.fsencode(sys.argv[1]))
class Failure(Exception):
    pass
%s
def answer():
    if name not in table:
        return {"Status": "Failure", "ErrorDescription": ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", name]}
    try:
        return {"Status": "Success", "Value": table[name](args)}
    except Failure as failure:
        return {"Status": "Failure", "ErrorDescription": list(failure.args)}
    except Exception as error:
        details = ["XENAPI_PLUGIN_FAILURE", name, type(error).__name__, str(error)]
        return {"Status": "Failure", "ErrorDescription": details}
print(xmlrpc.client.dumps((answer(),), methodresponse=True))
"""

ECHO = """
def fail(args):
    raise Failure("REF_FAILURE", "one", "two")
def boom(args):
    raise RuntimeError("kaboom")
def whoami(args):
    sys.path.insert(0, os.environ["TESTS"])
    from tests.simulator.client import UnixTransport
    server = xmlrpc.client.ServerProxy("http://localhost", transport=UnixTransport(os.environ["SOCKET"]))
    return server.session.get_auth_user_name(session, session)["Value"]
table = {
    "echo": lambda args: "echo:" + repr(sorted(args.items())),
    "whoami": whoami, "fail": fail, "boom": boom,
    "empty": lambda args: "",
    "nonascii": lambda args: "\\u00e9\\u20ac<&>",
}
"""

# It ends when the client has seen enough of its pending task.
SLEEP = """
def sleep(args):
    import time
    while not os.path.exists(os.environ["AWAKE"]):
        time.sleep(0.01)
    os.unlink(os.environ["AWAKE"])
    return "slept"
table = {"x": sleep}
"""

HAND = '<?xml version="1.0"?><methodResponse><params><param><value>%s</value></param></params></methodResponse>'
STRUCT = (
    "<struct><member><name>Status</name><value>Success</value></member>"
    "<member><name>Value</name><value>hand made</value></member></struct>"
)

PLUGINS: Dict[str, str] = {
    "refecho": DISPATCHING % ECHO,
    "refsleep": DISPATCHING % SLEEP,
    "refbig": DISPATCHING % 'table = {"big": lambda args: "x" * int(args["n"])}',
    "vmss": DISPATCHING % 'table = {"snapshot_now": lambda args: "snapshot_now got " + repr(sorted(args.items()))}',
    "refexit3": 'import sys\nprint("out-text")\nprint("err-text", file=sys.stderr)\nsys.exit(3)',
    "refgarbage": 'print("this is not xml")',
    "refsilent": "pass",
    "refbare": 'print("<value>bare</value>")',
    "refhand": "print(%r)" % (HAND % STRUCT),
    "refplain": "print(%r)" % (HAND % "plain"),
    "refsig": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "refnoexec": "pass",
}


def dress_host(sim: Simulator) -> None:
    """Give the host what the recorded one had of its own: its name, no address, a small dom0."""
    host = sim.this_host
    sim.db.update("host", host, name_label="refhost", hostname="refhost", address="")
    sim.call("host.disable", sim.sessions.create("root", "", superuser=True), host)
    sim.db.reload()
    sim.sessions.forget()
    dom0 = sim.db.row("host", host)["control_domain"]
    memory = dict.fromkeys(
        ["memory_" + name for name in ("target", "static_max", "static_min", "dynamic_max", "dynamic_min")], 1 << 30
    )
    name = "Control domain on host: refhost"
    sim.db.update("VM", dom0, name_label=name, memory_overhead=12 << 20, **memory)


class Traces(Replay):
    """476 calls to a xapi without storage."""

    name = "traces"
    paths = {6: "/RPC2"}

    def simulator(self) -> Simulator:
        plugins = Path(self.folder, "plugins")
        plugins.mkdir()
        for name, text in PLUGINS.items():
            (plugins / name).write_text("#!%s\n%s\n" % (sys.executable, text), encoding="utf-8")
            (plugins / name).chmod(0o644 if name == "refnoexec" else 0o755)
        self.awake = Path(self.folder, "awake")
        environment = {
            "SOCKET": os.path.join(self.folder, "xapi.sock"),
            "TESTS": str(Path(__file__).resolve().parents[2]),
            "AWAKE": str(self.awake),
        }
        # Not at a full second, as nothing is on a host.
        now = datetime(2026, 11, 23, 22, 38, 20, 500000, tzinfo=timezone.utc)
        sim = Simulator(seed=1, now=now, plugins=str(plugins), plugin_environment=environment)
        dress_host(sim)
        return sim

    def _wake_plugin(self, task: Any) -> None:
        """Let the sleeping plugin end, and wait until its task has."""
        self.let_pass(2)
        self.awake.touch()
        rows = self.sim.db.tables["task"].rows
        with self.sim.lock:
            while rows[task]["status"] == "pending":
                self.sim.lock.wait(10)

    def before_336(self) -> None:
        self._wake_plugin(self.value(333))

    def before_340(self) -> None:
        self._wake_plugin(self.value(337))

    def before_354(self) -> None:
        # The messages that follow were made in a later second than those before.
        self.let_pass(6)

    def before_390(self) -> None:
        """Another client renamed the policy while this one waited."""

        def rename() -> None:
            session = self.sim.sessions.create("root", "", superuser=True)
            arguments = [session, self.value(74), "renamed-2"]
            self.sim.begin("VMSS.set_name_label", arguments, TRUSTED, lambda result, error: None)
            self.sim.sessions.destroy(session)

        self.sim.kernel.at(self.sim.kernel.now() + 2.0, rename)

    def before_506(self) -> None:
        """The daemon was stopped, the VM made Running in its database, and the daemon started again."""
        vm = self.value(504)
        self.call("simulator.restart", "clean", 0.0)
        db = self.sim.db
        db.update("VM", vm, power_state="Running", resident_on=self.sim.this_host)
        self.sim.refresh_operations("VM", vm)
        assert db.row("VM", vm)["guest_metrics"] == NULL

    def before_528(self) -> None:
        """Snapshots were taken at once, to see how many run together: they have left their messages."""
        for number in range(36):
            self.call("VM.snapshot", self.value(504), "conc-%d" % number)
