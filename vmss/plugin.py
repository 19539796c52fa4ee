"""The XAPI host plugin: its functions, the protocol that xapi speaks with it, and the start by cron.

xapi runs the plugin with one argument, an XML-RPC methodCall whose parameters are a session of the caller and a map of
texts, and takes the plugin's whole standard output as the answer (ocaml/xapi/xapi_plugins.ml).
"""

import json
import os
import select
import sys
import time
import xmlrpc.client
from contextlib import suppress
from datetime import timezone
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence
from xml.parsers.expat import ExpatError

from vmss.core import messages
from vmss.core.problem import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_LOCKED, Problem, UnknownPolicy
from vmss.core.text import is_uuid, one_line
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.log import Log
from vmss.edges.sessions import NoSession
from vmss.edges.settings import place
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings, drop_callers_environment, on_coordinator
from vmss.edges.world import read_pool
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.insight.published import run
from vmss.passes.request import Report, Request
from vmss.version import VERSION

# The seconds in which a run in the background has to begin, after all retries of its login.
STARTS_S = 1800.0
# Those in which it has to end, if the caller waits for that. `pass_limit` may allow a week.
ENDS_S = 700000.0


class PluginFailure(Exception):
    """A failure for the caller of the plugin, as XAPI has it: a code and its parameters."""

    def __init__(self, code: str, *params: str) -> None:
        self.error = [one_line(item, 1000) for item in (code,) + params]
        Exception.__init__(self, *self.error)


# The start by cron


def trigger() -> int:
    """One pass, as cron starts it. Return its exit status; the reason why it could not begin is one line on standard
    error, which cron mails."""
    dropped = drop_callers_environment()
    if dropped:
        print("vmss: %s" % dropped, file=sys.stderr)
    stop.install()
    try:
        return run(Request(kicked=True), _surroundings()).status
    except Problem as problem:
        print("vmss: %s" % problem, file=sys.stderr)
        return problem.status


def _surroundings() -> Surroundings:
    where = place(os.environ)
    return Surroundings(where, load(where.config))


# The functions


def snapshot_now(session: str, args: Mapping[str, str]) -> str:
    """Run the policy `vmss_uuid` now, whatever its schedule. Answer as soon as the run holds the lock and has
    started in the background; with `wait` = true when it has ended."""
    _check_names(args, "vmss_uuid", "wait")
    uuid = args.get("vmss_uuid", "")
    if not is_uuid(uuid):
        raise PluginFailure("INVALID_VALUE", "vmss_uuid", uuid)
    return _in_background(Request(policy=uuid), _has_to_wait(args))


def trigger_schedule_snapshots(session: str, args: Mapping[str, str]) -> str:
    """Serve what is due, in the background like `snapshot_now`."""
    _check_names(args, "wait")
    return _in_background(Request(kicked=True), _has_to_wait(args))


def status(session: str, args: Mapping[str, str]) -> str:
    """The holder of this pool's lock, as JSON: `running`, and `holder` with pid, since and policies."""
    _check_names(args)
    where = place(os.environ)
    answer: Dict[str, Any] = {"version": VERSION, "coordinator": not where.local or on_coordinator()}
    xapi = Xapi(where.xapi)
    xapi.adopt(session)  # the caller opened it, and will close it
    try:
        pool = read_pool(xapi)
        directory = LockDirectory(where.lock_dir)
        answer["holder"] = directory.holder(pool.uuid)
        directory.close()
    except (Refused, Unanswered) as error:
        raise PluginFailure(messages.LOGON_FAILURE, str(error))
    except LockError as error:
        raise PluginFailure("INTERNAL_ERROR", str(error))
    finally:
        xapi.close()
    answer["running"] = answer["holder"] is not None
    return json.dumps(answer, sort_keys=True)


FUNCTIONS: Dict[str, Callable[[str, Mapping[str, str]], str]] = {
    "snapshot_now": snapshot_now,
    "trigger_schedule_snapshots": trigger_schedule_snapshots,
    "status": status,
}


def _check_names(args: Mapping[str, str], *names: str) -> None:
    for name in args:
        if name not in names:
            raise PluginFailure("INVALID_VALUE", name, args[name])


def _has_to_wait(args: Mapping[str, str]) -> bool:
    wait = args.get("wait", "false")
    if wait not in ("true", "false"):
        raise PluginFailure("INVALID_VALUE", "wait", wait)
    return wait == "true"


def _in_background(request: Request, wait: bool) -> str:
    """Run a pass in a process of its own, which reports to this one through a pipe: that it has started, and how it
    ended."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _child(request, writing)
    os.close(writing)
    started = False
    try:
        for message in messages_of(reading, ENDS_S if wait else STARTS_S):
            if "error" in message:
                raise PluginFailure(*message["error"])
            if "line" in message:
                return str(message["line"])
            started = True
            if not wait:
                return "started"
    finally:
        os.close(reading)
    raise PluginFailure("VMSS_STOPPED" if started else "INTERNAL_ERROR", "the run ended without an answer: see the log")


def messages_of(pipe: int, seconds: float) -> Iterator[Dict[str, Any]]:
    """What the process at the other end of a pipe reports until it ends. Raise PluginFailure after so many seconds."""
    until, text = time.monotonic() + seconds, b""
    while True:
        if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            raise PluginFailure("INTERNAL_ERROR", "the run does not answer: see the log")
        more = os.read(pipe, 65536)
        if not more:
            return
        *lines, text = (text + more).split(b"\n")
        for line in lines:
            yield json.loads(line.decode("utf-8"))


def _child(request: Request, pipe: int) -> None:
    """The process in the background. It closes the standard streams of its parent, for xapi reads them to the end."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        stop.install()
        code = _report(request, lambda message: _tell(pipe, message))
    except BaseException as bug:  # noqa: BLE001 - nobody else would report it
        _tell(pipe, {"error": ["INTERNAL_ERROR", repr(bug)]})
        Log(place(os.environ).log, Clock().now, timezone.utc)("The run ended in an error of its own: %r" % bug)
    finally:
        os._exit(code)


def _tell(pipe: int, message: Dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the caller did not wait
        os.write(pipe, json.dumps(message).encode("ascii") + b"\n")


def _report(request: Request, tell: Callable[[Dict[str, Any]], None]) -> int:
    try:
        where = place(os.environ)
        if where.local and not on_coordinator():
            raise PluginFailure("HOST_IS_SLAVE", "this host is not the pool's coordinator")
        around = _surroundings()._replace(started=lambda: tell({"started": True}))
        report = run(request, around)
        failure = _failure(report)
        tell({"line": report.line} if failure is None else {"error": failure})
        return report.status
    except PluginFailure as failed:
        tell({"error": failed.error})
        return EXIT_BAD_INPUT
    except UnknownPolicy as problem:
        tell({"error": ["UUID_INVALID", "VMSS", str(request.policy)]})
        return problem.status
    except Problem as problem:
        code = messages.LOGON_FAILURE if isinstance(problem, NoSession) else "INTERNAL_ERROR"
        tell({"error": [code, str(problem)]})
        return problem.status


def _failure(report: Report) -> Optional[List[str]]:
    if report.status == EXIT_LOCKED:
        return [messages.LOCK_FAILED, messages.SENTENCES[messages.LOCK_FAILED], report.line]
    return [messages.FAILED, report.line] if report.status == EXIT_FAILED else None


# The protocol


def main(argv: Sequence[str]) -> int:
    """Answer one call of xapi: `argv` is the plugin's name and the methodCall."""
    drop_callers_environment()
    if len(argv) != 2 or not argv[1].lstrip().startswith("<"):
        print(
            "%s: a host plugin, which xapi runs: xe host-call-plugin plugin=vmss fn=%s host-uuid=COORDINATOR"
            % (argv[0], "|".join(sorted(FUNCTIONS))),
            file=sys.stderr,
        )
        return 2
    answer: Dict[str, Any]
    try:
        answer = {"Status": "Success", "Value": _dispatch(argv[1])}
    except PluginFailure as failure:
        answer = {"Status": "Failure", "ErrorDescription": failure.error}
    # xapi starts a plugin without a locale: so the encoding is not Python's default.
    sys.stdout.buffer.write(xmlrpc.client.dumps((answer,), methodresponse=True, encoding="utf-8").encode("utf-8"))
    sys.stdout.flush()
    return 0


def _dispatch(call: str) -> str:
    try:
        # Without a locale Python 3.6 decodes the argument as ASCII: this gives back its bytes.
        params, name = xmlrpc.client.loads(os.fsencode(call))
        session, args = params
    except (ValueError, TypeError, LookupError, ArithmeticError, ExpatError, xmlrpc.client.Error):
        raise PluginFailure("XENAPI_PLUGIN_FAILURE", "the argument is not a call of a plugin's function")
    function = FUNCTIONS.get(str(name))
    if function is None:
        raise PluginFailure("UNKNOWN_XENAPI_PLUGIN_FUNCTION", str(name))
    if not isinstance(args, dict) or not all(isinstance(value, str) for value in args.values()):
        raise PluginFailure("XENAPI_PLUGIN_FAILURE", str(name), "the arguments are not a map of texts")
    return function(str(session), args)
