"""`vmss install` and `vmss uninstall`, into roots of the tests' own."""

import os
import re
import shutil
import stat
import subprocess
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from tests.dom0 import Dom0, need
from vmss.edges.settings import Settings
from vmss.edges.settings_file import load
from vmss.edges.settings_table import SETTINGS
from vmss.installation.install import (
    CRON,
    CRON_DEBIAN,
    EXAMPLE,
    FILES,
    PLUGIN,
    InstallError,
    checked_by_crontab,
    example,
)
from vmss.installation.modules import PRIVATE

ROOT = Path(__file__).resolve().parent.parent


# Loads the plugin as one does by hand.
LOAD = (
    "import importlib.machinery as m, importlib.util as u; loader = m.SourceFileLoader('by_hand', %r); "
    "loader.exec_module(u.module_from_spec(u.spec_from_loader('by_hand', loader)))\n"
)


def vmss(*words: str, checkout: Path = ROOT, code: str = "") -> Tuple[int, str, str]:
    """Run the command, of this checkout or another; `code` is run before it in the same process."""
    start = code + "import sys; from vmss.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", start] + list(words),
        env=dict(os.environ, PYTHONPATH=str(checkout)),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def install(root: Path, **options: Any) -> str:
    """Install, and return what is said of it."""
    status, out, err = vmss("install", "--root", str(root), **options)
    assert (status, err) == (0, ""), err
    return out


def kept(root: Path, *words: str, command: str = "install", **options: Any) -> None:
    """The command keeps one thing, and says so in one line with these words in it."""
    status, _out, err = vmss(command, "--root", str(root), **options)
    assert status == 1 and len(err.splitlines()) == 1, err
    for word in words:
        assert word in err


def refused(*words: str, root: Path, **options: Any) -> None:
    """Nothing is installed, and one line with these words in it says why."""
    before = tree(root)
    status, out, err = vmss("install", "--root", str(root), **options)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1, err
    for word in words:
        assert word in err
    assert tree(root) == before


def tree(root: Path) -> Dict[str, Tuple[int, int, int, Optional[bytes]]]:
    """All that is in a root, so that any change shows."""
    found = {}
    for place, folders, names in os.walk(str(root)):
        for name in folders + names:
            path = Path(place) / name
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
            found[str(path)[len(str(root)) :]] = (status.st_mode, status.st_ino, status.st_mtime_ns, content)
    return found


def files(root: Path) -> List[str]:
    """The regular files and the links in a root."""
    return sorted(name for name, (mode, _, _, _) in tree(root).items() if not stat.S_ISDIR(mode))


def at(root: Path, path: str) -> Path:
    return Path(str(root) + path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with what any system has there."""
    root = tmp_path / "root"
    for name in ("etc/cron.d", "etc/logrotate.d", "run/lock", "usr/lib", "var/log"):
        (root / name).mkdir(parents=True)
    os.symlink("/run/lock", str(root / "var" / "lock"))
    return root


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A checkout of an older version: another cron entry, another rule for logrotate, more modules."""
    older = tmp_path / "older"
    shutil.copytree(str(ROOT / "vmss"), str(older / "vmss"), ignore=shutil.ignore_patterns("__pycache__"))
    for path in (CRON, "/etc/logrotate.d/VMSSlog"):
        file = at(older / "vmss" / "data", path)
        file.write_text(file.read_text() + "# older\n")
    (older / "vmss" / "gone.py").write_text("")
    (older / "vmss" / "gone_too").mkdir()
    (older / "vmss" / "gone_too" / "__init__.py").write_text("")
    return older


# Installing


def test_every_file_is_in_its_place_with_its_mode(root: Path) -> None:
    install(root)
    for file in FILES:
        source = ROOT / "vmss" / "data" / file.path[1:]
        content = example() if file.path == EXAMPLE else source.read_bytes()
        assert at(root, file.path).read_bytes() == content, file.path
        assert mode(at(root, file.path)) == file.mode, file.path
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "vmss").glob("**/*.py")}
    wanted = {name for name in modules if not name.startswith(("vmss/simulator/", "vmss/demo.py"))}
    assert {"vmss/plugin.py", "vmss/cli/commands/demo.py"} < wanted < modules
    private = root / PRIVATE[1:]
    assert wanted == {str(path.relative_to(private)) for path in (private / "vmss").glob("**/*.py")}
    assert mode(root / "run" / "lock" / "vmss") == 0o700  # where the root's link leads, not this machine's
    assert not [name for name in files(root) if name.endswith((".new", ".pyc"))]


def test_the_embedded_xapi_and_the_demo_stay_in_the_checkout(root: Path) -> None:
    install(root)
    assert not at(root, PRIVATE + "/vmss/simulator").exists() and not at(root, PRIVATE + "/vmss/demo.py").exists()
    assert not [name for name in files(root) if name.endswith("datamodel.json")]


def test_installed_into_nothing_it_makes_the_directories(tmp_path: Path) -> None:
    install(tmp_path / "new" / "root")
    assert mode(tmp_path / "new" / "root" / "var" / "lock" / "vmss") == 0o700
    assert mode(tmp_path / "new" / "root" / "var" / "log") == 0o755


def test_installing_twice_changes_nothing(root: Path) -> None:
    install(root)
    before = tree(root)
    assert install(root) == "all is installed already\n"
    assert tree(root) == before


def test_a_mode_that_was_changed_is_set_right(root: Path) -> None:
    install(root)
    at(root, CRON).chmod(0o666)
    assert install(root) == "installed %s\n" % CRON
    assert mode(at(root, CRON)) == 0o644


def test_the_installed_plugin_takes_the_modules_beside_it_before_any_others(root: Path) -> None:
    install(root)
    code = LOAD % str(at(root, PLUGIN)) + (
        "import dateutil, vmss.plugin; print(dateutil.__file__, vmss.plugin.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        stdout=subprocess.PIPE,
        cwd="/",
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        check=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == [
        str(at(root, PRIVATE + "/dateutil/__init__.py")),
        str(at(root, PRIVATE + "/vmss/plugin.py")),
    ]


def test_what_a_built_package_holds_is_enough(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(str(ROOT / name), str(copy / name))
    for name in ("vmss", "plugins", "cron.d"):
        shutil.copytree(str(ROOT / name), str(copy / name), symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    gone = tmp_path / "built" / "vmss" / "core" / "gone.py"  # of an older build
    gone.parent.mkdir(parents=True)
    gone.write_text("")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", str(tmp_path / "built")],
        cwd=str(copy),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    if "No module named 'setuptools'" in done.stdout:
        pytest.skip("setup.py needs setuptools, which %s does not have" % sys.executable)
    assert done.returncode == 0, done.stdout
    shutil.rmtree(str(copy))
    assert not gone.exists() and (gone.parent / "policy.py").exists()
    install(root, checkout=tmp_path / "built")
    assert at(root, PLUGIN).read_bytes() == (ROOT / "plugins" / "vmss").read_bytes()
    assert {file.path for file in FILES} <= set(files(root))


def test_on_the_machine_itself_the_installed_plugin_is_tried(tmp_path: Path) -> None:
    import crontab
    import dateutil

    dom0 = Dom0(tmp_path)
    shutil.copytree(str(ROOT / "vmss"), str(dom0.path / "checkout" / "vmss"))
    shutil.copy(str(crontab.__file__), str(dom0.packages))
    shutil.copytree(os.path.dirname(str(dateutil.__file__)), str(dom0.packages / "dateutil"))
    done = dom0.run(["python3", "-m", "vmss", "install"], PYTHONPATH="/checkout")
    assert done.returncode == 0 and "installed " + PLUGIN in done.stdout, done.stdout

    shutil.rmtree(str(dom0.path / "checkout"))
    answer = dom0.run([PLUGIN, xmlrpc.client.dumps(("OpaqueRef:x", {}), "nonsense")]).stdout
    assert "UNKNOWN_XENAPI_PLUGIN_FUNCTION" in answer
    assert "vmss " in dom0.run(["vmss", "--version"]).stdout

    # Without XenAPI nothing works, and nothing is started by cron; one line says where to get it.
    module = dom0.packages / "XenAPI.py"
    content = module.read_bytes()
    module.unlink()
    cron = at(dom0.path, CRON)
    cron.unlink()
    again = ["python3", "-m", "vmss", "install", "--root", "/"]
    done = dom0.run(again, PYTHONPATH=PRIVATE)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("vmss: %s: does not start: vmss: No module named 'XenAPI'" % PLUGIN)
    pip = "/usr/bin/python3 -m pip install --target %s XenAPI" % PRIVATE
    assert pip in lines[0]
    assert lines[1:] == ["vmss: %s: is not put there before the plugin starts; then install again" % CRON]
    assert done.returncode == 1 and not cron.exists()
    for word in ("list", "xe", "run"):
        done = dom0.run(["vmss", word])
        assert done.returncode == 3 and len(done.stdout.splitlines()) == 1, done.stdout
        assert done.stdout.startswith("vmss: the Python module XenAPI is missing (/usr/bin/python3): ")
        assert pip in done.stdout and "on EL: " in done.stdout and "on Debian: " in done.stdout
    # What pip puts there.
    at(dom0.path, PRIVATE + "/XenAPI.py").write_bytes(content)
    done = dom0.run(again, PYTHONPATH=PRIVATE)
    assert (done.returncode, done.stdout) == (0, "installed %s\n" % CRON) and cron.exists()
    assert "No such file or directory" in dom0.run(["vmss", "list"]).stdout


# What is there already


@pytest.mark.parametrize("path", [file.path for file in FILES if file.config])
def test_a_file_that_an_administrator_changed_is_kept_and_reported(root: Path, path: str) -> None:
    install(root)
    at(root, path).write_text("# mine\n")
    before = tree(root)
    kept(root, path, "was changed")
    assert tree(root) == before
    kept(root, path, "was changed", command="uninstall")
    assert files(root) == [path, "/var/lock"]


def test_an_upgrade_replaces_what_is_ours_and_keeps_what_was_changed(root: Path, older: Path) -> None:
    install(root, checkout=older)
    compiled = at(root, PRIVATE + "/vmss/gone_too/__pycache__/__init__.cpython-36.pyc")
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    entry = at(root, CRON).read_text()
    at(root, CRON).write_text(entry.replace("*/15", "*/5"))

    kept(root, CRON)

    assert "*/5" in at(root, CRON).read_text()
    assert "# older" not in at(root, "/etc/logrotate.d/VMSSlog").read_text()
    assert not at(root, PRIVATE + "/vmss/gone.py").exists()
    assert not at(root, PRIVATE + "/vmss/gone_too").exists()
    # The change undone, it is ours again.
    at(root, CRON).write_text(entry)
    install(root)
    assert "# older" not in at(root, CRON).read_text()


def test_a_plugin_that_is_not_ours_is_not_overwritten(root: Path) -> None:
    at(root, PLUGIN).parent.mkdir(parents=True)
    at(root, PLUGIN).write_text("# the vendor's\n")
    refused(PLUGIN, "rm -r " + PLUGIN, "rpm -U vmss-", root=root)


def test_what_the_rpm_has_installed_is_left_to_it(root: Path) -> None:
    at(root, PRIVATE + "/vmss").mkdir(parents=True)
    at(root, PRIVATE + "/vmss/__init__.py").write_text("")
    refused(PRIVATE, "our RPM", "rpm -U vmss-", root=root)  # rpm knows of none here
    assert vmss("uninstall", "--root", str(root)) == (0, "`vmss install` has installed nothing here\n", "")


def test_no_link_is_written_through(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    at(root, PLUGIN).parent.mkdir(parents=True)
    os.symlink(str(outside), str(at(root, PLUGIN)))
    refused(PLUGIN, root=root)
    at(root, PLUGIN).unlink()
    os.symlink("/dev/null", str(at(root, CRON)))  # how a service is silenced
    kept(root, CRON)
    assert os.readlink(str(at(root, CRON))) == "/dev/null" and outside.read_text() == "precious"


def test_links_of_the_root_lead_nowhere_out_of_it(root: Path, tmp_path: Path) -> None:
    (root / "opt" / "cron.d").mkdir(parents=True)
    (root / "etc" / "cron.d").rmdir()
    os.symlink("/opt/../../../opt/cron.d", str(root / "etc" / "cron.d"))
    before = tree(tmp_path)
    install(root)
    assert (root / "opt" / "cron.d" / "vmss.cron").exists()
    assert not [name for name in set(tree(tmp_path)) - set(before) if not name.startswith("/root/")]
    os.unlink(str(root / "etc" / "cron.d"))
    os.symlink("cron.d", str(root / "etc" / "cron.d"))
    assert vmss("install", "--root", str(root))[0] == 2


# The cron entry


def test_the_entry_is_one_that_python_crontab_reads(root: Path) -> None:
    from crontab import CronSlices, CronTab

    install(root)
    (job,) = CronTab(tabfile=str(at(root, CRON)), user=False)
    assert job.is_valid() and CronSlices.is_valid(str(job.slices))
    assert (job.user, str(job.slices)) == ("root", "*/15 * * * *")


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"# nothing\n",
        b"*/99 * * * * root true\n",
        b"* * * * root\n",
        b"* * * * * nobody true\n",
        b"* * * * * root date +%s\n",
        b"* * * * * root true\n* * * * * root true\n",
    ],
)
def test_an_entry_that_is_not_valid_is_not_installed(entry: bytes) -> None:
    with pytest.raises(InstallError):
        checked_by_crontab(entry)


def test_without_python_crontab_one_line_says_what_is_missing(root: Path) -> None:
    refused("python-crontab", "pip install", root=root, code="import sys; sys.modules['crontab'] = None\n")


def test_debians_cron_gets_a_name_that_it_takes(root: Path) -> None:
    (root / "etc" / "debian_version").write_text("12.0\n")
    install(root)
    assert at(root, CRON_DEBIAN).exists() and not at(root, CRON).exists()
    vmss("uninstall", "--root", str(root))
    assert not at(root, CRON_DEBIAN).exists()


def test_the_two_names_are_never_there_together(root: Path) -> None:
    install(root)
    (root / "etc" / "debian_version").write_text("12.0\n")
    assert install(root).splitlines() == ["removed " + CRON, "installed " + CRON_DEBIAN]
    assert at(root, CRON_DEBIAN).exists() and not at(root, CRON).exists()

    at(root, CRON_DEBIAN).write_text("# mine\n")
    (root / "etc" / "debian_version").unlink()
    kept(root, CRON_DEBIAN, "should be called " + CRON)
    assert at(root, CRON_DEBIAN).read_text() == "# mine\n" and not at(root, CRON).exists()
    # As it says:
    at(root, CRON_DEBIAN).unlink()
    install(root)
    assert at(root, CRON).exists()


# The other files


def test_a_real_logrotate_takes_the_rule(root: Path, tmp_path: Path) -> None:
    need("logrotate")
    install(root)
    log = root / "var" / "log" / "VMSSlog"
    rule = tmp_path / "rule"
    text = at(root, "/etc/logrotate.d/VMSSlog").read_text()
    assert text.count("/var/log/VMSSlog {") == 1
    rule.write_text(text.replace("/var/log/VMSSlog {", "%s {" % log))
    rule.chmod(0o644)
    words = ["logrotate", "--state", str(tmp_path / "state"), str(rule)]
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin")
    for option in ("--debug", "--force"):
        done = subprocess.run(
            words + [option], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        assert done.returncode == 0 and "error:" not in done.stdout, done.stdout  # there is no log yet
    for number in range(8):
        log.write_text("pass %d\n" % number)
        log.chmod(0o640)
        subprocess.run(words + ["--force"], env=environment, check=True)
        assert log.read_text() == "" and mode(log) == 0o640
    names = sorted(path.name for path in log.parent.iterdir())
    assert names == ["VMSSlog", "VMSSlog.1"] + ["VMSSlog.%d.gz" % number for number in range(2, 6)]


def test_the_example_has_every_setting_with_its_default(tmp_path: Path) -> None:
    text = example().decode("utf-8")
    path = tmp_path / "vmss.conf"
    path.write_text(text)
    assert load(str(path)) == Settings()
    assert re.findall(r"^#([a-z_]+) =", text, re.MULTILINE) == [setting.name for setting in SETTINGS]
    path.write_text(re.sub(r"^#([a-z_]+ =)", r"\1", text, flags=re.MULTILINE))
    assert load(str(path)) == Settings()
    assert max(map(len, text.splitlines())) <= 120


# Removing


def test_removed_it_leaves_the_log_the_lock_directory_and_the_configuration(root: Path) -> None:
    before = set(tree(root))
    install(root)
    stay = ["/etc/vmss.conf", "/run/lock/vmss/x.lock", "/var/log/VMSSlog", "/var/log/VMSSlog.1"]
    for name in stay:
        at(root, name).write_text("")
    # Loaded by hand, Python leaves what it has compiled beside the plugin and the modules.
    subprocess.run(
        [sys.executable, "-c", LOAD % str(at(root, PLUGIN))],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )
    assert len({os.path.dirname(name) for name in files(root) if name.endswith(".pyc")}) > 1

    status, out, err = vmss("uninstall", "--root", str(root))

    assert (status, err) == (0, "") and out.splitlines()[0] == "removed " + CRON
    assert set(tree(root)) == before | set(stay) | {"/run/lock/vmss"}
    assert vmss("uninstall", "--root", str(root)) == (0, "`vmss install` has installed nothing here\n", "")


def test_a_manifest_that_is_damaged_is_named(root: Path) -> None:
    install(root)
    for text in ("", "{}", "[]", '{"files": 1, "directories": []}', "\udcff"):
        at(root, PRIVATE + "/installed.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        refused("installed.json", root=root)
        assert vmss("uninstall", "--root", str(root))[0] == 2


def test_a_root_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("install", "uninstall"):
        status, _out, err = vmss(command, "--root", str(tmp_path / "file"))
        assert status == 2 and str(tmp_path / "file") in err and len(err.splitlines()) == 1


# Cut off

KILL = """
import os
rename, remaining = os.rename, [%d]
def counted(*words, **options):
    remaining[0] -= 1
    if remaining[0] < 0:
        os._exit(9)
    rename(*words, **options)
os.rename = counted
"""


@pytest.mark.parametrize("number", [0, 1, 2, 3, 50, 100])
def test_cut_off_at_any_file_it_is_finished_by_the_next(root: Path, older: Path, number: int) -> None:
    for checkout in (older, ROOT):  # the first time, and when it is upgraded
        assert vmss("install", "--root", str(root), checkout=checkout, code=KILL % number)[0] in (9, 0)
        install(root, checkout=checkout)
        assert install(root, checkout=checkout) == "all is installed already\n"
        assert not [name for name in files(root) if name.endswith(".new")]
    assert not at(root, PRIVATE + "/vmss/gone.py").exists()
    assert vmss("uninstall", "--root", str(root))[0] == 0
    assert files(root) == ["/var/lock"]


def test_two_at_once_do_not_mix(root: Path) -> None:
    import fcntl

    descriptor = os.open(str(root), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused("another `vmss install`", root=root)
    os.close(descriptor)
    install(root)
