"""Logging in and out (xapi: ocaml/xapi/xapi_session.ml)."""

from typing import TYPE_CHECKING, Any, Generator, List

from ..errors import XapiError
from ..kernel import Sleep
from ..registry import method

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]

WRONG_PASSWORD_SECONDS = 5.0


def _check_password(call: "Call", user: str, password: str) -> Steps:
    """Over the trusted socket any user and password will do; elsewhere it is root's password."""
    if not call.origin.trusted and (user != "root" or password != call.sim.password):
        yield Sleep(WRONG_PASSWORD_SECONDS)
        raise XapiError("SESSION_AUTHENTICATION_FAILED", user, "Authentication failure")


@method("session.login_with_password")
def login_with_password(call: "Call", user: str, password: str, version: str, originator: str) -> Steps:
    yield from _check_password(call, user, password)
    return call.sim.sessions.create(user, originator, superuser=True, host=call.sim.hosts.at(call.origin))


@method("session.slave_local_login_with_password")
def local_login_with_password(call: "Call", user: str, password: str) -> Steps:
    """A session on the host itself, for the few calls that a host without its coordinator answers."""
    yield from _check_password(call, user, password)
    return _local_session(call)


@method("session.slave_local_login")
def local_login(call: "Call", secret: str) -> str:
    """A session on the host itself for another host of the pool; the pool's secret is not checked here."""
    return _local_session(call)


def _local_session(call: "Call") -> str:
    return call.sim.sessions.create("", "", superuser=True, host=call.sim.hosts.at(call.origin))


@method("session.change_password")
def change_password(call: "Call", old: str, new: str) -> None:
    """Change root's password for the network; a local root session need not know the old one."""
    call.sim.password = new


@method("session.logout", "session.local_logout")
def logout(call: "Call") -> None:
    if not call.db.exists("session", call.session):
        # The session was not checked, because there is no coordinator.
        raise XapiError("SESSION_INVALID", call.session)
    call.sim.sessions.destroy(call.session)


@method("session.get_all_subject_identifiers")
def get_all_subject_identifiers(call: "Call") -> List[str]:
    rows = call.db.tables["session"].rows.values()
    return sorted({row["auth_user_sid"] for row in rows if row["auth_user_sid"]})


@method("session.logout_subject_identifier")
def logout_subject_identifier(call: "Call", identifier: str) -> None:
    for ref, row in list(call.db.tables["session"].rows.items()):
        if row["auth_user_sid"] == identifier and ref != call.session:
            call.sim.sessions.destroy(ref)
