"""A disk that can be full: what the functions of the machine then say to whoever writes."""

import errno
import os
from contextlib import contextmanager
from typing import Any, Iterator, Optional


class Disk:
    """The disk of the log, the lock and the state. Nothing else writes through `os` while a pass runs."""

    def __init__(self) -> None:
        self._room: Optional[int] = None  # bytes; None: enough

    def fill(self, room: int) -> None:
        """Leave so many bytes: what is written may end in the middle."""
        self._room = room

    def clear(self) -> None:
        """Somebody has made room."""
        self._room = None

    def _take(self, wanted: int) -> int:
        """The bytes there is room for, of those that are wanted."""
        if self._room is None or wanted <= 0:
            return wanted
        if self._room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(wanted, self._room)
        self._room -= taken
        return taken

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let whoever writes meet this disk."""
        before = os.open, os.write, os.pwrite

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: Optional[int] = None) -> int:
            if self._room == 0 and flags & os.O_CREAT:
                try:
                    os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
                except FileNotFoundError:
                    self._take(1)
            return before[0](path, flags, mode, dir_fd=dir_fd)

        def written(descriptor: int, data: bytes) -> int:
            if self._room is None or descriptor <= 2:
                return before[1](descriptor, data)
            return before[1](descriptor, data[: self._take(len(data))])

        def written_at(descriptor: int, data: bytes, offset: int) -> int:
            if self._room is not None:
                beyond = offset + len(data) - os.fstat(descriptor).st_size
                if beyond > 0:
                    data = data[: len(data) - beyond + self._take(beyond)]
            return before[2](descriptor, data, offset)

        os.open = opened
        os.write, os.pwrite = written, written_at  # type: ignore[assignment]
        try:
            yield
        finally:
            os.open, os.write, os.pwrite = before
