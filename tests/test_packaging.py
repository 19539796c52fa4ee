"""The RPM: built for real from a clean clone, and installed by rpm into a root like dom0's."""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree
import xmlrpc.client
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from tests.dom0 import PYTHONS, Dom0, need
from tests.pool import UTC, TestPool
from tests.sshd import Sshd
from tests.test_plugin import lay_traps, trodden
from vmss.core.datetimes import format_datetime
from vmss.edges.settings import Place, Settings
from vmss.edges.surroundings import Surroundings
from vmss.insight.checks import examine
from vmss.insight.findings import Finding
from vmss.installation.install import CRON, FILES, MANIFEST, PLUGIN, InstallError, example, install
from vmss.installation.modules import PRIVATE
from vmss.installation.root import Root
from vmss.version import VERSION

ROOT = Path(__file__).resolve().parent.parent

# The vendor's files, as its package has them, and what this machine's rpm has to find installed besides.
VENDOR = """
Name: vmss
Version: 1.2.1
Release: 2.xcpng8.3
Summary: The vendor's package
License: GPLv2
BuildArch: noarch
AutoReqProv: no
%description
%install
mkdir -p %{buildroot}/etc/cron.d %{buildroot}/etc/xapi.d/plugins %{buildroot}/etc/logrotate.d
mkdir -p %{buildroot}/etc/xensource/bugtool/VM-snapshot-schedule
for file in cron.d/vmss.cron xapi.d/plugins/vmss logrotate.d/VMSSlog xensource/bugtool/VM-snapshot-schedule.xml \\
        xensource/bugtool/VM-snapshot-schedule/vmss.xml; do
    echo "# the vendor's" >%{buildroot}/etc/$file
done
%files
/etc/cron.d/vmss.cron
%attr(0755, root, root) /etc/xapi.d/plugins/vmss
%config /etc/logrotate.d/VMSSlog
/etc/xensource/bugtool/VM-snapshot-schedule.xml
/etc/xensource/bugtool/VM-snapshot-schedule/vmss.xml
"""
# What requires it, on every host.
CORE = """
Name: xapi-core
Version: 26.1
Release: 1
Summary: xapi
License: LGPL
BuildArch: noarch
Requires: vmss
%description
%files
"""
BASE = """
Name: base
Version: 1
Release: 1
Summary: What is in the root
License: MIT
BuildArch: noarch
Provides: /bin/sh /usr/bin/python3
%description
%files
"""


class Packages(NamedTuple):
    """Paths of packages."""

    older: str
    newer: str
    vendor: str
    core: str
    base: str


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a repository whose first commit is an older version of what is here, and its second what is here."""
    need("git", "rpmbuild", "rpm", "gzip")
    if subprocess.run(["python3", "-m", "pip", "--version"], stdout=subprocess.DEVNULL).returncode:
        pytest.skip("python3 has no pip")
    folder = tmp_path_factory.mktemp("packaging")
    origin = folder / "origin"
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(str(ROOT / name)):
            shutil.copy2(str(ROOT / name), str(origin / name), follow_symlinks=False)
    git(origin, "init", "-q")
    cron = origin / "cron.d" / "vmss.cron"
    rule = origin / "vmss" / "data" / "etc" / "logrotate.d" / "VMSSlog"
    now = {path: path.read_text() for path in (cron, rule)}
    for path, text in now.items():
        path.write_text(text + "# older\n")
    (origin / "vmss" / "gone.py").write_text("GONE = True\n")
    commit(origin, "2026-01-01T00:00:00Z")
    for path, text in now.items():
        path.write_text(text)
    (origin / "vmss" / "gone.py").unlink()
    commit(origin, "2026-01-02T00:00:00Z")
    git(folder, "clone", "-q", str(origin), "clone")
    return folder / "clone"


def git(folder: Path, *words: str, **environment: str) -> str:
    return subprocess.run(
        ["git"] + list(words),
        cwd=str(folder),
        env=dict(os.environ, **environment),
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout


def commit(folder: Path, at: str) -> None:
    git(folder, "add", "--all")
    git(
        folder,
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@example.org",
        "commit",
        "-q",
        "-m",
        "x",
        GIT_AUTHOR_DATE=at,
        GIT_COMMITTER_DATE=at,
    )


@pytest.fixture(scope="module")
def packages(clone: Path) -> Packages:
    newer = build(clone)
    git(clone, "checkout", "-q", "HEAD^")
    older = build(clone)
    git(clone, "checkout", "-q", "-")
    return Packages(older, newer, *[rpmbuild(clone.parent, spec) for spec in (VENDOR, CORE, BASE)])


def build(clone: Path) -> str:
    """Run the one command, and return the path of what it says that it has built."""
    done = subprocess.run(
        ["packaging/build"], cwd=str(clone), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    if done.returncode and "pip" in done.stderr and "onnection" in done.stderr:
        pytest.skip("no registry to get what the package carries inside from")
    assert done.returncode == 0, done.stderr
    return str(clone / done.stdout.strip())


def rpmbuild(folder: Path, spec: str) -> str:
    file = folder / "some.spec"
    file.write_text(spec)
    top = folder / ("top%d" % len(spec))
    subprocess.run(
        ["rpmbuild", "-bb", "--quiet", "--define", "_topdir %s" % top, str(file)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    (found,) = top.glob("RPMS/noarch/*.rpm")
    return str(found)


def query(package: str, *words: str) -> List[str]:
    done = subprocess.run(
        ["rpm", "-qp"] + list(words) + [package], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )
    return done.stdout.splitlines()


@pytest.fixture
def dom0(tmp_path: Path, packages: Packages, version: str) -> Dom0:
    """The root, without our package."""
    dom0 = Dom0(tmp_path, version)
    ok(dom0.rpm("-i", packages.base))
    return dom0


@pytest.fixture
def version() -> str:
    """The version of dom0's Python, where a test does not tell another one."""
    return PYTHONS[0]


def ok(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


@pytest.fixture
def pool(tmp_path: Path, dom0: Dom0) -> Iterator[TestPool]:
    with pool_of(tmp_path, dom0) as pool:
        yield pool


@contextmanager
def pool_of(folder: Path, dom0: Dom0) -> Iterator[TestPool]:
    """A pool whose socket is the root's xapi, and whose clock is the real one. Its plugins run in the root."""
    plugins = folder / "plugins"
    plugins.mkdir()
    plugin = plugins / "vmss"
    plugin.write_text('#!/bin/sh\nexec %s "$@"\n' % " ".join(map(shlex.quote, dom0.words("/etc/xapi.d/plugins/vmss"))))
    plugin.chmod(0o755)
    pool = TestPool(folder, plugins=str(plugins))
    pool.simulator.run_clock(datetime.now(UTC), 1.0)
    # What takes time takes real time here.
    now = (0.0, 0.0)
    pool.simulator.durations = pool.simulator.durations._replace(
        sr_create=now, sr_scan=now, pbd_plug=now, vdi_create=now, vdi_destroy=now, vdi_snapshot=now
    )
    with pool:
        os.link(pool.socket, str(dom0.path / "var" / "lib" / "xcp" / "xapi"))
        yield pool


# What is in it


def test_it_has_the_files_of_the_table_with_their_modes(packages: Packages) -> None:
    lines = query(
        packages.newer,
        "--queryformat",
        "[%{FILENAMES} %{FILEMODES:octal} %{FILEFLAGS:fflags} %{FILEUSERNAME} %{FILEGROUPNAME}\n]",
    )
    found: Dict[str, List[str]] = {line.split(" ")[0]: line.split(" ")[1:] for line in lines}
    beside = {name for name in found if not name.startswith(PRIVATE)}
    assert beside == {file.path for file in FILES} | {"/etc/xensource/bugtool/VM-snapshot-schedule"}
    for file in FILES:
        mode = "%o" % (stat.S_IFREG | file.mode)
        flags = "cn" if file.config else "d" if file.path.startswith("/usr/share/man/") else ""
        assert found[file.path] == [mode, flags, "root", "root"], file.path
    assert {values[0] for name, values in found.items() if name not in {file.path for file in FILES}} == {
        "%o" % (stat.S_IFREG | 0o644),
        "%o" % (stat.S_IFDIR | 0o755),
    }


def test_it_has_the_vendors_files(packages: Packages) -> None:
    assert set(query(packages.vendor, "-l")) <= set(query(packages.newer, "-l"))


def modules() -> List[str]:
    """The modules that dom0 needs, by their paths in the checkout: all but the embedded xapi and the demo."""
    paths = (str(path.relative_to(ROOT)) for path in sorted((ROOT / "vmss").glob("**/*.py")))
    return [path for path in paths if not path.startswith("vmss/simulator/") and path != "vmss/demo.py"]


def test_it_has_all_modules_those_they_need_and_their_licences_but_nothing_compiled(packages: Packages) -> None:
    names = set(query(packages.newer, "-l"))
    assert {PRIVATE + "/" + path for path in modules()} <= names
    for name in ("dateutil/tz/tz.py", "six.py", "licenses/vmss", "licenses/dateutil", "licenses/six"):
        assert PRIVATE + "/" + name in names
    assert not [name for name in names if name.endswith((".pyc", "-info")) or "__pycache__" in name]


def test_it_has_nothing_of_the_embedded_xapi(packages: Packages) -> None:
    names = query(packages.newer, "-l")
    assert not [name for name in names if "simulator/" in name or name.endswith(("datamodel.json", "vmss/demo.py"))]
    # 508 KiB today, 14 of them the commands of xe and their extract of the data model; the embedded xapi has 150.
    assert os.path.getsize(packages.newer) < 720 << 10


def test_every_module_can_be_loaded_by_dom0s_python(dom0: Dom0, packages: Packages) -> None:
    ok(dom0.rpm("-U", packages.newer))
    names = [
        path[: -len(".py")].replace("/", ".") for path in modules() if not path.endswith(("__init__.py", "__main__.py"))
    ]
    code = "import importlib, sys\nsys.path.insert(0, '%s')\nfor name in %r: importlib.import_module(name)" % (
        PRIVATE,
        names,
    )
    assert ok(dom0.run(["python3", "-I", "-c", code])) == ""


@pytest.mark.parametrize("command", ["demo", "simulator"])
def test_what_dom0_does_not_need_says_where_to_get_it(dom0: Dom0, packages: Packages, command: str) -> None:
    ok(dom0.rpm("-U", packages.newer))
    done = dom0.run(["vmss", command])
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1 and "in a checkout" in done.stdout


def test_an_rpm_of_the_time_of_dom0s_can_read_it(packages: Packages) -> None:
    needed = {line.split(" ")[0] for line in query(packages.newer, "--requires")}
    assert needed == {
        "/bin/sh",
        "/usr/bin/python3",
        "rpmlib(CompressedFileNames)",
        "rpmlib(FileDigests)",
        "rpmlib(PayloadFilesHavePrefix)",
    }
    assert query(packages.newer, "--queryformat", "%{PAYLOADCOMPRESSOR} %{PAYLOADFORMAT}") == ["gzip cpio"]


def test_the_same_commit_gives_the_same_package(clone: Path, packages: Packages) -> None:
    before = Path(packages.newer).read_bytes()
    Path(packages.newer).unlink()
    assert build(clone) == packages.newer
    assert Path(packages.newer).read_bytes() == before


# At work


@pytest.mark.parametrize("version", PYTHONS)
def test_on_each_python_of_a_dom0_it_is_installed_and_ticks_in_each_way(
    dom0: Dom0, packages: Packages, pool: TestPool, version: str
) -> None:
    ok(dom0.rpm("-U", packages.newer))
    compiled = {name.split(".")[-2] for name in dom0.files() if name.startswith(PRIVATE) and name.endswith(".pyc")}
    assert compiled == {"cpython-" + version.replace(".", "")}
    # Nothing but the modules inside the package knows this zone: the root has no table of zones.
    (dom0.path / "etc" / "vmss.conf").write_text("[vmss]\ntimezone = Europe/London\n")
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], schedule={"min": "0"}, retained_snapshots="1")
    log = dom0.path / "var" / "log" / "VMSSlog"

    def tick(words: List[str]) -> None:
        pool.call("VMSS.set_last_run_time", policy, format_datetime(datetime.now(UTC) - timedelta(days=1)))
        before, alerts = log.stat().st_size, len(pool.names(policy))
        assert ok(dom0.run(words)) == ""
        assert b"===Kicking cron job for VMSS===" in log.read_bytes()[before:]
        assert pool.names(policy)[alerts:] == ["VMSS_SNAPSHOT_SUCCEEDED"]

    pool.call("VMSS.set_last_run_time", policy, format_datetime(datetime.now(UTC) - timedelta(days=1)))
    assert pool.call("host.call_plugin", pool.host, "vmss", "trigger_schedule_snapshots", {"wait": "true"}) == (
        "schedules served: 1, VMs snapshotted: 1 of 1, expired snapshots deleted: 0, VMs with errors: 0"
    )
    assert len(pool.snapshots(vm)) == 1
    from crontab import CronTab

    (job,) = CronTab(tabfile=str(dom0.path) + CRON, user=False)
    tick(["sh", "-c", job.command])
    for line in by_hand():
        if "import imp" not in line:
            tick(["sh", "-c", line])
        elif version == "3.12":
            assert "No module named 'imp'" in dom0.run(["sh", "-c", line]).stdout
        else:
            # The article has `python`, which is Python 2 where python3 is the oldest that we take.
            line = line if version == PYTHONS[0] else line.replace("python3", "python")
            tick(["sh", "-c", line.replace(" -c", " -W ignore -c")])
    assert mode(log) == 0o640
    assert mode(dom0.path / "run" / "lock" / "vmss") == 0o700  # nothing but the plugin makes it after a boot
    assert "warning" not in ok(dom0.rpm("-e", "vmss"))
    assert not [name for name in dom0.files() if name.startswith((PRIVATE, "/etc/xapi.d/plugins/"))]


def by_hand() -> List[str]:
    """The command lines of the guide that do what cron does: the article's, and that for Pythons without `imp`."""
    lines = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if "python3 -c" in line]
    assert len(found) == 2 and "import imp" in found[0]
    return found


def test_only_the_root_and_python_3_6_are_used(dom0: Dom0, packages: Packages) -> None:
    ok(dom0.rpm("-U", packages.newer))
    code = (
        "import importlib.util, sys, vmss_plugin; import XenAPI, dateutil, six, vmss\n"
        "print(sys.version_info[:2], *(module.__file__ for module in (XenAPI, dateutil, six, vmss)))"
    )
    load = (
        "import importlib.machinery as m, sys; sys.dont_write_bytecode = True; "
        "m.SourceFileLoader('vmss_plugin', '/etc/xapi.d/plugins/vmss').load_module(); exec(%r)" % code
    )
    assert ok(dom0.run(["python3", "-c", load])).split("\n")[-2] == (
        "(3, 6) /usr/lib/python3.6/site-packages/XenAPI.py /usr/lib/vmss/dateutil/__init__.py /usr/lib/vmss/six.py "
        "/usr/lib/vmss/vmss/__init__.py"
    )


def test_the_command_minds_no_callers_environment(dom0: Dom0, packages: Packages, pool: TestPool) -> None:
    ok(dom0.rpm("-U", packages.newer))
    evil = dom0.path / "tmp" / "vmss"
    evil.mkdir()
    for name in ("__init__.py", "commands.py"):
        (evil / name).write_text("raise SystemExit(9)\n")
    assert ok(dom0.run(["vmss", "--version"], PYTHONPATH="/tmp")) == "vmss %s\n" % VERSION
    done = dom0.run(["vmss", "run", "--dry-run"], PYTHONPATH="/tmp", PYTHONHOME="/tmp")
    assert "schedules that would run: 0" in ok(done)


def test_what_lies_in_roots_home_or_beside_the_plugin_is_imported_by_nothing_that_is_installed(
    dom0: Dom0, packages: Packages, pool: TestPool
) -> None:
    ok(dom0.rpm("-U", packages.newer))
    pool.policy([pool.vm("vm", [pool.sr()])])
    beside = dom0.path / "etc" / "xapi.d" / "plugins"
    home = dom0.path / "home"
    for folder in (home, beside):
        lay_traps(folder)

    def in_home(*words: str) -> str:
        return ok(dom0.run(["sh", "-c", 'cd /home && exec "$@"', "sh", *words], PYTHONPATH="/home", HOME="/home"))

    from crontab import CronTab

    (job,) = CronTab(tabfile=str(dom0.path) + CRON, user=False)
    assert in_home("sh", "-c", job.command) == ""
    assert "No of Policies: 1" in (dom0.path / "var" / "log" / "VMSSlog").read_text(encoding="utf-8")
    assert "nonsense" in in_home("/etc/xapi.d/plugins/vmss", xmlrpc.client.dumps(("OpaqueRef:x", {}), "nonsense"))
    assert "schedules that would run: 0" in in_home("vmss", "run", "--dry-run")
    assert trodden(home) == [] and trodden(beside) == ["vmss"]
    # What a trap is for: it is stepped on without the option.
    ok(dom0.run(["sh", "-c", "cd /home && exec python3 -c 'import random'"]))
    assert trodden(home) != []


def test_a_real_logrotate_takes_the_rule_and_the_next_pass_writes_on(
    dom0: Dom0, packages: Packages, pool: TestPool
) -> None:
    ok(dom0.rpm("-U", packages.newer))
    rotate = ["logrotate", "--force", "--state", "/tmp/state", "/etc/logrotate.d/VMSSlog"]
    assert ok(dom0.run(rotate)) == ""  # there is no log yet
    ok(dom0.run(["vmss", "run"]))
    log = dom0.path / "var" / "log" / "VMSSlog"
    first = log.read_bytes()
    assert ok(dom0.run(rotate)) == ""
    assert Path(str(log) + ".1").read_bytes() == first
    assert log.read_bytes() == b"" and mode(log) == 0o640
    ok(dom0.run(["vmss", "run"]))
    assert log.read_bytes() and mode(log) == 0o640
    assert ok(dom0.run(rotate)) == ""
    assert mode(Path(str(log) + ".2.gz")) == 0o640


def test_the_description_for_bug_reports_has_the_shape_of_one(dom0: Dom0, packages: Packages) -> None:
    ok(dom0.rpm("-U", packages.newer))
    folder = dom0.path / "etc" / "xensource" / "bugtool"
    capability = xml.etree.ElementTree.parse(str(folder / "VM-snapshot-schedule.xml")).getroot()
    assert capability.tag == "capability" and not list(capability)
    assert set(capability.attrib) == {"pii", "max_size", "max_time", "mime", "checked"}
    assert capability.attrib["pii"] in ("yes", "no", "maybe", "if_customized")
    assert int(capability.attrib["max_size"]) > 0 and int(capability.attrib["max_time"]) > 0
    (collected,) = (folder / "VM-snapshot-schedule").iterdir()
    collect = xml.etree.ElementTree.parse(str(collected)).getroot()
    assert collect.tag == "collect"
    files = []
    for element in collect:
        assert element.text and element.text.startswith("/") and not list(element)
        assert set(element.attrib) == {"files": set(), "command": {"label"}, "directory": {"label"}}[element.tag]
        if element.tag == "files":
            files.append(element.text)
    # All that the rule for logrotate leaves.
    (kept,) = [
        line.split()[1]
        for line in (dom0.path / "etc" / "logrotate.d" / "VMSSlog").read_text().splitlines()
        if line.split()[0] == "rotate"
    ]
    assert set(files) >= {"/var/log/VMSSlog", "/var/log/VMSSlog.1"} | {
        "/var/log/VMSSlog.%d.gz" % number for number in range(2, int(kept) + 1)
    }
    assert ok(dom0.run(["/usr/sbin/vmss", "--version"]))


# Upgrading and removing


def test_an_upgrade_keeps_what_an_administrator_changed_and_leaves_nothing_of_the_older(
    dom0: Dom0, packages: Packages
) -> None:
    ok(dom0.rpm("-U", packages.older))
    compiled = str(dom0.path) + PRIVATE + "/vmss/__pycache__/%s.cpython-36.pyc"
    assert os.path.exists(compiled % "gone")
    cron = Path(str(dom0.path) + CRON)
    cron.write_text(cron.read_text().replace("*/15", "*/5"))
    changed = cron.read_bytes()
    manifest = Path(str(dom0.path) + PRIVATE + "/installed.json")
    manifest.write_text('{"files": {"/usr/sbin/vmss": []}, "directories": []}')  # of `vmss install`

    assert "vmss.cron.rpmnew" in ok(dom0.rpm("-U", packages.newer))

    assert cron.read_bytes() == changed
    assert not manifest.exists()
    assert "# older" not in (dom0.path / "etc" / "logrotate.d" / "VMSSlog").read_text()
    assert os.path.exists(compiled % "plugin") and not os.path.exists(compiled % "gone")
    assert (dom0.path / "etc" / "vmss.conf.example").read_bytes() == example()
    assert ok(dom0.run(["vmss", "--version"]))


def test_removed_it_leaves_the_log_and_the_lock_directory(dom0: Dom0, packages: Packages, pool: TestPool) -> None:
    before = dom0.files()
    ok(dom0.rpm("-U", packages.newer))
    ok(dom0.run(["vmss", "run"]))
    # What the article says to do by hand compiles the plugin itself.
    ok(
        dom0.run(
            [
                "python3",
                "-W",
                "ignore",
                "-c",
                'import imp; imp.load_source("vmss", "/etc/xapi.d/plugins/vmss").trigger_schedule_snapshots()',
            ]
        )
    )
    assert "warning" not in ok(dom0.rpm("-e", "vmss"))
    uuid = pool.call("pool.get_uuid", pool.call("pool.get_all")[0])
    assert set(dom0.files()) - set(before) <= {"/var/log/VMSSlog", "/run/lock/vmss", "/run/lock/vmss/%s.lock" % uuid}
    assert (dom0.path / "var" / "log" / "VMSSlog").exists() and (dom0.path / "run" / "lock" / "vmss").exists()


def test_it_replaces_the_vendors_package_and_is_replaced_by_it(dom0: Dom0, packages: Packages) -> None:
    installed = ["-q", "--queryformat", "%{VERSION}\n", "vmss"]
    plugin = dom0.path / "etc" / "xapi.d" / "plugins" / "vmss"
    ok(dom0.rpm("-U", packages.vendor, packages.core))
    vendors = {name: Path(str(dom0.path) + name).read_bytes() for name in query(packages.vendor, "-l")}
    before = dom0.files()

    def is_needed() -> bool:
        done = dom0.rpm("-e", "vmss")
        return done.returncode != 0 and "vmss is needed by (installed) xapi-core" in done.stdout

    assert is_needed()
    beside = dom0.rpm("-i", packages.newer)
    assert beside.returncode != 0 and "conflicts with" in beside.stdout
    ok(dom0.rpm("-U", packages.newer))
    assert ok(dom0.rpm(*installed)) == VERSION + "\n" and is_needed()
    assert plugin.read_bytes() == (ROOT / "plugins" / "vmss").read_bytes()
    assert not [name for name in dom0.files() if name.endswith((".rpmnew", ".rpmsave", ".rpmorig"))]

    assert "is already installed" in dom0.rpm("-U", packages.vendor).stdout  # no update of theirs takes ours away
    ok(dom0.rpm("-U", "--oldpackage", packages.vendor))
    assert ok(dom0.rpm(*installed)) == "1.2.1\n" and is_needed()
    assert {name: Path(str(dom0.path) + name).read_bytes() for name in vendors} == vendors
    assert dom0.files() == before


def printed(dom0: Dom0, text: str, package: str) -> None:
    """Do as a text says that names rpm: its commands, with the name of this package filled in."""
    found = re.findall(r"rm /[^ ,]+|rpm -U [^(]+", text)
    assert "rpm -U " in found[-1]
    for command in found:
        words = command.replace("vmss-VERSION-RELEASE.noarch.rpm", package).split()
        if words[0] == "rm":
            os.unlink(str(dom0.path) + words[1])
        else:
            ok(dom0.rpm(*words[1:]))


@pytest.mark.skipif(os.geteuid() != 0, reason="rpm enters a root for root only")
def test_installing_from_files_is_refused_beside_a_package(dom0: Dom0, packages: Packages) -> None:
    def refusal() -> str:
        before = dom0.files()
        with pytest.raises(InstallError) as refused:
            install(str(dom0.path))
        assert dom0.files() == before
        return str(refused.value)

    root = Root(str(dom0.path))
    assert install(root.path).kept == []
    # The vendor's package comes with an upgrade of the host; its plugin is ours by the name, and not by its content.
    ok(dom0.rpm("-U", packages.vendor, packages.core))
    text = refusal()
    assert text.startswith("the vendor's package vmss-1.2.1-2.xcpng8.3 is installed here: put our RPM in its place")
    assert "xapi-core requires" in text and "remove" not in text
    assert text.split(": ", 1)[1] in [finding.remedy for finding in of_dom0(dom0)]
    printed(dom0, text, packages.older)
    assert Path(str(dom0.path) + PLUGIN).read_bytes() == (ROOT / "plugins" / "vmss").read_bytes()
    assert root.read(MANIFEST) is None
    text = refusal()
    assert text.startswith("our RPM vmss-%s-" % VERSION) and text.count("is installed here: upgrade it: rpm -U") == 1
    printed(dom0, text, packages.newer)
    assert [finding for finding in of_dom0(dom0) if finding.severity] == []


def test_a_file_of_the_package_is_put_back_as_the_doctor_says(dom0: Dom0, packages: Packages) -> None:
    ok(dom0.rpm("-U", packages.vendor, packages.core))
    ok(dom0.rpm("-U", packages.newer))
    for path, spoiled in ((PLUGIN, ""), (PLUGIN, "# x\n"), (CRON, ""), (CRON, "0 1 * * * root vmss\n")):
        assert [finding for finding in of_dom0(dom0) if finding.severity] == []
        place = Path(str(dom0.path) + path)
        place.write_text(spoiled) if spoiled else place.unlink()
        (finding,) = [finding for finding in of_dom0(dom0) if finding.severity]
        printed(dom0, finding.remedy, packages.newer)
    assert [finding for finding in of_dom0(dom0) if finding.severity] == []


def of_dom0(dom0: Dom0) -> List[Finding]:
    """What the doctor finds of the installation's files."""
    place = Place("unix:/nonexistent", str(dom0.path / "log"), str(dom0.path / "lock"), str(dom0.path / "conf"))
    found, _session = examine(Surroundings(place, Settings(login_limit=0)), Root(str(dom0.path)), True)
    return [finding for finding in found if finding.check in ("plugin", "cron entry")]


def test_a_call_of_xapis_is_answered_by_the_installed_plugin_itself(dom0: Dom0, packages: Packages) -> None:
    ok(dom0.rpm("-U", packages.newer))
    answer = ok(dom0.run(["/etc/xapi.d/plugins/vmss", xmlrpc.client.dumps(("OpaqueRef:x", {}), "nonsense")]))
    assert xmlrpc.client.loads(answer)[0][0] == {
        "Status": "Failure",
        "ErrorDescription": ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", "nonsense"],
    }


# By Ansible, on many pools


@pytest.mark.skipif(find_spec("ansible") is None, reason="ansible-core is not installed")
def test_ansible_installs_upgrades_and_sets_up_two_pools_and_the_second_time_changes_nothing(
    tmp_path: Path, packages: Packages
) -> None:
    with ExitStack() as stack:
        dom0s, pools = {}, {}
        of_before = {"london": [packages.vendor], "paris": [packages.older]}
        for name in ("london", "paris"):
            (tmp_path / name).mkdir()
            dom0s[name] = Dom0(tmp_path / name)
            # Here the vendor's package is in place, there an older one of ours.
            ok(dom0s[name].rpm("-i", packages.base, packages.core, *of_before[name]))
            pools[name] = stack.enter_context(pool_of(tmp_path / name, dom0s[name]))
            (dom0s[name].path / "etc" / "xensource" / "pool.conf").write_text("master")
        pools["london"].call("VM.add_tags", pools["london"].vm("web"), "production")
        sshds = {name: stack.enter_context(Sshd(tmp_path / name / "ssh")) for name in dom0s}
        play = Play(tmp_path, dom0s, sshds, packages.newer)

        # To look at it changes nothing.
        before = [contents(dom0) for dom0 in dom0s.values()]
        status, said = play("--check", "--skip-tags", "status")
        assert (status, recap(said)) == (0, {"london": True, "paris": True}), said
        assert "create: - -> every day at 02:30, snapshot, keeps 7, disabled (to do)" in said
        assert [contents(dom0) for dom0 in dom0s.values()] == before
        assert [pool.call("VMSS.get_all") for pool in pools.values()] == [[], []]

        status, said = play()
        assert (status, recap(said)) == (0, {"london": True, "paris": True}), said
        for name, pool in pools.items():
            (record,) = pool.call("VMSS.get_all_records").values()
            assert record["name_label"] == "nightly" and record["schedule"] == {"hour": "2", "min": "30"}
            assert (record["enabled"], len(record["VMs"])) == ((True, 1) if name == "london" else (False, 0))
            root = dom0s[name].path
            assert (root / "etc" / "vmss.conf").read_text().splitlines()[1:] == [
                "[vmss]", "assign_by_tag = no", "late_limit = 7200", "", "[vmss:nightly]", "keep_days = 3"
            ]  # fmt: skip
            assert mode(root / "etc" / "vmss.conf") == 0o600 and not list((root / "var" / "tmp").iterdir())
            installed = ok(dom0s[name].rpm("-q", "--queryformat", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm", "vmss"))
            assert installed == os.path.basename(packages.newer)
            told = json.loads((tmp_path / "states" / (name + ".json")).read_text())
            assert {finding["check"] for finding in told} >= {"licence", "storage"}
        # The second time there is nothing to do.
        status, said = play()
        assert (status, recap(said)) == (0, {"london": False, "paris": False}), said

        # A mistake stops it at the first host, before anything is changed there.
        before = [contents(dom0) for dom0 in dom0s.values()]
        status, said = play("--skip-tags", "status", vmss_serial=1, vmss_settings={"late_limit": "never"})
        assert status == 2 and "late_limit" in said and recap(said) == {}, said
        assert [contents(dom0) for dom0 in dom0s.values()] == before


def contents(dom0: Dom0) -> Dict[str, bytes]:
    """The files of a root, but for what Ansible and programs write beside."""
    files = {name: dom0.path / name[1:] for name in dom0.files() if not name.startswith(("/tmp", "/var/log", "/run"))}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in files.items()}


def recap(said: str) -> Dict[str, bool]:
    """Whether a play changed anything, of each host on which nothing failed."""
    found = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0", said, re.MULTILINE)
    return {name: number != "0" for name, number in found}


class Play:
    """The playbook, over ssh, on these roots, each the coordinator of a pool; its call gives the exit status, and what
    the playbook says."""

    def __init__(self, folder: Path, dom0s: Dict[str, Dom0], sshds: Dict[str, Sshd], package: str) -> None:
        self._folder = folder
        nightly: Dict[str, Any] = {"type": "snapshot", "frequency": "daily", "schedule": {"hour": 2, "min": 30}}
        hosts = {}
        for name, dom0 in dom0s.items():
            enter = dom0.words("/usr/sbin/vmss")
            rpm = enter[: enter.index("chroot")] + ["rpm", "--root", str(dom0.path), "--dbpath", "/var/lib/rpm"]
            vms = {"tags": ["production"]} if name == "london" else {}
            hosts[name] = {
                **sshds[name].variables,
                "vmss_root": str(dom0.path),
                "vmss_rpm_command": rpm,
                "vmss_command": enter,
                "vmss_schedules": {"nightly": dict(nightly, enabled=name == "london", vms=vms)},
                "ansible_remote_tmp": str(dom0.path / "tmp" / "ansible"),
            }
        (folder / "inventory.json").write_text(json.dumps({"pools": {"hosts": hosts}}))
        (folder / "states").mkdir()
        self._common = {
            "vmss_rpm": package,
            "vmss_serial": 2,
            "ansible_python_interpreter": sys.executable,
            "vmss_settings_of_schedules": {"nightly": {"keep_days": 3}},
            "vmss_status_dir": str(folder / "states"),
        }

    def __call__(self, *options: str, **variables: Any) -> Tuple[int, str]:
        settings = {"vmss_settings": {"late_limit": 7200, "assign_by_tag": False}}
        words = ["-m", "ansible", "playbook", str(ROOT / "deploy" / "ansible" / "site.yml")]
        words += [
            "-i",
            str(self._folder / "inventory.json"),
            "-e",
            json.dumps({**self._common, **settings, **variables}),
        ]
        done = subprocess.run(
            [sys.executable] + words + list(options),
            env={
                "PATH": "%s:/usr/sbin:/sbin" % os.environ["PATH"], "HOME": str(self._folder), "LC_ALL": "C.UTF-8",
                "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(self._folder / "ansible"),
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        )  # fmt: skip
        return done.returncode, done.stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
