"""Whose HTTP requests over the network are answered: of clients that mean this server, and of no foreign web page.

A browser on this machine reaches what listens here, and sends what a page of anybody tells it to. It says so in two
headers that no page can change: `Host`, the name by which the server was asked, and `Origin`, where the page is from.
xapi minds neither, and allows every page to read its answers; it does not listen on a developer's machine.
"""

import ipaddress
import re
from typing import FrozenSet, NamedTuple, Optional, Tuple

Pairs = Tuple[Tuple[str, str], ...]

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ORIGIN = re.compile(r"https?://(([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)\Z")
# The headers of xapi's answers, for any page.
EVERY_PAGE: Pairs = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "X-Requested-With"))


def is_loopback(host: str) -> bool:
    """Whether a server on this address or name is reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Visitors(NamedTuple):
    """The visitors of one listening socket. `hosts`: the values of `Host` that are its own; none: any is."""

    hosts: FrozenSet[str]

    def refusal(self, host: Optional[str], origin: Optional[str]) -> str:
        """Given the headers `Host` and `Origin` of a request, return why it is refused, or ""."""
        # Every browser sends a Host; a client without one was not sent by a page.
        if host is not None and self.hosts and host.lower() not in self.hosts:
            return "its Host is not the address of this simulator; --any-host lets it have any"
        if origin is not None and not self._is_near(host, origin):
            return "it comes from a web page of another server"
        return ""

    def _is_near(self, host: Optional[str], origin: str) -> bool:
        """Whether a page is this server's own, or from this machine, where a developer tries one."""
        found = _ORIGIN.match(origin.lower())
        if found is None:
            return False  # "null" too, which is a page in a sandbox, or from a file
        return found.group(2) in _LOOPBACK or (host is not None and found.group(1) == host.lower())

    def headers(self, origin: Optional[str]) -> Pairs:
        """The headers that let a page read the answer: the page that was not refused."""
        if origin is None:
            return ()
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"), EVERY_PAGE[1])


def visitors(name: str, address: str, port: int, tls: bool, any_host: bool) -> Visitors:
    """Those of a socket that was opened at a name, and has got this address and port."""
    if any_host:
        return Visitors(frozenset())
    names = {*_LOOPBACK, *("[%s]" % each if ":" in each else each.lower() for each in (name, address))}
    hosts = {"%s:%d" % (each, port) for each in names}
    return Visitors(frozenset(hosts | names if port == (443 if tls else 80) else hosts))
