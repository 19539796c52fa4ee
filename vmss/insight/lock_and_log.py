"""The lock and the log, where this machine has them: whether a pass is running, and when cron last started one."""

from datetime import datetime, timedelta
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from vmss.core import words
from vmss.core.datetimes import format_iso, in_future, parse_reading
from vmss.core.policy import Policy
from vmss.core.schedule import TICK_INTERVAL, latest_slot
from vmss.core.text import one_line, quoted
from vmss.edges.lock import existing
from vmss.edges.lock_folder import LockError
from vmss.edges.settings import Place
from vmss.edges.surroundings import on_coordinator
from vmss.insight import logfile, snapshots
from vmss.insight.findings import CRITICAL, OK, UNKNOWN, WARNING, Finding, skipped
from vmss.insight.logfile import TICK_LINE, LogSummary
from vmss.insight.names import first_names
from vmss.insight.promises import MARGIN
from vmss.insight.reading import Reading

# A tick that is this late is no longer chance.
TICK_WARNING, TICK_CRITICAL = 2 * TICK_INTERVAL, 4 * TICK_INTERVAL


class Local(NamedTuple):
    """The holder of the lock, None if nobody holds it, and a summary of the log.

    `hidden`: why neither can be seen from here; `lock_error`: why the lock directory cannot be used, and `lock_remedy`
    what to do about it; `cron`: whether cron is expected to start passes on this machine.
    """

    hidden: str = ""
    lock_error: str = ""
    cron: bool = False
    holder: Optional[Dict[str, Any]] = None
    log: Optional[LogSummary] = None
    lock_dir: str = ""
    lock_remedy: str = ""


def read_local(where: Place, session: Reading, now: datetime) -> Local:
    """Read the lock and the log, if they are on this machine."""
    if where.xapi.startswith("https:"):
        return Local("the lock and the log are on the coordinator, and cannot be seen over https")
    if where.local and not on_coordinator():
        return Local("this host is not the pool's coordinator, which has the lock and the log")
    log = logfile.read(where.log, session.zone, now)
    try:
        holder = _read_holder(where.lock_dir, session.pool.uuid)
    except LockError as error:
        return Local("", str(error), where.local, None, log, where.lock_dir, error.remedy)
    return Local("", "", where.local, holder, log, where.lock_dir)


def is_held(where: Place, session: Reading) -> Optional[bool]:
    """Whether a pass holds the pool's lock; None if that cannot be seen from here."""
    if where.xapi.startswith("https:") or (where.local and not on_coordinator()):
        return None
    try:
        return _read_holder(where.lock_dir, session.pool.uuid) is not None
    except LockError:
        return None


def _read_holder(path: str, pool: str) -> Optional[Dict[str, Any]]:
    """What the holder of the pool's lock says of itself, None if nobody holds it. Raise LockError."""
    with existing(path) as directory:
        return None if directory is None else directory.holder(pool)


def examine(session: Reading, local: Local, known: Sequence[Policy], now: datetime) -> Iterator[Finding]:
    """The pass that is running and the last tick, where this machine can tell."""
    if local.hidden:
        yield skipped("pass", local.hidden)
        return
    yield running_pass(session, local, known, now)
    yield tick(local, now, local.cron)


# The pass that is running


def running_pass(session: Reading, local: Local, known: Sequence[Policy], now: datetime) -> Finding:
    """Whether a pass is running, since when, and how far it has come; or why no pass can take the lock."""
    if local.lock_error:
        return Finding(CRITICAL, "lock", local.lock_error, "no pass begins without the lock", local.lock_remedy)
    names = {policy.uuid: policy.name for policy in known}
    progress = _progress(session, local.holder, known, now)
    return running(local.holder, names, progress, session.settings.pass_limit, now)


def running(
    holder: Optional[Mapping[str, Any]], names: Mapping[str, str], progress: str, pass_limit_s: int, now: datetime
) -> Finding:
    """Whether a pass is running, and since when. `names` are the policies', by their uuids; `progress` says how far it
    has come."""
    if holder is None:
        return Finding(OK, "pass", "no pass is running")
    since = held_since(holder, now)
    pid = holder.get("pid")
    process = "process %s" % one_line(str(pid), 20)
    text = "a pass is running"
    if since is not None:
        text = "a pass has been running for %s" % words.duration((now - since).total_seconds())
    uuids = holder.get("policies")
    if isinstance(uuids, list) and uuids:
        text += ", on %s" % first_names([quoted(names.get(str(uuid), str(uuid))) for uuid in uuids])
    text += ", %s" % progress if progress else ""
    if since is not None and now - since > timedelta(seconds=pass_limit_s) + MARGIN:
        return Finding(
            CRITICAL,
            "pass",
            text,
            "%s, longer than pass_limit (%s)" % (process, words.duration(pass_limit_s)),
            "see what it waits for: vmss watch --once, /var/log/VMSSlog, xe task-list; then end it: kill %s"
            % (pid if isinstance(pid, int) else "PID"),
        )
    return Finding(OK, "pass", text, process)


def in_hand(holder: Optional[Mapping[str, Any]], known: Sequence[Policy]) -> List[Policy]:
    """The policies that a pass has in hand, by the lock."""
    uuids = holder.get("policies") if holder is not None else None
    return [policy for policy in known if policy.uuid in uuids] if isinstance(uuids, list) else []


def held_since(holder: Mapping[str, Any], now: datetime) -> Optional[datetime]:
    """When the holder of the lock took it, as it says; None if that cannot be."""
    try:
        since = parse_reading(holder.get("since"))
    except ValueError:
        return None
    return None if in_future(since, now) else since


def _progress(session: Reading, holder: Optional[Mapping[str, Any]], known: Sequence[Policy], now: datetime) -> str:
    """How far a pass has come that is running: the VMs that have got a snapshot since it took the lock."""
    policies = in_hand(holder, known)
    since = held_since(holder, now) if holder is not None else None
    if not policies or since is None:
        return ""
    done = 0
    for policy in policies:
        slots = {latest_slot(policy.schedule, session.zone, at) for at in (since, now)}
        done += snapshots.count_since(session.xapi, policy, slots, since)
    vms = words.counted(sum(len(policy.vms) for policy in policies), "VM")
    return "%d of %s %s snapshot" % (done, vms, words.agree(done, "has its", "have their"))


# The last tick


def tick(local: Local, now: datetime, expected: bool) -> Finding:
    """Whether cron starts passes, by the log; `expected`: it is an error if the log tells of none."""
    if local.log is None:
        return skipped("tick", local.hidden)
    if not expected and local.log.tick is None:
        return skipped("tick", "cron has started no pass, by the log %s" % one_line(local.log.path))
    return last_tick(local.log, now)


def last_tick(log: LogSummary, now: datetime) -> Finding:
    """When cron last started a pass, by this log."""
    remedy = "see whether cron runs (systemctl status crond) and starts passes (/var/log/cron, /etc/cron.d)"
    if log.missing:
        return Finding(WARNING, "tick", "cron has started no pass yet", "there is no %s" % one_line(log.path), remedy)
    if log.error:
        return Finding(
            UNKNOWN,
            "tick",
            "the log cannot be read: %s" % log.error,
            one_line(log.path),
            "run this as root; ls -l %s" % one_line(log.path),
        )
    if log.tick is None:
        evidence = "no %s in the last MiB of %s" % (TICK_LINE, one_line(log.path))
        return Finding(WARNING, "tick", "cron has started no pass", evidence, remedy)
    if in_future(log.tick, now):
        return Finding(
            WARNING,
            "tick",
            "the last tick is dated in the future: it proves nothing",
            "%s in %s" % (format_iso(log.tick), one_line(log.path)),
            "the clock was or is wrong: timedatectl; the next tick mends this within 15 min, else %s" % remedy,
        )
    age = now - log.tick
    text = "last tick %s" % words.distance(log.tick, now)
    evidence = "%s in %s" % (format_iso(log.tick), one_line(log.path))
    severity = CRITICAL if age > TICK_CRITICAL else WARNING if age > TICK_WARNING else OK
    return Finding(severity, "tick", text, evidence, remedy if severity else "")
