"""The directory of hooks: which programs in it root may start, and why it may not start the others.

They are started as root. So each has to be a file that nobody but root can have written, or can put another in the
place of: in its directory, and in all above it.
"""

import os
import stat
from typing import Dict, Iterator, List, NamedTuple

from vmss.core.hooks import BEFORE_VM, PHASES, phase_of
from vmss.core.text import one_line
from vmss.edges.shell import shell_word

# Upper limit on the entries that are looked at.
_ENTRIES_MAX = 1000


class NotRun(NamedTuple):
    """What is not started: its path, why, and the command that mends it."""

    path: str
    why: str
    remedy: str


class Found(NamedTuple):
    """What a directory has: the paths of the hooks of each phase in their order, and what is refused."""

    hooks: Dict[str, List[str]]
    refused: List[NotRun]

    @property
    def number(self) -> int:
        """The number of hooks."""
        return sum(map(len, self.hooks.values()))


def freeze_guests(path: str) -> bool:
    """Whether hooks in a directory may have guests stand still until their snapshots are taken."""
    return bool(read_hooks(path).hooks[BEFORE_VM])


def read_hooks(path: str) -> Found:
    """The hooks in a directory. One that does not exist has none, and so has an empty path."""
    hooks: Dict[str, List[str]] = {phase: [] for phase in PHASES}
    try:
        names = sorted(os.listdir(path))[:_ENTRIES_MAX]
    except FileNotFoundError:
        return Found(hooks, [])
    except OSError as error:
        why = "the directory of hooks cannot be read: %s" % error.strerror
        return Found(hooks, [NotRun(path, why, _LOOK % shell_word(path))])
    names = [name for name in names if not name.startswith(".")]
    if not names:
        return Found(hooks, [])
    refused = list(_of_directories(path))
    if refused:
        return Found(hooks, refused)
    for name in names:
        file = os.path.join(path, name)
        refused += _of_file(file, phase_of(name))
        if not refused or refused[-1].path != file:
            hooks[phase_of(name)].append(file)
    return Found(hooks, refused)


def _of_directories(path: str) -> Iterator[NotRun]:
    """Why the directory cannot be trusted: the first reason on the way to it from the root of the file system."""
    real = os.path.realpath(path)
    if real != os.path.abspath(path):
        yield NotRun(
            path,
            "a link leads to the directory of hooks",
            "name the directory itself in /etc/vmss.conf: hooks_dir = %s" % one_line(real),
        )
        return
    above = [real]
    while above[-1] != os.path.dirname(above[-1]):
        above.append(os.path.dirname(above[-1]))
    for directory in reversed(above):
        try:
            status = os.lstat(directory)
        except OSError as error:
            yield NotRun(directory, "it cannot be examined: %s" % error.strerror, _LOOK % shell_word(directory))
            return
        if _is_others(status):
            yield NotRun(
                directory,
                "others than root can write to it, and so put programs of their own in the place of hooks",
                _OWNED.format(shell_word(directory)),
            )
            return


_OWNED = "chown root {0} && chmod go-w {0}"
_AWAY = "mv %s %s/"
_LOOK = "see what it is: ls -ld %s"


def _of_file(path: str, phase: str) -> Iterator[NotRun]:
    """Why an entry of the directory is not started: one reason, or none."""
    word, above = shell_word(path), shell_word(os.path.dirname(os.path.dirname(path)))
    try:
        status = os.lstat(path)
    except OSError as error:
        yield NotRun(path, "it cannot be examined: %s" % error.strerror, _LOOK % word)
        return
    if not stat.S_ISREG(status.st_mode):
        yield NotRun(
            path, "it is no regular file", "take it away, and put the program itself there: " + _AWAY % (word, above)
        )
    elif not phase:
        names = ", ".join(PHASES)
        why = "its name is none of a hook (%s, or one of them with - and more)" % names
        yield NotRun(path, why, "rename it, or take it away: " + _AWAY % (word, above))
    elif _is_others(status):
        yield NotRun(path, "others than root can write to it", _OWNED.format(word))
    elif not status.st_mode & stat.S_IXUSR:
        yield NotRun(path, "it is not executable", "chmod u+x %s" % word)


def _is_others(status: os.stat_result) -> bool:
    """Whether others than root can write to what has this status, or make it so."""
    return bool(status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
