"""Where there is no session with xapi, the remedy mends what is wrong, and each trouble has its own."""

import re
import ssl
from pathlib import Path
from typing import Dict, List

import pytest

from tests import test_commands
from tests.pool import TestPool
from tests.test_commands import vmss
from vmss.core.problem import Problem
from vmss.edges.settings import Place
from vmss.edges.xapi import Refused, Unanswered
from vmss.insight.no_session import remedy_of
from vmss.insight.reading import reading

tls = test_commands.tls

PLACE = Place()


def remedy(folder: Path, **environment: str) -> str:
    """What `vmss status` says to do, where there is no session; empty where there is one."""
    out = vmss(folder, "status", **environment).out
    found = re.search(r"^UNKNOWN: session: .* -> (.*)$", out, re.MULTILINE)
    doctor = vmss(folder, "doctor", **environment).out
    assert bool(found) == ("no session" in doctor)
    assert not found or found.group(1) in doctor
    return found.group(1) if found else ""


def caused(by: Exception) -> Unanswered:
    error = Unanswered("x")
    error.__cause__ = by
    return error


def test_a_wrong_password_is_mended_by_the_variables_that_are_named(tmp_path: Path, tls: Dict[str, str]) -> None:
    named = re.findall(r"VMSS_[A-Z]+", remedy(tmp_path, **dict(tls, VMSS_PASSWORD="wrong")))
    assert named == ["VMSS_USER", "VMSS_PASSWORD"]
    assert remedy(tmp_path, **dict(tls, VMSS_USER="root", VMSS_PASSWORD="correct horse")) == ""


@pytest.mark.parametrize("line", ["ca_file = {}", "verify_tls = no"])
def test_a_certificate_is_mended_by_either_setting(tmp_path: Path, tls: Dict[str, str], line: str) -> None:
    conf = tmp_path / "conf"
    conf.write_text("[vmss]\nlogin_limit = 0\n")
    text = remedy(tmp_path, **tls)
    assert str(conf) in text and line.split(" {}")[0].split(" =")[0] in text
    conf.write_text("[vmss]\nlogin_limit = 0\n" + line.format(tmp_path / "crt") + "\n")
    assert remedy(tmp_path, **tls) == ""


def test_a_ca_file_that_is_none(tmp_path: Path, tls: Dict[str, str]) -> None:
    conf = tmp_path / "conf"
    conf.write_text("[vmss]\nlogin_limit = 0\nca_file = /nonexistent\n")
    out = vmss(tmp_path, "status", **tls).out
    assert "ca_file in %s" % conf in out and "toolstack" not in out


def test_a_socket_that_may_not_be_opened() -> None:
    text = remedy_of(caused(PermissionError(13, "Permission denied")), PLACE)
    assert text.startswith("run this as root") and "toolstack" not in text


def test_a_certificate_for_another_name() -> None:
    assert "verify_tls" in remedy_of(caused(ssl.CertificateError("hostname")), PLACE)


def test_a_xapi_that_is_down_is_started(pool: TestPool) -> None:
    pool.server.stop()
    around = pool.surroundings(place=pool.place)
    with pytest.raises(Problem) as caught, reading(around):
        pass
    from vmss.insight.no_session import remedy as of

    assert of(caught.value, pool.place).startswith("xe-toolstack-restart;")


@pytest.mark.parametrize(
    "error, words",
    [
        (["HOST_IS_SLAVE", "10.0.0.7"], "VMSS_XAPI=https://10.0.0.7"),
        (["HOST_STILL_BOOTING"], "wait until xapi has started"),
        (["RBAC_PERMISSION_DENIED", "pool.get_all"], "pool-admin"),
        (["INTERNAL_ERROR", "x"], "/var/log/xensource.log"),
    ],
)
def test_what_xapi_refuses(error: List[str], words: str) -> None:
    assert words in remedy_of(Refused(error), PLACE)
