"""`vmss xe`: the commands of xe that schedules need, over XenAPI, with xe's syntax, output and exit status."""

import os
import signal
import sys
from contextlib import suppress
from ssl import CertificateError, SSLError
from typing import Dict, List, NoReturn, Sequence, TextIO, Union

from vmss.cli.parts import utf8
from vmss.cli.streams import tell_error, why_not
from vmss.core.problem import EXIT_FAILED, EXIT_OK, Problem
from vmss.core.text import one_line
from vmss.edges.settings import Place, place
from vmss.edges.settings_file import load
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.insight.no_session import remedy_of
from vmss.xe.commands import command_of, describe, run
from vmss.xe.errors import XeError, error_lines
from vmss.xe.layout import Output, render
from vmss.xe.session import Session, Terminal
from vmss.xe.syntax import Line, parse

# The originator of the sessions in xapi, other than that of the runs.
_ORIGINATOR = "vmss xe"


def main(words: Sequence[str]) -> int:
    """Carry out the command and return xe's exit status: 0, or 1 with the reason on standard error."""
    try:
        line = parse([_utf8(word) for word in words])
        minimal = line.flag("minimal")
        if line.help or line.command == "help":
            _print(render(describe(() if line.help else line.words), minimal), sys.stdout)
            return EXIT_OK
        if not line.command:
            tell_error(render(describe(()), False).rstrip("\n"))
            return EXIT_FAILED
        _print(render(_in_session(line), minimal), sys.stdout)
    except Problem as error:
        tell_error(str(error))
        return EXIT_FAILED
    return EXIT_OK


def _utf8(word: str) -> str:
    try:
        return utf8(word)
    except UnicodeDecodeError:
        raise XeError("Error: %s is not valid UTF-8" % one_line(word, 80))


def _in_session(line: Line) -> Output:
    command = command_of(line)
    where = _place(line)
    settings = load(where.config)
    limit = settings.pass_limit if command.slow else settings.call_limit
    signal.signal(signal.SIGTERM, _end)
    xapi = Xapi(where.xapi, settings.verify_tls, settings.ca_file, limit)
    shown = _fit_for_terminal if _on_terminal(sys.stdout) else _as_it_is
    session = Session(xapi, Terminal(shown, _say, _answer))
    try:
        # On its own socket xapi trusts every client.
        xapi.login(where.user, "" if xapi.unix else where.password or "", _ORIGINATOR)
        return run(session, line)
    except Refused as refused:
        lines = error_lines(refused, session.described)
        raise XeError("\n".join(lines if xapi.session else lines + ["To do: " + _remedy(refused, where, line)]))
    except Unanswered as error:
        raise XeError("Error: %s: %s\nTo do: %s" % (one_line(where.xapi), error, _remedy(error, where, line)))
    finally:
        if xapi.session:
            with suppress(Refused, Unanswered):
                xapi.logout()
        xapi.close()


def _remedy(error: Union[Refused, Unanswered], where: Place, line: Line) -> str:
    """What to do where there is no session. What the line says of the connection, the environment cannot mend."""
    given = {name for name, _ in line.login}
    if isinstance(error, Refused) and error.code == "HOST_IS_SLAVE" and "server" in given and len(error.error) > 1:
        return "ask the coordinator: -s %s" % one_line(error.error[1], 100)
    if isinstance(error, Refused) and error.code == "SESSION_AUTHENTICATION_FAILED" and given - {"server", "port"}:
        return "give a user of the pool and the password, on two lines of a file: -pwf FILE"
    if (
        isinstance(error, Unanswered)
        and "server" in given
        and not isinstance(error.__cause__, (SSLError, CertificateError))
    ):
        return "see on that host whether xapi runs: systemctl status xapi"
    return remedy_of(error, where)


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)  # SystemExit, so that the session is closed on the way


def _place(line: Line) -> Place:
    """The address of xapi and the user: those of the line, otherwise those of the environment."""
    where = place(os.environ)
    login = dict(line.login)
    if "passwordfile" in login:
        where = where._replace(**_password_file(login["passwordfile"]))
    if "server" in login:
        port = ":" + login["port"] if "port" in login else ""
        server = login["server"]
        host = "[%s]" % server if server.count(":") > 1 and not server.startswith("[") else server
        where = where._replace(xapi="https://%s%s" % (host, port))
    return where._replace(user=login.get("username", where.user), password=login.get("password", where.password))


def _password_file(path: str) -> Dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines: List[str] = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise XeError("Error: the password file %s cannot be read: %s" % (one_line(path), reason))
    if len(lines) < 2:
        raise XeError(
            "Error: the password file %s needs the user on its first line, the password on its second" % one_line(path)
        )
    return {"user": lines[0], "password": lines[1]}


def _say(lines: Sequence[str]) -> None:
    _print("".join(line + "\n" for line in lines), sys.stdout)


def _answer() -> str:
    """The next line of standard input. Raise XeError if there is none: who cannot answer has not agreed."""
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise XeError("Error: no answer on standard input: nothing was done (force=true does not ask)")
    return line.rstrip("\r\n")


def _as_it_is(text: str, lines: bool) -> str:
    return text


def _fit_for_terminal(text: str, lines: bool) -> str:
    """A text from the pool, with the control characters escaped that a terminal could obey."""
    parts = text.split("\n") if lines else [text]
    return "\n".join(one_line(part, len(part)) for part in parts)


def _on_terminal(stream: TextIO) -> bool:
    return stream is not None and stream.isatty()  # None: closed by the caller


def _print(text: str, stream: TextIO) -> None:
    """Write the text as UTF-8, as xe does in every locale; to a terminal, in its encoding. Raise XeError if it cannot
    be written."""
    encoding = stream.encoding if _on_terminal(stream) else "utf-8"
    data = text.encode(encoding, "backslashreplace")
    try:
        while data:
            # Not through Python's buffer, which would retry a failed write when the interpreter exits.
            data = data[os.write(stream.fileno(), data) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise XeError("Error: the answer cannot be written: %s" % why_not(error))
