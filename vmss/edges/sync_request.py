"""The request of Xen Orchestra's VM sync hook, as a program of its own: `python3 -I sync_request.py`.

A pass is one thread, and a guest may take a minute to answer: so a child process asks it. It is started by the path of
this file, imports nothing of ours, and is told everything on its standard input, which nobody else can read: a JSON
object with `url`, `secret` (empty: none), `ca_file` (empty: the certificate is not verified) and `limit` in seconds. It
prints one line if it fails.
"""

import base64
import http.client
import ipaddress
import json
import socket
import ssl
import sys
from typing import Any, Dict, List, Tuple, Union
from urllib.parse import urlsplit


class NotAsked(Exception):
    """The request was not made, or not answered as it should be; the text says why."""


def main() -> int:
    """Ask, and return the exit status."""
    try:
        ask(json.loads(sys.stdin.buffer.read(1 << 16).decode("utf-8")))
    except (NotAsked, OSError, http.client.HTTPException, ValueError) as error:
        sys.stdout.write("%s\n" % (str(error) or type(error).__name__))
        return 1
    return 0


def ask(asked: Dict[str, Any]) -> None:
    """Carry out one request. No redirect is followed, and nothing of the answer is read but its status."""
    parts = urlsplit(asked["url"])
    host, port = parts.hostname or "", parts.port or 443
    family, address = _allowed(host, port)
    context = ssl.create_default_context(cafile=asked["ca_file"] or None)
    if not asked["ca_file"]:
        # Guests have certificates of their own making; Xen Orchestra does not verify them either.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(asked["limit"])
        plain.connect(address)
        with context.wrap_socket(plain, server_hostname=host) as secure:
            connection = http.client.HTTPSConnection(host, port)
            connection.sock = secure
            headers = {"Connection": "close"}
            if asked["secret"]:
                headers["Authorization"] = "Bearer " + base64.b64encode(asked["secret"].encode("utf-8")).decode("ascii")
            connection.request("GET", parts.path + ("?" + parts.query if parts.query else ""), headers=headers)
            status = connection.getresponse().status
    if 300 <= status < 400:
        raise NotAsked("the answer is a redirect (HTTP status %d), which is not followed" % status)
    if not 200 <= status < 300:
        raise NotAsked("the answer has HTTP status %d" % status)


def _allowed(host: str, port: int) -> Tuple[int, Tuple[Any, ...]]:
    """The address to connect to: the first one of the host's that is no address of this machine's own services. What
    is looked up here is what is connected to."""
    found: List[Tuple[Any, ...]] = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    for family, _, _, _, address in found:
        if may_be_asked(str(address[0])):
            return family, address
    raise NotAsked("%s: dom0's own addresses, link-local ones and those of many are not asked" % host)


def may_be_asked(text: str) -> bool:
    """Whether a text is an IP address to which a request may go: not dom0's own loopback, on which services listen that
    trust whoever reaches them, nor one that has another meaning on each network."""
    try:
        address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address] = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    # ::ffff:127.0.0.1 is 127.0.0.1, and so is ::127.0.0.1 for some.
    if isinstance(address, ipaddress.IPv6Address) and int(address) >> 32 in (0, 0xFFFF):
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    wide = isinstance(address, ipaddress.IPv4Address) and (int(address) >> 24 in (0, 127) or int(address) >> 28 == 15)
    return not (wide or address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


if __name__ == "__main__":
    sys.exit(main())
