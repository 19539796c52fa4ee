"""Opens the folder of locks, if nobody but who runs vmss may write to it."""

import os
import stat

from vmss.core.problem import Problem
from vmss.core.text import one_line


class LockError(Problem):
    """The lock directory cannot be used; `remedy` is what to do about it."""

    def __init__(self, text: str, remedy: str = "see whether its disk is full, or read-only: df /var/lock") -> None:
        Problem.__init__(self, text)
        self.remedy = remedy


def opened(path: str) -> int:
    """A descriptor of the lock directory, which is made if it is not there. Raise LockError if it cannot be used."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, error)
    try:
        status, around = os.fstat(descriptor), os.stat(os.pardir, dir_fd=descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise LockError(
                "%s: the lock directory has to belong to the user that runs vmss, and nobody else may write to it"
                % one_line(path),
                "chown root:root {0} && chmod 0700 {0}".format(_quoted(path)),
            )
        if around.st_mode & 0o002 and not around.st_mode & stat.S_ISVTX:
            # With a directory each, two passes would not see each other's lock.
            raise LockError(
                "%s: everybody may put another directory in place of the lock directory" % one_line(path),
                "chmod +t %s" % _quoted(os.path.dirname(os.path.abspath(path))),
            )
    except OSError as error:
        os.close(descriptor)
        raise _unusable(path, error)
    except LockError:
        os.close(descriptor)
        raise
    return descriptor


def _unusable(path: str, error: OSError) -> LockError:
    return LockError(
        "%s: the lock directory cannot be used: %s" % (one_line(path), error.strerror),
        "run this as root; if something else is there: mv {0} {0}.away".format(_quoted(path)),
    )


def _quoted(path: str) -> str:
    from vmss.edges.shell import shell_word  # not needed by an idle tick

    return shell_word(path)
