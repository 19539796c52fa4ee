"""`vmss doctor`: what is wrong, the evidence, and what to do, in the order of the vendor's article CTX224169."""

import argparse
import os
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, TextIO, Tuple

from vmss.cli import tables
from vmss.cli.commands import next as forecasts
from vmss.cli.commands import status
from vmss.cli.commands.status import EXIT, Here
from vmss.cli.parts import be_quiet, new_parser
from vmss.core.datetimes import parse_datetime, parse_reading
from vmss.core.failures import failure_of
from vmss.core.policy import CHECKPOINT, Policy
from vmss.core.problem import Problem
from vmss.core.schedule import latest_slot
from vmss.core.text import one_line, quoted
from vmss.edges import storage, world
from vmss.edges.clock import Clock
from vmss.edges.lock import LockDirectory, LockError
from vmss.edges.query import where
from vmss.edges.sessions import count_unclosed
from vmss.edges.settings import Place, Settings, SettingsError, load, place
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Refused, Unanswered, Xapi, understood
from vmss.edges.zones import time_zone
from vmss.insight import forecast, health, installed, logfile, policies
from vmss.insight.health import CRITICAL, OK, STATES, UNKNOWN, WARNING, Finding, skipped
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading, reading
from vmss.installation.root import Root
from vmss.passes.journal import PREFIX

_EXAMPLES = """examples:
  vmss doctor                  every check; in dom0 of the coordinator it sees most
  vmss doctor | grep -v ^OK    what is wrong, and what could not be looked at
  vmss doctor --json           for programs, or to attach to a report

It changes nothing. What cannot be looked at where it is called says `not checked`, and why.
"""

# So many VMs, disks and storage repositories are looked at one by one.
_MAX = 200
_DISKS_MAX = 1000
_CALL_LIMIT_S = 60
_DAY = timedelta(days=1)
# The disks of a snapshot are there before it is.
_MAKING = timedelta(hours=1)


class Case(NamedTuple):
    """What is looked at. `dom0`: this is one, with its files below `root`; `trouble`: why there is no session;
    `mistake`: what is wrong with the settings file."""

    where: Place
    settings: Settings
    root: Root
    dom0: bool
    now: datetime
    zone: tzinfo
    here: Here
    entries: Sequence[Entry] = ()
    session: Optional[Reading] = None
    trouble: str = ""
    mistake: str = ""

    @property
    def open(self) -> Reading:
        """The session, for checks that need one."""
        if self.session is None:
            raise LookupError("no session")
        return self.session

    @property
    def known(self) -> List[Policy]:
        """The policies that can be understood."""
        return [entry.policy for entry in self.entries if entry.policy is not None]

    def moment(self, instant: datetime) -> str:
        """An instant as people read it."""
        return tables.moments(self.session)(instant) if self.session else tables.iso(instant)


class Check(NamedTuple):
    """One check: from what is looked at to findings. `needs` is DOM0, SESSION, or nothing."""

    name: str
    look: Callable[[Case], Iterator[Finding]]
    needs: str = ""


DOM0, SESSION = "dom0", "session"


def parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    command = new_parser(
        "doctor",
        "What is wrong with scheduled snapshots here, with the evidence and the remedy.",
        _EXAMPLES + "\n" + EXIT,
    )
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Examine, and show what was found."""
    where = place(os.environ)
    return show(Surroundings(where, Settings()), Root("/"), where.local, arguments, sys.stdout)


def show(around: Surroundings, root: Root, dom0: bool, arguments: argparse.Namespace, out: TextIO) -> int:
    """Examine what is there; `root` is where the files of this machine are, `dom0` whether it is one."""
    findings, has_session = examine(around, root, dom0)
    if tables.for_people(arguments) and out.isatty():
        tables.write(status.columns()[:3], list(_told(findings, out)), arguments, out)
    else:
        rows = [dict(finding._asdict(), state=finding.state) for finding in findings]
        tables.write(status.columns(), rows, arguments, out)
    state = health.worst(findings) if has_session else UNKNOWN
    tables.remark("VMSS %s: %s" % (STATES[state], health.summary(findings, "nothing is wrong")), arguments, out)
    return state


def _told(findings: Sequence[Finding], out: TextIO) -> Iterator[Dict[str, str]]:
    """The findings for people: each with its evidence and its remedy below it."""
    empty = "\u00a0" if "utf" in (out.encoding or "").lower() else "-"
    for finding in findings:
        yield {"state": finding.state, "check": finding.check, "text": finding.text}
        if finding.severity:
            below = (("shown by: ", finding.evidence), ("what to do: ", finding.remedy))
            yield from ({"state": empty, "check": empty, "text": title + text} for title, text in below if text)


def examine(around: Surroundings, root: Root, dom0: bool) -> Tuple[List[Finding], bool]:
    """All findings, in the order of the checks; and whether there was a session."""
    settings, mistake = Settings(), ""
    try:
        settings = load(around.place.config)
    except SettingsError as error:
        mistake = str(error)
    # Somebody waits for it.
    settings = settings._replace(call_limit=min(settings.call_limit, _CALL_LIMIT_S))
    around = around._replace(settings=settings, say=be_quiet)
    with ExitStack() as stack:
        try:
            session: Optional[Reading] = stack.enter_context(reading(around))
            trouble = ""
        except Problem as problem:
            session, trouble = None, str(problem)
        case = _case(around, root, dom0, session, trouble)._replace(mistake=mistake)
        return [finding for check in CHECKS for finding in _carried_out(check, case)], session is not None


def _case(around: Surroundings, root: Root, dom0: bool, session: Optional[Reading], trouble: str) -> Case:
    where, settings = around.place, around.settings
    if session is None:
        clock, zone = around.clock or Clock(), time_zone(settings.timezone or None)
        here = Here("there is no session with xapi, which tells whose lock it is", cron=dom0)
        log = None if where.xapi.startswith("https:") else logfile.read(where.log, zone, clock.now())
        return Case(where, settings, root, dom0, clock.now(), zone, here._replace(log=log), trouble=trouble)
    now = session.now()
    here = status.look(where, session, now)
    entries: List[Entry] = []
    try:
        entries = policies.read(session)
    except (Refused, Unanswered) as error:
        trouble = str(error)
    return Case(where, session.settings, root, dom0, now, session.zone, here, entries, session, trouble)


def _carried_out(check: Check, case: Case) -> Iterator[Finding]:
    """What a check finds, or why it could not be done."""
    if check.needs == DOM0 and not case.dom0:
        yield skipped(check.name, "this is not dom0: xapi is at %s" % one_line(case.where.xapi))
        return
    if check.needs == SESSION and case.session is None:
        yield skipped(check.name, "there is no session with xapi")
        return
    try:
        with understood(check.name):
            yield from check.look(case)
    except (Refused, Unanswered, LockError, OSError) as error:
        yield Finding(
            UNKNOWN,
            check.name,
            "this could not be looked at: %s" % one_line(str(error), 300),
            "",
            "see /var/log/xensource.log, and try again: vmss doctor",
        )


# The checks, one after another


def _settings(case: Case) -> Iterator[Finding]:
    if case.mistake:
        yield Finding(
            CRITICAL,
            "settings",
            case.mistake,
            "no pass begins",
            "put the file right: /etc/vmss.conf.example has all settings",
        )
    else:
        yield Finding(OK, "settings", "the settings file has no mistake, if there is one", one_line(case.where.config))
    if case.session is not None:
        yield from status.mistakes(case.session)


def _xapi(case: Case) -> Iterator[Finding]:
    if case.session is None or case.trouble:
        yield Finding(
            UNKNOWN,
            "xapi",
            case.trouble,
            one_line(case.where.xapi),
            "xe-toolstack-restart; see /var/log/xensource.log; VMSS_XAPI says where xapi is",
        )
    else:
        yield Finding(OK, "xapi", "xapi answers, and lets us in", one_line(case.where.xapi))


def _licence(case: Case) -> Iterator[Finding]:
    yield health.licence(case.open.pool.licensed)


def _coordinator(case: Case) -> Iterator[Finding]:
    session = case.session
    coordinator = str(session.xapi.call("host.get_uuid", session.pool.coordinator)) if session is not None else ""
    yield installed.coordinator(case.root, coordinator)


def _plugin(case: Case) -> Iterator[Finding]:
    yield from installed.plugin(case.root)


def _cron_entry(case: Case) -> Iterator[Finding]:
    yield from installed.cron_entry(case.root)


def _cron(case: Case) -> Iterator[Finding]:
    yield installed.cron(case.root)


def _cron_log(case: Case) -> Iterator[Finding]:
    yield installed.cron_log(case.root, case.now, case.moment)


def _tick(case: Case) -> Iterator[Finding]:
    log = case.here.log
    if log is None:
        yield skipped("tick", case.here.hidden)
    elif case.dom0 or log.tick is not None:
        yield health.tick(log, case.now)
    else:
        yield skipped("tick", "no cron has started a pass by the log %s" % one_line(log.path))


def _log(case: Case) -> Iterator[Finding]:
    if case.here.log is None:
        yield skipped("log", case.here.hidden)
        return
    yield from health.complaints(case.here.log, case.now, case.moment)


def _lock(case: Case) -> Iterator[Finding]:
    here, session = case.here, case.open
    if here.hidden:
        yield skipped("lock", here.hidden)
    elif here.trouble:
        yield status.lock_trouble(here)
    else:
        names = {policy.uuid: policy.name for policy in case.known}
        done = status.progress(session, here.holder, case.known, case.now)
        finding = health.running(here.holder, names, done, case.settings.pass_limit, case.now)
        yield finding._replace(check="lock")


def _clock(case: Case) -> Iterator[Finding]:
    if not case.dom0 and not case.where.xapi.startswith("https:"):
        yield skipped("clock", "a simulator has a clock of its own")
        return
    session = case.open
    answer = session.xapi.call("host.get_servertime", session.pool.coordinator)
    with understood("host.get_servertime"):
        theirs = parse_reading(answer)
    # In dom0 the session's clock is this machine's.
    mine = session.now() if case.dom0 else Clock().now()
    yield health.clocks(mine, theirs)


def _time_zone(case: Case) -> Iterator[Finding]:
    session = case.open
    answer = session.xapi.call("host.get_server_localtime", session.pool.coordinator)
    with understood("host.get_server_localtime"):
        wall = parse_reading(answer)
    now = session.now()
    minutes = 15 * round((wall - now).total_seconds() / 900)
    named = case.settings.timezone or ("this machine's" if case.dom0 else "the coordinator's")
    zone = case.zone if case.settings.timezone or not case.dom0 else time_zone(None)
    offset = now.astimezone(zone).utcoffset() or timedelta(0)
    evidence = "schedules %s, the coordinator %s" % (
        _shown(now, zone),
        _shown(now, timezone(timedelta(minutes=max(-1439, min(1439, minutes))))),
    )
    if offset == timedelta(minutes=minutes):
        yield Finding(OK, "time zone", "schedules run on the coordinator's clock", evidence)
    else:
        yield Finding(
            WARNING,
            "time zone",
            "schedules do not run on the coordinator's clock, which XenCenter shows, "
            "but on that of %s" % one_line(named, 60),
            evidence,
            "take timezone out of /etc/vmss.conf and pool.other_config; or set dom0's: timedatectl",
        )


def _shown(now: datetime, zone: tzinfo) -> str:
    return now.astimezone(zone).strftime("%H:%M %z")


def _schedules(case: Case) -> Iterator[Finding]:
    found = [status.unreadable(entry) for entry in case.entries if entry.policy is None]
    found += health.policies(case.known, case.now, case.moment)
    yield from found
    if not found:
        yield Finding(OK, "schedules", "nothing is odd about the schedules", "schedules: %d" % len(case.entries))


def _clashes(case: Case) -> Iterator[Finding]:
    session, until = case.open, case.now + _DAY
    loads = forecasts.read_loads(session, case.entries, case.now, until)
    expected = forecast.expect(loads, session.zone, case.now, until)
    moves = forecast.moves(loads, session.zone, case.now, until)
    found = health.clashes(expected, {move.policy.uuid: move for move in moves}, case.moment)
    yield from found
    if not found:
        yield Finding(OK, "clashes", "no two schedules get in each other's way in the next 24 hours")


def _runs(case: Case) -> Iterator[Finding]:
    findings, _late = status.runs_and_snapshots(case.open, case.here.holder, case.known, case.now)
    yield from findings or [Finding(OK, "last run", "there is no schedule that could have run")]


def _vms(case: Case) -> Iterator[Finding]:
    """VMs of which no snapshot can be taken."""
    xapi, seen, bad = case.open.xapi, 0, 0
    disks = _bad_disks(xapi)
    for policy in case.known:
        for ref, record in _records(xapi, policy) if policy.enabled else ():
            seen += 1
            error = disks.get(ref) or (_refusal(xapi, policy, ref, record) if bad < _MAX else None)
            if error:
                bad += 1
                failure = failure_of(error)
                yield Finding(
                    WARNING,
                    "VMs",
                    "%s of %s cannot be snapshotted: %s"
                    % (quoted(record["name_label"]), health.called(policy), failure.sentence),
                    one_line(" ".join(error), 200),
                    "%s xe vm-param-list uuid=%s" % (failure.remedy, one_line(str(record["uuid"]), 40)),
                )
    if not bad:
        yield Finding(OK, "VMs", "xapi would take a snapshot of each of %d VMs" % seen)


def _records(xapi: Xapi, policy: Policy) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The VMs of one policy; those whose records make no sense are left out."""
    for ref, record in where(xapi, "VM", "snapshot_schedule", [policy.ref]):
        if isinstance(record, Mapping) and isinstance(record.get("name_label"), str):
            yield ref, dict(record)


def _refusal(xapi: Xapi, policy: Policy, vm: str, record: Mapping[str, Any]) -> Optional[Tuple[str, ...]]:
    """The error with which xapi would refuse to take the policy's snapshot of a VM, if it would."""
    halted = record.get("power_state") == "Halted"
    operation = "checkpoint" if policy.type == CHECKPOINT and not halted else "snapshot"
    # What is under way with the VM at this moment will be over.
    if operation in record.get("allowed_operations", ()) or record.get("current_operations"):
        return None
    try:
        xapi.call("VM.assert_operation_valid", vm, operation)
    except Refused as refused:
        if refused.code == "RBAC_PERMISSION_DENIED":
            raise
        return None if refused.code == "HANDLE_INVALID" else refused.error
    return None


def _bad_disks(xapi: Xapi) -> Dict[str, Tuple[str, ...]]:
    """By VM, the error that the snapshot of a disk of its would end with: as far as the disk's record, or the type of
    its storage, tells that."""
    errors: Dict[str, Tuple[str, ...]] = {}  # by disk
    for vdi in _where(xapi, "VDI", '(field "on_boot" = "reset") and (field "is_a_snapshot" = "false")'):
        errors[vdi] = ("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION",)
    for vdi in _where(xapi, "VDI", '(field "sharable" = "true") and (field "is_a_snapshot" = "false")'):
        errors[vdi] = ("VDI_IS_SHARABLE", vdi)
    with understood("SM"):
        unable = sorted(
            {
                str(record["type"])
                for record in xapi.call("SM.get_all_records").values()
                if "VDI_SNAPSHOT" not in record["features"]
            }
        )
    for kind in unable:
        for sr in _where(xapi, "SR", 'field "type" = "%s"' % kind.replace('"', "")):
            for vdi in _where(xapi, "VDI", '(field "SR" = "%s") and (not (field "VBDs" = "()"))' % sr):
                errors.setdefault(vdi, ("SR_OPERATION_NOT_SUPPORTED", sr))
    vms: Dict[str, Tuple[str, ...]] = {}
    for _, vbd in where(xapi, "VBD", "VDI", list(errors)[:_DISKS_MAX]):
        with understood("VBD"):
            if vbd["type"] == "Disk":
                vms.setdefault(str(vbd["VM"]), errors.get(str(vbd["VDI"]), ()))
    return vms


def _where(xapi: Xapi, cls: str, expression: str) -> List[str]:
    with understood(cls):
        return sorted(str(ref) for ref in xapi.call(cls + ".get_all_where", expression))


def _retention(case: Case) -> Iterator[Finding]:
    xapi, found = case.open.xapi, 0
    scheduled = set(_where(xapi, "VM", 'field "is_vmss_snapshot" = "true"'))
    busy = status.in_hand(case.here.holder, case.known)
    for policy in case.known:
        if not policy.enabled or policy in busy or policy.last_run is None:
            continue
        if policy.last_run < latest_slot(policy.schedule, case.zone, case.now):
            continue  # its run may be on: the new snapshot comes before the old one goes
        for ref, record in _records(xapi, policy):
            if found < _MAX and len(scheduled.intersection(record.get("snapshots", ()))) > policy.retained:
                snapshots = list(world.read_snapshots(xapi, [ref]).get(ref, {}).values())
                finding = health.beyond(policy, record["name_label"], snapshots, case.now)
                if finding is not None:
                    found += 1
                    yield finding
    if not found:
        yield Finding(
            OK,
            "retention",
            "no VM has more scheduled snapshots than its schedule keeps",
            "%d scheduled snapshots" % len(scheduled),
        )


def _disks(case: Case) -> Iterator[Finding]:
    """Snapshots of disks that no VM has."""
    xapi = case.open.xapi
    unused = '(field "is_a_snapshot" = "true") and (field "managed" = "true") and (field "VBDs" = "()")'
    disks, size = [], 0
    for vdi in _where(xapi, "VDI", unused)[:_MAX]:
        try:
            record = xapi.call("VDI.get_record", vdi)
        except Refused:
            continue  # it is gone
        with understood("VDI"):
            if parse_datetime(record["snapshot_time"]) > case.now - _MAKING:
                continue  # it may get its VM yet
            if record["type"] in ("user", "system") and not record["current_operations"]:
                disks.append(str(record["uuid"]))
                size += int(record["virtual_size"])
    if disks:
        yield Finding(
            WARNING,
            "disks",
            "disk snapshots that belong to no VM: %d; a xapi that died, or another product "
            "may have left them" % len(disks),
            "%s (%d MiB)" % (health.some(disks), size >> 20),
            "if nobody knows them: xe vdi-param-list uuid=UUID, then xe vdi-destroy uuid=UUID",
        )
    else:
        yield Finding(OK, "disks", "no disk is left over")


def _storage(case: Case) -> Iterator[Finding]:
    xapi, full, seen = case.open.xapi, 0, 0
    with understood("SR"):
        srs = [str(sr) for sr in xapi.call("SR.get_all")][:_MAX]
    for sr in srs:
        try:
            if xapi.call("SR.get_type", sr) in ("iso", "udev"):
                continue
            space = storage.read_space(xapi, sr)
            if space is None or space.size <= 0:
                continue
            seen += 1
            finding = health.room("", "", space.size, space.used)
            if finding is not None:
                name, uuid = xapi.call("SR.get_name_label", sr), xapi.call("SR.get_uuid", sr)
                finding = health.room(str(name), one_line(str(uuid), 40), space.size, space.used)
        except Refused:
            continue  # it is gone
        if finding is not None:
            full += 1
            yield finding
    if not full:
        yield Finding(OK, "storage", "no storage repository is nearly full", "%d were looked at" % seen)


def _records_left(case: Case) -> Iterator[Finding]:
    """What a pass that died has left, and the next one is to finish."""
    session, here = case.open, case.here
    if here.holder is not None:
        yield skipped("left by passes", "a pass is running, and sees to it")
        return
    records = [key for key in session.pool.other_config if key.startswith(PREFIX)]
    if records:
        yield Finding(
            WARNING,
            "left by passes",
            "deletions that a pass did not come to the end of: the next one finishes them",
            "pool.other_config has %s" % health.some(records),
            "vmss run",
        )
    sessions = _sessions_left(case)
    if sessions:
        yield Finding(
            WARNING,
            "left by passes",
            "sessions that were left open: %d; a pass closes them when their operations have ended" % sessions,
            one_line(here.lock_dir),
            "vmss run; xe task-list shows the operations",
        )
    if not records and not sessions:
        yield Finding(OK, "left by passes", "no pass has left anything unfinished")


def _sessions_left(case: Case) -> int:
    here = case.here
    if here.hidden or here.trouble or not os.path.isdir(here.lock_dir):
        return 0
    directory = LockDirectory(here.lock_dir)
    try:
        return count_unclosed(directory, case.open.pool.uuid)
    finally:
        directory.close()


CHECKS: Tuple[Check, ...] = (
    # XAPI, the plugin and the cron job: the three that the feature consists of.
    Check("settings", _settings),
    Check("xapi", _xapi),
    Check("licence", _licence, SESSION),
    Check("coordinator", _coordinator, DOM0),
    Check("plugin", _plugin, DOM0),
    Check("cron entry", _cron_entry, DOM0),
    Check("cron", _cron, DOM0),
    Check("cron log", _cron_log, DOM0),
    Check("tick", _tick),
    # What the log says; one run at a time.
    Check("log", _log),
    Check("lock", _lock, SESSION),
    Check("clock", _clock, SESSION),
    Check("time zone", _time_zone, SESSION),
    # Schedules, and how they fared.
    Check("schedules", _schedules, SESSION),
    Check("clashes", _clashes, SESSION),
    Check("last run", _runs, SESSION),
    # What keeps snapshots from being taken, and from going.
    Check("VMs", _vms, SESSION),
    Check("storage", _storage, SESSION),
    Check("retention", _retention, SESSION),
    Check("disks", _disks, SESSION),
    Check("left by passes", _records_left, SESSION),
)
