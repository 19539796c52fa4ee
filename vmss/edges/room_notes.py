"""Notes of how much of a storage repository was in use: in its own other_config, where all hosts see them."""

from contextlib import suppress
from datetime import datetime
from typing import List, Mapping

from vmss.core.datetimes import EPOCH
from vmss.core.room import Note
from vmss.edges.query import int_of
from vmss.edges.xapi import MISREAD, Refused, Xapi

_KEY = "vmss:used"
# A note is written if the last one is older than this, in seconds; so many are kept, which is two weeks.
_EVERY = 12 * 3600.0
_NOTES_MAX = 28
# How a note ends that was made while VMs got their first snapshots.
_FILLING = ":filling"


def read_notes(xapi: Xapi, sr: str) -> List[Note]:
    """The notes of an SR, the oldest first; none if it is gone. What is no note is left out."""
    try:
        return _read(xapi, sr)
    except (Refused, *MISREAD):
        return []


def note_use(xapi: Xapi, srs: Mapping[str, bool], now: datetime) -> List[str]:
    """Write down how much of each of these SRs is in use now, and whether it is filling, unless that was done lately;
    return those where it was written. What is no SR any more is left out."""
    seconds = (now - EPOCH).total_seconds()
    written = []
    for sr, filling in srs.items():
        with suppress(Refused, *MISREAD):
            # After the clock was set back the last one lies ahead.
            notes = [note for note in _read(xapi, sr) if note.at <= seconds]
            if notes and seconds - notes[-1].at < _EVERY:
                continue
            notes.append(Note(seconds, int_of(xapi.call("SR.get_physical_utilisation", sr)), filling))
            xapi.call("SR.remove_from_other_config", sr, _KEY)
            xapi.call("SR.add_to_other_config", sr, _KEY, " ".join(map(_text, notes[-_NOTES_MAX:])))
            written.append(sr)
    return written


def _text(note: Note) -> str:
    return "%d:%d%s" % (note.at, note.used, _FILLING if note.filling else "")


def _read(xapi: Xapi, sr: str) -> List[Note]:
    text = str(xapi.call("SR.get_other_config", sr).get(_KEY, ""))
    found: List[Note] = []
    for word in text.split()[-_NOTES_MAX:]:
        at, _, used = word.partition(":")
        filling = used.endswith(_FILLING)
        with suppress(ValueError):
            found.append(Note(float(int(at)), int(used[: -len(_FILLING)] if filling else used), filling))
    return sorted(found)
