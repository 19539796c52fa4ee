"""What to do where there is no session with xapi: the remedy depends on why."""

import json
import re
import ssl
from shlex import quote
from typing import Union

from vmss.core.problem import Problem
from vmss.core.text import one_line
from vmss.edges.sessions import NoSession
from vmss.edges.settings import Place
from vmss.edges.transport import AddressError
from vmss.edges.xapi import Refused, Unanswered

_LOG = "see /var/log/xensource.log"


def remedy(problem: Problem, place: Place) -> str:
    """What to do about a problem that kept a session from being opened, or ended it."""
    if isinstance(problem, NoSession):
        return remedy_of(problem.error, place)
    if isinstance(problem, AddressError):
        return "correct it: VMSS_XAPI is unix:PATH or https://HOST; ca_file in %s is a file" % one_line(place.config)
    return _LOG


def remedy_of(error: Union[Refused, Unanswered], place: Place) -> str:
    """The same, given xapi's error, or that there was no answer."""
    if isinstance(error, Refused):
        return _refused(error)
    if isinstance(error.__cause__, PermissionError):
        return "run this as root: only root may use the socket of xapi"
    if isinstance(error.__cause__, (ssl.SSLError, ssl.CertificateError)):
        return (
            "fetch the server's certificate (%s), compare it with that of the host, and let ca_file in %s name the "
            "file, and VMSS_XAPI the host by a name that the certificate has; or, in a network that you trust, set "
            "verify_tls = no there" % (_command_to_fetch(place.xapi), one_line(place.config))
        )
    if place.xapi.startswith("https:"):
        return "see on that host whether xapi runs: systemctl status xapi; VMSS_XAPI says which host is asked"
    return "in dom0: xe-toolstack-restart; %s; elsewhere VMSS_XAPI says where xapi is: unix:PATH or https://HOST" % _LOG


def _command_to_fetch(address: str) -> str:
    """The command that writes the certificate of https://HOST[:PORT] into a file. It has no pipe, which Nagios would
    take for what follows a status."""
    host = one_line(address[len("https://") :].rstrip("/"), 200)
    name, _, port = host.rpartition(":") if re.search(r":[0-9]+\Z", host) else (host, "", "443")
    code = "import ssl; print(ssl.get_server_certificate((%s, %s)))" % (json.dumps(name.strip("[]")), port)
    return "python3 -c %s >/etc/vmss-ca.pem" % quote(code)


def _refused(error: Refused) -> str:
    if error.code == "SESSION_AUTHENTICATION_FAILED":
        return "set VMSS_USER and VMSS_PASSWORD to a user of the pool and the password"
    if error.code == "HOST_IS_SLAVE" and len(error.error) > 1:
        return "ask the coordinator: VMSS_XAPI=https://%s" % one_line(error.error[1], 100)
    if error.code == "HOST_STILL_BOOTING":
        return "wait until xapi has started; if it does not: xe-toolstack-restart"
    if error.code == "RBAC_PERMISSION_DENIED":
        return "set VMSS_USER and VMSS_PASSWORD to a user with the role of pool-admin"
    return _LOG
