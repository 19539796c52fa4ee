"""Where there is no session with xapi, the remedy mends what is wrong, and each trouble has its own."""

import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from tests import test_commands
from tests.documents import ROOT
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
    fetched = tmp_path / "fetched"
    (command,) = re.findall(r"\((python3 .*?)\), compare", text)
    subprocess.run(command.replace("/etc/vmss-ca.pem", str(fetched)), shell=True, check=True, stderr=subprocess.DEVNULL)
    assert fetched.read_text().strip() == (tmp_path / "crt").read_text().strip()
    conf.write_text("[vmss]\nlogin_limit = 0\n" + line.format(fetched) + "\n")
    assert remedy(tmp_path, **tls) == ""


@pytest.mark.parametrize("words", [("list",), ("run", "--dry-run"), ("next",), ("history",)], ids=" ".join)
def test_every_command_says_what_to_do(tmp_path: Path, tls: Dict[str, str], words: Tuple[str, ...]) -> None:
    wrong = vmss(tmp_path, *words, **dict(tls, VMSS_PASSWORD="wrong"))
    assert wrong.err.endswith(" -> set VMSS_USER and VMSS_PASSWORD to a user of the pool and the password\n")
    (tmp_path / "conf").write_text("[vmss]\nlogin_limit = 0\n")
    assert " -> fetch the server's certificate (python3 " in vmss(tmp_path, *words, **tls).err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not open the socket")
def test_who_may_not_open_the_socket_is_told_to_be_root(pool: TestPool) -> None:
    # The modules are loaded before, for the interpreter may lie where only root can read.
    code = (
        "import os, sys\n"
        "from vmss.cli.main import main\n"
        "main(['list'])\n"
        "os.environ['VMSS_XAPI'] = sys.argv[1]\n"
        "os.setuid(65534)\n"
        "sys.exit(main(['list']))\n"
    )
    os.chmod(pool.socket, 0o600)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), VMSS_XAPI="unix:/nonexistent")
    environment.pop("VMSS_CONFIG", None)
    ended = subprocess.run(
        [sys.executable, "-c", code, pool.place.xapi], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    last = ended.stderr.decode().splitlines()[-1]
    assert ended.returncode == 3 and last.endswith(" -> run this as root: only root may use the socket of xapi"), last


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

    assert of(caught.value, pool.place).startswith("in dom0: xe-toolstack-restart;")


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
