"""A file for others to read, with metrics or a report: written aside and renamed, never through a link.

Its directory may belong to that program's user. So everything is done relative to the directory, and what stands there
is read only if it is a file of our own.
"""

import os
import stat
from contextlib import suppress
from typing import NamedTuple, Optional, Tuple

from vmss.core.text import one_line

_MODE = 0o644
# A pool of 5,000 VMs has 4 MB.
_BYTES_MAX = 64 << 20


class MetricsFileError(Exception):
    """The file cannot be written; the text is one line that says why."""


class Content(NamedTuple):
    """The text of the file, and which file it was."""

    text: str
    file: Tuple[int, int]


class MetricsFile:
    """The file at a path. Use it as a context manager; raise MetricsFileError where its directory cannot be used."""

    def __init__(self, path: str, mode: int = _MODE) -> None:
        self._path = path
        self._mode = mode
        folder, self._name = os.path.split(path)
        try:
            # A directory that became a link would have root write into any other one.
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(error)

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._folder)

    def read(self) -> Optional[Content]:
        """What is in the file; None if there is none, or none of our own: it has to be a regular file of this user's,
        without a second name."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._name, flags, dir_fd=self._folder)
        except OSError:
            return None
        status = os.fstat(descriptor)
        mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if not mine or status.st_size > _BYTES_MAX:
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            return Content(file.read(_BYTES_MAX).decode("utf-8", "replace"), (status.st_dev, status.st_ino))

    def replace(self, text: str, instead_of: Optional[Content] = None) -> None:
        """Put a text in the place of whatever is there; with `instead_of`, only if that is still there. Raise
        MetricsFileError."""
        aside = ".%s.%d-%s" % (self._name, os.getpid(), os.urandom(4).hex())
        try:
            try:
                self._write(aside, text)
                if instead_of is None or self._is(instead_of):
                    os.rename(aside, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                    aside = ""
            finally:
                if aside:
                    with suppress(OSError):
                        os.unlink(aside, dir_fd=self._folder)
        except OSError as error:
            raise self._error(error)

    def remove(self) -> None:
        """Remove the file. Raise MetricsFileError."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folder)
        except OSError as error:
            raise self._error(error)

    def _write(self, name: str, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, self._mode, dir_fd=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
            os.fchmod(descriptor, self._mode)  # whatever the umask of who started the pass

    def _is(self, content: Content) -> bool:
        status = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        return (status.st_dev, status.st_ino) == content.file

    def _error(self, error: OSError) -> MetricsFileError:
        return MetricsFileError("%s: %s" % (one_line(self._path, 200), error.strerror or error))
