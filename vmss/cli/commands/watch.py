"""`vmss watch`: the pass at work, live, from dom0 or from elsewhere."""

import argparse
import json
import math
import signal
import sys
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Iterator, List, Optional, TextIO

from vmss.cli import colour, layout, tables, watch_picture
from vmss.cli.live import Live, can_redraw, size
from vmss.cli.parts import READING_STATUS, complain, new_parser, surroundings
from vmss.cli.streams import emit
from vmss.cli.watch_picture import Paper, Scene
from vmss.core.datetimes import format_iso
from vmss.core.problem import EXIT_NO_SESSION, Problem
from vmss.core.text import one_line
from vmss.core.watched import Change, Seen, changes
from vmss.edges.settings import Place
from vmss.edges.surroundings import Surroundings
from vmss.insight.reading import Reading, reading
from vmss.insight.watching import Watch

_EXAMPLES = """examples:
  vmss watch                   the pass at work, live; if none is, when the next one comes, until Ctrl-C
  vmss watch --until-done      the same, until the pass at work has ended; at once if none is
  vmss watch --once            one picture
  vmss watch --json            an object in one line, and another one whenever anything has changed
  vmss watch | tee FILE        into a pipe a line for each change

It only reads, takes no lock, and costs the pass no call. Over https it sees the same, but not whether a pass has died.
"""

# At most so many questions to xapi in a second: the pass at work asks it too.
_ASKS_S = 1.0
# How long a question waits for an answer, in seconds: the picture is drawn anew after it, for time goes on.
_BUSY_S, _IDLE_S = 1.0, 10.0
# The seconds until a session is asked for again that was lost.
_AGAIN_S = 2.0


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "watch",
        "The pass at work: what is at work on each storage repository and what waits, how many VMs of each schedule "
        "have their snapshot, how long it takes, and what failed.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    until = command.add_mutually_exclusive_group()
    until.add_argument("--once", action="store_true", help="show one picture, and end")
    until.add_argument("--until-done", action="store_true", help="end when the pass at work does")
    command.add_argument("--json", action="store_true", help="print JSON, one object in each line")
    colour.add_option(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Watch until there is nothing more to show, or until somebody ends it."""
    around = surroundings()
    with _ended_by_signals(), suppress(KeyboardInterrupt):
        _watch(around, arguments)
    return 0


def _watch(around: Surroundings, arguments: argparse.Namespace) -> None:
    """Watch; if the session ends, because xapi was restarted for one, open another. Raise a Problem where there is none
    to begin with, or none again for `login_limit` seconds."""
    lost = -math.inf  # since when there is no session any more
    while True:
        opened = False
        try:
            with reading(around) as session:
                opened = True
                show(session, around.place, arguments, sys.stdout)
                return
        except Problem as problem:
            lost = time.monotonic() if opened else lost
            again = problem.status == EXIT_NO_SESSION and not arguments.once
            if not again or time.monotonic() >= lost + around.settings.login_limit:
                raise
            complain("%s; asked again in %d s" % (problem, _AGAIN_S))
            time.sleep(_AGAIN_S)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that was closed, end it as Ctrl-C does: the session is closed."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show(session: Reading, place: Place, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show the pool that a session is open with."""
    watch = Watch(session, place)
    view = _View(session, watch, arguments, out)
    view.show()
    while not (arguments.once or (arguments.until_done and watch.seen is None)):
        asked = session.clock.monotonic()
        watch.look(_IDLE_S if watch.seen is None else _BUSY_S)
        view.show()
        if watch.seen is not None:
            session.clock.sleep(max(0.0, _ASKS_S - (session.clock.monotonic() - asked)))
    return 0


class _View:
    """How it is shown: drawn in its place, as a line for each change, or as objects."""

    def __init__(self, session: Reading, watch: Watch, arguments: argparse.Namespace, out: TextIO) -> None:
        self._session, self._watch, self._arguments, self._out = session, watch, arguments, out
        self._colour = colour.wanted(arguments.color, out)
        self._before: Optional[Seen] = None
        self._known: Any = ()  # what the last object told
        self._live = Live(out) if can_redraw(out) and not (arguments.json or arguments.once) else None

    def show(self) -> None:
        """Show what there is to see now."""
        watch, now = self._watch, self._session.now()
        scene = Scene(watch.seen, watch.names, watch.coming(), watch.next_tick(), self._session.moment)
        begins, happened = self._known == (), self._happened()
        known, self._known = self._known, (scene.seen, scene.coming)
        if self._arguments.json:
            if begins or known != self._known:
                document = tables.typed(watch_picture.document(scene, now))
                emit(json.dumps(document, sort_keys=True) + "\n", self._out)
        elif self._arguments.once:
            paper = self._paper()._replace(height=1 << 20)
            self._print(watch_picture.picture(scene, now, paper))
        elif self._live is not None:
            above = [each for each in happened if watch_picture.is_told_on_terminal(each)]
            self._live.draw(self._lines(above, now, self._paper()), watch_picture.picture(scene, now, self._paper()))
        else:
            self._print(["%s %s" % (format_iso(now), watch_picture.told(each, now)) for each in happened])
            if scene.seen is None and (begins or known[0] is not None):
                self._print(watch_picture.picture(scene, now, self._paper()))

    def _happened(self) -> List[Change]:
        """What has changed since the last time."""
        ended, self._watch.ended = self._watch.ended, None
        found = [] if ended is None else list(changes(self._before, ended))
        found += changes(self._before if ended is None else ended, self._watch.seen)
        self._before = self._watch.seen
        return found

    def _lines(self, happened: List[Change], now: datetime, paper: Paper) -> List[str]:
        """The lines that stay above the picture."""
        found = []
        for change in happened:
            style = watch_picture.style_of(change) if paper.colour else ""
            text = one_line(watch_picture.told(change, now))
            found += [colour.painted(line, style) for line in layout.lines(text, paper.width)]
        return found

    def _print(self, lines: List[str]) -> None:
        emit("".join(line + "\n" for line in lines), self._out)

    def _paper(self) -> Paper:
        columns, lines = size() if self._out.isatty() else (1 << 20, 1 << 20)
        return Paper(columns, lines, self._colour, tables.cut(self._out))
