"""The manual page vmss(8), as roff: made from the parsers of the commands and the tables of settings and files.

Packages and `vmss install` take the copy in vmss/data, for XenAPI may be missing where a package is built. To update
it: `vmss manual >vmss/data/usr/share/man/man8/vmss.8`.
"""

import argparse
import os
import re
import textwrap
from datetime import datetime, timezone
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

from vmss.cli.main import COMMANDS, parser, parsers
from vmss.cli.parts import STATUS
from vmss.edges.settings import DEFAULT_CONFIG, DEFAULT_LOCK_DIR, DEFAULT_LOG, POOL_PREFIX, Place, Settings
from vmss.edges.settings_table import SETTINGS, described, shown
from vmss.installation.install import CRON, EXAMPLE, FILES, PLUGIN
from vmss.installation.modules import PRIVATE
from vmss.version import VERSION
from vmss.xe.commands import describe

DESCRIPTION = (
    "A XAPI host plugin takes the snapshots of a pool's snapshot schedules (VMSS objects, also called policies), "
    "deletes the ones that have expired with all their disks, raises the alerts that XenCenter shows as the run "
    "history, and writes it all to %s. Cron starts it every 15 minutes on every host; only the pool's coordinator "
    "works. The command `vmss` does the same by hand, and says what is scheduled, how it went, and what is wrong."
    % DEFAULT_LOG
)

# The variables of the environment: names, default, meaning. The table in docs/settings.md is the same.
ENVIRONMENT: Tuple[Tuple[Tuple[str, ...], str, str], ...] = (
    (("VMSS_XAPI",), Place().xapi, "where xapi is: `unix:PATH`, or `https://HOST` (takes and deletes no snapshots)"),
    (("VMSS_CONFIG",), Place().config, "the configuration file"),
    (("VMSS_LOG",), Place().log, "the log; standard error where it cannot be opened"),
    (("VMSS_LOCK_DIR",), Place().lock_dir, "the lock, and what is kept from one pass to the next"),
    (("VMSS_USER", "VMSS_PASSWORD"), Place().user + ", none", "for `https://HOST`"),
)

# The meanings of files that their names do not tell; the others of an installation are listed without one.
_FILES = {
    DEFAULT_CONFIG: "the settings",
    EXAMPLE: "all settings with their defaults",
    DEFAULT_LOG: "the log",
    DEFAULT_LOCK_DIR: "the lock, and what is kept from one pass to the next",
    PLUGIN: "the host plugin",
    CRON: "starts a pass every 15 minutes",
    PRIVATE: "the modules",
}

LOG = (
    "Every pass writes lines of the form `May 21 10:15:01 HOST VMSS: [PID] TEXT` to %s. Their texts are those of the "
    "vendor's article CTX224169; docs/alerts-and-log.md in the source explains each, and the alerts. "
    "`vmss doctor` reads them for you." % DEFAULT_LOG
)

_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


def page(environment: Mapping[str, str] = os.environ) -> str:
    """The page, in ASCII. It has a date only if SOURCE_DATE_EPOCH gives one."""
    return "\n".join(_lines(environment)) + "\n"


def escaped(text: str) -> str:
    """Given a plain text, return it so that roff shows every character as it is: a hyphen as one that can be copied
    into a shell."""
    return "".join(
        _SPECIAL.get(character) or (character if ord(character) < 128 else "\\[u%04X]" % ord(character))
        for character in text
    )


def _lines(environment: Mapping[str, str]) -> Iterator[str]:
    yield '.TH VMSS 8 "%s" "vmss %s"' % (_date(environment), escaped(VERSION))
    top, known = parser(), parsers()
    yield ".SH NAME"
    yield escaped("vmss - %s" % (top.description or "").rstrip("."))
    yield ".SH SYNOPSIS"
    yield from _synopses(top, known)
    yield ".SH DESCRIPTION"
    yield prose(DESCRIPTION)
    yield from _options(top)
    yield ".SH COMMANDS"
    for name, command in known.items():
        yield from _command(name, COMMANDS[name], command)
    yield ".SH SETTINGS"
    yield prose(
        "In %s, section `[vmss]`, or for the whole pool in `pool.other_config` with the prefix `%s`, which "
        "wins. For one schedule, those that say so: below a line `[vmss:SCHEDULE]`, or with the prefix `%sUUID:`."
        % (DEFAULT_CONFIG, POOL_PREFIX, POOL_PREFIX)
    )
    for setting in SETTINGS:
        yield from _item(setting.name, _default(getattr(Settings(), setting.name)), described(setting))
    yield ".SH ENVIRONMENT"
    for names, default, text in ENVIRONMENT:
        yield from _item(", ".join(names), "(default %s)" % default, text)
    yield ".SH FILES"
    for path in sorted(set(_FILES) | {file.path for file in FILES}):
        yield from _item(path, "", _FILES.get(path, ""))
    yield ".SH EXIT STATUS"
    yield from literal(STATUS.split("\n")[1:])
    yield ".SH LOG"
    yield prose(LOG)


def _date(environment: Mapping[str, str]) -> str:
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), timezone.utc).strftime("%Y-%m-%d") if epoch.isdigit() else ""


def _default(value: object) -> str:
    text = shown(value)
    return "(default %s)" % text if text else ""


def _synopses(top: argparse.ArgumentParser, known: Mapping[str, Optional[argparse.ArgumentParser]]) -> Iterator[str]:
    yield " ".join(["\\fBvmss\\fR"] + [_word(action) for action in actions(top)])
    for name, command in known.items():
        words = ["\\fB%s\\fR" % escaped("vmss " + name)]
        if command is None:
            words.append("\\fICOMMAND\\fR [\\fINAME=VALUE\\fR ...]")
        else:  # every command has --help: it is not repeated
            words.extend(_word(action) for action in actions(command) if "-h" not in action.option_strings)
        yield ".br"
        yield " ".join(words)


def _word(action: argparse.Action) -> str:
    """An argument as it stands in a synopsis."""
    if action.option_strings:
        return "[%s]" % _head(action, action.option_strings[-1:])
    word = "\\fI%s\\fR" % escaped(metavar(action))
    return "[%s]" % word if action.nargs in ("?", "*") else word


def _head(action: argparse.Action, names: Sequence[str]) -> str:
    """The names of an option, and what stands for its value."""
    value = " \\fI%s\\fR" % escaped(metavar(action)) if action.nargs != 0 else ""
    return ", ".join("\\fB%s\\fR" % escaped(name) for name in names) + value


def actions(of: argparse.ArgumentParser) -> List[argparse.Action]:
    """The arguments of a parser that users see, without the commands of `vmss` itself."""
    return [
        action
        for action in of._actions
        if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction)
    ]


def metavar(action: argparse.Action) -> str:
    """What stands for the value of an argument."""
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _command(name: str, text: str, command: Optional[argparse.ArgumentParser]) -> Iterator[str]:
    yield ".SS %s" % escaped("vmss " + name)
    if command is None:
        yield prose(text[:1].upper() + text[1:] + ".")
        yield ".PP"
        yield from literal(list(describe(()).lines or ()))
        return
    yield prose(command.description or text)
    yield from _options(command)
    epilog = (command.epilog or "").replace(STATUS, "")
    for part in re.split(r"\n\s*\n", epilog.strip("\n")):
        yield from _part(part)


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in actions(command):
        if "-h" in action.option_strings and command.prog != "vmss":
            continue
        yield ".TP"
        yield _head(action, action.option_strings) if action.option_strings else _word(action)
        # argparse substitutes %(default)s and the like.
        yield prose((action.help or "") % dict(vars(action), prog=command.prog))


def _part(part: str) -> Iterator[str]:
    """A paragraph of an epilog: literally if it has indented lines, otherwise as text."""
    lines = part.split("\n")
    if not part.strip():
        return
    if not any(line.startswith(" ") for line in lines):
        yield ".PP"
        yield prose(" ".join(lines))
        return
    if not lines[0].startswith(" "):
        heading = lines.pop(0)
        yield ".PP"
        yield prose(heading[:1].upper() + heading[1:])
    yield ".PP"
    yield from literal(lines)


def literal(lines: List[str]) -> Iterator[str]:
    """Lines with their own layout."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    yield ".RS 2"
    yield ".nf"
    for line in lines:
        yield _safe(escaped(line[margin:].rstrip()))
    yield ".fi"
    yield ".RE"


def _item(name: str, beside: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield ("\\fB%s\\fR %s" % (escaped(name), escaped(beside))).rstrip()
    yield prose(text) if text else "\\&"


def prose(text: str) -> str:
    """A text for filling; what is between backquotes is bold. Each sentence begins a line, as roff recommends."""
    parts = re.split("`([^`]+)`", " ".join(text.split()))
    whole = "".join("\\fB%s\\fR" % escaped(part) if number % 2 else escaped(part) for number, part in enumerate(parts))
    return "\n".join(
        _safe(line)
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", whole)
        for line in textwrap.wrap(sentence, 78, break_long_words=False, break_on_hyphens=False)
    )


def _safe(line: str) -> str:
    """A line, escaped if roff would take it for a request."""
    return "\\&" + line if line.startswith((".", "'")) else line or "\\&"
