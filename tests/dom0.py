"""A root like dom0's: Python with its own library and XenAPI, a shell, and nothing else; no network.

It is entered in namespaces of its own, in which this machine's C library is mounted for the programs.
"""

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
import XenAPI.XenAPI

# The Pythons that a dom0 has: that of XenServer 8 and XCP-ng 8.3, of XenServer 9, and of XCP-ng 9.
PYTHONS = ("3.6", "3.11", "3.12")

# As xapi and cron have it.
PATH = "/sbin:/usr/sbin:/bin:/usr/bin"

PROGRAMS = ("sh", "env", "find", "rm", "rmdir", "ls", "gzip", "logrotate")

# Arguments: the root, Python's library, the folder of its other packages, and what to start.
ENTER = """
set -e
root=$1 library=$2 packages=$3
shift 3
for folder in /lib64 /lib/*-linux-gnu; do
    [ -d "$folder" ] || continue
    mkdir -p "$root$folder"
    mount -n --bind "$folder" "$root$folder"
done
place=$root/usr/lib/${library##*/}
mount -n --bind "$library" "$place"
mount -n --bind "$packages" "$place/site-packages"
exec "$@"
"""


def python_of(version: str) -> Path:
    """The folder of a Python of this version; skips the test where there is none."""
    for place in sorted(glob.glob(os.path.join(_pyenv(), "versions", version + ".*"))):
        return Path(place)
    pytest.skip("pyenv has no Python " + version)
    raise AssertionError


def _pyenv() -> str:
    if shutil.which("pyenv") is None:
        return os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    done = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, encoding="utf-8")
    return done.stdout.strip()


def need(*programs: str) -> None:
    """Skip the test where one of these is not installed."""
    for program in programs:
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            pytest.skip("the program %s is not installed" % program)


class Dom0:
    """The root; `path` is where it lies, `packages` where its Python, of this version, has XenAPI from."""

    def __init__(self, folder: Path, version: str = PYTHONS[0]) -> None:
        need("unshare", "chroot", *PROGRAMS)
        if not sys.platform.startswith("linux"):
            pytest.skip("only Linux has namespaces")
        self.path = folder / "dom0"
        python = python_of(version)
        library = python / "lib" / ("python" + version)
        self.packages = folder / "site-packages"
        self.packages.mkdir()
        shutil.copy(str(XenAPI.XenAPI.__file__), str(self.packages / "XenAPI.py"))
        for name in (
            "bin",
            "dev",
            "etc/cron.d",
            "etc/logrotate.d",
            "etc/xapi.d/plugins",
            "etc/xensource/bugtool",
            "run/lock",
            "tmp",
            "usr/bin",
            "usr/lib/python" + version,
            "usr/sbin",
            "usr/share/bash-completion/completions",
            "usr/share/man/man8",
            "var/lib/rpm",
            "var/lib/xcp",
            "var/log",
            "var/tmp",
        ):
            (self.path / name).mkdir(parents=True)
        os.symlink("../run/lock", str(self.path / "var" / "lock"))
        (self.path / "dev" / "null").touch()
        for program in PROGRAMS:
            found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
            assert found is not None
            shutil.copy(found, str(self.path / "usr" / "bin" / program))
            os.symlink("../usr/bin/" + program, str(self.path / "bin" / program))
        shutil.copy(str(python / "bin" / ("python" + version)), str(self.path / "usr" / "bin" / "python3"))
        if version != PYTHONS[0]:  # there it is Python 2
            os.symlink("python3", str(self.path / "usr" / "bin" / "python"))
        for shared in python.glob("lib/libpython%s*.so.*" % version):
            place = Path(str(self.path) + str(shared))
            place.parent.mkdir(parents=True)
            shutil.copy(str(shared), str(place))
        # In namespaces where this user is root, whoever that is.
        self._words = [
            "unshare",
            "--map-root-user",
            "--mount",
            "--net",
            "sh",
            "-c",
            ENTER,
            "sh",
            str(self.path),
            str(library),
            str(self.packages),
        ]
        tried = self.run(["sh", "-c", ":"])
        if tried.returncode != 0:
            pytest.skip("a root of its own cannot be entered here: %s" % tried.stdout.strip())

    def words(self, *words: str) -> List[str]:
        """What to start to run a program with this root as its own."""
        return self._words + ["chroot", str(self.path)] + list(words)

    def run(self, words: List[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a program in it, with no environment but PATH and this."""
        return self._start(self.words(*words), environment)

    def rpm(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """This machine's rpm, at work on the root."""
        return self._start(
            self._words + ["rpm", "--root", str(self.path), "--dbpath", "/var/lib/rpm"] + list(words), {}
        )

    def _start(self, words: List[str], environment: Dict[str, str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            words,
            env=dict(environment, PATH=PATH),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def files(self) -> List[str]:
        """All that is in it but rpm's database and what is mounted there."""
        found: List[str] = []
        for place, folders, names in os.walk(str(self.path)):
            here = place[len(str(self.path)) :]
            if here in ("/var/lib/rpm", "/dev"):
                del folders[:]
                continue
            found.extend(here + "/" + name for name in folders + names)
        return sorted(found)
