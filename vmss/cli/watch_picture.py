"""The picture of `vmss watch`: lines of text, of what is seen of a pass. Functions of values."""

from datetime import datetime
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from vmss.cli import layout
from vmss.cli.colour import of_result, painted
from vmss.cli.layout import Column
from vmss.core import words
from vmss.core.failures import TRANSIENT, failure_of
from vmss.core.text import one_line
from vmss.core.watched import (
    BEGAN,
    NOT_TAKEN,
    OVER,
    STARTED,
    TOLD,
    TOOK,
    Change,
    Place,
    Seen,
    SeenJob,
    SeenRun,
    failures,
    places,
    seconds_left,
    tally,
    without,
)
from vmss.insight.names import first_names

# Upper limits on the failures in a picture, and on the VMs that are named as at work in one place.
_FAILURES_MAX, _NAMES_MAX = 8, 3


class Scene(NamedTuple):
    """All that a picture shows: the pass at work, None if there is none; the names of storage repositories and hosts by
    reference; the next runs, and their schedules; when cron starts the next pass; and how an instant is shown."""

    seen: Optional[Seen]
    names: Mapping[str, str] = {}
    coming: Optional[Tuple[datetime, Tuple[str, ...]]] = None
    next_tick: Optional[datetime] = None
    moment: Callable[[datetime], str] = str


class Paper(NamedTuple):
    """What a picture is drawn on: so many columns and lines, with colour or without; `cut` stands for what is left out
    of a text."""

    width: int = 80
    height: int = 24
    colour: bool = False
    cut: str = "…"


def picture(scene: Scene, now: datetime, paper: Paper) -> List[str]:
    """The lines of the picture, of which none is wider than the paper, and one fewer than it is high."""
    seen = scene.seen
    if seen is None:
        return _sentences([_idle(scene, now)], paper, "")[: paper.height - 1]
    heading = _sentences([] if seen.died else [_heading(seen, now)], paper, "bold")
    found = heading + _sentences(_troubles(scene, seen, now), paper, "red" if seen.died else "yellow")
    if seen.runs:
        found += [""] + _table(_RUNS, [_run_row(seen, run, now) for run in seen.runs.values()], paper)
    rows = [_place_row(scene, place, now) for place in places(seen, now)]
    if rows:
        found += [""] + _table(_PLACES, rows, paper)
    if seen.deleting or seen.deletions:
        text = "deletions: expired snapshots listed to go: %d, operations at work: %d"
        found += [""] + _sentences([text % (seen.deleting, len(seen.deletions))], paper, "")
    return _within(found, _of_failures(seen, now, paper), paper)


def _within(body: List[str], end: List[str], paper: Paper) -> List[str]:
    """The picture within its height: failures are shown in any case, then what stands above first."""
    room = max(1, paper.height - 1)
    end = [""] + end if end else []
    end = end[:room]
    if len(body) + len(end) > room:
        kept = max(0, room - len(end) - 1)
        body = body[:kept] + ["%s %d more" % (paper.cut, len(body) - kept)] * (room > len(end))
    return body + end


# Sentences


def _sentences(texts: List[str], paper: Paper, style: str) -> List[str]:
    found = [line for text in texts for line in layout.lines(one_line(text), paper.width)]
    lines = [layout.shortened(line, paper.width, paper.cut) for line in found]
    return [painted(line, style if paper.colour else "") for line in lines]


def _idle(scene: Scene, now: datetime) -> str:
    if scene.coming is None:
        return "No pass is at work, and no schedule will run: vmss list"
    at, names = scene.coming
    more = ["%d more" % (len(names) - _NAMES_MAX)] if len(names) > _NAMES_MAX else []
    named = words.listed([one_line(name, 60) for name in names[:_NAMES_MAX]] + more)
    return "No pass is at work. Next: %s, %s (%s)" % (named, scene.moment(at), words.distance(at, now))


def _heading(seen: Seen, now: datetime) -> str:
    at_work = "A pass is at work for %s" % words.duration((now - seen.since).total_seconds())
    if not seen.jobs:
        return at_work
    left, all_of_it = seconds_left(seen, now), tally(seen)
    if left > 0:
        return "%s; its snapshots take about %s more" % (at_work, words.duration(max(1.0, left)))
    if places(seen, now):
        return "%s; its last snapshots take longer than expected" % at_work
    return "%s; %d of %s %s snapshot" % (
        at_work,
        all_of_it.taken,
        words.counted(all_of_it.vms, "VM"),
        words.agree(all_of_it.taken, "has its", "have their"),
    )


def _troubles(scene: Scene, seen: Seen, now: datetime) -> List[str]:
    tick = " at %s" % scene.moment(scene.next_tick) if scene.next_tick is not None else ""
    if seen.died:
        began = words.distance(seen.since, now)
        text = "The pass that began %s has died. The next one%s goes on with what it has left; to go on now: vmss run"
        return [text % (began, tick)]
    slow = [job.name for job in seen.jobs.values() if job.takes_long(now)]
    if slow:
        text = "Longer than expected: %s. The pass goes on elsewhere, and cancels what reaches its limit"
        return [text % first_names(slow)]
    if seen.is_quiet(now):
        quiet = words.duration((now - seen.moved).total_seconds())
        text = (
            "Nothing is seen to go on for %s. Whether the pass lives, dom0 tells: vmss status. If it has died, the next"
        )
        return [(text + " one%s goes on with what it has left") % (quiet, tick)]
    return []


# Tables


class _For(NamedTuple):
    """How long an operation has been at work, how long that was expected to take, and the style of it."""

    elapsed: str
    expected: str
    style: str


def _for(job: SeenJob, now: datetime) -> _For:
    style = "yellow" if job.takes_long(now) else ""
    return _For(words.duration(job.elapsed(now)), words.duration(job.seconds), style)


def _table(columns: List[Column], rows: List[Dict[str, Any]], paper: Paper) -> List[str]:
    return layout.table(columns, rows, paper.width, paper.colour, paper.cut).splitlines()


_RUNS = [
    Column("schedule", "schedule", least=8),
    Column("done", "VMs done", right=True),
    Column("failed", "failed", right=True, style=lambda failed: "red" if failed != "0" else ""),
    Column("elapsed", "for", right=True, gives=[(2, None)]),
    Column("expected", "takes about", right=True, gives=[(1, None)]),
    Column("result", "result", style=of_result, gives=[(3, None)]),
]
_PLACES = [
    Column("name", "storage or host", least=8),
    Column("at_work", "at work", least=8),
    Column(
        "elapsed",
        "for",
        lambda it: "%s of %s" % (it.elapsed, it.expected),
        lambda it: it.style if it else "",
        right=True,
        gives=[(2, lambda it: str(it.elapsed))],
    ),
    Column("waiting", "waiting", right=True),
    Column("left", "takes about", right=True, gives=[(1, None)]),
]


def _run_row(seen: Seen, run: SeenRun, now: datetime) -> Dict[str, Any]:
    done = tally(seen, run.uuid)
    expected = words.duration(run.seconds) + ("" if run.past else " (an estimate)")
    return {
        "schedule": one_line(run.name or run.uuid, 60),
        "done": "%d of %d" % (done.taken, done.vms),
        "failed": str(done.failed),
        "elapsed": None if run.over else words.duration((now - run.since).total_seconds()),
        "expected": None if run.over else expected,
        "result": run.result or None,
    }


def _place_row(scene: Scene, place: Place, now: datetime) -> Dict[str, Any]:
    names = [one_line(job.name, 60) for job in place.at_work[:_NAMES_MAX]]
    more = ["%d more" % (len(place.at_work) - _NAMES_MAX)] if len(place.at_work) > _NAMES_MAX else []
    longest = max(place.at_work, key=lambda job: job.elapsed(now), default=None)
    return {
        "name": one_line(scene.names.get(place.ref, place.ref), 60),
        "at_work": words.listed(names + more) or None,
        "elapsed": None if longest is None else _for(longest, now),
        "waiting": str(place.waiting),
        "left": words.duration(place.seconds),
    }


def _of_failures(seen: Seen, now: datetime, paper: Paper) -> List[str]:
    """A line for each VM that has failed so far, or seems to; of many, for the last."""
    jobs = failures(seen) + without(seen, now)
    shown = jobs[-_FAILURES_MAX:]
    texts = ["failed, not shown here: %d" % (len(jobs) - len(shown))] if len(jobs) > len(shown) else []
    for job in shown:
        # Of both something is to be read, however long they are.
        name = layout.shortened(one_line(job.name, 60), max(12, paper.width // 3), paper.cut)
        text = "%s: " % name
        texts.append(text + layout.shortened(one_line(_why(job)), paper.width - layout.width_of(text), paper.cut))
    style = "red" if paper.colour else ""
    return [painted(layout.shortened(text, paper.width, paper.cut), style) for text in texts]


def _why(job: SeenJob) -> str:
    if not job.error:
        return "ended without a snapshot: it is tried again, or the alert of the run tells why"
    failure = failure_of(job.error)
    again = ", and is tried again" if failure.kind == TRANSIENT else ""
    return "failed: %s (%s)%s" % (failure.sentence, one_line(job.error[0], 60), again)


# Changes


def told(change: Change, now: datetime) -> str:
    """A change in one line."""
    seen, job, run = change.seen, change.job, change.run
    if change.kind == BEGAN:
        named = words.listed([one_line(each.name or each.uuid, 60) for each in seen.runs.values()])
        return "a pass is at work%s" % (": %s" % named if named else "")
    if change.kind == OVER:
        return ending(seen, now)
    if run is None:
        return ""
    name = one_line(run.name or run.uuid, 60)
    if job is None:
        return "%s: %s: %s" % (name, run.result, one_line(run.story, 400))
    done = tally(seen, run.uuid)
    what = {STARTED: "snapshot begins", TOOK: "snapshot taken"}.get(change.kind) or _why(job)
    return "%s: [%d/%d] %s: %s" % (name, done.taken, done.vms, one_line(job.name, 60), what)


def is_told_on_terminal(change: Change) -> bool:
    """Whether a change stays on a terminal as a line above the picture: what the picture itself will not show."""
    return change.kind in (OVER, TOLD, NOT_TAKEN)


def style_of(change: Change) -> str:
    """The style of its line."""
    if change.kind == NOT_TAKEN:
        return "red"
    return of_result(change.run.result) if change.kind == TOLD and change.run is not None else ""


def ending(seen: Seen, now: datetime) -> str:
    """How a pass has ended, in one line."""
    took = words.duration((now - seen.since).total_seconds())
    text = "the pass has %s after %s" % ("died" if seen.died else "ended", took)
    done = tally(seen)
    if done.vms:
        text += ": %d of %s %s snapshot" % (
            done.taken,
            words.counted(done.vms, "VM"),
            words.agree(done.taken, "has its", "have their"),
        )
    results = ["%s %s" % (one_line(run.name or run.uuid, 60), run.result or "not over") for run in seen.runs.values()]
    return text + ("; " + ", ".join(results) if results else "")


def document(scene: Scene, now: datetime) -> Dict[str, Any]:
    """The picture for programs; see tables for the forms of its values."""
    seen = scene.seen
    at, names = scene.coming or (None, ())
    common = {"time": now, "at_work": seen is not None, "next": at, "next_schedules": list(names)}
    if seen is None:
        return common
    return dict(
        common,
        since=seen.since,
        died=seen.died,
        quiet=seen.is_quiet(now),
        seconds_left=round(seconds_left(seen, now)),
        deleting=seen.deleting,
        schedules=[_run_of_document(seen, run) for run in seen.runs.values()],
        storage=[
            {
                "name": scene.names.get(place.ref, place.ref),
                "at_work": [job.name for job in place.at_work],
                "waiting": place.waiting,
                "seconds_left": round(place.seconds),
            }
            for place in places(seen, now)
        ],
        failed=[{"vm": job.name, "schedule": job.run, "error": list(job.error)} for job in failures(seen)],
    )


def _run_of_document(seen: Seen, run: SeenRun) -> Dict[str, Any]:
    done = tally(seen, run.uuid)
    return {
        "name": run.name,
        "uuid": run.uuid,
        "since": run.since,
        "taken": done.taken,
        "failed": done.failed,
        "vms": done.vms,
        "seconds_expected": round(run.seconds),
        "result": run.result or None,
    }
