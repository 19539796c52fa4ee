"""The check of receivers elsewhere: whether they took what they were sent last, and who can read their addresses."""

import os
import stat
from contextlib import suppress
from typing import Iterator

from vmss.core.datetimes import parse_reading
from vmss.core.text import one_line
from vmss.edges.lock import existing
from vmss.edges.notify import outcomes
from vmss.edges.shell import shell_word
from vmss.insight.case import Case
from vmss.insight.findings import OK, WARNING, Finding
from vmss.insight.notifying import COMPLAINTS, SETTINGS

CHECK = "receivers"


def receivers(case: Case) -> Iterator[Finding]:
    """Whether the receivers of pings and documents took what they were sent last."""
    wanted = [name for name, setting in SETTINGS.items() if getattr(case.settings, setting)]
    if not wanted:
        yield Finding(OK, CHECK, "no receiver is told of passes", "ping_url and webhook_url are not set")
        return
    yield from _readable(case)
    with existing(case.where.lock_dir) as directory:
        told = {} if directory is None else outcomes(directory)
    for name in wanted:
        last = told.get(name, {})
        trouble, at = str(last.get("trouble", "")), "when, is not known"
        with suppress(ValueError):
            at = case.moment(parse_reading(last.get("at")))
        if trouble:
            yield Finding(
                WARNING,
                CHECK,
                "%s: %s" % (COMPLAINTS[name], one_line(trouble, 300)),
                at,
                "set %s, notify_ca_file and notify_proxy in %s right, then try them: vmss notify"
                % (SETTINGS[name], one_line(case.where.config, 300)),
            )
        elif last:
            yield Finding(OK, CHECK, "%s: what was sent last was taken" % SETTINGS[name], at)
        else:
            yield Finding(OK, CHECK, "%s: nothing was sent from here yet" % SETTINGS[name])


def _readable(case: Case) -> Iterator[Finding]:
    """Whether others than root can read the addresses, which are as good as a password."""
    path = case.where.config
    try:
        status = os.stat(path)
    except OSError:
        return
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield Finding(
            WARNING,
            CHECK,
            "others than root can read the addresses of receivers, which are secret",
            "mode %03o of %s" % (stat.S_IMODE(status.st_mode), one_line(path, 300)),
            "chmod 0600 %s" % shell_word(path),
        )
