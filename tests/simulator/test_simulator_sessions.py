"""Sessions: who is trusted, what a role may do, what becomes of a session that is gone."""

from datetime import timedelta
from typing import Any

import pytest
import XenAPI

from vmss.simulator import Simulator, XapiError
from vmss.simulator.build import Pool
from vmss.simulator.call import Origin

from .client import Client, Connect, Serve


def login_over_network(sim: Simulator, user: Any, password: Any) -> Any:
    """A login that does not come over the trusted socket."""
    ended = []
    sim.begin("session.login_with_password", [user, password], Origin(False), lambda *end: ended.append(end))
    sim.kernel.run_due()
    while not ended:
        assert sim.kernel.advance()
    result, error = ended[0]
    if error is not None:
        raise error
    return result


def test_over_the_unix_socket_any_user_and_password_will_do(sim: Simulator, serve: Serve, connect: Connect) -> None:
    session = connect(serve(sim), "anybody")
    record = session.xenapi.session.get_record(session._session)
    assert record["is_local_superuser"] is True
    assert record["auth_user_name"] == "anybody" and record["auth_user_sid"] == ""


def test_over_the_network_only_root_with_the_password_gets_in_and_a_wrong_one_waits_five_seconds() -> None:
    sim = Simulator(password="secret")
    assert login_over_network(sim, "root", "secret").startswith("OpaqueRef:")
    for user, password in (("root", "wrong"), ("__dom0__vmss", "secret")):
        before = sim.now()
        with pytest.raises(XapiError) as caught:
            login_over_network(sim, user, password)
        assert caught.value.details == ["SESSION_AUTHENTICATION_FAILED", user, "Authentication failure"]
        assert sim.now() - before == timedelta(seconds=5)


def test_a_real_client_logs_in_over_http_with_the_password(serve: Serve) -> None:
    sim = Simulator(password="secret")
    server = serve(sim, http=("127.0.0.1", 0))
    session = XenAPI.Session("http://%s:%d" % (server.http_address or ("", 0)))
    with pytest.raises(XenAPI.Failure) as caught:
        session.xenapi.login_with_password("root", "wrong")
    assert caught.value.details[0] == "SESSION_AUTHENTICATION_FAILED"
    session.xenapi.login_with_password("root", "secret")
    assert len(session.xenapi.pool.get_all()) == 1
    session.xenapi.session.logout()


def test_a_session_that_was_logged_out_is_invalid(sim: Simulator, root: Client) -> None:
    other = root.login("someone")
    other("session.logout")
    assert other.error("VM.get_all") == ["SESSION_INVALID", other.session]
    assert other.error("session.logout") == ["SESSION_INVALID", other.session]
    assert root("VM.get_all")


def test_last_active_is_refreshed_at_most_every_ten_minutes(sim: Simulator, root: Client) -> None:
    first = root("session.get_last_active", root.session)
    sim.set_time(sim.now() + timedelta(seconds=599))
    assert root("session.get_last_active", root.session) == first
    sim.set_time(sim.now() + timedelta(seconds=2))
    assert root("session.get_last_active", root.session) == first + timedelta(seconds=601)


def test_roles_limit_what_a_session_may_do(sim: Simulator, root: Client, pool: Pool) -> None:
    reader = type(root)(sim, root("simulator.create_session", "eve", "read-only"))
    assert reader("VM.get_power_state", pool.vms[0]) == "Running"
    denied = reader.error("VM.set_name_label", pool.vms[0], "x")
    text = "No permission in user session. (Roles with this permission: pool-admin, pool-operator, vm-admin, "
    assert denied == ["RBAC_PERMISSION_DENIED", "vm.set_name_label", text + "vm-power-admin)"]
    admin = type(root)(sim, root("simulator.create_session", "adam", "pool-admin"))
    policy = admin("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    # Not even a pool admin may set the last run time: that is for local superusers only.
    assert admin.error("VMSS.set_last_run_time", policy, "20260101T00:00:00Z")[0] == "RBAC_PERMISSION_DENIED"
    root("VMSS.set_last_run_time", policy, "20260101T00:00:00Z")


def test_a_denial_of_an_async_call_is_the_failure_of_its_task(sim: Simulator, root: Client, pool: Pool) -> None:
    reader = type(root)(sim, root("simulator.create_session", "eve", "read-only"))
    record = root.task_end(reader("Async.VM.snapshot", pool.vms[0], "x"))
    # The method is named without `Async.`, as if it had been called itself.
    assert record["status"] == "failure"
    assert record["error_info"][:2] == ["RBAC_PERMISSION_DENIED", "vm.snapshot"]


def test_protected_keys_have_roles_of_their_own(sim: Simulator, root: Client, pool: Pool) -> None:
    operator = type(root)(sim, root("simulator.create_session", "olga", "vm-operator"))
    operator("VM.add_to_other_config", pool.vms[0], "folder", "/a")
    assert operator.error("VM.add_to_other_config", pool.vms[0], "other", "x")[0] == "RBAC_PERMISSION_DENIED"
