"""Host plugins, run as real child processes exactly as xapi runs them.

Sources: xapi: ocaml/xapi/xapi_plugins.ml, ocaml/libs/http-lib/xMLRPC.ml, ocaml/forkexecd/lib/forkhelpers.ml.
A plugin gets one argument, a methodCall, and answers with one methodResponse on its standard output.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Generator, List, NamedTuple, Optional
from xml.etree import ElementTree

from .errors import XapiError, internal_error
from .kernel import Child
from .wire import Malformed, encode_plugin_call, read_value

if TYPE_CHECKING:
    from .simulator import Simulator

# Linux allows one argument this many bytes, its final NUL included (MAX_ARG_STRLEN).
ARGUMENT_BYTES_MAX = 128 * 1024
SYSTEM_PATH = "/sbin:/usr/sbin:/bin:/usr/bin"


class Ended(NamedTuple):
    """How a child process ended; a negative status is the signal that killed it."""

    status: int
    stdout: str
    stderr: str


class Plugins:
    """The plugins of one directory."""

    def __init__(self, sim: "Simulator", directory: Optional[str], environment: Dict[str, str]) -> None:
        self.sim = sim
        self.directory = directory
        # The first entry is a deviation from xapi's PATH: a plugin that starts with `#!/usr/bin/env python3` finds
        # the interpreter the simulator runs under. So does one that starts with /usr/bin/python3: see _interpreter.
        path = "%s:%s" % (os.path.dirname(sys.executable), SYSTEM_PATH)
        self.environment = dict(environment, PATH=path)
        # Additional environment of a plugin on one host: the path of that host's socket.
        self.host_environments: Dict[str, Dict[str, str]] = {}

    def run(
        self, session: str, plugin: str, function: str, args: Dict[str, str], host: str = ""
    ) -> Generator[Any, Any, str]:
        """Run a plugin's function on a host ("": the coordinator); return the string that it answers."""
        path = self._find(plugin)
        argument = encode_plugin_call(function, session, args).encode("utf-8")
        if len(argument) + 1 > ARGUMENT_BYTES_MAX or not os.access(path, os.X_OK):
            # execve fails in the child, which xapi sees as an exit without output.
            raise XapiError("XENAPI_PLUGIN_FAILURE", "non-zero exit", "", "")
        environment = {**self.environment, **self.host_environments.get(host or self.sim.this_host, {})}
        command = [*_interpreter(path), os.fsencode(path), argument]
        ended = yield Child(lambda done: self._start(command, environment, done))
        return answer(ended)

    def _find(self, plugin: str) -> str:
        """The path of a plugin. Its name must be exactly that of a file in the directory."""
        if self.directory is None or plugin not in _names(self.directory):
            raise XapiError("XENAPI_MISSING_PLUGIN", plugin)
        return os.path.join(os.path.abspath(self.directory), plugin)

    def _start(self, command: List[bytes], environment: Dict[str, str], done: Callable[[Any], None]) -> None:
        import tempfile  # slow to load

        # Files instead of pipes: the call ends with the child, even if processes that it started run on.
        stdout, stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment, cwd="/"
            )
        except OSError as error:
            stdout.close()
            stderr.close()
            self._later(done, Ended(127, "", str(error)))
            return

        def wait() -> None:
            status = child.wait()
            ended = Ended(status, _content(stdout), _content(stderr))
            self.sim.post(lambda: done(ended))

        threading.Thread(target=wait, name="plugin", daemon=True).start()

    def _later(self, done: Callable[[Any], None], ended: Ended) -> None:
        threading.Thread(target=lambda: self.sim.post(lambda: done(ended)), daemon=True).start()


def _interpreter(path: str) -> List[bytes]:
    """What to start in the place of a plugin whose first line names /usr/bin/python3: the interpreter the simulator
    runs under, with the same option. Outside dom0 the system's own Python has no XenAPI."""
    try:
        with open(path, "rb") as file:
            found = re.match(rb"#![ \t]*/usr/bin/python3(?:[ \t]+(.*?))?[ \t]*\n", file.readline(256))
    except OSError:
        return []
    return [word for word in (os.fsencode(sys.executable), found.group(1)) if word] if found else []


def _names(directory: str) -> List[str]:
    try:
        return [name for name in os.listdir(directory) if os.path.isfile(os.path.join(directory, name))]
    except OSError:
        return []


def _content(stream: Any) -> str:
    with stream:
        stream.seek(0)
        return str(stream.read().decode("utf-8", "replace"))


def answer(ended: Ended) -> str:
    """The plugin's string; if there is none, raise the error that xapi_plugins.ml has for the case."""
    if ended.status < 0:
        raise XapiError("XENAPI_PLUGIN_FAILURE", "signal: " + _signal_name(-ended.status), ended.stdout, ended.stderr)
    if ended.status > 0:
        raise XapiError("XENAPI_PLUGIN_FAILURE", "non-zero exit", ended.stdout, ended.stderr)
    try:
        root = ElementTree.fromstring(ended.stdout)  # noqa: S314, a plugin is no stranger
    except ElementTree.ParseError as error:
        raise XapiError("XENAPI_PLUGIN_FAILURE", "failed to parse plugin output", ended.stdout, _reason(error))
    if root.tag != "methodResponse":
        raise _type_error("Element=%s should contain 'methodResponse'" % root.tag)
    if root.find("fault") is not None:
        raise _fault(root)
    value = root.find("params/param/value")
    if value is None or value.find("struct") is None:
        raise _type_error("the response should contain 'struct'")
    try:
        return _unwrap(read_value(value), ended.stdout)
    except Malformed as error:
        raise XapiError("XENAPI_PLUGIN_FAILURE", "failed to parse plugin output", ended.stdout, str(error))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # A real-time signal: OCaml has no name for it (xapi: unixext.ml, string_of_signal).
        return "(ocaml signal %d with an unknown name)" % number


def _reason(error: ElementTree.ParseError) -> str:
    # expat: 2 syntax error, 3 no element found.
    text = "unexpected end of input" if error.code == 3 else "expected root element"
    return "%s line %d" % (text, error.position[0])


def _type_error(text: str) -> XapiError:
    return internal_error('XMLRPC.RunTimeTypeError("unbox: %s", _)' % text)


def _fault(root: Any) -> XapiError:
    value = root.find("fault/value")
    struct = read_value(value) if value is not None else {}
    code, text = struct.get("faultCode", ""), struct.get("faultString", "")
    return XapiError("XENAPI_PLUGIN_FAILURE", "fault", str(code), str(text))


def _unwrap(response: Dict[str, Any], stdout: str) -> str:
    status = response.get("Status")
    if status == "Success" and isinstance(response.get("Value"), str):
        return str(response["Value"])
    description = response.get("ErrorDescription")
    texts = description if isinstance(description, list) else []
    if status == "Failure" and texts and all(isinstance(item, str) for item in texts):
        raise XapiError(*texts)
    if status in ("Success", "Failure"):
        raise _type_error("the value should be a string")
    raise XapiError("XENAPI_PLUGIN_FAILURE", "unexpected XMLRPC result", stdout)
