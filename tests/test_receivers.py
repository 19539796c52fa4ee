"""Receivers elsewhere: the ping of a dead-man's switch and the webhook. A real HTTPS server stands for both."""

import base64
import http.server
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from tests.documents import ROOT
from tests.pool import START, TestPool
from tests.test_doctor import Ward
from tests.test_service import refuse
from tests.test_sync_hook import processes
from vmss.cli.commands import notify as command
from vmss.core import notices
from vmss.core.messages import Victim
from vmss.core.policy import from_record
from vmss.core.problem import BadInput
from vmss.core.pruning import SURPLUS, Prune
from vmss.core.records import Pool
from vmss.core.served import Served
from vmss.core.turn import Turn
from vmss.edges import notify, surroundings
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import NoSession
from vmss.edges.settings import DEFAULT_XAPI, SettingsError, of_pool
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings
from vmss.insight import published
from vmss.insight.notifying import try_out
from vmss.passes.request import Report, Request

HOSTILE = 'db "1" \\ back\\n {"a": [1]} <b>\n&\t\u2028\x85ü €'
TOKEN = "a-token-that-nobody-may-see"


class Asked(NamedTuple):
    method: str
    path: str
    body: bytes


class Receiver:
    """It notes each request, and answers as it is told to."""

    def __init__(self, files: Tuple[str, str]) -> None:
        self.asked: List[Asked] = []
        self.status = 200
        self.statuses: Dict[str, int] = {}  # by the end of the path
        self.where = ""  # of a redirect
        self.silent = False
        self.looks = False  # whether a process shows the token to others
        self.leaks: List[bytes] = []
        self.released = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.asked.append(Asked(self.command, self.path, body))
                if receiver.looks:
                    receiver.leaks += [text for text in processes() if TOKEN.encode() in text]
                if receiver.silent:
                    receiver.released.wait(30)
                status = next((code for end, code in receiver.statuses.items() if self.path.endswith(end)), None)
                self.send_response(status or receiver.status, TOKEN)
                if receiver.where:
                    self.send_header("Location", receiver.where)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *words: Any) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, *words: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.at = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def pings(self) -> List[str]:
        """The ends of the addresses that were pinged."""
        return [path.partition(TOKEN)[2] for method, path, _ in self.asked if method == "GET"]

    @property
    def documents(self) -> List[Dict[str, Any]]:
        return [json.loads(body.decode("ascii")) for method, _, body in self.asked if method == "POST"]

    def end(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tuple[str, str]:
    at = tmp_path_factory.mktemp("receiver")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=receiver"
    command = words.split() + ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        command += ["-keyout", str(at / "key"), "-out", str(at / "crt")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return str(at / "crt"), str(at / "key")


@pytest.fixture
def receiver(certificate: Tuple[str, str]) -> Iterator[Receiver]:
    receiver = Receiver(certificate)
    yield receiver
    receiver.end()


class Bench:
    """A pool whose passes tell the receiver."""

    def __init__(self, pool: TestPool, receiver: Receiver, certificate: Tuple[str, str]) -> None:
        self.pool = pool
        self.receiver = receiver
        self.set(notify_ca_file=certificate[0])

    def set(self, ping: bool = True, webhook: bool = True, **changes: Any) -> None:
        at = "https://%s" % self.receiver.at
        self.pool.settings = self.pool.settings._replace(
            ping_url="%s/ping/%s" % (at, TOKEN) if ping else "",
            webhook_url="%s/hook?token=%s" % (at, TOKEN) if webhook else "",
            **changes,
        )

    def run(self, around: Optional[Surroundings] = None, **request: Any) -> Report:
        asked = Request(**request) if request else Request(kicked=True)
        return published.run(asked, around or self.pool.surroundings())

    def vms(self, *names: str, **fields: Any) -> List[str]:
        vms = [self.pool.vm(name, [self.pool.sr("of %d" % number)]) for number, name in enumerate(names)]
        self.policy = self.pool.policy(vms, **fields)
        return vms

    def configure(self) -> None:
        """Write the settings into the file, as `vmss doctor` reads them."""
        settings, path = self.pool.settings, Path(self.pool.place.config)
        names = ("timezone", "login_limit", "ping_url", "webhook_url", "notify_ca_file", "notify_proxy")
        lines = ["%s = %s" % (name, getattr(settings, name)) for name in names]
        path.write_text("[vmss]\n%s\n" % "\n".join(lines))
        path.chmod(0o600)

    def complaints(self) -> List[str]:
        begin = ("The ping was not", "The webhook has not", "Receivers are not")
        return [line for line in self.pool.log() if line.startswith(begin)]


@pytest.fixture
def bench(pool: TestPool, receiver: Receiver, certificate: Tuple[str, str]) -> Bench:
    return Bench(pool, receiver, certificate)


# The ping


def test_each_tick_on_the_coordinator_pings_how_it_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, receiver = bench.pool, bench.receiver
    bench.set(webhook=False)
    vm, other = bench.vms("one", "two")
    pool.at(10, 1)
    assert bench.run().idle and receiver.pings == [""]
    pool.at(10, 15)
    assert bench.run().status == 0 and receiver.pings[1:] == ["/start", ""]
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "no")
    pool.at(11, 15)
    assert bench.run().status == 1 and receiver.pings[3:] == ["/start", "/fail"]
    around = pool.surroundings()
    with pytest.raises(NoSession):
        bench.run(around._replace(place=around.place._replace(xapi="unix:/nowhere")))
    assert receiver.pings[5:] == ["/fail"]
    del receiver.asked[:]
    # What is no tick, did not come to its end, or is not of the coordinator.
    bench.set()
    bench.run(policy="policy")
    bench.run(prune=Prune(SURPLUS))
    bench.run(kicked=True, dry_run=True)
    assert receiver.pings == [] and len(receiver.documents) == 1
    bench.set(webhook=False)
    del receiver.asked[:]
    directory = LockDirectory(pool.place.lock_dir)
    uuid = next(iter(pool.call("pool.get_all_records").values()))["uuid"]
    lock = directory.acquire(uuid, {"pid": 1, "since": "20260302T10:15:00Z"})
    assert bench.run().status == 4
    lock.release()
    directory.close()
    role = pool.folder / "pool.conf"
    role.write_text("slave:10.0.0.1")
    monkeypatch.setattr(surroundings, "POOL_ROLE", str(role))
    assert bench.run(around._replace(place=around.place._replace(xapi=DEFAULT_XAPI))).status == 0
    assert receiver.asked == [] and bench.complaints() == []


def test_the_start_is_told_while_a_pass_works_and_delays_no_snapshot(bench: Bench) -> None:
    pool, receiver = bench.pool, bench.receiver
    bench.set(webhook=False)
    (vm,) = bench.vms("one")
    # The receiver lets /start wait until the VM has its snapshot: if the snapshot waited for that, both would wait.
    receiver.silent = True
    pool.at(10, 15)

    def see(line: str) -> None:
        if line.startswith("[1/1]"):
            receiver.released.set()

    works: List[int] = []  # who draws the pass is told that it works, too
    assert bench.run(pool.surroundings(say=see, works=lambda: works.append(1))).status == 0
    assert receiver.released.is_set() and len(pool.snapshots(vm)) == 1 and works
    assert receiver.pings == ["/start", ""] and bench.complaints() == []


def test_the_start_and_the_end_have_one_limit_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, receiver = bench.pool, bench.receiver
    monkeypatch.setattr(notify, "LIMIT_S", 0.7)
    bench.set(webhook=False)
    bench.vms("one")
    receiver.silent = True
    pool.at(10, 15)
    assert bench.run().status == 0 and len(receiver.pings) <= 2
    assert bench.complaints() == ["The ping was not taken: there is no answer within 1 s"]
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] and pool.sessions() == 0


def test_the_limit_of_the_first_of_several_documents_ends_them_all(bench: Bench) -> None:
    bench.receiver.silent = True
    settings = bench.pool.settings
    sending = notify.Sending(settings.webhook_url, ["{}"] * 90, settings, 0.4)
    notify.wait([sending])
    assert sending.child.trouble.startswith("a signal has ended it: ") and len(bench.receiver.asked) <= 1
    assert sending.trouble == "there is no answer within 1 s" and sending.taken == 0


def test_a_receiver_that_does_not_know_starts_is_complained_of(bench: Bench) -> None:
    bench.set(webhook=False)
    bench.vms("one")
    bench.receiver.statuses["/start"] = 404
    bench.pool.at(10, 15)
    assert bench.run().status == 0 and bench.receiver.pings == ["/start", ""]
    assert bench.complaints() == ["The ping was not taken: /start: it answers with HTTP status 404"]


@pytest.mark.parametrize(
    "url, pinged",
    [
        ("https://h/x", "https://h/x/fail"),
        ("https://h/x/?a=b", "https://h/x/fail?a=b"),
        ("https://h", "https://h/fail"),
        ("https://h?a=b", "https://h/fail?a=b"),
    ],
)
def test_the_end_comes_after_the_path(url: str, pinged: str) -> None:
    assert notify.with_end(url, notices.FAIL) == pinged
    assert notify.with_end(url, notices.SUCCESS) == url


# The webhook


def test_each_run_is_told_once_in_a_document_of_the_schema(bench: Bench) -> None:
    pool, receiver = bench.pool, bench.receiver
    bench.set(ping=False)
    (good, bad) = bench.vms("good", HOSTILE, name=HOSTILE)
    known = pool.call("VM.get_name_label", bad)
    pool.call("pool.set_name_label", pool.call("pool.get_all")[0], "the pool")
    pool.at(10, 1)
    bench.run()
    assert receiver.asked == []  # an idle tick has none
    pool.at(10, 15)
    bench.run()
    pool.call("VM.add_to_blocked_operations", bad, "snapshot", "no")
    pool.at(11, 15)
    bench.run()
    bench.run(policy=pool.uuid("VMSS", bench.policy))
    first, second, third = receiver.documents
    assert [asked.path for asked in receiver.asked] == ["/hook?token=" + TOKEN] * 3
    for document in receiver.documents:
        assert_fits(document)
        assert document["test"] is False and document["failures_left_out"] == 0 and document["left_over"] == ""
        assert document["schedule"]["name"] == pool.call("VMSS.get_name_label", bench.policy)
        assert document["pool"]["name"] == "the pool"
    assert (first["result"], first["start"], first["slot"]) == ("succeeded", "at its slot", "2026-03-02T10:15:00Z")
    assert first["counts"]["vms"] == first["counts"]["taken"] == 2 and first["failures"] == []
    assert (second["result"], second["counts"]["failed"]) == ("failed", 1)
    (failure,) = second["failures"]
    assert failure["vm"] == known and failure["uuid"] == pool.uuid("VM", bad)
    assert failure["error"][0] == "OPERATION_BLOCKED" and "xe vm-param-remove" in failure["remedy"]
    assert failure["uuid"] in failure["remedy"]
    assert (third["start"], third["result"]) == ("by hand", "failed")
    assert len({document["run"] for document in receiver.documents}) == 3
    assert len(pool.snapshots(good)) == 2


def assert_fits(document: Dict[str, Any]) -> None:
    schema = json.loads((ROOT / "docs" / "webhook.schema.json").read_text(encoding="utf-8"))
    assert sorted(mistakes(document, schema, schema)) == []
    # Every field that is sent is in the schema, and every one that is there is sent.
    assert set(document) == set(schema["properties"]) == set(schema["required"])
    assert set(document["counts"]) == set(schema["properties"]["counts"]["properties"])


KINDS = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
FITS: Dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, rule: type(value) is KINDS[rule],
    "required": lambda value, rule: set(rule) <= set(value),
    "enum": lambda value, rule: value in rule,
    "const": lambda value, rule: bool(value == rule),
    "pattern": lambda value, rule: bool(re.search(rule, value)),
    "minimum": lambda value, rule: bool(value >= rule),
    "maxItems": lambda value, rule: len(value) <= rule,
}


def mistakes(value: Any, schema: Dict[str, Any], whole: Dict[str, Any], at: str = "") -> Iterator[str]:
    """What a value has that a schema does not allow, by the keywords of JSON Schema that ours has; no other is
    understood, so that none is believed to hold something."""
    for word, rule in schema.items():
        if word == "$ref":
            yield from mistakes(value, whole["definitions"][rule.rpartition("/")[2]], whole, at)
        elif word == "allOf":
            for one in rule:
                yield from mistakes(value, one, whole, at)
        elif word == "properties":
            for name, one in rule.items():
                yield from mistakes(value[name], one, whole, "%s.%s" % (at, name)) if name in value else ()
        elif word == "items":
            for number, item in enumerate(value):
                yield from mistakes(item, rule, whole, "%s[%d]" % (at, number))
        elif word not in ("$schema", "title", "description", "definitions") and not FITS[word](value, rule):
            yield "%s: %s %s" % (at, word, rule)


def test_what_does_not_fit_the_schema_is_seen() -> None:
    schema = json.loads((ROOT / "docs" / "webhook.schema.json").read_text(encoding="utf-8"))
    wrong = {"schema": 2, "test": 1, "slot": "today", "seconds": -1, "result": "x", "schedule": {"type": "snapshot"}}
    found = {line.partition(" ")[0] for line in mistakes(dict(wrong, failures=[{}]), schema, schema)}
    assert found == {":", ".schema:", ".test:", ".slot:", ".seconds:", ".result:", ".schedule:", ".failures[0]:"}


def test_no_run_is_told_twice_whatever_repeats_its_alert(bench: Bench) -> None:
    pool, receiver = bench.pool, bench.receiver
    bench.set(ping=False)
    bench.vms("one")
    pool.call("VMSS.set_last_run_time", bench.policy, "20260302T09:16:00Z")
    refuse(pool, "VMSS.set_last_run_time", bench.policy, 2, "INTERNAL_ERROR")
    for minute in (15, 30, 45):
        pool.at(10, minute)
        bench.run()
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 3
    assert [document["slot"] for document in receiver.documents] == ["2026-03-02T10:15:00Z"]
    # Without a licence nothing is ever served, and each tick finds that again.
    pool.call("simulator.restrict", "VMSS", True)
    for minute in (15, 30):
        pool.at(11, minute)
        bench.run()
    restricted = receiver.documents[1:]
    assert [(document["slot"], document["result"]) for document in restricted] == [("2026-03-02T11:15:00Z", "failed")]
    assert "licence" in restricted[0]["remarks"][0]
    assert_fits(restricted[0])


def test_a_run_whose_pass_lost_xapi_after_its_alert_is_told_once(bench: Bench) -> None:
    pool = bench.pool
    bench.set(ping=False)
    bench.vms("one")
    pool.call("VMSS.set_last_run_time", bench.policy, "20260302T09:16:00Z")
    pool.call("simulator.add_fault", {"method": "VMSS.set_last_run_time", "action": "drop"})
    pool.at(10, 15)
    with pytest.raises(NoSession):
        bench.run()
    assert len(bench.receiver.documents) == 1  # its alert was raised
    for minute in (30, 45):
        pool.at(10, minute)
        bench.run()
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2
    assert [document["slot"] for document in bench.receiver.documents] == ["2026-03-02T10:15:00Z"]


def cut_off(bench: Bench, method: str) -> None:
    """A run by hand whose pass loses xapi in a call, when nothing else is due."""
    pool = bench.pool
    bench.vms("one", "two")
    pool.call("VMSS.set_last_run_time", bench.policy, "20260302T10:00:00Z")
    pool.call("simulator.add_fault", {"method": method, "action": "drop"})
    pool.at(10, 1)
    with pytest.raises(NoSession):
        bench.run(policy=pool.uuid("VMSS", bench.policy))
    for minute in (5, 10):
        pool.at(10, minute)
        assert bench.run().status == 0


def test_a_run_by_hand_that_was_cut_off_is_told_by_the_next_pass_and_fails_its_ping(bench: Bench) -> None:
    cut_off(bench, "Async.VM.snapshot")
    pool, receiver = bench.pool, bench.receiver
    assert pool.names() == ["VMSS_SNAPSHOT_FAILED"] and receiver.pings == ["/fail", ""]
    (document,) = receiver.documents
    assert_fits(document)
    assert (document["start"], document["started"]) == ("by hand", "2026-03-02T10:01:00Z")
    taken = sum(len(pool.snapshots(vm)) for vm in pool.call("VMSS.get_VMs", bench.policy))
    assert document["counts"]["taken"] == taken < 2 == document["counts"]["vms"]
    assert document["result"] == "failed" and len(document["failures"]) == 2 - taken
    assert "was cut off: its pass was killed, or lost xapi" in document["remarks"][0]


def test_a_run_by_hand_that_was_cut_off_after_its_alert_is_told_once(bench: Bench) -> None:
    cut_off(bench, "VMSS.set_last_run_time")
    assert bench.pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2  # the second says that it was cut off
    (document,) = bench.receiver.documents
    assert document["remarks"] == [] and bench.receiver.pings == ["", ""]


@pytest.mark.parametrize("method", ["task.destroy", "pool.sync_database"])
def test_who_starts_a_run_by_hand_hears_how_it_ended_if_its_pass_loses_xapi_after_that(
    bench: Bench, method: str
) -> None:
    pool = bench.pool
    one, _ = bench.vms("one", "two")
    error = {"method": "VM.snapshot", "object": one, "action": "error", "error": '["SR_BACKEND_FAILURE_44"]'}
    pool.call("simulator.add_fault", error)
    # First the record of the snapshot that was taken is destroyed, and the database written before any is.
    pool.call("simulator.add_fault", {"method": method, "action": "drop", "skip": "1"})
    pool.at(10, 1)
    with pytest.raises(NoSession) as lost:
        bench.run(policy=pool.uuid("VMSS", bench.policy))
    assert str(lost.value).partition("; ")[2] == (
        "the run had come to its end before: schedules served: 1, VMs snapshotted: 1 of 2, "
        "expired snapshots deleted: 0, VMs with errors: 1"
    )
    for minute in (5, 10):
        pool.at(10, minute)
        assert bench.run().status == 0
    assert pool.names() == ["VMSS_SNAPSHOT_FAILED"] and len(bench.receiver.documents) == 1


def test_what_cannot_be_noted_as_told_is_not_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.vms("one")
    directory = Path(bench.pool.place.lock_dir)
    bench.pool.at(10, 1)
    bench.run()
    uuid = next(iter(bench.pool.call("pool.get_all_records").values()))["uuid"]
    (directory / (uuid + ".told.new")).mkdir()
    bench.pool.at(10, 15)
    assert bench.run().status == 0
    assert bench.receiver.documents == [] and bench.receiver.pings[-2:] == ["/start", ""]
    (complaint,) = bench.complaints()
    assert complaint.startswith("The webhook has not taken all documents: ") and ".told.new" in complaint


def test_vms_that_are_tried_again_are_told_when_they_are_well(bench: Bench) -> None:
    pool = bench.pool
    bench.set(ping=False)
    pool.settings = pool.settings._replace(retries=0)
    (vm,) = bench.vms("one")
    refuse(pool, "Async.VM.snapshot", vm, 2)
    for minute in (15, 30, 45):
        pool.at(10, minute)
        bench.run()
    told = [(document["start"], document["result"]) for document in bench.receiver.documents]
    assert told[0] == ("at its slot", "failed") and told[1:] == [("again", "succeeded")]


def test_a_large_pass_is_told_whole_and_what_is_too_large_is_complained_of(bench: Bench) -> None:
    bench.vms("one")
    victims = tuple(Victim("v" * 400, "u", ("OPERATION_BLOCKED", "x" * 400)) for _ in range(300))
    around = bench.pool.surroundings()
    policy = from_record(bench.policy, bench.pool.call("VMSS.get_record", bench.policy))
    served = Served(Turn(policy, START), START, victims=victims)
    pool = Pool("ref", "uuid", "host", {}, True, "sr", "\udcff")
    document = notices.document(notices.Notice(served, START, pool, True))
    assert (len(document["failures"]), document["failures_left_out"]) == (200, 100)
    assert_fits(document)
    assert document["pool"]["name"] == "?"
    text = json.dumps(document)
    assert len(text) > 100000
    many = notify.Sending(around.settings.webhook_url, ["{}"] * 230, around.settings, 10.0)
    notify.wait([many])  # more than the lines that are heard of a child process
    assert (many.taken, many.trouble) == (230, "")
    for number in (3, 12):
        del bench.receiver.asked[:]
        sending = notify.Sending(around.settings.webhook_url, [text] * number, around.settings, 10.0)
        notify.wait([sending])
        assert sending.taken == len(bench.receiver.asked) == min(number, (900 << 10) // len(text))
        assert sending.trouble == ("" if number == 3 else "there were too many documents")


# Receivers that do not take it

NOT_TAKEN = {
    "500": "it answers with HTTP status 500",
    "redirect": "it answers with a redirect (HTTP status 302), and none is followed",
    "redirect elsewhere": "it answers with a redirect (HTTP status 307), and none is followed",
    "closed": "Connection refused",
    "slow": "there is no answer within 1 s",
    "another authority": "its certificate is not trusted",
    "no authority": "notify_ca_file cannot be read, or has no certificate",
    "another name": "its certificate is not trusted: it is for another host",
    "no TLS": "it does not speak TLS as it should",
    "no name": "the name of its host, or of the proxy, is not known",
}


@pytest.mark.parametrize("kind", list(NOT_TAKEN))
def test_a_receiver_that_takes_nothing_harms_no_pass_and_is_complained_of_without_its_address(
    bench: Bench, certificate: Tuple[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, receiver, words = bench.pool, bench.receiver, NOT_TAKEN[kind]
    other: Optional[Receiver] = None
    (vm,) = bench.vms("one")
    if kind == "500":
        receiver.status = 500
    elif kind == "redirect":
        receiver.status, receiver.where = 302, "/elsewhere"
    elif kind == "redirect elsewhere":
        other = Receiver(certificate)
        receiver.status, receiver.where = 307, "https://%s/" % other.at
    elif kind == "closed":
        receiver.end()
    elif kind == "slow":
        receiver.silent = True
        monkeypatch.setattr(notify, "LIMIT_S", 0.7)
    elif kind in ("another authority", "no authority"):
        pem = pool.folder / "other.pem"
        pem.write_text("no certificate\n")
        bench.set(notify_ca_file="" if kind == "another authority" else str(pem))
    elif kind == "another name":
        receiver.at = receiver.at.replace("127.0.0.1", "localhost")
        bench.set()
    elif kind == "no name":
        receiver.at = "receiver.invalid"
        bench.set()
    plain = socket.socket()
    if kind == "no TLS":
        plain.bind(("127.0.0.1", 0))
        plain.listen(8)
        receiver.at = "127.0.0.1:%d" % plain.getsockname()[1]
        bench.set()

        def answer() -> None:
            with suppress(OSError):
                while True:
                    plain.accept()[0].sendall(b"HTTP/1.0 200 OK\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
    pool.at(10, 15)
    assert bench.run().status == 0 and len(pool.snapshots(vm)) == 1
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] and pool.sessions() == 0
    complaints = bench.complaints()
    assert sorted(complaints) == [
        "The ping was not taken: " + words,
        "The webhook has not taken all documents: %s; runs that it was not told of: 1" % words,
    ]
    if kind == "500":  # nothing is tried again
        pool.at(10, 30)
        assert bench.run().idle and len(receiver.documents) == 1
    assert other is None or other.asked == []
    plain.close()
    if other is not None:
        other.end()
    log = "\n".join(pool.log())
    assert TOKEN not in log and "https://" not in log and receiver.at not in log


def test_secrets_are_nowhere_but_in_the_file(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    pool = bench.pool
    bench.vms("one")
    bench.configure()
    bench.receiver.status, bench.receiver.looks = 500, True
    pool.at(10, 15)
    bench.run()
    pool.at(10, 30)
    bench.run()
    bench.receiver.status = 200
    assert command.show(pool.surroundings()) == 0
    assert bench.receiver.leaks == [] and len(bench.receiver.asked) >= 5
    files = [path for path in pool.folder.rglob("*") if path.is_file() and str(path) != pool.place.config]
    assert len(files) > 2 and not [path for path in files if TOKEN.encode() in path.read_bytes()]
    shown = capfd.readouterr()
    assert TOKEN not in shown.out + shown.err
    assert TOKEN not in str(pool.other_config()) and TOKEN not in str(pool.alerts())


def test_they_are_reached_through_a_proxy(bench: Bench) -> None:
    receiver = bench.receiver
    asked: List[bytes] = []
    proxy = socket.socket()
    proxy.bind(("127.0.0.1", 0))
    proxy.listen(8)
    refuses: List[int] = []
    users: List[bytes] = []

    def carry(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client = proxy.accept()[0]
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(4096)
                asked.append(head.split(b"\r\n")[0])
                users.extend(line for line in head.split(b"\r\n") if line.lower().startswith(b"proxy-"))
                if refuses:
                    client.sendall(b"HTTP/1.0 %d %s\r\n\r\n" % (refuses[-1], TOKEN.encode()))
                    client.close()
                    continue
                host, port = receiver.at.split(":")
                far = socket.create_connection((host, int(port)))
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                threading.Thread(target=carry, args=(far, client), daemon=True).start()
                threading.Thread(target=carry, args=(client, far), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    bench.set(webhook=False, notify_proxy="http://127.0.0.1:%d" % proxy.getsockname()[1])
    bench.pool.at(10, 1)
    bench.run()
    assert bench.complaints() == [] and receiver.pings == [""]
    assert asked == [b"CONNECT %s HTTP/1.0" % receiver.at.encode()] or b"CONNECT " + receiver.at.encode() in asked[0]
    assert users == []
    refuses.append(403)
    bench.run()
    assert bench.complaints() == ["The ping was not taken: the connection ended, or the proxy has refused it"]
    bench.set(webhook=False, notify_proxy="http://us%%3Aer:%s@127.0.0.1:%d" % (TOKEN, proxy.getsockname()[1]))
    receiver.looks = True
    refuses[:] = []
    bench.run()
    assert len(bench.complaints()) == 1 and receiver.pings == ["", ""] and receiver.leaks == []
    assert users == [b"Proxy-Authorization: Basic " + base64.b64encode(b"us:er:" + TOKEN.encode())]
    refuses.append(407)
    bench.run()
    complaint = "The ping was not taken: the proxy asks for a user and a password, or for others"
    assert bench.complaints()[1:] == [complaint] and TOKEN not in "\n".join(bench.pool.log())
    proxy.close()


# The settings

RULE = "is not https://HOST or https://HOST:PORT with a path, in ASCII and without a user"


@pytest.mark.parametrize(
    "url",
    [
        "http://h/x", "h/x", "https://", "https://user:word@h/x", "https://h/x y", "https://h/\u00e9", "https://h:99999/",
        "https://h:0/", "https://h/x#y", "https://h/" + "x" * 2000, "https:///x", "file:///etc/shadow",
    ],
)  # fmt: skip
def test_only_an_https_address_is_taken_and_a_mistake_does_not_repeat_it(tmp_path: Path, url: str) -> None:
    path = tmp_path / "conf"
    for name in ("ping_url", "webhook_url"):
        path.write_text("[vmss]\n%s = %s\n" % (name, url), encoding="utf-8")
        with pytest.raises(SettingsError) as caught:
            load(str(path))
        assert str(caught.value) == "%s: line 2: %s %s" % (path, name, RULE)
    path.write_text("[vmss]\nping_url = https://[fd00::1]:8443/a%20b/?c=d&e=%7e\nwebhook_url =\n")
    assert load(str(path)).ping_url.endswith("%7e")


@pytest.mark.parametrize(
    "address", ["https://h:1", "http://h", "http://a@h:1", "http://a:b@@h:1", "http://a:b c@h:1", "http://a:b%4@h:1"]
)
def test_only_the_address_of_an_http_proxy_is_taken_and_a_mistake_does_not_repeat_it(
    tmp_path: Path, address: str
) -> None:
    path = tmp_path / "conf"
    path.write_text("[vmss]\nnotify_proxy = %s\n" % address)
    with pytest.raises(SettingsError) as caught:
        load(str(path))
    rule = "notify_proxy is not http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
    assert str(caught.value) == "%s: line 2: %s" % (path, rule)


def test_in_the_pool_they_have_no_effect_and_are_not_repeated(pool: TestPool) -> None:
    uuid = "0" * 8 + "-0000-0000-0000-" + "0" * 12
    keys = {"vmss:ping_url": "https://h/" + TOKEN, "vmss:%s:webhook_url" % uuid: "https://h/" + TOKEN}
    settings, told = of_pool(pool.settings, keys)
    assert settings.ping_url == settings.webhook_url == "" and len(told) == 2
    assert not [line for line in told if TOKEN in line]


def test_bug_reports_have_the_settings_without_the_addresses(bench: Bench) -> None:
    bench.configure()
    path = Path(bench.pool.place.config)
    path.write_text(path.read_text() + "WEBHOOK_URL: https://h/%s\n# https://h/%s\n" % (TOKEN, TOKEN))
    text = (ROOT / "vmss/data/etc/xensource/bugtool/VM-snapshot-schedule/vmss.xml").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "vmss_settings" in line]
    assert "<files>/etc/vmss.conf" not in text
    words = line.split(">")[1].split("<")[0].replace("/etc/vmss.conf", str(path)).replace("/bin/", "").split()
    shown = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode()
    assert TOKEN not in shown and "timezone = UTC" in shown and "notify_ca_file" in shown


# The doctor, and by hand


def test_the_doctor_says_that_a_receiver_took_nothing_and_to_try_it_ends_that(
    receiver: Receiver, certificate: Tuple[str, str], pool: TestPool, capfd: pytest.CaptureFixture[str]
) -> None:
    ward, bench = Ward(pool), Bench(pool, receiver, certificate)
    bench.configure()
    assert ward.bad() == []
    pool.at(11, 15)
    bench.run()
    assert not {"receivers", "log"} & {finding.check for finding in ward.bad()}
    receiver.status = 500
    pool.at(12, 15)
    bench.run()
    found = [finding for finding in ward.bad() if finding.check == "receivers"]
    assert [finding.text for finding in found] == [
        "The ping was not taken: it answers with HTTP status 500",
        "The webhook has not taken all documents: it answers with HTTP status 500; runs that it was not told of: 1",
    ]
    assert all(finding.remedy.endswith("vmss notify") and "12:15" in finding.evidence for finding in found)
    around = pool.surroundings()
    assert command.show(around) == 1
    receiver.status = 200
    del receiver.asked[:]
    assert command.show(around) == 0
    assert capfd.readouterr() == (
        "ping_url: taken\nwebhook_url: taken\n",
        "vmss: ping_url: not taken: it answers with HTTP status 500\n"
        "vmss: webhook_url: not taken: it answers with HTTP status 500\n",
    )
    (document,) = receiver.documents
    assert document["test"] is True and receiver.pings == [""]
    assert_fits(document)
    # The log still tells of it, for a day.
    ours = {"receivers", "log"}
    assert {finding.check for finding in ward.bad()} & ours == {"log"}
    os.chmod(pool.place.config, 0o640)
    (finding,) = [finding for finding in ward.bad() if finding.check == "receivers"]
    subprocess.run(finding.remedy.split(), check=True)
    assert {finding.check for finding in ward.bad()} & ours == {"log"}


def test_without_receivers_there_is_nothing_to_try(pool: TestPool) -> None:
    assert try_out(pool.surroundings()) == []
    with pytest.raises(BadInput, match="neither"):
        command.show(pool.surroundings())
