"""The state file: everything persistent of a pool, as one JSON document, written atomically."""

import json
import os
import tempfile
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict

from .errors import XapiError
from .lifecycle import forget_operations
from .values import date_text, from_seconds, parse_date

if TYPE_CHECKING:
    from .simulator import Simulator

FORMAT = "simulated xapi database"
VERSION = 1


class StateError(Exception):
    """A file that is no state file; the message says which and why, in one line."""


def save(sim: "Simulator", path: str) -> None:
    """Write the state beside `path` and rename it there: a crash leaves the old one or the new one."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "time": date_text(from_seconds(sim.kernel.now())),
        "host": sim.this_host,
        "generation": sim.db.generation,
        "random": sim.random.getstate()[1],
        "tables": sim.db.dump(),
        "storage": sim.storage.manager.dump(),
        "messages": {
            ref: dict(record, timestamp=sim.messages.times[ref])
            for ref, record in sim.messages.records.items()
        },
    }
    directory = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream, separators=(",", ":"))
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str) -> Dict[str, Any]:
    """Read a state file; StateError when it cannot be read, is cut off, or is something else."""
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except OSError as error:
        raise StateError("cannot read the state file %s: %s" % (path, error.strerror))
    except ValueError as error:
        raise StateError("the state file %s is cut off or damaged: %s" % (path, error))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StateError("the file %s is not a state file of the simulator" % path)
    if document.get("version") != VERSION:
        raise StateError(
            "the state file %s has version %s, not %d" % (path, document.get("version"), VERSION)
        )
    missing = {"time", "host", "generation", "random", "tables", "storage", "messages"} - set(document)
    if missing:
        raise StateError("the state file %s lacks %s" % (path, ", ".join(sorted(missing))))
    return document


def time_of(document: Dict[str, Any]) -> datetime:
    """When the state was saved."""
    try:
        return parse_date(document["time"])
    except (XapiError, TypeError) as error:
        raise StateError("the state file has no time: %s" % error)


def restore(sim: "Simulator", document: Dict[str, Any], path: str) -> None:
    """Fill a new simulator from a document; StateError when its parts do not fit together."""
    try:
        _restore(sim, document)
    except (XapiError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateError("the state file %s is damaged: %s" % (path, error))


def _restore(sim: "Simulator", document: Dict[str, Any]) -> None:
    """Operations that were running are forgotten, as after a restart of xapi."""
    sim.db.restore(document["tables"])
    sim.this_host = document["host"]
    sim.storage.manager.restore(document["storage"])
    for ref, record in document["messages"].items():
        when = record["timestamp"]
        sim.messages.enter(ref, dict(record, timestamp=from_seconds(when)), when)
    sim.db.generation = max(sim.db.generation, document["generation"])
    sim.random.setstate((3, tuple(document["random"]), None))
    forget_operations(sim)
