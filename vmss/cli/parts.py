"""What the commands share: the layout of their help, types of arguments, and output to a terminal."""

import argparse
import os
import re
import sys
from datetime import timedelta
from typing import Any, Callable, NoReturn, Sequence

from vmss.cli.streams import WriteError, emit, give_up, tell_error
from vmss.core.problem import Problem
from vmss.core.text import one_line, quoted
from vmss.core.words import did_you_mean
from vmss.edges.settings import place
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings

STATUS = """exit status:
  0  all well, or nothing to do      1  a snapshot failed
  2  bad usage or bad input          3  no session with xapi
  4  another pass holds the lock"""

READING_STATUS = """exit status:
  0  the answer was printed, whatever it says
  2  bad usage or bad input, or the answer cannot be written
  3  no session with xapi"""

PIN_STATUS = """exit status:
  0  done
  2  bad usage, or no such snapshot is there, or it is not pinned
  3  no session with xapi, or xapi refuses it"""

LOCAL_STATUS = """exit status:
  0  done
  2  bad usage, or it cannot be done or written"""

# What stands for a snapshot schedule in the help of a command that takes one, and how it can be given.
SCHEDULE = "NAME|UUID"
BY = "its name, its uuid, or the beginning of its uuid"

INSTALL_STATUS = """exit status:
  0  everything is installed, or removed
  1  a file was kept, or the plugin does not start: a line says which and why
  2  bad usage, or it cannot be done"""


# What is said where a pool has no schedule.
NO_SCHEDULE = (
    "This pool has no snapshot schedule. To make one: vmss xe vmss-create name-label=nightly type=snapshot "
    "frequency=daily schedule:hour=2 schedule:min=30 retained-snapshots=7; it prints a uuid, and this puts a VM on it: "
    "vmss xe vm-param-set snapshot-schedule=UUID uuid=VM"
)


class NotInstalled(Problem):
    """A command whose modules are not in this installation."""


class Parser(argparse.ArgumentParser):
    """A parser that asks, of a mistyped option, which one was meant, and knows streams that cannot be written."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            emit(message, file)
        else:
            tell_error(message.rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            message += did_you_mean(unknown.group(1), known)
        super().error(message)


def new_parser(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """An empty parser of the command `vmss NAME`; `epilog` stands under the help as it is."""
    return Parser(
        prog="vmss " + name,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def need(command: str, *modules: str) -> None:
    """Raise NotInstalled unless the installation has these modules, which the RPM and `vmss install` leave out."""
    from importlib.util import find_spec

    for module in modules:
        spec = find_spec(module)
        # A directory without modules, as an upgrade may leave one, counts as a package, but has no location.
        if spec is None or not spec.has_location:
            raise NotInstalled(
                "`vmss %s` is not in this installation: the RPM and `vmss install` leave it out; run it in a checkout "
                "of the source: python3 -m vmss %s" % (command, command)
            )


def utf8(word: str) -> str:
    """The type of an argument that names something in xapi: text in UTF-8, whatever the locale is.

    An old Python decodes the words by the locale, as ASCII if there is none. Raise ValueError for what is no UTF-8.
    """
    return os.fsencode(word).decode("utf-8")


def count(low: int, high: int) -> Callable[[str], int]:
    """The type of an argument: a whole number within these bounds."""

    def parse(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError("%r is not a whole number from %d to %d" % (text, low, high))
        return int(text)

    return parse


def period(text: str) -> timedelta:
    """The type of an argument: a length of time back from now, up to a year."""
    match = re.match(r"([1-9][0-9]{0,3})([hdw])\Z", text)
    length = timedelta(hours=int(match.group(1)) * {"h": 1, "d": 24, "w": 168}[match.group(2)]) if match else None
    if length is None or length > timedelta(days=366):
        raise argparse.ArgumentTypeError("%s is not hours, days or weeks such as 24h, 30d or 4w" % quoted(text[:40]))
    return length


def say(text: str) -> None:
    """Print a line. If the terminal is gone, or the disk full, the command goes on."""
    try:
        emit(text + "\n", sys.stdout)
    except (OSError, ValueError, WriteError):
        give_up(sys.stdout)


def tell(text: str) -> None:
    """Print a line of what the command is for. Raise WriteError if it cannot be written."""
    emit(text + "\n", sys.stdout)


def be_quiet(text: str) -> None:
    """Print nothing."""


def complain(text: str) -> None:
    """Print a line on standard error."""
    tell_error("vmss: %s" % one_line(text))


def tell_changes(changed: Sequence[str], kept: Sequence[str], nothing: str) -> int:
    """Print what an installation changed, and what it kept although it should have changed it; `nothing` if there is
    neither. Return the exit status."""
    for line in changed:
        say(line)
    for line in kept:
        tell_error("vmss: " + line)
    if not changed and not kept:
        say(nothing)
    return 1 if kept else 0


def surroundings() -> Surroundings:
    """The surroundings of a command that only reads, from the environment and the settings file."""
    where = place(os.environ)
    return Surroundings(where, load(where.config), say=complain)
