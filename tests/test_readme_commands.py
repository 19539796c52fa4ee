"""Every command line of the documents for users and contributors, run as it stands there: against a pool, in bash."""

import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.documents import DOCUMENTS, ROOT, shell_lines
from tests.pool import TestPool

# The manual of the simulator has a test of its own, and the benchmarks are too long for one.
PAGES = [name for name in DOCUMENTS if name not in ("vmss/simulator/README.md", "benchmarks/README.md")]

# What is run elsewhere, or cannot be run on the machine that the tests run on, and where or why.
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/vmss demo": "test_commands runs the demo",
    "python3 -m venv .venv && .venv/bin/pip install -q '.[test]'": ".ci/run",
    "python3 -m venv .venv && .venv/bin/pip install -q '.[install]'": "test_install installs from a wheel",
    ".venv/bin/vmss install": "test_install, into a root of its own",
    ".venv/bin/vmss uninstall": "test_install",
    "packaging/build": "test_packaging",
    "cp deploy/ansible/": "test_packaging, with an inventory of its own",
    "ansible-playbook ": "test_packaging, on two roots",
    "scp ": "there is no other host",
    "apt-get update": "it would change this machine",
    "ssh root@HOST openssl": "there is no other host; test_commands verifies such a certificate",
    "read -rs ": "it asks a person",
    "ssh root@HOST rpm -U": "test_packaging, into a root of its own",
    "mkdir -p my_pool && .venv/bin/vmss simulator": "test_commands starts simulators; it ends only when told to",
    "export VMSS_XAPI=": "the pool of this test stands in for it",
    "export PATH=": "the command is the one under test",
    "vmss xe vmss-list -s HOST": "test_xe, over https",
    "for pool in ": "test_listing reads over https",
    "vmss export --vms name | VMSS_XAPI=https://HOST": "test_apply, to another pool, and over https",
    "python3 -c 'import imp;": "test_plugin, on a Python that has imp",
    "PYTHONPATH=/usr/lib/vmss": "test_packaging",
    "vmss manual >": "test_manual compares the file",
    "vmss completion bash >": "test_completion compares the file",
    ".venv/bin/python -m pytest": "it would run this test",
    ".venv/bin/python -m tests.simulation": "tests/simulation",
    ".venv/bin/python -m tests.proof": "tests/test_proof.py, in its short form",
    ".venv/bin/python -m tests.mutations": "tests/test_mutations.py",
    ".venv/bin/python -m benchmarks": "nobody: it takes minutes",
    ".venv/bin/pip install -q '.[lint]'": ".ci/run",
    ".venv/bin/ruff": ".ci/run",
    ".venv/bin/mypy": ".ci/run",
    ".ci/run": "whoever commits",
    "mkdir -p /etc/vmss/hooks.d": "it would change this machine; test_hooks uses the files",
    "install -m 0755 before-vm-50-database": "test_hooks, into a directory of its own",
    "grep Hook ": "test_hooks looks into the log",
}
# The exit status says what was found, not whether the command worked.
JUDGES = ("vmss status", "vmss doctor", "vmss run --policy")


def elsewhere(line: str) -> bool:
    return line.startswith(tuple(ELSEWHERE)) or "plugin=vmss" in line


def lines_to_run(page: str) -> List[str]:
    """The command lines of a page that are run here."""
    return [line for line in shell_lines(page) if not elsewhere(line)]


@pytest.fixture
def names(pool: TestPool) -> Iterator[Dict[str, str]]:
    """A pool in which everything exists that the documents speak of: the values of the words that stand for it."""
    vm = pool.vm("web", [pool.sr()])
    policy = pool.policy(
        [vm], "nightly", frequency="daily", schedule={"hour": "2", "min": "30"}, retained_snapshots="10"
    )
    empty = pool.policy([], "to be destroyed")
    pool.tick(policy=pool.uuid("VMSS", policy))
    snapshot = pool.call("VM.get_snapshots", vm)[0]
    Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
    yield {
        "name-label=nightly": "name-label=another",  # there is one already
        "uuid=VM ": "uuid=%s " % pool.uuid("VM", vm),
        "=VM ": "=%s " % pool.uuid("VM", vm),
        "contains=VM": "contains=%s" % pool.uuid("VM", vm),
        "SNAPSHOT": pool.uuid("VM", snapshot),
        "vmss-destroy uuid=UUID": "vmss-destroy uuid=" + pool.uuid("VMSS", empty),
        "COORDINATOR": pool.uuid("host", pool.host),
        "UUID": pool.uuid("VMSS", policy),
        "uuid=DISK": "uuid=" + pool.uuid("VDI", pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", vm)[0])),
        "POOL": pool.uuid("pool", pool.call("pool.get_all")[0]),
        "$policy": pool.uuid("VMSS", policy),
        ".venv/bin/vmss": "vmss",
    }


def environment(pool: TestPool, folder: Path) -> Dict[str, str]:
    """An environment in which `vmss` is the one under test, and `xe` too."""
    for name, words in (("vmss", ""), ("xe", " xe")):
        script = folder / name
        script.write_text('#!/bin/sh\nexec "%s" -m vmss%s "$@"\n' % (sys.executable, words))
        script.chmod(0o755)
    return dict(
        os.environ,
        PATH="%s:%s" % (folder, os.environ["PATH"]),
        PYTHONPATH=str(ROOT),
        VMSS_LOG=pool.place.log,
        VMSS_LOCK_DIR=pool.place.lock_dir,
        VMSS_CONFIG=pool.place.config,
        VMSS_XAPI=pool.place.xapi,
        MANPAGER="cat",
    )


def test_what_is_run_elsewhere_is_in_the_documents_and_all_else_is_run_here() -> None:
    lines = [line for page in PAGES for line in shell_lines(page)]
    for start in ELSEWHERE:
        assert any(line.startswith(start) for line in lines), start
    assert sum(1 for line in lines if not elsewhere(line)) > 30


@pytest.mark.parametrize("page", [page for page in PAGES if lines_to_run(page)])
def test_every_command_line_does_what_it_says(pool: TestPool, names: Dict[str, str], tmp_path: Path, page: str) -> None:
    pool.simulator.set_time(datetime(2026, 12, 31, 23, 0, tzinfo=timezone.utc))
    surroundings = environment(pool, tmp_path)
    failed = []
    for line in lines_to_run(page):
        for name, value in names.items():
            line = line.replace(name, value)
        done = subprocess.run(
            ["bash", "-c", "set -e; " + line],
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            cwd=str(tmp_path),
        )
        if done.returncode != 0 and not (line.startswith(JUDGES) and done.returncode in (0, 1, 2)):
            failed.append("%s: %d: %s" % (line, done.returncode, done.stdout.decode()[-300:]))
        if b"Traceback" in done.stdout:
            failed.append("%s: %s" % (line, done.stdout.decode()[-1000:]))
    assert not failed, "\n".join(failed)
