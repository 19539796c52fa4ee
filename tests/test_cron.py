"""A real cron that starts the installed entry.

Debian's cron runs as root in mount and process namespaces of its own: whatever it sees in /etc, /run, /usr/sbin,
/var/lib, /var/log and /var/spool is the test's, and the system itself stays as it is.
"""

import os
import re
import select
import shlex
import shutil
import stat
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Dict, Iterator

import pytest

from tests.pool import UTC, TestPool
from tests.test_plugin import lay_traps, trodden
from vmss.core.datetimes import format_datetime

ROOT = Path(__file__).resolve().parent.parent

# The next full minute is at most one away, and then the pass has as long again.
TIMEOUT_S = 130.0
pytestmark = pytest.mark.timeout(240)

# Everything ends with the first process of the namespace, which ends when `unshare` does.
NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]

# Arguments: the root that was installed into, and cron. The copy of /etc holds secrets, and so lies in memory and
# in this namespace only. Of cron's entries it has none but those of the root. The plugin is a link, by which it finds
# its modules in the root; root's home is in the root, too. (-n: nothing is noted in /run/mount.)
START = """
set -e
umask 022
root=$1 cron=$2
mount -n -t tmpfs -o mode=0755 tmpfs "$root/mnt"
cp -a /etc/. "$root/mnt/"
rm -rf "$root/mnt/crontab" "$root/mnt/cron.d" "$root/mnt/vmss.conf" "$root/mnt/xensource"
cp -a "$root/etc/." "$root/mnt/"
ln -sf "$root/etc/xapi.d/plugins/vmss" "$root/mnt/xapi.d/plugins/vmss"
sed -i "s,:/root:,:$root/home:," "$root/mnt/passwd"
mount -n --bind "$root/mnt" /etc
mount -n --bind "$cron" "$root/usr/sbin/cron"
for folder in run usr/sbin var/lib var/log var/spool; do
    mount -n --rbind "$root/$folder" "/$folder"
done
mount -n --bind "$root/run/lock" /var/lock
exec /usr/sbin/cron -f
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root into which `vmss install` has installed this checkout."""
    root = tmp_path / "root"
    done = subprocess.run(
        [sys.executable, "-m", "vmss", "install", "--root", str(root)],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout.decode()
    return root


@pytest.fixture
def cron(tmp_path: Path) -> str:
    """The path of a real cron of Debian's that may be started; skips the test where there is none."""
    found = shutil.which("cron", path="/usr/sbin:/sbin")
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can start a cron")
    if found is None or not os.path.exists("/etc/debian_version"):
        pytest.skip("Debian's cron is not installed")
    if shutil.which("unshare") is None:
        pytest.skip("the program unshare is not installed")
    words = NAMESPACE + ["mount", "-n", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    tried = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if tried.returncode != 0:
        pytest.skip("mounts in a namespace are not permitted: %s" % tried.stdout.decode().strip())
    return found


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    """A pool whose clock is the real one, as cron's is."""
    pool = TestPool(tmp_path)
    pool.simulator.run_clock(datetime.now(UTC), 1.0)
    with pool:
        yield pool


def test_a_real_cron_fires_the_installed_entry_but_not_under_a_name_with_a_dot(
    installed: Path, cron: str, pool: TestPool
) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], schedule={"min": "0"})
    # Whatever time it is, there was a slot since yesterday.
    pool.call("VMSS.set_last_run_time", policy, format_datetime(datetime.now(UTC) - timedelta(days=1)))
    # Only the minute is changed. Debian's cron reads the second name and ignores the first.
    entry = (installed / "etc" / "cron.d" / "vmss.cron").read_text()
    assert len(re.findall(r"^\*/15 ", entry, re.MULTILINE)) == 1
    for name in ("vmss.cron", "vmss"):
        path = installed / "etc" / "cron.d" / name
        path.write_text(re.sub(r"^\*/15 ", "* ", entry, flags=re.MULTILINE))
        path.chmod(0o644)

    lay_traps(installed / "home")

    assert run_cron(installed, cron, pool) == ""

    # cron has started it in root's home, and nothing that lies there was imported.
    assert (installed / "run" / "started").read_text().strip() == str(installed / "home")
    assert trodden(installed / "home") == []
    log = installed / "var" / "log" / "VMSSlog"
    texts = [line.split("] ", 1)[1] for line in log.read_text(encoding="utf-8").splitlines()]
    assert texts.count("===Kicking cron job for VMSS===") == 1
    assert "Completed processing policy: " + pool.uuid("VMSS", policy) in texts
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    assert len(pool.snapshots(vm)) == 1
    assert mode(log) == 0o640
    assert mode(installed / "run" / "lock" / "vmss") == 0o700


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_cron(root: Path, cron: str, pool: TestPool) -> str:
    """Run cron in a root until every pass that it has started at one full minute is over; return what they
    printed."""
    for folder in ("home", "mnt", "run/lock", "usr/sbin", "var/lib/xcp", "var/log", "var/spool/cron/crontabs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    os.link(pool.socket, str(root / "var" / "lib" / "xcp" / "xapi"))
    fifo = root / "run" / "printed"
    os.mkfifo(str(fifo))
    # In /usr/sbin, which stands before /usr/bin in the entry's PATH, are only the command, cron, and the
    # tests' Python. It has the fifo open for as long as it runs.
    (root / "usr" / "sbin" / "cron").touch()
    python = root / "usr" / "sbin" / "python3"
    python.write_text(
        '#!/bin/sh\npwd >/run/started\nexec >/run/printed 2>&1\nexec %s "$@"\n' % shlex.quote(sys.executable)
    )
    python.chmod(0o755)
    with os.fdopen(os.open(str(fifo), os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as printed:
        words = NAMESPACE + ["sh", "-c", START, "sh", str(root), cron]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        try:
            return read_to_end(printed, process.stdout)
        finally:
            process.kill()
            process.communicate()  # returns when the last process of the namespace has closed its end of the pipe


def read_to_end(printed: IO[bytes], cron: IO[bytes]) -> str:
    """What the passes print until the last of them has ended. `cron` is what cron prints until it ends, which it
    must not."""
    texts: Dict[IO[bytes], bytes] = {printed: b"", cron: b""}
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        ready = select.select(list(texts), [], [], max(0.0, deadline - time.monotonic()))[0]
        assert ready, "no pass has ended within %d s: %r" % (TIMEOUT_S, list(texts.values()))
        for file in ready:
            text = os.read(file.fileno(), 10000)
            texts[file] += text
            if not text:
                assert file is printed, "cron has ended: %s" % texts[cron].decode()
                return texts[printed].decode()
