"""Xen Orchestra's VM sync hook: which guest is asked at which address, the secret, and the command that asks.

A guest that is prepared for it needs nothing else for us. The facts are those of its documentation and of
@xen-orchestra/xapi/vm.mjs: the tag `xo:notify-on-snapshot` on a running VM, port 1727 of the first address that the
guest reports (IPv4 before IPv6), another URL after `=`, whose path is replaced, `/sync` before the snapshot and
`/post-sync` after it, the secret in base64 as a bearer, no verification of the certificate, and no snapshot less if the
request fails.
"""

import json
import os
import re
import stat
import sys
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from vmss.core.records import NULL
from vmss.core.text import quoted
from vmss.core.vms import Vm
from vmss.edges import sync_request
from vmss.edges.query import where
from vmss.edges.settings import Settings
from vmss.edges.shell import shell_word
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi

TAG = "xo:notify-on-snapshot"
# The tag of a snapshot before which the guest was asked, and has answered.
SYNCED = "xo:synced"
BEFORE, AFTER = "/sync", "/post-sync"
PORT = 1727

_SECRET_BYTES_MAX = 4096
_IPV4, _IPV6 = re.compile(r"[0-9]+/ip(v4/[0-9]+)?\Z"), re.compile(r"[0-9]+/ipv6/[0-9]+\Z")
# https://HOST, https://HOST:PORT, with a path or a query; no user, no blank, nothing that is not ASCII.
_URL = re.compile(r"https://(?P<at>\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?|[0-9A-Za-z.-]+(:[0-9]{1,5})?)(/[!-~]*|\?[!-~]*)?\Z")
_LENGTH_MAX = 1000
_ROOTS_ONLY = "chown root {0} && chmod 0600 {0}"


class NoSecret(Exception):
    """The file of the secret cannot be used; `remedy` is what to do about it."""

    def __init__(self, text: str, remedy: str) -> None:
        Exception.__init__(self, text)
        self.remedy = remedy


def addresses(xapi: Xapi, vms: Iterable[Vm]) -> Tuple[Dict[str, str], List[str]]:
    """Where the guests of these VMs are to be asked, by the uuid of the VM, with `PATH` for the path; and lines about
    those that want to be asked and cannot be. One call for each fifty of them that name no URL."""
    asked, lines = {}, []
    reporting: Dict[str, Vm] = {}  # by reference of the guest's metrics
    for vm in vms:
        urls = sorted(tag[len(TAG) + 1 :] for tag in vm.tags if tag.startswith(TAG + "="))
        if vm.misread or vm.power_state != "Running" or not (urls or TAG in vm.tags):
            continue
        if not urls and vm.guest_metrics != NULL:
            reporting[vm.guest_metrics] = vm
            continue
        url = with_path(urls[-1]) if urls else ""
        if url:
            asked[vm.uuid] = url
        else:
            lines.append("The guest of VM %s is not asked: %s" % (vm.uuid, _why_not(urls)))
    networks = _read_networks(xapi, reporting)
    for ref, vm in reporting.items():
        address = first_address(networks.get(ref, {}))
        if address and sync_request.may_be_asked(address):
            asked[vm.uuid] = "https://%s:%d{path}" % ("[%s]" % address if ":" in address else address, PORT)
        else:
            why = "it reports no address" if not address else "its address is %s" % quoted(address)
            lines.append("The guest of VM %s is not asked: %s" % (vm.uuid, why))
    return asked, lines


def _why_not(urls: Sequence[str]) -> str:
    return "%s is no https URL that can be used" % quoted(urls[-1]) if urls else "its tools report nothing"


def _read_networks(xapi: Xapi, metrics: Iterable[str]) -> Dict[str, Mapping[str, Any]]:
    try:
        return {ref: dict(record["networks"]) for ref, record in where(xapi, "VM_guest_metrics", "_ref", metrics)}
    except (Refused, Misunderstood, *MISREAD):
        return {}


def first_address(networks: Mapping[str, Any]) -> str:
    """The first address that a guest reports: of IPv4 if there is one. Its keys are `0/ip`, `0/ipv4/0`, `0/ipv6/0`."""
    for form in (_IPV4, _IPV6):
        for key in sorted(networks):
            if form.match(key):
                return str(networks[key])
    return ""


def with_path(url: str) -> str:
    """A URL of a tag with `{path}` in the place of its path; empty if it is none that is asked."""
    match = _URL.match(url) if len(url) <= _LENGTH_MAX else None
    if match is None or "{" in url or "}" in url:
        return ""
    query = url.partition("#")[0].partition("?")[2]
    return "https://%s{path}%s" % (match.group("at"), "?" + query if query else "")


def is_address(text: str) -> bool:
    """Whether a text has the form that `addresses` gives; for what was written down."""
    return "{path}" in text and bool(_URL.match(text.replace("{path}", "/")))


def secret(path: str) -> str:
    """The secret in a file that only root can read; empty if `path` is. Raise NoSecret."""
    if not path:
        return ""
    word = shell_word(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoSecret("%s: cannot be read: %s" % (quoted(path), error.strerror), "see what is there: ls -l %s" % word)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o077:
            raise NoSecret(
                "%s: has to be a regular file of root's that nobody else can read or write" % quoted(path),
                _ROOTS_ONLY.format(word),
            )
        text = os.read(descriptor, _SECRET_BYTES_MAX + 1).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)
    if not text or len(text) > _SECRET_BYTES_MAX:
        raise NoSecret("%s: is empty, or larger than 4 KiB" % quoted(path), "write the secret into it: vi %s" % word)
    return text


def command() -> List[str]:
    """The command that asks a guest."""
    return [sys.executable or "/usr/bin/python3", "-I", os.path.abspath(sync_request.__file__)]


def request(address: str, path: str, settings: Settings, bearer: Optional[str]) -> bytes:
    """What that command reads."""
    asked = {
        "url": address.replace("{path}", path),
        "secret": bearer or "",
        "ca_file": settings.sync_ca_file,
        "limit": settings.hook_limit,
    }
    return json.dumps(asked).encode("ascii")
