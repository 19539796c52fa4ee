"""The state file: everything persistent of a pool, as one JSON document, written atomically."""

import fcntl
import json
import os
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, Iterator, TextIO, Tuple

from .errors import XapiError
from .lifecycle import forget_operations
from .table import no_garbage
from .values import date_text, from_seconds, parse_date

if TYPE_CHECKING:
    from .simulator import Simulator

FORMAT = "simulated xapi database"
VERSION = 1
PIECE_MEMBERS = 200
_encode = json.JSONEncoder(separators=(",", ":")).encode


class StateError(Exception):
    """A file that is not a state file; the message says which and why, in one line."""


@contextmanager
def claimed(path: str) -> Iterator[None]:
    """Keep other simulators away from a state file, which one overwrites with its own pool. Raise StateError if another
    one has it, or nothing can be written beside it.

    The lock is a file beside it, for the state file itself is replaced whenever it is saved.
    """
    name = os.path.realpath(path) + ".lock"
    descriptor = _lock(name, path)
    try:
        yield
    finally:
        os.unlink(name)
        os.close(descriptor)


def _lock(name: str, path: str) -> int:
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateError("cannot write the state file %s: %s: %s" % (path, name, error.strerror))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StateError(
                "the state file %s is in use by another simulator, process %s" % (path, holder or "unknown")
            )
        # Whoever had it has removed it before it was released: then this is no longer the file of that name.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(name)):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
                return descriptor
        os.close(descriptor)


def save(sim: "Simulator", path: str) -> None:
    """Write the state to a file beside `path` and rename it: a crash leaves the old file or the new one."""
    import tempfile  # slow to load

    directory = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream, no_garbage():
            _write(sim, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(directory)


def _write(sim: "Simulator", stream: TextIO) -> None:
    """Write one JSON document piece by piece, so that a large pool is not in memory twice."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "time": date_text(from_seconds(sim.kernel.now())),
        "host": sim.this_host,
        "generation": sim.db.generation,
        "random": sim.random.getstate()[1],
    }
    stream.write(_encode(head)[:-1])
    for number, table in enumerate(table for table in sim.db.tables.values() if table.cls.persistent):
        stream.write(',"tables":{' if number == 0 else ",")
        stream.write("\n%s:" % _encode(table.cls.name))
        _write_members(stream, sim.db.dump_table(table))
    stream.write('},\n"storage":')
    _write_members(stream, iter(sim.storage.manager.dump().items()))
    stream.write(',\n"messages":')
    times = sim.messages.times
    _write_members(stream, ((ref, dict(record, timestamp=times[ref])) for ref, record in sim.messages.records.items()))
    stream.write("}\n")


def _write_members(stream: TextIO, members: Iterator[Tuple[str, Any]]) -> None:
    """Write a JSON object, a number of its members at a time."""
    separator = "{"
    while True:
        piece = dict(islice(members, PIECE_MEMBERS))
        if not piece:
            break
        stream.write(separator + "\n" + _encode(piece)[1:-1])
        separator = ","
    stream.write("}" if separator == "," else "{}")


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str) -> Dict[str, Any]:
    """Read a state file. Raise StateError if it cannot be read, is cut off, or is not a state file."""
    try:
        with open(path, encoding="utf-8") as stream, no_garbage():
            document = json.load(stream)
    except OSError as error:
        raise StateError("cannot read the state file %s: %s" % (path, error.strerror))
    except ValueError as error:
        raise StateError("the state file %s is cut off or damaged: %s" % (path, error))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StateError("the file %s is not a state file of the simulator" % path)
    if document.get("version") != VERSION:
        raise StateError("the state file %s has version %s, not %d" % (path, document.get("version"), VERSION))
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
    """Fill a new simulator from a document. Raise StateError if its parts are inconsistent."""
    try:
        with no_garbage():
            _restore(sim, document)
    except (XapiError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateError("the state file %s is damaged: %s" % (path, error))


def _restore(sim: "Simulator", document: Dict[str, Any]) -> None:
    """Restore everything; the operations that were running are cleared, as a restart of xapi does."""
    sim.db.restore(document["tables"])
    sim.this_host = document["host"]
    # First, because the storage manager starts collectors when it is restored, and they draw random numbers.
    sim.random.setstate((3, tuple(document["random"]), None))
    sim.storage.manager.restore(document["storage"])
    for ref, record in document["messages"].items():
        when = record["timestamp"]
        sim.messages.enter(ref, dict(record, timestamp=from_seconds(when)), when)
    sim.db.generation = max(sim.db.generation, document["generation"])
    forget_operations(sim)
