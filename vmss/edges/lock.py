"""The lock that lets one pass at a time work on a pool, and the files beside it that one pass keeps for the next."""

import errno
import fcntl
import json
import os
import re
import stat
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from vmss.core.datetimes import format_iso, parse_datetime
from vmss.core.text import one_line
from vmss.edges import stop
from vmss.edges.json_text import json_object
from vmss.edges.lock_folder import LockError, opened

# Retries of a lock that is held: `holder` holds it for an instant, to see whether a pass does.
_RETRIES = 3
_RETRY_PAUSE_S = 0.05
# Upper limit in seconds on the wait for the turn. Whoever has it raises an alert or writes a file, unless it is halted.
TURN_S = 10.0
# The key of what a holder notes of runs by hand.
_BY_HAND = "by_hand"


class Held(Exception):
    """Another pass holds the lock. `holder` is what it wrote into it: pid, since, policies (uuids); it may be empty."""

    def __init__(self, holder: Dict[str, Any]) -> None:
        Exception.__init__(self)
        self.holder = holder

    @property
    def policies(self) -> List[str]:
        """The uuids of the policies that the other pass has in hand."""
        policies = self.holder.get("policies")
        return list(map(str, policies)) if isinstance(policies, list) else []

    def __str__(self) -> str:
        if not self.holder:
            return "another pass holds the lock"
        since = str(self.holder.get("since"))
        try:
            since = format_iso(parse_datetime(since))
        except ValueError:  # the pass has been killed while it wrote it, or somebody else has written it
            since = one_line(since, 40)
        pid = one_line(str(self.holder.get("pid")), 20)
        return "another pass holds the lock: process %s, since %s" % (pid, since)


class LockDirectory:
    """The directory of the locks, 0700. All files in it are opened relative to it, and no link is followed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = opened(path)

    def close(self) -> None:
        """Close the directory; locks that are held stay held."""
        os.close(self._descriptor)

    def reopen(self) -> None:
        """Go over to what is at the path now: somebody has removed the directory, or laid another one over it."""
        gone, self._descriptor = self._descriptor, opened(self.path)
        os.close(gone)

    def identity(self) -> str:
        """What tells this directory from that of another host, and from an earlier one in its place: it is in memory,
        and a boot empties it."""
        from vmss.edges.processes import boot  # not needed by an idle tick

        status = os.fstat(self._descriptor)
        return "%s %d %d" % (boot(), status.st_dev, status.st_ino)

    def acquire(self, pool: str, holder: Dict[str, Any]) -> "Lock":
        """Given the pool's uuid, acquire its lock and write `holder` into it. Raise Held if another process has it.

        A key `session` of the holder is for the next pass, should this one die; `Held` and `holder` leave it out.
        """
        return Lock(self, pool + ".lock", self.locked(pool + ".lock"), holder)

    def locked(self, name: str, retries: int = _RETRIES) -> int:
        """The descriptor of the file of this name, locked, and still at its path. Raise Held or LockError."""
        while True:
            descriptor = self._open(name, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                other = _public(json_object(_read(descriptor)))
                os.close(descriptor)
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise LockError("%s: the lock cannot be acquired: %s" % (one_line(self.path), error.strerror))
                failure: Exception = Held(other)
            else:
                if self.is_at(name, descriptor):
                    return descriptor
                os.close(descriptor)  # it was removed between opening and locking it, or its directory was
                failure = LockError("%s: the lock is removed again and again" % one_line(self.path))
                self.reopen()
            if not retries:
                raise failure
            retries -= 1
            time.sleep(_RETRY_PAUSE_S)

    def is_at(self, name: str, descriptor: int) -> bool:
        """Whether a descriptor is the file of this name in the directory that is at the path now."""
        mine = os.fstat(descriptor)
        try:
            there = os.stat(os.path.join(self.path, name), follow_symlinks=False)
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def holder(self, pool: str) -> Optional[Dict[str, Any]]:
        """What the pass that holds the pool's lock wrote into it; None if no pass holds it. The file is not changed:
        what a pass that died wrote into it is for the next one."""
        try:
            descriptor = self._open(pool + ".lock", os.O_RDONLY)
        except LockError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _public(json_object(_read(descriptor)))
        finally:
            os.close(descriptor)
        return None

    @contextmanager
    def in_turn(self, name: str) -> Iterator[None]:
        """Do something that only one process should do at a time; wait for the others first.

        Done by two at once is better than not done: if the disk is full, if another process does not go on, or if this
        one is asked to stop.
        """
        try:
            descriptor = self._open(name + ".turn", os.O_RDWR | os.O_CREAT)
        except LockError:
            yield
            return
        try:
            until = time.monotonic() + TURN_S
            while not _locks(descriptor) and time.monotonic() < until and not stop.requested():
                time.sleep(_RETRY_PAUSE_S)
            yield
        finally:
            os.close(descriptor)

    def read(self, name: str) -> Dict[str, Any]:
        """The value kept under this name; empty if there is none, or if it cannot be read."""
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except LockError:
            return {}
        try:
            return json_object(_read(descriptor))
        finally:
            os.close(descriptor)

    def keep(self, name: str, value: Dict[str, Any]) -> None:
        """Keep a value under a name, for the next pass; an empty value removes it."""
        self.keep_text(name, json.dumps(value) if value else "")

    def keep_text(self, name: str, text: str) -> None:
        """Keep a value, given as its text in JSON; an empty text removes it."""
        try:
            if not text:
                os.unlink(name, dir_fd=self._descriptor)
                return
            descriptor = self._open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                _write_all(descriptor, text.encode("ascii"))
            finally:
                os.close(descriptor)
            os.rename(name + ".new", name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            with suppress(OSError):
                os.unlink(name + ".new", dir_fd=self._descriptor)
            raise LockError("%s: cannot be written: %s" % (one_line(os.path.join(self.path, name)), error.strerror))

    def note(self, kind: str, value: Dict[str, Any]) -> "Note":
        """Keep a value until it is settled. If this process dies before, others find it in `leftover_notes`."""
        name = "%s-%d-%s" % (kind, os.getpid(), os.urandom(4).hex())
        # Under another name until it is complete and locked: a note without a lock counts as a dead process's.
        descriptor = self._open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(descriptor, json.dumps(value).encode("ascii"))
            os.rename(name + ".new", name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError as error:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(name + ".new", dir_fd=self._descriptor)
            raise LockError("%s: cannot be written: %s" % (one_line(os.path.join(self.path, name)), error.strerror))
        return Note(self, name, descriptor)

    def leftover_notes(self, kind: str) -> List[Tuple[str, Dict[str, Any]]]:
        """The notes of this kind of processes that died: name and value of each."""
        notes = []
        for name in sorted(os.listdir(self._descriptor)):
            if not re.match(re.escape(kind) + r"-[0-9]+-[0-9a-f]{8}\Z", name):
                continue
            try:
                descriptor = self._open(name, os.O_RDONLY)
            except LockError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                notes.append((name, json_object(_read(descriptor))))
            except OSError:
                pass  # its process lives
            finally:
                os.close(descriptor)
        return notes

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        except OSError as error:
            raise LockError("%s: cannot be opened: %s" % (one_line(os.path.join(self.path, name)), error.strerror))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise LockError("%s: is not a regular file" % one_line(os.path.join(self.path, name)))
        return descriptor


@contextmanager
def existing(path: str) -> Iterator[Optional[LockDirectory]]:
    """The lock directory for who only looks into it; None if there is none, for to open it would make it. Raise
    LockError if it cannot be used."""
    if not os.path.lexists(path):
        yield None
        return
    directory = LockDirectory(path)
    try:
        yield directory
    finally:
        directory.close()


class Note:
    """A value that is kept until it is settled, for others if this process dies before."""

    def __init__(self, directory: LockDirectory, name: str, descriptor: int) -> None:
        self._directory = directory
        self._name = name
        self._descriptor = descriptor

    def close(self, settled: bool) -> None:
        """Remove the note if it is settled, else leave it to others."""
        if settled:
            with suppress(LockError):
                self._directory.keep(self._name, {})
        os.close(self._descriptor)


class Lock:
    """A lock that is held until it is released, or this process dies.

    `previous` is what the holder before this one wrote, if it died or did not finish its work; empty if it did.
    `dead_sessions` are the sessions of holders that died. `cut_off` has what holders noted of runs by hand that they
    did not bring to their end, by policy.
    """

    def __init__(self, directory: LockDirectory, name: str, descriptor: int, holder: Dict[str, Any]) -> None:
        self.previous = json_object(_read(descriptor))
        self._directory = directory
        self._name = name
        self._descriptor = descriptor
        self._holder = dict(holder)
        self.dead_sessions = _dead_sessions(self.previous)
        if self.dead_sessions:
            # This holder may die as well, before it has closed them.
            self._holder["died"] = self.dead_sessions
        noted = self.previous.get(_BY_HAND)
        self.cut_off: Dict[str, Any] = noted if isinstance(noted, dict) else {}
        self._by_hand: Dict[str, Any] = {}
        self._write()

    def is_held(self) -> bool:
        """Whether the file that is locked is still the one that others find: else they would see no lock."""
        return self._directory.is_at(self._name, self._descriptor)

    def hold_again(self) -> bool:
        """Acquire the lock anew, after somebody has removed it. Return whether that was possible."""
        try:
            self._directory.reopen()
            descriptor = self._directory.locked(self._name, retries=0)
        except (Held, LockError):
            return False
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._write()
        return True

    def working_on(self, policies: Sequence[str], by_hand: Mapping[str, Any] = {}) -> None:
        """Write into the lock which policies, by uuid, are in hand; `by_hand` has notes of runs by hand."""
        self._holder["policies"] = list(policies)
        self._by_hand = dict(by_hand)
        self._write()

    def release(self, unfinished: Optional[Dict[str, Any]] = None) -> None:
        """Release the lock; `unfinished` is what the next holder has to know of work that did not end."""
        with suppress(OSError):
            if unfinished or self.cut_off or self._by_hand:
                self._holder = unfinished or {}
                self._write()
            else:
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _write(self) -> None:
        by_hand = dict(self.cut_off, **self._by_hand)
        text = json.dumps(dict(self._holder, **{_BY_HAND: by_hand}) if by_hand else self._holder).encode("ascii")
        with suppress(OSError):  # on a full disk; the lock itself is held all the same
            # Padded, because at every instant the file has to hold either the old text or the new one.
            length = os.fstat(self._descriptor).st_size
            os.pwrite(self._descriptor, text.ljust(length), 0)


def _locks(descriptor: int) -> bool:
    """Lock a file, if no other process has it locked. Return whether it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, 1 << 20, 0)


def _write_all(descriptor: int, text: bytes) -> None:
    """Write the whole text. A disk that is nearly full takes a part, and reports the error only at the next write."""
    while text:
        text = text[os.write(descriptor, text) :]


def _public(holder: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in holder.items() if key not in ("session", "died", _BY_HAND)}


def _dead_sessions(previous: Dict[str, Any]) -> List[str]:
    """The session of the holder before this one, if it died, and those of holders that had died before it."""
    earlier = previous.get("died")
    sessions = list(earlier) if isinstance(earlier, list) else []
    return [str(session) for session in sessions + [previous.get("session")] if session]
