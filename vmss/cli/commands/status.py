"""`vmss status`: whether all is well, as a monitoring plug-in says it: one line, an exit status, and the details."""

import argparse
import os
import sys
from datetime import datetime, timedelta
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, TextIO, Tuple

from vmss.cli import tables
from vmss.cli.parts import be_quiet, new_parser
from vmss.cli.tables import Column
from vmss.core import words
from vmss.core.datetimes import parse_datetime
from vmss.core.messages import SUCCEEDED
from vmss.core.plan import snapshot_name
from vmss.core.policy import Policy
from vmss.core.problem import Problem
from vmss.core.schedule import latest_slot
from vmss.core.text import one_line
from vmss.core.turn import Turn
from vmss.edges import world
from vmss.edges.lock import LockDirectory, LockError
from vmss.edges.settings import Place, Settings, SettingsError, load, of_pool, place
from vmss.edges.surroundings import Surroundings, on_coordinator
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.insight import health, logfile, policies
from vmss.insight.health import CRITICAL, OK, STATES, UNKNOWN, WARNING, Finding, Late
from vmss.insight.history import RUN_FAILED, Run
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading, reading

EXIT = """exit status, as of monitoring plug-ins:
  0  all well        1  a warning
  2  critical        3  unknown: no session with xapi, for one"""

_EXAMPLES = """examples:
  vmss status                  one line that says all, with performance data, then the details
  vmss status --json           the details, for programs

It takes no lock, writes nothing, and may be called every minute. Where the lock and the log cannot be seen, over https
or on a host that is not the coordinator, it says so, and goes by what xapi tells.
"""

# A monitoring system waits for so long, or less.
_CALL_LIMIT_S = 20
# So many VMs of a policy are looked at one by one where not all have their snapshot.
_LOOKED_AT_MAX = 1000
_LATE_MAX = 100


class Here(NamedTuple):
    """What this machine itself can tell: the lock's holder, and the log. `hidden`: why it cannot; `trouble`: why the
    lock cannot be looked at. `cron`: whether cron is to start passes here."""

    hidden: str = ""
    trouble: str = ""
    cron: bool = False
    holder: Optional[Dict[str, Any]] = None
    log: Optional[logfile.Record] = None
    lock_dir: str = ""


class Tally(NamedTuple):
    """The findings, and what is counted for the performance data."""

    findings: List[Finding]
    numbers: Dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    command = new_parser(
        "status",
        "Whether all is well: a pass that is running, the last tick, the lock, how runs "
        "fared, and VMs without the snapshots that their schedules promise.",
        _EXAMPLES + "\n" + EXIT,
    )
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    try:
        where = place(os.environ)
        settings = load(where.config)
        settings = settings._replace(call_limit=min(settings.call_limit, _CALL_LIMIT_S))
        with reading(Surroundings(where, settings, say=be_quiet)) as session:
            return show(session, where, arguments, sys.stdout)
    except tables.WriteError:
        raise
    except Problem as problem:
        # Without its settings no pass begins; of anything else we do not know.
        severity = CRITICAL if isinstance(problem, SettingsError) else UNKNOWN
        return report(
            Tally([Finding(severity, "session", str(problem), "", _remedy(severity))], {}), "", arguments, sys.stdout
        )


def _remedy(severity: int) -> str:
    if severity == CRITICAL:
        return "put the file right: /etc/vmss.conf.example has all settings"
    return "vmss doctor; xe-toolstack-restart; see /var/log/xensource.log"


def show(session: Reading, where: Place, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show the state of the pool that a session is open with."""
    now = session.now()
    here = look(where, session, now)
    tally = judge(session, here, now)
    return report(tally, _well(tally, here, now), arguments, out)


def report(tally: Tally, well: str, arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the findings, in the form that is asked for; return the exit status."""
    state = health.worst(tally.findings)
    findings = health.ordered(tally.findings)
    if arguments.form:
        rows = [dict(finding._asdict(), state=finding.state) for finding in findings]
        tables.write(columns(), rows, arguments, out)
        return state
    line = "VMSS %s: %s" % (STATES[state], _safe(health.summary(findings, well)))
    if tally.numbers:
        line += " | " + health.numbers(tally.numbers)
    tables.emit("".join(text + "\n" for text in [line] + [_safe(_detail(finding)) for finding in findings]), out)
    return state


def columns() -> List[Column]:
    """What is known of a finding."""
    return [
        Column("state", "state", style=_style, whole=True),
        Column("check", "check", whole=True),
        Column("text", "finding"),
        Column("evidence", "evidence", spare=True),
        Column("remedy", "what to do"),
    ]


def _style(state: Any) -> str:
    return {"OK": "green", "WARNING": "yellow", "CRITICAL": "red"}.get(str(state), "")


def _detail(finding: Finding) -> str:
    text = "%s: %s: %s" % (finding.state, finding.check, finding.text)
    text += " (%s)" % finding.evidence if finding.evidence else ""
    return text + (" -> %s" % finding.remedy if finding.remedy else "")


def _safe(text: str) -> str:
    """A line for a monitoring system: after a | it would read numbers."""
    return one_line(text, 1000).replace("|", "\\x7c")


def _well(tally: Tally, here: Here, now: datetime) -> str:
    parts = ["schedules: %d" % tally.numbers["policies"], "VMs: %d" % tally.numbers["vms"]]
    if here.log is not None and here.log.tick is not None:
        parts.append("last tick %s" % words.distance(here.log.tick, now))
    if here.holder is not None:
        parts.append("a pass is running")
    return ", ".join(parts)


# What this machine tells


def look(where: Place, session: Reading, now: datetime) -> Here:
    """Look at the lock and at the log, if they are here."""
    if where.xapi.startswith("https:"):
        return Here("the lock and the log are on the coordinator, and cannot be seen over https")
    if where.local and not on_coordinator():
        return Here("this host is not the pool's coordinator, which has the lock and the log")
    holder, trouble = holder_of(where.lock_dir, session.pool.uuid)
    return Here("", trouble, where.local, holder, logfile.read(where.log, session.zone, now), where.lock_dir)


def holder_of(path: str, pool: str) -> Tuple[Optional[Dict[str, Any]], str]:
    """What the holder of the pool's lock says of itself, None if nobody holds it; and why that cannot be told."""
    if not os.path.lexists(path):  # to open it would make it
        return None, ""
    try:
        directory = LockDirectory(path)
    except LockError as error:
        return None, str(error)
    try:
        return directory.holder(pool), ""
    finally:
        directory.close()


# Judging


def judge(session: Reading, here: Here, now: datetime) -> Tally:
    """Read what is needed, and judge it."""
    entries = policies.read(session)
    known = [entry.policy for entry in entries if entry.policy is not None]
    findings = [health.licence(session.pool.licensed)] + mistakes(session)
    findings += _here(session, here, known, now)
    findings += [unreadable(entry) for entry in entries if entry.policy is None]
    fared, late = runs_and_snapshots(session, here.holder, known, now)
    findings += fared
    failed = sum(1 for finding in fared if finding.severity and finding.check == "last run")
    numbers: Dict[str, Any] = {
        "policies": len(entries),
        "vms": sum(len(policy.vms) for policy in known),
        "runs_failed": failed,
        "vms_late": late,
    }
    if here.log is not None and here.log.tick is not None:
        limits = tuple(int(limit.total_seconds()) for limit in (health.TICK_WARNING, health.TICK_CRITICAL))
        numbers["tick_age"] = "%ds;%d;%d" % ((max(0, int((now - here.log.tick).total_seconds())),) + limits)
    if not here.hidden:
        numbers["running"] = int(here.holder is not None)
    return Tally(findings, numbers)


def mistakes(session: Reading) -> List[Finding]:
    """What is wrong with the settings in pool.other_config."""
    return [
        Finding(
            WARNING,
            "settings",
            "pool.other_config: %s" % mistake,
            "the setting is ignored",
            "xe pool-param-remove uuid=POOL param-name=other-config param-key=vmss:NAME",
        )
        for mistake in of_pool(Settings(), session.pool.other_config)[1]
    ]


def unreadable(entry: Entry) -> Finding:
    """A schedule whose record cannot be understood."""
    return Finding(
        CRITICAL,
        "schedules",
        "%s cannot be understood, and does not run: %s" % (one_line(entry.name, 60) or entry.uuid, entry.error),
        "VMSS %s" % one_line(entry.uuid, 40),
        "set the field anew: vmss xe vmss-param-set uuid=%s" % entry.uuid,
    )


def lock_trouble(here: Here) -> Finding:
    """The lock directory cannot be used: then no pass begins."""
    return Finding(
        CRITICAL,
        "lock",
        here.trouble,
        "no pass begins without its lock",
        "chown root:root and chmod 0700 %s" % one_line(here.lock_dir),
    )


def _here(session: Reading, here: Here, known: Sequence[Policy], now: datetime) -> Iterator[Finding]:
    """What the lock and the log tell."""
    if here.hidden:
        yield health.skipped("pass", here.hidden)
        return
    if here.trouble:
        yield lock_trouble(here)
    else:
        names = {policy.uuid: policy.name for policy in known}
        done = progress(session, here.holder, known, now)
        yield health.running(here.holder, names, done, session.settings.pass_limit, now)
    if here.log is not None and (here.cron or here.log.tick is not None):
        yield health.tick(here.log, now)
    elif here.log is not None:
        yield health.skipped("tick", "no cron has started a pass by the log %s" % one_line(here.log.path))


def progress(session: Reading, holder: Optional[Mapping[str, Any]], known: Sequence[Policy], now: datetime) -> str:
    """How far a pass has come that is running: the VMs that have got a snapshot since it holds the lock."""
    mine = in_hand(holder, known)
    since = health.since_of(holder) if holder is not None else None
    if not mine or since is None:
        return ""
    done = 0
    for policy in mine:
        slots = {latest_slot(policy.schedule, session.zone, at) for at in (since, now)}
        refs = [ref for slot in slots for ref in _named(session.xapi, policy, slot) or ()]
        done += sum(1 for ref in refs[:_LOOKED_AT_MAX] if _is_since(session.xapi, ref, since))
    return "%d of %d VMs have their snapshot" % (done, sum(len(policy.vms) for policy in mine))


def in_hand(holder: Optional[Mapping[str, Any]], known: Sequence[Policy]) -> List[Policy]:
    """The policies that a pass has in hand, by the lock."""
    uuids = holder.get("policies") if holder is not None else None
    return [policy for policy in known if policy.uuid in uuids] if isinstance(uuids, list) else []


def runs_and_snapshots(
    session: Reading, holder: Optional[Mapping[str, Any]], known: Sequence[Policy], now: datetime
) -> Tuple[List[Finding], int]:
    """How the policies' last runs fared, and which VMs lack the snapshots that were promised; and how many these
    are."""
    moment = tables.moments(session)
    busy = in_hand(holder, known)
    findings: List[Finding] = []
    total = 0
    for policy in known:
        runs = last_runs(session, policy)
        findings += health.last_run(policy, runs, moment) or [_calm(session, policy, runs, now)]
        promise = health.promise(policy, session.zone, now, health.usual(runs, session.zone), policy in busy)
        findings += health.missed(policy, promise, moment)
        if promise.slot is not None and not _is_complete(session.xapi, policy, promise.slot, runs):
            late = health.without_newcomers(policy, _late(session.xapi, policy, promise.slot), runs)
            findings += health.overdue(policy, promise.slot, session.zone, late, runs, moment)
            total += len(late)
    return findings, total


def last_runs(session: Reading, policy: Policy) -> List[Run]:
    """The messages of the policy's last run, the newest first; none if it never ran."""
    if policy.last_run is None:
        return []
    return policies.last_runs(session, Entry(policy.uuid, policy.name, "", policy))


def _calm(session: Reading, policy: Policy, runs: Sequence[Run], now: datetime) -> Finding:
    """What there is to say of a policy that nothing is wrong with."""
    if not policy.enabled:
        text = "disabled"
    elif policy.last_run is None:
        text = "never ran"
    else:
        run = next((run for run in runs if run.name == SUCCEEDED), None)
        text = "last run ended %s" % words.distance(policy.last_run, now)
        text += ": %s" % run.story if run else ""
    following = policies.next_run(session, policy, now)
    if following is not None:
        text += "; next run %s" % words.distance(following, now)
    return Finding(OK, "last run", "%s: %s" % (health.called(policy), text))


# Snapshots


def _is_complete(xapi: Xapi, policy: Policy, slot: datetime, runs: Sequence[Run]) -> bool:
    """Whether every VM of a policy seems to have its snapshot of a slot, by the number of snapshots that bear the name
    of the slot: a snapshot's record is 12 kB, and all of them are not read every minute."""
    if any(run.result == RUN_FAILED for run in runs):
        return False
    named = _named(xapi, policy, slot)
    return named is not None and len(named) == len(policy.vms)


def _named(xapi: Xapi, policy: Policy, slot: datetime) -> Optional[List[str]]:
    """The scheduled snapshots that bear the name of a policy's slot; None if xapi cannot be asked for that name."""
    name = snapshot_name(Turn(policy, slot))
    if '"' in name:
        return None
    with understood("VM"):
        wanted = '(field "is_vmss_snapshot" = "true") and (field "name__label" = "%s")' % name
        return [str(ref) for ref in xapi.call("VM.get_all_where", wanted)]


def _is_since(xapi: Xapi, snapshot: str, since: datetime) -> bool:
    try:
        return parse_datetime(xapi.call("VM.get_snapshot_time", snapshot)) >= since
    except (Refused, ValueError):
        return False  # it is gone, or no time at all


def _late(xapi: Xapi, policy: Policy, slot: datetime) -> List[Late]:
    """The VMs of a policy without a scheduled snapshot since a slot."""
    served = set()
    for ref in (_named(xapi, policy, slot) or [])[:_LOOKED_AT_MAX]:
        try:
            served.add(str(xapi.call("VM.get_snapshot_of", ref)))
        except Refused:
            continue  # it is gone
    left = [vm for vm in policy.vms if vm not in served][:_LATE_MAX]
    found = []
    snapshots = world.read_snapshots(xapi, left)
    for vm in left:
        newest = max((snapshot.time for snapshot in snapshots.get(vm, {}).values()), default=None)
        if newest is not None and newest >= slot - timedelta(seconds=1):
            continue  # by another name: of a run before this plugin's, or renamed
        try:
            name, uuid = str(xapi.call("VM.get_name_label", vm)), str(xapi.call("VM.get_uuid", vm))
        except Refused:
            continue
        found.append(Late(name, uuid, newest))
    return found
