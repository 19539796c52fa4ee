"""Has the report made once a day, after a pass, also if nothing ran: as a page, and in short by the pool's mail.

The command that makes it by hand makes it here too, in a process of its own: what it costs and how it fails is nothing
to the pass. No failure gets out of here: it becomes a line of the log, and the next tick tries again.
"""

import os
import subprocess
import sys
from datetime import datetime
from typing import Any, Dict, List

from vmss.core.datetimes import wall_clock
from vmss.core.records import NULL
from vmss.core.text import one_line
from vmss.edges.clock import Clock
from vmss.edges.lock import existing
from vmss.edges.log import Log
from vmss.edges.metrics_file import MetricsFile
from vmss.edges.surroundings import PATH, Surroundings, on_coordinator
from vmss.edges.xapi import Refused
from vmss.edges.zones import set_zone

# The message that the pool mails, and how its body begins.
_NAME, _HEADING = "VMSS_REPORT", "The daily report on scheduled snapshots"
# The file beside the lock that says which of the two was made last, and for which day.
_MADE = "reported"
# The timeout in seconds of the command: it takes a minute in a pool of 5,000 VMs.
_LIMIT_S = 600
# The page has the names of VMs.
_MODE = 0o640
# Isolated, Python looks for modules in its own folders only.
_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from vmss.cli.main import main; sys.exit(main())"
# The priority up to which xapi mails a message where the pool does not say it, and the one of what is only told
# (docs/xapi-facts.md, Priorities of messages).
_MAILED_DEFAULT, _INFORMATION = 3, 5


class NotMade(Exception):
    """The report could not be made, written or mailed; the text is one line that says why."""


def make(around: Surroundings) -> None:
    """Make what is due of today's report, unless this host is not the coordinator."""
    clock, settings = around.clock or Clock(), around.settings
    zone = set_zone(settings.timezone)
    if around.place.local and not on_coordinator():
        return
    with existing(around.place.lock_dir) as directory:
        now = wall_clock(zone, clock.now())
        made = {} if directory is None else directory.read(_MADE)
        today = str(now.date())
        due = [kind for kind in ("file", "mail") if _is_due(around, kind) and made.get(kind) != today]
        if directory is None or not due or now.hour < settings.report_hour:
            return
        log = Log(around.place.log, clock.now, zone)
        try:
            for kind in due:
                try:
                    made.update(_write(around) if kind == "file" else _mail(around, made, now, log))
                    directory.keep(_MADE, dict(made, **{kind: today}))
                except Exception as error:  # noqa: BLE001 - whatever it is, the pass has done its work
                    log("The report is not %s: %s" % ("written" if kind == "file" else "mailed", error or repr(error)))
        finally:
            log.close()


def _is_due(around: Surroundings, kind: str) -> bool:
    return bool(around.settings.report_file) if kind == "file" else around.settings.report_mail


def _write(around: Surroundings) -> Dict[str, Any]:
    with MetricsFile(around.settings.report_file, _MODE) as file:
        file.replace(_report(around, "--html", "-"))
    return {}


def _mail(around: Surroundings, made: Dict[str, Any], now: datetime, log: Log) -> Dict[str, Any]:
    """Raise the message that the pool mails, and destroy that of the day before: one of them is enough."""
    from vmss.insight.reading import reading

    text = _report(around)
    quiet = around._replace(say=lambda text: None, waits=lambda text: None)
    with reading(quiet) as session:
        xapi, pool = session.xapi, session.pool
        if not pool.other_config.get("mail-destination"):
            log("The report is not mailed: the pool has no mail-destination in its other_config")
            return {}
        body = "%s.\n%s" % (_HEADING, text.rstrip("\n"))
        priority = _priority(pool.other_config.get("mail-min-priority", ""))
        message = str(xapi.call("message.create", _NAME, str(priority), "Pool", pool.uuid, body))
        if message == NULL:
            raise NotMade("xapi could not store the message")
        try:
            if made.get("message"):
                xapi.call("message.destroy", str(made["message"]))
        except Refused:
            pass  # somebody has dismissed it
    log("The report of %s is handed to the pool's mail" % now.date())
    return {"message": message}


def _priority(mailed_up_to: str) -> int:
    """The priority of the message: the least urgent that the pool mails."""
    try:
        return max(1, min(_INFORMATION, int(mailed_up_to)))
    except ValueError:
        return _MAILED_DEFAULT


def _report(around: Surroundings, *words: str) -> str:
    """What `vmss report` prints. Raise NotMade."""
    place = around.place
    environment = {
        "PATH": PATH,
        "VMSS_XAPI": place.xapi,
        "VMSS_LOG": place.log,
        "VMSS_LOCK_DIR": place.lock_dir,
        "VMSS_CONFIG": place.config,
    }
    folder = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
    command: List[str] = [sys.executable or "/usr/bin/python3", "-I", "-c", _CODE, folder, "report", *words]
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotMade("it has not been made within %d s" % _LIMIT_S)
    if done.returncode:
        raise NotMade(one_line(done.stderr.decode("utf-8", "replace").strip(), 500))
    return done.stdout.decode("utf-8", "replace")
