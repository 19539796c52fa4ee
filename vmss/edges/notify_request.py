"""Asks a receiver of pings or documents, as a program of its own: `python3 -I notify_request.py`.

A receiver may hang, and so may the look-up of its name, which knows no timeout: this process can be killed. It is
started by the path of this file, imports nothing of ours, and is told everything on its standard input, which nobody
else can read: a JSON object with `url`, `bodies` (a list; each is a text that is posted, or null for a GET), `agent`,
`ca_file`, `proxy` and `limit` in seconds for each. It prints a dot for each, or a line `failed` with the reason, and
then ends. No reason repeats the URL, nor anything that the receiver says: the URL carries a token, and the receiver may
be anybody.
"""

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import sys
from typing import Any, Dict, Optional
from urllib.parse import unquote, urlsplit

# Reasons of OpenSSL's not to trust a certificate, by their numbers (openssl/x509_vfy.h).
_DISTRUST = {9: "it is not valid yet", 10: "it has expired", 62: "it is for another host", 64: "it is for another host"}


class NotTaken(Exception):
    """The receiver has not taken a request; the text says why."""


def main() -> int:
    """Ask, and return the exit status."""
    asked: Dict[str, Any] = json.loads(sys.stdin.buffer.read().decode("ascii"))
    for body in asked["bodies"]:
        # Whatever it hangs on, this signal ends the process.
        signal.setitimer(signal.ITIMER_REAL, asked["limit"])
        try:
            _ask(asked, body)
        except (NotTaken, OSError, http.client.HTTPException, ValueError) as error:
            _say("\nfailed %s\n" % _why(error))
            return 1
        _say(".")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _ask(asked: Dict[str, Any], body: Optional[str]) -> None:
    """Carry out one request, once. No redirect is followed, and nothing of the answer is read but its status."""
    parts = urlsplit(asked["url"])
    host, port = parts.hostname or "", parts.port or 443
    try:
        context = ssl.create_default_context(cafile=asked["ca_file"] or None)
    except OSError:
        raise NotTaken("notify_ca_file cannot be read, or has no certificate")
    proxy = urlsplit(asked["proxy"])
    connection = http.client.HTTPSConnection(proxy.hostname or host, proxy.port or port, context=context)
    if proxy.hostname:
        connection.set_tunnel(host, port, _credentials(proxy.username, proxy.password))
    try:
        headers = {"User-Agent": asked["agent"], "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        data = None if body is None else body.encode("ascii")
        connection.request("GET" if body is None else "POST", path, data, headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if 300 <= status < 400:
        raise NotTaken("it answers with a redirect (HTTP status %d), and none is followed" % status)
    if not 200 <= status < 300:
        raise NotTaken("it answers with HTTP status %d" % status)


def _credentials(user: Optional[str], password: Optional[str]) -> Dict[str, str]:
    """The header with which a proxy is told who asks (RFC 7617); none without a user."""
    if user is None or password is None:
        return {}
    text = ("%s:%s" % (unquote(user), unquote(password))).encode("utf-8")
    return {"Proxy-Authorization": "Basic " + base64.b64encode(text).decode("ascii")}


def _why(error: Exception) -> str:
    """Why a request was not taken, in words that are ours or the C library's."""
    if isinstance(error, NotTaken):
        return str(error)
    if isinstance(error, socket.gaierror):
        return "the name of its host, or of the proxy, is not known"
    if isinstance(error, ssl.CertificateError) or getattr(error, "reason", "") == "CERTIFICATE_VERIFY_FAILED":
        # Python 3.6 raises the former for another name only, and tells no number.
        code = getattr(error, "verify_code", 62 if isinstance(error, ssl.CertificateError) else 0)
        return "its certificate is not trusted%s" % (": " + _DISTRUST[code] if code in _DISTRUST else "")
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as it should"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if str(error).startswith("Tunnel connection failed: 407"):  # the rest is the proxy's
        return "the proxy asks for a user and a password, or for others"
    if isinstance(error, OSError) and not isinstance(error, http.client.HTTPException):
        return "the connection ended, or the proxy has refused it"
    return "it does not speak HTTP as it should"


if __name__ == "__main__":
    sys.exit(main())
