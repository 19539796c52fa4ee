"""All commands of xe that `vmss xe` has, and what `help` says of them."""

from typing import Dict, Sequence, Tuple

from vmss.core.text import quoted
from vmss.core.words import did_you_mean
from vmss.edges.xapi import understood
from vmss.xe import commands_of_others, commands_of_vms
from vmss.xe.classes import CLASSES
from vmss.xe.command import Command
from vmss.xe.commands_of_fields import on_fields
from vmss.xe.errors import UsageError
from vmss.xe.layout import Output
from vmss.xe.session import Session
from vmss.xe.syntax import Line


def run(session: Session, line: Line) -> Output:
    """Carry out a command line. Raise XeError, Refused or Unanswered."""
    command = command_of(line)
    with understood(line.command):
        return command.do(session, line)


def command_of(line: Line) -> Command:
    """The command of a line. Raise UsageError if it is unknown or the line lacks a required parameter."""
    command = COMMANDS.get(line.command)
    if command is None:
        raise _unknown(line.command)
    for name in command.needs:
        line.need(name)
    return command


def _unknown(name: str) -> UsageError:
    return UsageError("Unknown command: %s%s" % (quoted(name), did_you_mean(name, COMMANDS)))


def _help(session: Session, line: Line) -> Output:
    return describe(line.words)


def describe(names: Sequence[str]) -> Output:
    """The help on these commands, or the overview if there are none. Raise UsageError."""
    if not names:
        return Output(lines=_overview())
    for name in names:
        if name not in COMMANDS:
            raise _unknown(name)
    return Output(
        tuple(
            (
                ("command name        ", name),
                ("reqd params     ", ", ".join(COMMANDS[name].needs)),
                ("optional params ", ", ".join(COMMANDS[name].may_have)),
                ("description     ", COMMANDS[name].text),
            )
            + tuple(("%-16s" % parameter, values) for parameter, values in COMMANDS[name].values)
            for name in names
        )
    )


def _overview() -> Tuple[str, ...]:
    lines = [
        "Usage: vmss xe COMMAND [NAME=VALUE ...] [--minimal]",
        "       with -s SERVER [-p PORT] -u USER -pwf FILE: over TLS to this server instead of VMSS_XAPI",
        "The commands of xe that snapshot schedules need; `vmss xe help COMMAND` describes one:",
    ]
    for cls in CLASSES:
        prefix = cls.name + "-"
        rest = [
            name[len(prefix) :]
            for name, command in COMMANDS.items()
            if name.startswith(prefix) and name != "host-call-plugin"
        ]
        lines.append("  %s%s" % (prefix, ", -".join(rest)))
    return tuple(lines + ["  host-call-plugin", "  help"])


COMMANDS: Dict[str, Command] = {}
for _cls in CLASSES:
    COMMANDS.update(on_fields(_cls))
COMMANDS.update(commands_of_vms.COMMANDS)
COMMANDS.update(commands_of_others.COMMANDS)
COMMANDS.update({"help": Command((), (), "Shows the usage of the commands given.", _help)})
