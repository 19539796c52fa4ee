"""`vmss prune`: delete scheduled snapshots on request, and take none."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, TextIO

from vmss.cli import tables
from vmss.cli.parts import BY, SCHEDULE, STATUS, complain, new_parser, say, tell, utf8

if TYPE_CHECKING:
    from vmss.edges.surroundings import Surroundings
    from vmss.passes.request import Report, Request

_WHAT = """what it takes:
  Scheduled snapshots only, never those that you or a backup product made; never a pinned one (blocked-operations has
  destroy); never one that is being copied or exported at the moment. The oldest go first, with their disks.

  without an option   what exceeds retention: of each VM of an enabled schedule, or of the one that --policy names, all
                      but the newest retained-snapshots. A run deletes the same, but only a few of each VM at a time.
  --dated-in-future   what is dated later than now by more than a minute, because the clock was wrong when it was taken:
                      retention neither counts nor deletes it until that time. Look at the clock first: if it is wrong
                      now, that is what has to be mended. A VM that has no other scheduled snapshot keeps the newest.
  --of-deleted        ALL scheduled snapshots of VMs that are on no snapshot schedule: the VM was deleted (then its
                      snapshots may be all that is left of it), its schedule was deleted, or it was taken off. No
                      retention ever deletes these. A VM that is on any schedule, also on another than before or on a
                      disabled one, keeps all of its snapshots. They are listed first, and you are asked. Do not use it
                      while a VM is imported or moved into this pool: its snapshots may have no VM until that has ended.

What is deleted is gone: --dry-run lists it before, with the age and the size on disk of each: what its disks and memory
occupy, and the base copies that they build on, each counted once, at the oldest. So much comes free at most, when the
storage has coalesced: what a VM or a younger snapshot still needs of it stays.
"""

_EXAMPLES = """examples:
  vmss prune --dry-run             list what exceeds retention: VM, snapshot, date, age, size; change nothing
  vmss prune --of-deleted --dry-run --json
                                   the same of what was deleted, for programs
  vmss prune --policy nightly      delete what exceeds the retention of one snapshot schedule, now
  vmss prune --dated-in-future     after the clock was wrong, and is right again
  vmss prune --of-deleted          what schedules and VMs that are no more have left behind
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    prune = new_parser(
        "prune",
        "Delete scheduled snapshots at once, and take none: what exceeds retention, or what an option names. It works "
        "in dom0 of the coordinator; with --dry-run anywhere.",
        _WHAT + "\n" + _EXAMPLES + "\n" + STATUS.replace("a snapshot failed", "a deletion failed"),
    )
    prune.add_argument("--policy", type=utf8, metavar=SCHEDULE, help="only of the VMs of this snapshot schedule: " + BY)
    which = prune.add_mutually_exclusive_group()
    which.add_argument("--dated-in-future", action="store_true", help="delete what is dated in the future instead")
    which.add_argument("--of-deleted", action="store_true", help="delete what belongs to no schedule any more instead")
    prune.add_argument("--dry-run", action="store_true", help="list what would be deleted, and change nothing")
    prune.add_argument("--yes", action="store_true", help="do not ask before --of-deleted")
    tables.add_form(prune)
    return prune


def do(arguments: argparse.Namespace) -> int:
    """Carry it out."""
    from vmss.core.problem import BadInput
    from vmss.core.pruning import DELETED, FUTURE, SURPLUS, Prune
    from vmss.edges import stop
    from vmss.edges.settings import place
    from vmss.edges.settings_file import load
    from vmss.edges.surroundings import Surroundings
    from vmss.passes.request import Request
    from vmss.passes.run import run

    if arguments.of_deleted and arguments.policy is not None:
        raise BadInput("--of-deleted: not together with --policy, for no snapshot of a schedule that exists is taken")
    if arguments.form and not arguments.dry_run:
        raise BadInput("--%s: goes with --dry-run, which lists what would be deleted" % arguments.form)
    what = DELETED if arguments.of_deleted else FUTURE if arguments.dated_in_future else SURPLUS
    prune = Prune(what, arguments.policy)
    where = place(os.environ)
    around = Surroundings(where, load(where.config), say=say, waits=complain)
    ask = arguments.of_deleted and not arguments.dry_run and not arguments.yes
    if ask and not sys.stdin.isatty():
        raise BadInput("--of-deleted: nobody can be asked here; look at --of-deleted --dry-run, then add --yes")
    if arguments.dry_run or ask:
        report = run(Request(dry_run=True, prune=prune), around)
        _list(report, arguments, sys.stdout)
        if not ask or not report.listed:
            return report.status
        if not _confirmed(len(report.listed)):
            say("nothing was changed")
            return report.status
        # Nothing that came since, and was not on the list.
        prune = prune._replace(only=frozenset(report.listed))
    stop.install()
    return _prune(Request(prune=prune), around)


def _list(report: "Report", arguments: argparse.Namespace, out: TextIO) -> None:
    """Print what a rehearsal lists; to people also why others stay, and a line about the whole."""
    from vmss.cli import rehearsal
    from vmss.core.words import size

    listing = report.listing
    if listing is None:  # this host is not the coordinator
        tell(report.line)
        return
    rehearsal.write_listing(listing, arguments, out)
    for line in listing.stay:
        complain(line)
    if tables.for_people(arguments):
        known = sum(one.size or 0 for one in listing.snapshots)
        tell(report.line + ("; on disk they occupy %s" % size(known) if known else ""))


def _prune(request: "Request", around: "Surroundings") -> int:
    from vmss.cli.progress import carry_out, tell_end
    from vmss.cli.streams import tell_error
    from vmss.core.failures import failure_of
    from vmss.core.text import one_line

    report = carry_out(request, around)
    # No alert tells of them.
    if report.pruned is not None:
        for line in report.pruned.stay:
            say(line)
        for victim in report.pruned.victims:
            failure = failure_of(victim.error, victim.uuid)
            name, code = one_line(victim.name or victim.uuid, 100), one_line(" ".join(victim.error), 200)
            tell_error("%s: %s (%s). %s" % (name, failure.sentence, code, failure.remedy))
    return tell_end(report)


def _confirmed(count: int) -> bool:
    """Whether whoever sits at the terminal wants these snapshots to be deleted."""
    from vmss.core.words import counted

    try:
        return input("Delete %s? [y/N] " % counted(count, "snapshot")).strip().lower() in ("y", "yes")
    except EOFError:
        return False
