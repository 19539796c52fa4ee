"""A root directory to install into: "/", or one that will be the "/" of another system."""

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import Iterator, List, NamedTuple, Optional


class FileState(NamedTuple):
    """A file as it is; without content if it is anything but a regular file."""

    content: Optional[bytes]
    mode: int


class Root:
    """The root. Paths are absolute, as that system has them. A file appears complete or not at all."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from installing or removing anything meanwhile. Raise OSError if another one is at work."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise OSError(errno.EWOULDBLOCK, "another `vmss install` or `vmss uninstall` is at work", self.path)
        finally:
            os.close(descriptor)

    def locate(self, path: str) -> str:
        """Given a path of that system, return its path on this one. Links to directories on the way lead where they
        would lead there, never out of the root; the last name is not followed."""
        done: List[str] = []
        remaining = path.split("/")[::-1]
        links = 0
        while remaining:
            name = remaining.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done[-1:] = []
                continue
            here = os.path.join(self.path, *(done + [name]))
            if not remaining or not os.path.islink(here):
                done.append(name)
                continue
            links += 1
            if links > 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here)
            target = os.readlink(here)
            if target.startswith("/"):
                done = []
            remaining.extend(target.split("/")[::-1])
        return os.path.join(self.path, *done)

    def read(self, path: str) -> Optional[FileState]:
        """The state of the file there; None if there is none."""
        place = self.locate(path)
        try:
            mode = os.lstat(place).st_mode
            if not stat.S_ISREG(mode):
                return FileState(None, mode)
            with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                return FileState(file.read(), stat.S_IMODE(mode))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Put a file there; it replaces whatever is there."""
        place = self.locate(path)
        # cron, logrotate and xapi ignore a name that begins with a dot.
        new = os.path.join(os.path.dirname(place), ".%s.new" % os.path.basename(place))
        with suppress(FileNotFoundError):
            os.unlink(new)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.rename(new, place)
        except BaseException:
            os.unlink(new)
            raise

    def make_directory(self, path: str, mode: int = 0o755) -> List[str]:
        """Make a directory with this mode, and those above it with the default mode, if they do not exist. Return
        those that were made, outer ones first."""
        place = self.locate(path + "/.")  # a directory may be a link to one
        if os.path.isdir(place):
            return []
        parent = os.path.dirname(path)
        made = self.make_directory(parent) if parent != "/" else []
        os.mkdir(place)
        os.chmod(place, mode)
        return made + [path]

    def remove_directory(self, path: str) -> None:
        """Remove a directory if it is there and empty."""
        try:
            os.rmdir(self.locate(path))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                raise
