"""Numbers in the text format that Prometheus reads: families of samples, and what follows the last tick in a file.

A file has the numbers that a pass has read, and at its end those of the last tick, which are replaced without reading
anything: so each tick shows, also one that has nothing to do or gets no session.
"""

import re
from datetime import datetime
from typing import Dict, Iterable, Mapping, NamedTuple, Optional, Tuple

# What is looked for in a text: when schedules run next, when its numbers were read, and the family with which its end
# begins.
NEXT_RUN = "vmss_schedule_next_run_timestamp_seconds"
_READ = "vmss_metrics_timestamp_seconds"
_TICK = "vmss_last_tick_timestamp_seconds"
# The text of another program is not ours to replace or to repeat.
_BEGINNING = "# HELP vmss_"


class Sample(NamedTuple):
    """A number, and the labels that tell what it is of."""

    value: int
    labels: Mapping[str, str]


class Family(NamedTuple):
    """The samples of one name, and what the number means, in a sentence. All of them can fall: so each is a gauge."""

    name: str
    help: str
    samples: Tuple[Sample, ...]


def labels_of(pool: str) -> Dict[str, str]:
    """The labels that each number has: the uuid of its pool, if it is known. The coordinator's address may change."""
    return {"pool": pool} if pool else {}


def text_of(families: Iterable[Family]) -> str:
    """These families as text. One without samples is left out."""
    return "".join(_family(family) for family in families if family.samples)


def _family(family: Family) -> str:
    lines = ["# HELP %s %s" % (family.name, _escaped(family.help)), "# TYPE %s gauge" % family.name]
    lines += ["%s%s %d" % (family.name, _labels(sample.labels), sample.value) for sample in family.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ('%s="%s"' % (name, _escaped(value).replace('"', '\\"')) for name, value in labels.items())
    return "{%s}" % ",".join(pairs) if labels else ""


def _escaped(text: str) -> str:
    # The format has two escapes for a text, and takes any other character as it is, if it is UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def read_at(now: datetime, labels: Mapping[str, str]) -> Family:
    """When the numbers were read."""
    return Family(_READ, "When these numbers were read.", (seconds(now, labels),))


def last_tick(at: datetime, labels: Mapping[str, str]) -> Family:
    """When cron last started a pass."""
    return Family(_TICK, "When cron last started a pass.", (seconds(at, labels),))


def tick_status(status: int, labels: Mapping[str, str]) -> Family:
    """How the pass ended that cron last started."""
    told = "Exit status of the pass that cron last started: 0 well, 1 a snapshot failed, 2 settings, 3 no session, 4 "
    told += "another pass was at work."
    return Family("vmss_last_tick_exit_status", told, (Sample(status, labels),))


def seconds(instant: datetime, labels: Mapping[str, str]) -> Sample:
    """An instant as a sample."""
    return Sample(int(instant.timestamp()), labels)


def is_ours(text: str) -> bool:
    """Whether a text is one that `text_of` has made."""
    return text.startswith(_BEGINNING)


def read_in(text: str) -> Optional[int]:
    """When the numbers in a text were read, in seconds since the epoch; None if it does not tell."""
    return _value(_READ, text)


def next_in(text: str) -> Optional[int]:
    """When the first schedule runs next, by a text."""
    found = re.findall(r"^%s\{.*\} ([0-9]{1,12})$" % NEXT_RUN, text, re.MULTILINE)
    return min(map(int, found), default=None)


def tick_in(text: str) -> Optional[int]:
    """The same for the last tick."""
    return _value(_TICK, text)


def pool_in(text: str) -> str:
    """The uuid of the pool that a text is of; empty if it does not tell."""
    match = re.search(r'^vmss_\w+\{pool="([-0-9a-f]*)"', text, re.MULTILINE)
    return match.group(1) if match else ""


def _value(name: str, text: str) -> Optional[int]:
    match = re.search(r"^%s(?:\{.*\})? ([0-9]{1,12})$" % name, text, re.MULTILINE)
    return int(match.group(1)) if match else None


def parted(text: str) -> Tuple[str, str]:
    """A text in two: the numbers that were read, and those of the last tick."""
    # A line of a label cannot begin so: its line breaks are escaped.
    at = text.find("# HELP %s " % _TICK)
    return (text, "") if at < 0 else (text[:at], text[at:])
