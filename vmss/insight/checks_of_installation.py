"""Checks of an installation in dom0, from files and processes alone: the plugin, the cron entry, and cron itself."""

import os
import re
import stat
from typing import Dict, Iterator, List, Tuple

from vmss.core.text import one_line
from vmss.edges.surroundings import POOL_ROLE
from vmss.edges.zones import machine_zone
from vmss.insight import logfile
from vmss.insight.case import Case
from vmss.insight.findings import CRITICAL, OK, WARNING, Finding, skipped
from vmss.insight.lock_and_log import TICK_CRITICAL, TICK_WARNING
from vmss.installation.install import CRON, MANIFEST, PLUGIN, cron_names
from vmss.installation.packages import REPAIR, REPLACE_VENDORS, installed, takes_packages
from vmss.installation.root import Root
from vmss.installation.shipped import shipped

_CRON_LOG = "/var/log/cron"
_INVENTORY = "/etc/xensource-inventory"


def coordinator(case: Case) -> Iterator[Finding]:
    """Whether this host knows its role in the pool, and xapi agrees."""
    session, root = case.session, case.root
    uuid = str(session.xapi.call("host.get_uuid", session.pool.coordinator)) if session is not None else ""
    yield _role(root, uuid)


def _role(root: Root, uuid: str) -> Finding:
    """The role of this host, as it says itself; `uuid` is the coordinator's, if it is known."""
    found = root.read(POOL_ROLE)
    role = (found.content or b"").decode("utf-8", "replace").strip() if found else ""
    known = role in ("master", "broken") or re.match(r"slave:[0-9A-Za-z.:-]{1,100}\Z", role)
    evidence = "%s: %s" % (POOL_ROLE, role if known else "something else" if found else "missing")
    if role.startswith("slave:"):
        return Finding(OK, "coordinator", "this host is a member: the pool's coordinator runs the schedules", evidence)
    if role != "master":
        return Finding(
            CRITICAL,
            "coordinator",
            "this host does not know its role in the pool",
            evidence,
            "xe-toolstack-restart; see /var/log/xensource.log",
        )
    mine = _installation(root)
    if uuid and mine and uuid != mine:
        return Finding(
            WARNING,
            "coordinator",
            "this host considers itself the coordinator, but xapi does not",
            "%s; this host %s, the coordinator %s" % (evidence, mine, one_line(uuid, 40)),
            "xe pool-list params=master; see %s and /var/log/xensource.log" % POOL_ROLE,
        )
    return Finding(OK, "coordinator", "this host is the pool's coordinator", evidence)


def _installation(root: Root) -> str:
    found = root.read(_INVENTORY)
    match = re.search(rb"^INSTALLATION_UUID='?([0-9a-f-]+)", found.content or b"", re.MULTILINE) if found else None
    return match.group(1).decode("ascii") if match else ""


def plugin(case: Case) -> Iterator[Finding]:
    """Whether the plugin is there, and is ours."""
    root = case.root
    found = root.read(PLUGIN)
    if found is None:
        yield Finding(
            CRITICAL, "plugin", "the plugin is not installed", "there is no %s" % PLUGIN, _missing_remedy(root)
        )
    elif found.content is None or not found.mode & stat.S_IXUSR:
        yield Finding(
            CRITICAL,
            "plugin",
            "the plugin is not executable",
            "%s has mode %04o" % (PLUGIN, found.mode),
            "chmod 0755 %s" % PLUGIN,
        )
    elif found.content != shipped(PLUGIN):
        yield Finding(
            WARNING, "plugin", "the plugin in place is not the one of this version", PLUGIN, _plugin_remedy(root)
        )
    else:
        yield Finding(OK, "plugin", "the plugin is installed", PLUGIN)
    package = installed(root) if root.read(MANIFEST) is not None else None
    if package is not None and not package.ours:
        text = "the vendor's package is installed as well"
        yield Finding(WARNING, "plugin", text, package.name, REPLACE_VENDORS)


def _by_rpm(root: Root) -> bool:
    """Whether our files come here by rpm: not where `vmss install` has put them."""
    return takes_packages(root) and root.read(MANIFEST) is None


def _missing_remedy(root: Root) -> str:
    return REPAIR if _by_rpm(root) else "vmss install"


def _plugin_remedy(root: Root) -> str:
    # rpm replaces a plugin, whosever it is; `vmss install` keeps what it does not know.
    return REPAIR if _by_rpm(root) else "rm %s, then vmss install" % PLUGIN


def cron_entry(case: Case) -> Iterator[Finding]:
    """Whether cron is told to start passes, by one entry, which is ours."""
    root = case.root
    name, _other = cron_names(root)
    entries = _entries(root)
    if name not in entries:
        yield Finding(
            CRITICAL, "cron entry", "the cron entry is missing", "there is no %s" % name, _missing_remedy(root)
        )
    others = sorted(path for path in entries if path != name)
    if others:
        yield Finding(
            WARNING,
            "cron entry",
            "%s starts passes: %s"
            % ("more than one entry" if name in entries else "another entry", ", ".join(map(one_line, others))),
            "files in /etc/cron.d that name the plugin: %d" % len(entries),
            "remove the others, or their packages: rpm -qf %s" % one_line(others[0]),
        )
    if name not in entries:
        return
    content, mode = entries[name]
    if mode & 0o022:
        yield Finding(
            WARNING,
            "cron entry",
            "cron ignores an entry that others may write to",
            "%s has mode %04o" % (name, mode),
            "chmod 0644 %s" % name,
        )
    elif _jobs(content) != _jobs(shipped(CRON)):
        yield Finding(
            WARNING,
            "cron entry",
            "the cron entry was changed",
            _difference(content),
            "rm %s, then %s" % (name, _missing_remedy(root)),
        )
    elif not others:
        yield Finding(OK, "cron entry", "the cron entry is ours, and the only one", name)


def _entries(root: Root) -> Dict[str, Tuple[bytes, int]]:
    """The files of /etc/cron.d that start our plugin, or the vendor's."""
    found = {}
    try:
        names = os.listdir(root.locate("/etc/cron.d/."))
    except OSError:
        names = []
    for name in names:
        entry = root.read("/etc/cron.d/" + name)
        if entry is not None and entry.content and any("vmss" in job for job in _jobs(entry.content)):
            found["/etc/cron.d/" + name] = (entry.content, entry.mode)
    return found


def _jobs(content: bytes) -> List[str]:
    """The lines of a cron entry that start something."""
    lines = [" ".join(line.split()) for line in content.decode("utf-8", "replace").split("\n")]
    return [line for line in lines if line and not line.startswith("#") and not re.match(r"[A-Za-z_]+ ?=", line)]


def _difference(content: bytes) -> str:
    """Where a cron entry differs from ours, by the numbers of the lines; what they say may be known to root only."""
    ours = _jobs(shipped(CRON))
    lines = content.split(b"\n")
    changed = [str(number) for number, line in enumerate(lines, 1) if any(job not in ours for job in _jobs(line))]
    return "it differs from ours in line %s" % ", ".join(changed[:10]) if changed else "our line is not there, or twice"


def cron(case: Case) -> Iterator[Finding]:
    """Whether cron is running."""
    proc = case.root.locate("/proc/.")
    pids = [name for name in os.listdir(proc) if name.isdigit()] if os.path.isdir(proc) else []
    if not pids:
        yield skipped("cron", "there is no /proc here")
        return
    for pid in pids:
        try:
            with open(os.path.join(proc, pid, "comm"), encoding="utf-8", errors="replace") as file:
                name = file.read(100).strip()
        except OSError:
            continue  # it has ended
        if name in ("crond", "cron"):
            yield Finding(OK, "cron", "cron is running", "process %s, %s" % (pid, name))
            return
    yield Finding(
        CRITICAL,
        "cron",
        "cron is not running: no pass is started",
        "no process is called crond or cron",
        "systemctl enable --now crond",
    )


def cron_log(case: Case) -> Iterator[Finding]:
    """Whether cron starts passes, by its own log. Its times are those of the machine, whatever zone schedules have."""
    last, oldest, error = logfile.last_start(case.root.locate(_CRON_LOG), machine_zone(), case.now)
    remedy = "see %s and the entry in /etc/cron.d; systemctl restart crond" % _CRON_LOG
    if error:
        yield skipped("cron log", "%s: %s" % (_CRON_LOG, error))
    elif last is not None and case.now - last <= TICK_WARNING:
        yield Finding(OK, "cron log", "cron starts the passes", "last %s" % case.moment(last))
    elif last is not None:
        yield Finding(
            CRITICAL if case.now - last > TICK_CRITICAL else WARNING,
            "cron log",
            "cron has started no pass since %s" % case.moment(last),
            _CRON_LOG,
            remedy,
        )
    elif oldest is None or case.now - oldest <= TICK_WARNING:
        yield skipped("cron log", "%s has only just begun" % _CRON_LOG)
    else:
        yield Finding(
            CRITICAL,
            "cron log",
            "cron has started no pass",
            "no line about it in %s since %s" % (_CRON_LOG, case.moment(oldest)),
            remedy,
        )
