"""The files of an installation, and how `vmss install` and `vmss uninstall` install and remove them.

The RPM has the same files in the same places (packaging/vmss.spec).
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from typing import Dict, Iterator, List, NamedTuple, Tuple

from vmss.core.problem import Problem
from vmss.core.text import one_line
from vmss.edges.settings import DEFAULT_CONFIG, DEFAULT_LOCK_DIR, DEFAULT_LOG, Settings
from vmss.edges.settings_table import SETTINGS, described, shown
from vmss.edges.surroundings import PATH
from vmss.installation.modules import NEEDED, PRIVATE, how_to_get
from vmss.installation.packages import REPLACE_VENDORS, UPGRADE_OURS, installed
from vmss.installation.root import FileState, Root
from vmss.installation.shipped import shipped

# dom0 has a real xapi: the embedded one, and the demo with it, stay in the checkout.
_CHECKOUT_ONLY = ("vmss/simulator/", "vmss/demo.py")

# The place of the manifest, by which what was installed is recognised.
MANIFEST = PRIVATE + "/installed.json"

CRON = "/etc/cron.d/vmss.cron"
CRON_DEBIAN = "/etc/cron.d/vmss"
PLUGIN = "/etc/xapi.d/plugins/vmss"
EXAMPLE = DEFAULT_CONFIG + ".example"
# Of what is in the way, where rpm cannot be asked whose it is.
_KEPT = "%s: is not what `vmss install` put there, and is kept. If it is of no package, rm -r %s; if it is of %s"
# The seconds in which the plugin, started without a call, has to end.
PLUGIN_S = 60.0


class File(NamedTuple):
    """One file. An administrator may change those that are `config`: changed ones are kept."""

    path: str
    mode: int
    config: bool


# The files outside PRIVATE: copies of those with the same paths in vmss/data; the example is made from the settings.
FILES: Tuple[File, ...] = (
    File(PLUGIN, 0o755, False),
    File("/usr/sbin/vmss", 0o755, False),
    File("/usr/share/man/man8/vmss.8", 0o644, False),
    File("/usr/share/bash-completion/completions/vmss", 0o644, False),
    File("/etc/logrotate.d/VMSSlog", 0o644, True),
    File("/etc/xensource/bugtool/VM-snapshot-schedule.xml", 0o644, True),
    File("/etc/xensource/bugtool/VM-snapshot-schedule/vmss.xml", 0o644, True),
    File(EXAMPLE, 0o644, True),
    File(CRON, 0o644, True),  # the last: it starts the others
)

# `vmss uninstall` keeps these. The second is in memory in dom0: after a boot the next pass makes it again.
DIRECTORIES = ((os.path.dirname(DEFAULT_LOG), 0o755), (DEFAULT_LOCK_DIR, 0o700))


class InstallError(Problem):
    """The installation or the removal cannot be done."""


class Item(NamedTuple):
    """A file to be installed, with its content."""

    file: File
    content: bytes


class Done(NamedTuple):
    """What was changed, and what was kept although it should have been changed, in lines."""

    changed: List[str]
    kept: List[str]


class Manifest(NamedTuple):
    """For each path the digests of what may be there, and the directories that were made."""

    files: Dict[str, List[str]]
    directories: List[str]


# Installing


def install(path: str) -> Done:
    """Given a root, install everything into it; what is there already is not touched. Raise InstallError if that would
    overwrite a program that is not ours, or cannot be done."""
    root = Root(path)
    try:
        os.makedirs(root.path, exist_ok=True)
        with root.alone():
            return _install(root)
    except OSError as error:
        raise InstallError("%s: %s" % (one_line(str(error.filename or root.path)), error.strerror))


def _install(root: Root) -> Done:
    _refuse_beside_a_package(root)
    before = _read_manifest(root)
    if not before.files and root.read(PRIVATE + "/vmss/__init__.py"):
        raise InstallError(_KEPT % (PRIVATE, PRIVATE, "our RPM, " + UPGRADE_OURS))
    done = Done([], [])
    items, unwanted = _items(root, before, done)
    manifest = Manifest({}, list(before.directories))
    changes = [item for item in items if _has_to_be_written(root, item, before, manifest, done)]
    for directory in sorted({os.path.dirname(item.file.path) for item in items}):
        manifest.directories.extend(root.make_directory(directory))
    if changes or unwanted:
        # If interrupted, the manifest lists old and new files, so both are recognised.
        _write_manifest(root, Manifest(_merged(manifest.files, before.files), manifest.directories))
    for name in unwanted:
        _remove(root, name, before.files[name], done)
    if unwanted:
        _remove_compiled(root)
        _remove_empty_directories(root, manifest, items)
    last = [item for item in changes if item.file.path in (CRON, CRON_DEBIAN)]
    _write(root, changes[: len(changes) - len(last)], done)  # it is the last of the files
    for directory, mode in DIRECTORIES:
        done.changed.extend("made %s" % made for made in root.make_directory(directory, mode))
    trouble = _trouble() if root.path == "/" else []
    if trouble and last:
        trouble.append("%s: is not put there before the plugin starts; then install again" % last[0].file.path)
    _write(root, [] if trouble else last, done)
    done.kept.extend(trouble)
    if changes or unwanted or manifest != before:
        _write_manifest(root, manifest)
    return done


def _write(root: Root, items: List[Item], done: Done) -> None:
    for file, content in items:
        root.write(file.path, content, file.mode)
        if not file.path.startswith(PRIVATE):
            done.changed.append("installed %s" % file.path)
    if any(item.file.path.startswith(PRIVATE) for item in items):
        done.changed.append("installed the modules in %s" % PRIVATE)


def _refuse_beside_a_package(root: Root) -> None:
    """Raise InstallError where rpm has installed the files, the vendor's or ours: it would go on taking them for its
    own, and put its own in their place at the next occasion."""
    package = installed(root)
    if package is not None and package.ours:
        raise InstallError("our RPM %s is installed here: %s" % (package.name, UPGRADE_OURS))
    if package is not None:
        raise InstallError("the vendor's package %s is installed here: %s" % (package.name, REPLACE_VENDORS))


def _items(root: Root, before: Manifest, done: Done) -> Tuple[List[Item], List[str]]:
    """The files for this root, and the paths of those that have to be removed."""
    name, other = cron_names(root)
    items = list(_modules())
    for file in FILES:
        content = example() if file.path == EXAMPLE else shipped(file.path)
        if file.path == CRON:
            file, content = file._replace(path=name), checked_by_crontab(content)
        items.append(Item(file, content))
    paths = {item.file.path for item in items}
    unwanted = [path for path in before.files if path not in paths and path != other]
    there = root.read(other)
    if there is not None:
        if there.content is not None and (
            there.content == items[-1].content or _digest(there.content) in before.files.get(other, [])
        ):
            before.files.setdefault(other, [_digest(there.content)])
            unwanted.append(other)
        else:
            # Two entries would start two passes at a time.
            items.pop()
            done.kept.append(
                "%s: was changed, and is kept; here it should be called %s: rename it, or remove it and "
                "install again" % (other, name)
            )
    return items, unwanted


def cron_names(root: Root) -> Tuple[str, str]:
    """The name of the cron entry in this root, and the one that must not exist beside it.

    Debian's cron ignores names with a dot. Every other one accepts the vendor's name, which xapi's bug reports and
    administrators know. /etc/debian_version exists on Debian and the systems made from it."""
    debian = root.read("/etc/debian_version") is not None
    return (CRON_DEBIAN, CRON) if debian else (CRON, CRON_DEBIAN)


def checked_by_crontab(entry: bytes) -> bytes:
    """Given the cron entry, return it as python-crontab writes it. Raise InstallError if python-crontab finds it
    invalid."""
    try:
        from crontab import CronSlices, CronTab
    except ImportError:
        raise InstallError(
            "the cron entry is checked with python-crontab, which this Python does not have: "
            "%s -m pip install python-crontab" % one_line(sys.executable)
        )
    table = CronTab(tab=entry.decode("ascii"), user=False)
    jobs = list(table)
    text = table.render()
    if not (
        len(jobs) == 1
        and jobs[0].is_valid()
        and CronSlices.is_valid(str(jobs[0].slices))
        and jobs[0].user == "root"
        and "%" not in text
        and str(CronTab(tab=text, user=False)) == text
    ):
        raise InstallError("python-crontab finds the cron entry invalid")
    return str(text).encode("ascii")


def example() -> bytes:
    """An example of the configuration file: every setting with its default and its reason."""
    parts = [
        "# The settings of vmss with their defaults. What is set in %s is read at every pass; what is set in\n"
        "# pool.other_config, with vmss: in front of the name, wins. Below a line [vmss:SCHEDULE], with the name or\n"
        "# the uuid of a schedule, a setting holds for that schedule alone, if its text says that it can.\n\n[vmss]\n"
        % DEFAULT_CONFIG
    ]
    for setting in SETTINGS:
        text = shown(getattr(Settings(), setting.name))
        parts.append(
            "\n%s\n#%s\n"
            % (
                "\n".join(textwrap.wrap(described(setting), 116, initial_indent="# ", subsequent_indent="# ")),
                ("%s = %s" % (setting.name, text)).rstrip(),
            )
        )
    return "".join(parts).encode("utf-8")


def _modules() -> Iterator[Item]:
    """Our package, as far as dom0 needs it, and its requirements, but for XenAPI, which every dom0 has: as this Python
    has them."""
    for name in ("vmss", "dateutil", "six"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            if name == "six":  # only older versions of dateutil need it
                continue
            raise InstallError("%s: this Python (%s) does not have it" % (name, one_line(sys.executable)))
        folder = os.path.dirname(spec.origin)
        if spec.submodule_search_locations:
            base, places = os.path.dirname(folder), _files_below(folder)
        else:
            base, places = folder, [spec.origin]
        for place in places:
            path = os.path.relpath(place, base)
            if not path.startswith(_CHECKOUT_ONLY):
                with open(place, "rb") as file:
                    yield Item(File(PRIVATE + "/" + path, 0o644, False), file.read())


def _files_below(folder: str) -> List[str]:
    found: List[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        found.extend(os.path.join(place, name) for name in sorted(names) if not name.endswith(".pyc"))
    return found


def _has_to_be_written(root: Root, item: Item, before: Manifest, manifest: Manifest, done: Done) -> bool:
    """Whether a file is missing, or an older one of ours. Adds the file to `manifest` if it is ours."""
    path, mode, config = item.file
    digests = before.files.get(path, [])
    found = root.read(path)
    if found is None or found.content == item.content or _ours(found, digests):
        manifest.files[path] = [_digest(item.content)]
        return found != FileState(item.content, mode)
    if not config:
        raise InstallError(_KEPT % (one_line(path), one_line(path), "the vendor's package, " + REPLACE_VENDORS))
    done.kept.append("%s: was changed, and is kept; remove it and install again to get ours" % path)
    if digests:
        manifest.files[path] = digests  # in case the change is undone
    return False


def _merged(files: Dict[str, List[str]], older: Dict[str, List[str]]) -> Dict[str, List[str]]:
    return {name: sorted(set(files.get(name, []) + older.get(name, []))) for name in set(files) | set(older)}


def _ours(found: FileState, digests: List[str]) -> bool:
    return found.content is not None and _digest(found.content) in digests


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _trouble() -> List[str]:
    """Start the plugin as xapi would. Return a line if the machine's own Python cannot load it."""
    try:
        ended = subprocess.run(
            [PLUGIN],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PLUGIN_S,
        )
    except subprocess.TimeoutExpired:
        return ["%s: does not start: it has not ended within %d s" % (PLUGIN, PLUGIN_S)]
    if ended.returncode == 2 and b"host plugin" in ended.stderr:
        return []
    said = one_line(ended.stderr.decode("utf-8", "replace").strip())
    hints = [how_to_get(name, "/usr/bin/python3", PRIVATE) for name in NEEDED if "No module named '%s'" % name in said]
    return ["%s: does not start: %s" % (PLUGIN, "; ".join([said] + hints))]


# Removing


def uninstall(path: str) -> Done:
    """Given a root, remove what was installed into it, except what was changed since. The log, the lock directory,
    the configuration and the pool's schedules are kept."""
    root = Root(path)
    try:
        with root.alone():
            return _uninstall(root)
    except OSError as error:
        raise InstallError("%s: %s" % (one_line(str(error.filename or root.path)), error.strerror))


def _uninstall(root: Root) -> Done:
    manifest = _read_manifest(root)
    done = Done([], [])
    # The cron entry first: it starts the rest.
    for name in sorted(manifest.files, key=lambda name: (not name.startswith("/etc/cron.d/"), name)):
        _remove(root, name, manifest.files[name], done)
    if manifest.files:
        _remove_compiled(root)
        os.unlink(root.locate(MANIFEST))
        done.changed.append("removed the modules in %s" % PRIVATE)
        for name in reversed(manifest.directories):
            root.remove_directory(name)
    return done


def _remove(root: Root, path: str, digests: List[str], done: Done) -> None:
    found = root.read(path)
    if found is None:
        return
    if not _ours(found, digests):
        done.kept.append("%s: was changed, and is kept" % one_line(path))
        return
    os.unlink(root.locate(path))
    if not path.startswith(PRIVATE):
        done.changed.append("removed %s" % path)


def _remove_empty_directories(root: Root, manifest: Manifest, items: List[Item]) -> None:
    """Remove the directories that were made for an older version, if this one has nothing to put into them."""
    for directory in reversed(list(manifest.directories)):
        if not any(item.file.path.startswith(directory + "/") for item in items):
            root.remove_directory(directory)
            if not os.path.lexists(root.locate(directory)):
                manifest.directories.remove(directory)


def _remove_compiled(root: Root) -> None:
    """Remove the files that Python has compiled: beside the modules, and beside a plugin that was loaded by hand."""
    for place, folders, _names in os.walk(root.locate(PRIVATE)):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            shutil.rmtree(os.path.join(place, "__pycache__"))
    beside = os.path.join(os.path.dirname(root.locate(PLUGIN)), "__pycache__")
    if os.path.isdir(beside):
        for name in os.listdir(beside):
            if name.startswith("vmsscpython-") and name.endswith(".pyc"):  # the plugin's name has no dot in it
                os.unlink(os.path.join(beside, name))
        root.remove_directory(os.path.dirname(PLUGIN) + "/__pycache__")


# The manifest


def _read_manifest(root: Root) -> Manifest:
    found = root.read(MANIFEST)
    if found is None:
        return Manifest({}, [])
    try:
        manifest = json.loads((found.content or b"").decode("utf-8"))
        return Manifest(
            {str(name): list(digests) for name, digests in manifest["files"].items()},
            [str(name) for name in manifest["directories"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InstallError("%s: is damaged: remove by hand what was installed" % MANIFEST)


def _write_manifest(root: Root, manifest: Manifest) -> None:
    root.write(MANIFEST, json.dumps(manifest._asdict(), indent=1, sort_keys=True).encode("ascii"), 0o644)
