"""What to do where there is no session with xapi: the remedy depends on why."""

import ssl
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
            "let ca_file in %s name a file with the server's certificate, and VMSS_XAPI the host by a name that the "
            "certificate has; or, in a network that you trust, set verify_tls = no there" % one_line(place.config)
        )
    if place.xapi.startswith("https:"):
        return "see on that host whether xapi runs: systemctl status xapi; VMSS_XAPI says which host is asked"
    return "xe-toolstack-restart; %s; VMSS_XAPI says where xapi is" % _LOG


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
