"""`vmss xe` against what a real xe answered, and what xe leaves to us: hostile names, logging out, bad input."""

import http.server
import json
import os
import pty
import re
import signal
import socketserver
import subprocess
import sys
import threading
import xmlrpc.client
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import test_commands
from tests.front import Front, Once, lose
from tests.pool import TestPool
from tests.test_commands import ROOT, Ended, vmss
from vmss.cli.commands import xe
from vmss.core.failures import CATALOGUE
from vmss.xe.classes import CLASSES
from vmss.xe.commands import COMMANDS
from vmss.xe.errors import SENTENCES, XeError
from vmss.xe.fields import BYTES, INTEGER, LIST, MAP, ONE, SET
from vmss.xe.layout import Output, render
from vmss.xe.names import SECOND_RECORDS
from vmss.xe.parameters import PARAMETERS
from vmss.xe.syntax import parse

MODEL = ROOT / "vmss" / "simulator" / "datamodel.json"

tls = test_commands.tls

GOLDEN: List[Dict[str, Any]] = json.loads(
    (Path(__file__).parent / "simulator" / "golden" / "xe.json").read_text(encoding="utf-8")
)


@pytest.fixture
def here(pool: TestPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestPool]:
    """A pool that the command finds, in this process."""
    monkeypatch.setenv("VMSS_XAPI", pool.place.xapi)
    monkeypatch.setenv("VMSS_CONFIG", str(pool.folder / "vmss.conf"))
    (pool.folder / "vmss.conf").write_text("[vmss]\n")
    handler = signal.getsignal(signal.SIGTERM)
    yield pool
    signal.signal(signal.SIGTERM, handler)


def do(capture: "pytest.CaptureFixture[bytes]", *words: str) -> Ended:
    """A command in this process."""
    capture.readouterr()
    status = xe.main(words)
    out, err = capture.readouterr()
    return Ended(status, out.decode("utf-8"), err.decode("utf-8"))


# What a real xe answers


def bind(text: str, names: Dict[str, str]) -> str:
    for name, uuid in names.items():
        text = text.replace("<%s>" % name, uuid).replace(name if len(name) == 36 else "\0", uuid)
    return text


def bind_made(recorded: Dict[str, Any], out: str, names: Dict[str, str]) -> str:
    """The output that was recorded, with our uuids; the uuid of what the command made is noted as well."""
    if recorded["argv"][0] in ("vmss-create", "vm-snapshot") and re.match(r"[-0-9a-f]{36}\n\Z", out):
        names[recorded["stdout"].strip("<>\n")] = out.strip()
    return bind(recorded["stdout"], names)


def in_any_order(text: str) -> Tuple[Any, ...]:
    """An output without the order of records and of references, which in xapi is that of random numbers."""

    def record(block: str) -> List[str]:
        return [
            re.sub(r"(\(S..\): )(.*)", lambda m: m.group(1) + "; ".join(sorted(m.group(2).split("; "))), line)
            for line in block.split("\n")
        ]

    if re.match(r"[-0-9a-f]{36}(,[-0-9a-f]{36})+\n\Z", text):
        return tuple(sorted(text.rstrip("\n").split(",")))
    return tuple(sorted((record(block) for block in text.split("\n\n\n")), key=str))


def without_values(argv: Sequence[str], out: str) -> str:
    """The output without what our help says beyond xe's: the values that parameters may have."""
    return re.sub(r"(?<=schedule\.\n)(?: +.*\n)+", "", out) if argv[0] == "help" else out


def facts(argv: Sequence[str], err: str) -> Set[str]:
    """What an error of the real xe names: of the command's own words, what is in quotes, and other parameters."""
    own = {part for word in argv for part in re.split("[=:]", word) if len(part) > 1}
    quoted = set(re.findall(r"'([^' ]+)'", err))
    parameters = set(re.findall(r"\b[a-z]+-[a-z]+\b", err.splitlines()[0])) if err else set()
    return {fact for fact in own | quoted | parameters if fact in err} - {"read-only", "key-value"}


def test_a_real_xe_says_the_same(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    names = {
        "V%d" % (number + 1): here.uuid("VM", here.vm(name)) for number, name in enumerate(("web01", "db01", "mail01"))
    }
    for number, recorded in enumerate(GOLDEN):
        ended = do(capfdbinary, *[bind(word, names) for word in recorded["argv"]])
        assert ended.status == recorded["status"], (number, recorded["argv"], ended.err)
        assert in_any_order(without_values(recorded["argv"], ended.out)) == in_any_order(
            bind_made(recorded, ended.out, names)
        ), (number, ended.out)
        assert bool(ended.err) == bool(recorded["stderr"])
        for fact in facts(recorded["argv"], recorded["stderr"]):
            assert bind(fact, names) in ended.err, (number, fact)
    assert here.sessions() == 0


# Its syntax

WORD = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\ufffe\uffff="), min_size=1)
VALUE = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\ufffe\uffff"))
LOGIN = ("server", "port", "username", "password", "passwordfile")


@given(name=WORD.filter(lambda word: not word.startswith("-") and word not in LOGIN), value=VALUE)
def test_what_is_given_arrives_as_it_is(name: str, value: str) -> None:
    line = parse(["vm-list", "%s=%s" % (name, value), "--minimal"])
    assert line.pairs == ((name, value), ("minimal", "true"))


@given(words=st.lists(st.text()))
def test_any_words_are_understood_or_refused(words: List[str]) -> None:
    try:
        line = parse(words)
    except XeError as error:
        assert str(error).count("\n") <= 1
    else:
        assert all(name for name, _ in line.pairs)


def test_where_xapi_is_can_stand_anywhere() -> None:
    line = parse(["-s", "host", "vm-list", "-u", "me", "uuid=x", "-pw", "a=b", "--debug", "port=8443"])
    assert line.command == "vm-list"
    assert line.pairs == (("uuid", "x"),)
    assert dict(line.login) == {"server": "host", "username": "me", "password": "a=b", "port": "8443"}


@pytest.mark.parametrize(
    "words", [["vm-list", "web01"], ["vm-list", "-x"], ["vm-list", "=x"], ["a=b"], ["vm-list", "-s"]]
)
def test_what_is_no_command_line(words: List[str]) -> None:
    with pytest.raises(XeError, match="Syntax error: .*\n.*vmss xe help"):
        parse(words)


@given(names=st.lists(VALUE.filter(lambda name: "\n" not in name), min_size=1))
def test_a_script_can_take_a_minimal_answer_apart(names: List[str]) -> None:
    text = render(Output(tuple([("name-label ( RW)", name)] for name in names)), minimal=True)
    found = re.findall(r"((?:[^\\,]|\\.)*)(?:,|\Z)", text[:-1], re.DOTALL)[: len(names)]
    assert [re.sub(r"\\(.)", r"\1", name) for name in found] == names


@given(number=st.integers(-(2**63), 2**63 - 1), form=st.sampled_from(["%d", "%#x", "%#o"]))
def test_numbers_are_those_of_ocaml(number: int, form: str) -> None:
    assert INTEGER.parse("field", form % number) == str(number)


@pytest.mark.parametrize("text", ["", "1.5", "seven", "0x", "9223372036854775808", "1 ", "1\n"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(XeError, match="'field'"):
        INTEGER.parse("field", text)


def test_bytes_may_have_a_unit() -> None:
    assert [BYTES.parse("field", text) for text in ("512", "2KiB", "3GiB")] == ["512", "2048", str(3 << 30)]


# What it knows


def test_every_field_is_one_of_xapis(pool: TestPool) -> None:
    """Of the members that are read, and of the methods that set them, none is made up."""
    methods, model = pool.simulator.dispatcher.methods, pool.simulator.model
    for cls in CLASSES:
        for field in cls.fields:
            head, _, tail = field.member.partition(".")
            if field.member.endswith("()") or field.made is not None:
                made = field.writable and "%s.set_%s" % (cls.api, field.member)
                assert (made or field.made is not None and "pool.get_all" or field.member[:-2]) in methods
                continue
            assert head in model.classes[cls.api].fields, (cls.api, field.member)
            assert not tail or tail in model.classes[SECOND_RECORDS[cls.api, head]].fields, field.member
            if field.writable:
                single = ["set_%s"]
                wanted = {ONE: single, LIST: single, MAP: ["add_to_%s", "remove_from_%s"], SET: ["add_%s", "remove_%s"]}
                for form in wanted[field.holds]:
                    assert "%s.%s" % (cls.api, form % field.adds) in methods


def test_help_knows_every_command(capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    overview = do(capfdbinary, "help")
    assert overview.status == 0
    assert do(capfdbinary, "--help").out == overview.out
    for name, command in COMMANDS.items():
        cls, dash, verb = name.partition("-")
        assert cls in overview.out and verb in overview.out, name
        said = do(capfdbinary, "help", name).out
        assert name in said and command.text in said and "reqd params     : " + ", ".join(command.needs) in said
    assert do(capfdbinary, "help", "vm-bogus").status == 1
    nothing = do(capfdbinary)
    assert (nothing.status, nothing.out, nothing.err) == (1, "", overview.out)


# What the article and our own README do with it


def test_a_schedule_from_its_making_to_its_end(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("web01", [here.sr()])
    vm_uuid = here.uuid("VM", vm)
    made = do(
        capfdbinary,
        "vmss-create",
        "name-label=nightly",
        "type=snapshot",
        "frequency=daily",
        "schedule:hour=10",
        "schedule:min=15",
        "retained-snapshots=1",
    )
    policy = made.out.strip()
    assert do(capfdbinary, "vm-param-set", "uuid=" + vm_uuid, "snapshot-schedule=" + policy).status == 0
    here.at(10, 15)
    here.tick()
    snapshot = do(capfdbinary, "snapshot-list", "snapshot-of=" + vm_uuid, "is-vmss-snapshot=true", "--minimal")
    assert snapshot.out.strip() == here.snapshots(vm)[0]["uuid"]
    assert do(capfdbinary, "message-list", "obj-uuid=" + policy, "params=name,priority").out == (
        "name ( RO)        : VMSS_SNAPSHOT_SUCCEEDED\n    priority ( RO): 5\n\n\n"
    )
    # Pinned, it stays when it has expired.
    which = "uuid=" + snapshot.out.strip()
    assert do(capfdbinary, "snapshot-param-set", which, "blocked-operations:destroy=audit").status == 0
    here.at(10, 15, day=3)
    here.tick()
    assert len(here.snapshots(vm)) == 2
    got = do(capfdbinary, "snapshot-param-get", which, "param-name=blocked-operations", "param-key=destroy")
    assert got.out == "audit\n"
    remove = ("snapshot-param-remove", which, "param-name=blocked-operations", "param-key=destroy")
    assert [do(capfdbinary, *remove).status for _ in range(2)] == [0, 1]
    here.at(10, 15, day=4)
    here.tick()
    assert len(here.snapshots(vm)) == 1
    assert do(capfdbinary, "vm-param-set", "uuid=" + vm_uuid, "snapshot-schedule=").status == 0
    assert do(capfdbinary, "vmss-destroy", "uuid=" + policy).status == 0
    assert do(capfdbinary, "vmss-list").out == ""
    assert here.sessions() == 0


def test_settings_of_the_pool(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    which = "uuid=" + do(capfdbinary, "pool-list", "--minimal").out.strip()
    for value in ("16", "8"):
        assert do(capfdbinary, "pool-param-set", which, "other-config:vmss:max_operations=" + value).status == 0
        assert here.other_config()["vmss:max_operations"] == value
    name = "param-name=other-config"
    assert do(capfdbinary, "pool-param-get", which, name, "param-key=vmss:max_operations").out == "8\n"
    assert do(capfdbinary, "pool-list", "other-config:vmss:max_operations=8", "--minimal").out == which[5:] + "\n"
    assert do(capfdbinary, "pool-param-remove", which, name, "param-key=vmss:max_operations").status == 0
    assert "vmss:max_operations" not in here.other_config()


def test_a_new_frequency_and_its_day_on_one_line(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    """The frequency brings a day of its own, which the line replaces."""
    policy = here.policy()
    ended = do(
        capfdbinary,
        "vmss-param-set",
        "uuid=" + here.uuid("VMSS", policy),
        "frequency=weekly",
        "schedule:days=Friday",
        "schedule:hour=3",
    )
    assert ended.status == 0, ended.err
    assert here.call("VMSS.get_schedule", policy) == {"days": "Friday", "hour": "3", "min": "15"}


def test_sets(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("web01")
    which = "uuid=" + here.uuid("VM", vm)
    for tag in ("a", "b"):
        assert do(capfdbinary, "vm-param-add", which, "param-name=tags", "param-key=" + tag).status == 0
    assert do(capfdbinary, "vm-param-get", which, "param-name=tags").out.strip() in ("a, b", "b, a")
    assert do(capfdbinary, "vm-list", "tags:contains=a", "--minimal").out == which[5:] + "\n"
    assert do(capfdbinary, "vm-param-remove", which, "param-name=tags", "param-key=a").status == 0
    assert here.call("VM.get_tags", vm) == ["b"]
    assert do(capfdbinary, "vm-param-clear", which, "param-name=tags").status == 0
    assert here.call("VM.get_tags", vm) == []
    assert "set" in do(capfdbinary, "vm-param-set", which, "tags:a=b").err


def test_a_plugin_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "echo").write_text(
        "#!%s\nimport sys, xmlrpc.client\n"
        "params, method = xmlrpc.client.loads(sys.argv[1])\n"
        "text = '%%s %%s' %% (method, sorted(params[1].items()))\n"
        "print(xmlrpc.client.dumps(({'Status': 'Success', 'Value': text},), '', True))\n" % sys.executable
    )
    (plugins / "echo").chmod(0o755)
    with TestPool(tmp_path, plugins=str(plugins)) as pool:
        monkeypatch.setenv("VMSS_XAPI", pool.place.xapi)
        host = "host-uuid=" + pool.uuid("host", pool.host)
        ended = do(capfdbinary, "host-call-plugin", host, "plugin=echo", "fn=say", "args:a=1", "args:b=2=3")
        assert (ended.status, ended.out) == (0, "say [('a', '1'), ('b', '2=3')]\n")
        ended = do(capfdbinary, "host-call-plugin", host, "plugin=none", "fn=say")
        assert ended.status == 1 and "XENAPI_MISSING_PLUGIN" in ended.err and "none" in ended.err


def test_a_snapshot_of_the_one_vm_that_is_meant(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    twins = [here.vm("twin") for _ in range(2)]
    assert "2 VMs" in do(capfdbinary, "vm-snapshot", "vm=twin", "new-name-label=x").err
    assert "No VM" in do(capfdbinary, "vm-snapshot", "vm=nobody", "new-name-label=x").err
    assert do(capfdbinary, "vm-snapshot", "vm=" + here.uuid("VM", twins[0]), "new-name-label=x").status == 0
    assert [len(here.call("VM.get_snapshots", vm)) for vm in twins] == [1, 0]
    assert do(capfdbinary, "vm-snapshot", "vm=twin", "new-name-label=x", "--multiple").out.count("\n") == 2


def test_messages(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    about = "vm-uuid=" + here.uuid("VM", here.vm())
    assert do(capfdbinary, "message-create", "name=NAME", "priority=3", "body=a\nb", about).status == 0
    message = do(capfdbinary, "message-list", "class=VM", "--minimal").out.strip()
    assert do(capfdbinary, "message-param-get", "uuid=" + message, "param-name=body").out == "a\nb\n"
    assert do(capfdbinary, "message-destroy", "uuid=" + message).status == 0
    assert here.call("message.get_all") == []
    # One that xapi has stored without links is listed, and not found by its uuid.
    here.call("simulator.collide", 1)
    here.call("message.create", "NAME", "3", "VM", about.partition("=")[2], "")
    (record,) = here.call("message.get_all_records").values()
    assert do(capfdbinary, "message-destroy", "uuid=" + record["uuid"]).status == 0
    assert here.call("message.get_all_records") == {}
    assert "UUID_INVALID" in do(capfdbinary, "message-destroy", "uuid=" + record["uuid"]).err


def test_what_it_costs_does_not_grow_with_vms_that_are_not_asked_for(
    pool: TestPool, monkeypatch: pytest.MonkeyPatch, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    front = Front(str(pool.folder / "front"), pool.socket)
    monkeypatch.setenv("VMSS_XAPI", "unix:" + str(pool.folder / "front"))
    vms = [pool.vm("vm %d" % number) for number in range(120)]
    policy = pool.policy(vms)
    found = do(capfdbinary, "vmss-list", "VMs:contains=" + pool.uuid("VM", vms[7]), "--minimal")
    assert found.out.strip() == pool.uuid("VMSS", policy)
    assert front.calls == ["session.login_with_password", "VMSS.get_all_records", "VM.get_by_uuid", "session.logout"]
    del front.calls[:]
    shown = do(capfdbinary, "vm-list", "params=snapshot-schedule", "uuid=" + pool.uuid("VM", vms[7])).out
    assert pool.uuid("VMSS", policy) in shown
    assert "VM.get_all_records_where" not in front.calls
    # All of their uuids are read at once when they are many.
    del front.calls[:]
    assert len(do(capfdbinary, "vmss-list", "params=VMs").out.split(";")) == 120
    assert front.calls.count("VM.get_all_records") == 1 and len(front.calls) < 110


# Hostile names, other locales, the end

HOSTILE = "\u202etxt.\x9b31m,\\ \u00fc\nuuid ( RO): 0"


def test_a_script_gets_a_hostile_name_as_it_is(pool: TestPool) -> None:
    pool.vm(HOSTILE)
    words = ("xe", "vm-list", "is-control-domain=false", "params=name-label")
    # The words and the output are UTF-8 whatever the locale says.
    for locale in ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}):
        ended = vmss(pool.folder, *words, VMSS_XAPI=pool.place.xapi, **locale)
        assert ended.out == "name-label ( RW)    : %s\n\n\n" % HOSTILE
        minimal = vmss(pool.folder, *words, "name-label=" + HOSTILE, "--minimal", VMSS_XAPI=pool.place.xapi, **locale)
        assert minimal.out == HOSTILE.replace("\\", "\\\\").replace(",", "\\,") + "\n"


def test_a_terminal_gets_a_hostile_name_escaped(pool: TestPool) -> None:
    vm = pool.vm(HOSTILE)
    pool.call("message.create", "N", 1, "VM", pool.uuid("VM", vm), "first\n\x9bsecond")
    shown = on_a_terminal(pool, "vm-list", "is-control-domain=false", "params=name-label")
    assert shown == "name-label ( RW)    : \\u202etxt.\\x9b31m,\\ \u00fc\\x0auuid ( RO): 0\n\n\n"
    assert on_a_terminal(pool, "message-list", "params=body") == "body ( RO)    : first\n\\x9bsecond\n\n\n"


def on_a_terminal(pool: TestPool, *words: str) -> str:
    ours, theirs = pty.openpty()
    environment = dict(os.environ, PYTHONPATH=str(ROOT), VMSS_XAPI=pool.place.xapi, LC_ALL="C.UTF-8")
    command = [sys.executable, "-m", "vmss", "xe"] + list(words)
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        data = b""
        with open(ours, "rb", buffering=0) as file, suppress(OSError):  # EIO is a terminal's end of file
            for piece in iter(lambda: file.read(65536), b""):
                data += piece
        assert process.wait() == 0
    return data.decode("utf-8").replace("\r\n", "\n")


def test_told_to_end_it_logs_out(pool: TestPool) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        release.wait(30)
        lose()

    Front(str(pool.folder / "front"), pool.socket, before=Once("VMSS.get_all_records", hold))
    environment = dict(os.environ, PYTHONPATH=str(ROOT), VMSS_XAPI="unix:" + str(pool.folder / "front"))
    with subprocess.Popen([sys.executable, "-m", "vmss", "xe", "vmss-list"], env=environment) as process:
        assert reached.wait(30)
        assert pool.sessions() == 1
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert pool.sessions() == 0
    release.set()


def test_it_logs_in_as_a_person_would(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    """Not as the runs do: what xapi does in their session it marks as scheduled."""
    sr = here.sr()
    uuid = here.uuid("VM", here.vm("vm", [sr]))
    snapshot = do(capfdbinary, "vm-snapshot", "uuid=" + uuid, "new-name-label=x").out.strip()
    assert do(capfdbinary, "snapshot-param-get", "uuid=" + snapshot, "param-name=is-vmss-snapshot").out == "false\n"


def test_an_answer_that_nobody_reads_or_nothing_can_hold(pool: TestPool) -> None:
    for number in range(3):
        pool.vm("x" * 60000 + str(number))
    script = "%s -m vmss xe vm-list %%s; echo $?" % sys.executable
    environment = dict(os.environ, PYTHONPATH=str(ROOT), VMSS_XAPI=pool.place.xapi)
    for redirection, said in ((">/dev/full", "No space left"), (">&-", "it is closed"), ("| true", "")):
        done = subprocess.run(
            ["sh", "-c", script % redirection], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert said.encode() in done.stderr and b"Traceback" not in done.stderr
        assert done.stdout.strip() == (b"1" if said else b"0")


# Bad input


class Liar:
    """A server on a unix socket that answers every call with the same value, in XML and in JSON."""

    def __init__(self, path: Path, value: Any) -> None:
        in_xml = xmlrpc.client.dumps(({"Status": "Success", "Value": value},), methodresponse=True)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body, asked = in_xml, self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/jsonrpc":
                    number = json.loads(asked.decode("utf-8"))["id"]
                    body = json.dumps({"jsonrpc": "2.0", "result": value, "id": number})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *words: object) -> None:
                pass

            def address_string(self) -> str:
                return "here"

        self._path = path
        self._server = socketserver.UnixStreamServer(str(path), Handler)

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._path.unlink()


def test_nobody_there(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "xe", "vmss-list")
    assert (ended.status, ended.out) == (1, "")
    assert "nobody.sock" in ended.err and "No such file or directory" in ended.err and "Traceback" not in ended.err


def test_the_parameters_of_errors_are_those_of_the_data_model() -> None:
    model = {code: tuple(error["params"]) for code, error in json.loads(MODEL.read_text("utf-8"))["all_errors"].items()}
    assert {code: model.get(code) for code in PARAMETERS} == PARAMETERS
    # And no error that has a sentence is missing.
    assert (set(CATALOGUE) | set(SENTENCES)) & set(model) <= set(PARAMETERS)
    assert list(PARAMETERS) == sorted(PARAMETERS)


@pytest.mark.parametrize(
    "words, said",
    [
        (["vm-list", "name-label=\x1b"], "XenAPI cannot carry"),
        (["vm-list", "--nossl"], "--nossl"),
        (["vm-list", "-pwf", "/nonexistent"], "/nonexistent"),
        (["vm-list", "tags:has=x"], "tags:contains"),
        (["vm-list", "name-label:x=y"], "not a set or map"),
        (["vm-param-get", "uuid=x", "param-name=uuid"], "UUID_INVALID"),
        (["vm-list", "database:vdi-uuid=x"], "not supported"),
        (["vm-list", "database:filename=x"], "not supported"),
        (["vm-list", "--minimal=perhaps"], "'perhaps'"),
    ],
)
def test_bad_input_is_told(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]", words: List[str], said: str
) -> None:
    here.vm()
    ended = do(capfdbinary, *words)
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert here.sessions() == 0


@pytest.mark.parametrize("answer", ["x", [], {}, 1], ids=str)
def test_an_answer_that_is_none_of_xapis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: "pytest.CaptureFixture[bytes]", answer: Any
) -> None:
    """Whatever a server makes up: a line, no traceback."""
    records = {"OpaqueRef:1": {"uuid": "u", "VMs": answer, "schedule": answer}}
    monkeypatch.setenv("VMSS_XAPI", "unix:" + str(tmp_path / "x"))
    for value in (answer, records):
        with Liar(tmp_path / "x", value):
            for words in (
                ["vmss-list"],
                ["vmss-list", "VMs:contains=x"],
                ["vmss-list", "schedule:min=x"],
                ["vmss-param-get", "uuid=x", "param-name=schedule"],
                ["pool-list", "params=all"],
            ):
                ended = do(capfdbinary, *words)
                assert ended.status in (0, 1)
                assert bool(ended.err) == bool(ended.status)


def test_a_terminal_is_not_tricked_by_an_error(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    """Which standard error may be while the output goes into a file."""
    assert "\x9b" not in do(capfdbinary, "vm-list", "\x9b=1").err
    which = "uuid=" + here.uuid("VMSS", here.policy(name=HOSTILE))
    assert do(capfdbinary, "vmss-param-set", which, "schedule:min=45").status == 0
    err = do(capfdbinary, "vmss-param-add", which, "param-name=schedule", "min=30").err
    assert "\\x9b31m" in err and "\x9b" not in err
    assert err.count("\n") == 5 and which[5:] in err


def test_reading_over_https(
    tls: Dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    host, port = tls["VMSS_XAPI"][len("https://") :].split(":")
    monkeypatch.setenv("VMSS_CONFIG", str(tmp_path / "conf"))
    (tmp_path / "conf").write_text("[vmss]\nca_file = %s\n" % (tmp_path / "crt"))
    (tmp_path / "secret").write_text("root\n%s\n" % tls["VMSS_PASSWORD"])
    there = ("-s", host, "-p", port)
    ended = do(capfdbinary, "host-list", "--minimal", *there, "-pwf", str(tmp_path / "secret"))
    assert ended.status == 0 and len(ended.out.strip()) == 36, ended.err
    ended = do(capfdbinary, "host-list", *there, "-u", "root", "-pw", "wrong")
    assert ended.status == 1 and "Authentication failed" in ended.err
    assert ended.err.endswith("\nTo do: give a user of the pool and the password, on two lines of a file: -pwf FILE\n")
    monkeypatch.setenv("VMSS_PASSWORD", "wrong")
    ended = do(capfdbinary, "host-list", *there)
    assert ended.err.endswith("\nTo do: set VMSS_USER and VMSS_PASSWORD to a user of the pool and the password\n")
    (tmp_path / "conf").write_text("[vmss]\n")
    ended = do(capfdbinary, "host-list", *there, "-pwf", str(tmp_path / "secret"))
    assert ended.status == 1 and "\nTo do: fetch the server's certificate (python3 " in ended.err
    (tmp_path / "conf").write_text("")
    assert "certificate verify failed" in do(capfdbinary, "host-list", *there).err


# What xapi allows


@pytest.mark.parametrize(
    "word, allowed",
    [
        ("schedule:min=20", ["0", "15", "30", "45"]),
        ("schedule:hour=24", ["0", "23"]),
        ("schedule:days=Montag", ["Monday", "Wednesday", "Sunday"]),
        ("schedule:days=monday,Monday", ["Saturday", "Tuesday,Friday"]),
        ("retained-snapshots=11", ["1", "10"]),
    ],
)
def test_a_value_that_is_not_allowed_is_told_with_those_that_are(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]", word: str, allowed: List[str]
) -> None:
    create = ["vmss-create", "name-label=x", "type=snapshot", "frequency=weekly"]
    policy = do(capfdbinary, *create).out.strip()
    told = do(capfdbinary, *create, word).err.splitlines()[3]
    assert told.startswith("allowed: ") and told in do(capfdbinary, "vmss-param-set", "uuid=" + policy, word).err
    assert ": %s\n" % told[len("allowed: ") :] in do(capfdbinary, "help", "vmss-create").out
    # What is named is what xapi takes.
    assert all(part in told for value in allowed for part in value.split(","))
    for value in allowed:
        assert do(capfdbinary, *create, word.partition("=")[0] + "=" + value).status == 0


def test_a_key_that_a_schedule_has_not_is_told_with_those_that_it_has(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    ended = do(capfdbinary, "vmss-create", "name-label=x", "type=snapshot", "frequency=daily", "schedule:minute=15")
    assert ended.err.splitlines()[3] == "allowed keys: hourly (min); daily (min, hour); weekly (min, hour, days)"
