"""Xen Orchestra's VM sync hook: a real HTTPS server stands for the guest."""

import base64
import http.server
import os
import socket
import socketserver
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from tests.pool import TestPool
from tests.test_hooks import Bench, folder
from vmss.core.vms import Vm
from vmss.edges.sync_hook import addresses, first_address, is_address, with_path
from vmss.edges.sync_request import may_be_asked
from vmss.edges.xapi import Xapi

__all__ = ["folder"]

SECRET = "unique long string, to be sure that it is us"


def processes() -> Iterator[bytes]:
    """What the command lines and environments of all processes say."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (path / "cmdline").read_bytes() + (path / "environ").read_bytes()


class Guest:
    """What a guest runs: it notes each request, and answers as it is told to."""

    def __init__(self, host: str, files: Tuple[str, str], port: int = 0) -> None:
        self.asked: List[Tuple[str, str]] = []
        self.status = 200
        self.where = ""  # of a redirect
        self.silent = False
        self.leaks: List[bytes] = []
        guest = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                guest.asked.append((self.path, self.headers.get("Authorization", "")))
                guest.leaks += [name for name in processes() if SECRET.encode() in name]
                if guest.silent:
                    guest.released.wait(30)
                    return
                self.send_response(guest.status)
                if guest.where:
                    self.send_header("Location", guest.where)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"Ok")

            def log_message(self, *words: Any) -> None:
                pass

        self.released = threading.Event()

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

        self.server = Server((host, port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = "https://%s:%d" % (host, self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def end(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def host() -> str:
    """An address of this machine that is not its loopback, which is never asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.200", 9))  # nothing is sent
            address = str(probe.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    if not may_be_asked(address):
        pytest.skip("this machine has no address but its loopback")
    return address


@pytest.fixture(scope="module")
def certificate(host: str, tmp_path_factory: pytest.TempPathFactory) -> Tuple[str, str]:
    """A certificate of the guest's own making, and its key."""
    at = tmp_path_factory.mktemp("guest")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=guest -addext subjectAltName=IP:%s" % host
    try:
        command = words.split() + ["-keyout", str(at / "key"), "-out", str(at / "crt")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return str(at / "crt"), str(at / "key")


@pytest.fixture
def guest(host: str, certificate: Tuple[str, str]) -> Iterator[Guest]:
    guest = Guest(host, certificate)
    yield guest
    guest.end()


@pytest.fixture
def bench(pool: TestPool, folder: Path) -> Bench:
    bench = Bench(pool, folder)
    secret = folder / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    bench.settings(sync_hook=True, sync_secret_file=str(secret), hook_limit=20)
    return bench


def tagged(bench: Bench, url: str) -> str:
    (vm,) = bench.vms("one")
    bench.pool.call("VM.add_tags", vm, "xo:notify-on-snapshot=%s" % url)
    return vm


def test_a_guest_is_asked_before_and_after_its_snapshot(bench: Bench, guest: Guest) -> None:
    pool = bench.pool
    vm = tagged(bench, guest.url + "/is/replaced?by=us")
    assert pool.tick().status == 0
    bearer = "Bearer " + base64.b64encode(SECRET.encode()).decode()
    assert guest.asked == [("/sync?by=us", bearer), ("/post-sync?by=us", bearer)]
    (snapshot,) = pool.snapshots(vm)
    assert "xo:synced" in snapshot["tags"] and bench.said("failed") == []
    log = "\n".join(pool.log())
    assert guest.leaks == [] and SECRET not in log and bearer.split()[1] not in log and bench.note == {}


def test_a_guest_that_names_no_url_is_asked_at_the_address_that_it_reports(
    bench: Bench, host: str, certificate: Tuple[str, str]
) -> None:
    pool = bench.pool
    (vm,) = bench.vms("one")
    pool.call("VM.add_tags", vm, "xo:notify-on-snapshot")
    pool.simulator.db.set("VM_guest_metrics", pool.call("VM.get_guest_metrics", vm), "networks", {"0/ip": host})
    try:
        guest = Guest(host, certificate, 1727)
    except OSError:
        pytest.skip("port 1727 is in use")
    assert pool.tick().status == 0
    guest.end()
    assert [path for path, _ in guest.asked] == ["/sync", "/post-sync"]


@pytest.mark.parametrize("kind", ["status", "redirect", "closed", "slow"])
def test_a_guest_that_does_not_answer_well_gets_its_snapshot_all_the_same(
    bench: Bench, guest: Guest, kind: str
) -> None:
    vm = tagged(bench, guest.url)
    bench.settings(**dict(bench.pool.settings._asdict(), hook_error="skip", hook_limit=1 if kind == "slow" else 20))
    if kind == "status":
        guest.status, words = 500, "failed: exit status 1"
    elif kind == "redirect":
        guest.status, guest.where, words = 302, guest.url + "/elsewhere", "failed: exit status 1"
    elif kind == "closed":
        guest.end()
        words = "failed: exit status 1"
    else:
        guest.silent, words = True, "failed: "
    assert bench.pool.tick().status == 0
    (snapshot,) = bench.pool.snapshots(vm)
    assert "xo:synced" not in snapshot["tags"]
    assert len(bench.said(words)) == 2
    assert [path for path, _ in guest.asked] == ([] if kind == "closed" else ["/sync", "/post-sync"])
    said = {"status": "HTTP status 500", "redirect": "302), which is not followed", "closed": "refused", "slow": ""}
    assert bench.said(said[kind])


def test_a_guest_is_asked_only_where_that_is_switched_on_and_its_vm_runs(bench: Bench, guest: Guest) -> None:
    tagged(bench, guest.url)
    with_hook = bench.pool.settings
    bench.pool.settings = with_hook._replace(sync_hook=False)
    assert bench.pool.tick().status == 0 and guest.asked == []
    (vm,) = [vm for vm in bench.pool.call("VM.get_all_records") if bench.pool.snapshots(vm)]
    bench.pool.call("VM.hard_shutdown", vm)
    bench.pool.settings = with_hook
    bench.pool.at(11, 15)
    assert bench.pool.tick().status == 0 and guest.asked == []


def test_a_certificate_is_verified_where_its_authority_is_named(
    bench: Bench, guest: Guest, certificate: Tuple[str, str], folder: Path
) -> None:
    tagged(bench, guest.url)
    base = bench.pool.settings
    bench.pool.settings = base._replace(sync_ca_file=certificate[0])
    assert bench.pool.tick().status == 0 and len(guest.asked) == 2
    other = folder / "other"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -keyout /dev/null -out %s" % other
    subprocess.run(command.split(), check=True, stderr=subprocess.DEVNULL)
    bench.pool.settings = base._replace(sync_ca_file=str(other))
    bench.pool.at(11, 15)
    assert bench.pool.tick().status == 0
    assert len(guest.asked) == 2 and len(bench.said("CERTIFICATE_VERIFY_FAILED")) == 2


def test_without_its_secret_nobody_is_asked(bench: Bench, guest: Guest) -> None:
    vm = tagged(bench, guest.url)
    os.chmod(bench.pool.settings.sync_secret_file, 0o640)
    assert bench.pool.tick().status == 0 and len(bench.pool.snapshots(vm)) == 1
    assert guest.asked == [] and len(bench.said("No guest is asked before its snapshot: ")) == 1


def test_the_first_address_that_a_guest_reports_is_asked_on_port_1727(bench: Bench) -> None:
    pool = bench.pool
    vms = bench.vms("good", "ours", "none", "both")
    for vm in vms:
        pool.call("VM.add_tags", vm, "xo:notify-on-snapshot")
    networks: Dict[str, Dict[str, str]] = {
        "good": {"0/ipv6/0": "fd00::7", "1/ip": "192.0.2.7", "0/error": "x"},
        "ours": {"0/ip": "127.0.0.1"},
        "none": {},
        "both": {"0/ip": "192.0.2.8"},
    }
    records = {record["name_label"]: record for record in (pool.call("VM.get_record", vm) for vm in vms)}
    for name, record in records.items():
        pool.simulator.db.set("VM_guest_metrics", record["guest_metrics"], "networks", networks[name])
    pool.call("VM.add_tags", vms[3], "xo:notify-on-snapshot=https://[fd00::8]:99")
    xapi = Xapi(pool.place.xapi)
    xapi.login("root", "")
    read = [
        Vm(
            vm,
            str(number),
            "",
            "",
            "Running",
            "",
            "",
            tags=frozenset(record["tags"]),
            guest_metrics=record["guest_metrics"],
        )
        for number, (vm, record) in enumerate((vm, pool.call("VM.get_record", vm)) for vm in vms)
    ]
    asked, lines = addresses(xapi, read)
    xapi.close()
    assert asked == {"0": "https://192.0.2.7:1727{path}", "3": "https://[fd00::8]:99{path}"}
    assert [line.partition(" is not asked: ")[2] for line in lines] == [
        "its address is '127.0.0.1'",
        "it reports no address",
    ]


def test_the_address_is_the_first_of_ipv4_else_of_ipv6() -> None:
    assert first_address({"0/ipv6/0": "fd00::1", "1/ipv4/0": "10.0.0.2", "1/ip": "10.0.0.1"}) == "10.0.0.1"
    assert first_address({"1/ipv6/0": "fd00::2", "0/ipv6/1": "fd00::1"}) == "fd00::1"
    assert first_address({"0/mac": "10.0.0.1"}) == ""


@pytest.mark.parametrize(
    "url, asked",
    [
        ("https://db.example:99/x", "https://db.example:99{path}"),
        ("https://db.example?a=b#c", "https://db.example{path}?a=b"),
        ("https://[fd00::1]", "https://[fd00::1]{path}"),
        ("http://db.example", ""),
        ("https://root:secret@db.example", ""),
        ("https://db.example\r\nX: y", ""),
        ("https://db.example/\u00e9", ""),
        ("https://db.example/{path}", ""),
        ("https://" + "a" * 2000, ""),
        ("file:///etc/shadow", ""),
        ("", ""),
    ],
)
def test_a_url_of_a_tag_is_https_and_its_path_is_ours(url: str, asked: str) -> None:
    assert with_path(url) == asked
    assert is_address(asked) == bool(asked)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "0.0.0.0", "::", "169.254.169.254",
        "fe80::1", "fe80::1%eth0", "224.0.0.1", "255.255.255.255", "ff02::1", "db.example", "1", "", "127.1",
    ],
)  # fmt: skip
def test_dom0s_own_services_are_never_asked(address: str) -> None:
    assert not may_be_asked(address)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_name_that_leads_to_dom0_itself_is_not_asked(bench: Bench, guest: Guest, name: str) -> None:
    tagged(bench, "https://%s:%d" % (name, guest.server.server_address[1]))
    assert bench.pool.tick().status == 0
    assert guest.asked == [] and len(bench.said("dom0's own addresses")) == 2
