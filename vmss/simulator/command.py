"""The command `vmss simulator`: an embedded xapi in the foreground."""

import argparse
import gc
import os
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Tuple

from .copies import build_large_pool
from .faults import BadRule, Rule, read_rules
from .listening import ServerError
from .server import Endpoint, Server
from .simulator import Simulator
from .state import StateError, claimed
from .table import no_garbage

# When Python looks for cycles among its objects. A pool has millions of them and next to no cycles, so by default that
# takes a quarter of the time.
GARBAGE = (50000, 20, 20)

EPILOG = """\
examples:
  vmss simulator --socket xapi.sock
      a pool of 2 hosts, 2 SRs and 6 VMs; any XenAPI client may use the socket
  vmss simulator --socket xapi.sock --hosts 3 --srs 4 --vms 40 --seed 7
      another pool, the same one every time
  vmss simulator --socket xapi.sock --state pool.json --vms 0
      an empty pool, kept in pool.json when the simulator ends
  vmss simulator --socket xapi.sock --now 2026-03-29T00:50:00Z --speed 60
      a clock that starts at a given time and runs an hour a minute
  vmss simulator --http 127.0.0.1:8080 --password-file secret
      XML-RPC for root over HTTP, JSON-RPC on /jsonrpc; the password is the first line of the file `secret`
  vmss simulator --socket xapi.sock --http 127.0.0.1:8080 --hosts 3 --members
      every host has sockets of its own: the others are on xapi.sock.host2, port 8081, and so on
  vmss simulator --socket xapi.sock --plugin-env VMSS_LOG=$PWD/log --plugin-env VMSS_LOCK_DIR=$PWD/lock
      host plugins write where you may, if you are not root
  vmss simulator --socket xapi.sock --faults faults.json
      calls that fail, hang, lose their connection or are late; with this faults.json the second VM.snapshot kills
      xapi, which is back after 30 s:
      [{"method": "*VM.snapshot", "skip": 1, "action": "restart", "way": "kill", "seconds": 30}]
"""


class BadArgument(Exception):
    """An argument that cannot be used; the message is one line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vmss simulator` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--socket", metavar="PATH", help="serve on this unix socket; every client is root")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve HTTP at this address; port 0: any free port")
    parser.add_argument("--https", metavar="HOST:PORT", help="serve HTTPS at this address")
    parser.add_argument(
        "--any-host",
        action="store_true",
        help="serve HTTP and HTTPS at addresses that other machines reach, and under any name; needs --password-file",
    )
    parser.add_argument("--certificate", metavar="PEM", help="certificate and private key for --https, in one file")
    parser.add_argument("--password-file", metavar="FILE", help="file with root's password for HTTP and HTTPS")
    parser.add_argument("--hosts", metavar="N", type=_count, default=2, help="hosts to build, at least 1 (2)")
    parser.add_argument("--srs", metavar="N", type=_count, default=2, help="SRs to build (2)")
    parser.add_argument("--vms", metavar="N", type=_count, default=6, help="VMs to build (6)")
    parser.add_argument("--disks", metavar="N", type=_count, default=2, help="disks of each VM (2)")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="seed of all random numbers (1)")
    parser.add_argument("--state", metavar="FILE", help="file in which the pool is kept between runs")
    parser.add_argument("--plugins", metavar="DIR", help="directory of host plugins")
    parser.add_argument(
        "--plugin-env",
        metavar="NAME=VALUE",
        type=_variable,
        action="append",
        default=[],
        help="a variable for host plugins, which get none of yours; may be repeated",
    )
    parser.add_argument(
        "--members", action="store_true", help="serve the other hosts too: at PATH.host2 and so on, at the next ports"
    )
    parser.add_argument("--faults", metavar="FILE", help="file of faults to activate: a JSON array of rules")
    parser.add_argument("--now", metavar="TIME", type=_time, help="time of the clock at the start, in ISO 8601 (now)")
    parser.add_argument("--speed", metavar="N", type=_speed, default=1.0, help="speed of the clock (1: real time)")


def main(args: argparse.Namespace, socket_variable: str = "") -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. `socket_variable` is the environment variable in which
    host plugins find the path of the socket; a real xapi needs none, because its path is always the same."""
    try:
        with ExitStack() as held:
            if args.state is not None:
                held.enter_context(claimed(args.state))
            _serve(args, socket_variable)
    except (BadArgument, BadRule, ServerError, StateError) as error:
        _complain(str(error))
        return 2
    return 0


def _serve(args: argparse.Namespace, socket_variable: str) -> None:
    if args.socket is None and args.http is None and args.https is None:
        raise BadArgument("one of --socket, --http and --https is required")
    if args.any_host and args.password_file is None:
        raise BadArgument("--any-host needs --password-file: everybody knows the default password")
    if args.hosts < 1:
        raise BadArgument("--hosts must be at least 1")
    if args.plugins is not None and not os.path.isdir(args.plugins):
        raise BadArgument("the plugin directory %s is not a directory" % args.plugins)
    gc.set_threshold(*GARBAGE)
    first = _endpoint(args)
    environment = _plugin_environment(socket_variable, first)
    sim = _simulator(args, environment, _read_faults(args.faults))
    sim.state_path = args.state
    if args.state is not None and not os.path.exists(args.state):
        _save(sim, args.state)  # what cannot be written is said now, and not when all has been done
    members = _members(sim, first) if args.members else None
    if members is not None:
        # A plugin connects to its own host, whether or not that is the coordinator by then.
        for host, endpoint in {sim.hosts.coordinator: first, **members}.items():
            sim.plugins.host_environments[host] = _plugin_environment(socket_variable, endpoint)
    server = Server(sim, *first, members=members, any_host=args.any_host)
    server.run(lambda: _announce(sim, server))
    if args.state is not None:
        _save(sim, args.state)


def _endpoint(args: argparse.Namespace) -> Endpoint:
    """The endpoint of the coordinator."""
    http = None if args.http is None else _address("--http", args.http)
    if args.https is None:
        return Endpoint(args.socket, http)
    if args.certificate is None:
        raise BadArgument("--https needs --certificate")
    host, port = _address("--https", args.https)
    return Endpoint(args.socket, http, (host, port, args.certificate, args.certificate))


def _members(sim: Simulator, first: Endpoint) -> Dict[str, Endpoint]:
    """The endpoints of the other hosts, derived from that of the coordinator."""
    others = [host for host in sim.db.tables["host"].rows if host != sim.hosts.coordinator]
    return {host: _neighbour(first, number) for number, host in enumerate(others, 1)}


def _neighbour(first: Endpoint, number: int) -> Endpoint:
    socket, http, https = first
    if socket is not None:
        socket = "%s.host%d" % (socket, number + 1)
    if http is not None:
        http = (http[0], _port(http[1], number))
    if https is not None:
        https = (https[0], _port(https[1], number), https[2], https[3])
    return Endpoint(socket, http, https)


def _port(first: int, number: int) -> int:
    """The port of the host with this number; 0 takes a free port for each host."""
    port = first + number if first else 0
    if port > 65535:
        raise BadArgument("there are not enough ports for the members after port %d" % first)
    return port


def _plugin_environment(variable: str, endpoint: Endpoint) -> Dict[str, str]:
    """The environment that tells a plugin the path of the socket."""
    if endpoint.socket is None or not variable:
        return {}
    return {variable: "unix:" + os.path.abspath(endpoint.socket)}


def _read_faults(path: Optional[str]) -> List[Rule]:
    return [] if path is None else read_rules(path)


def _simulator(args: argparse.Namespace, environment: Dict[str, str], rules: List[Rule]) -> Simulator:
    """The pool of the state file, or a new one."""
    options: Dict[str, Any] = {
        "seed": args.seed,
        "now": args.now,
        "plugins": args.plugins,
        "plugin_environment": {**environment, **dict(args.plugin_env)},
        "password": _password(args.password_file),
    }
    if args.state is not None and os.path.exists(args.state):
        return Simulator.load(args.state, clock="real", speed=args.speed, faults=rules, **options)
    # The pool is built in virtual time, which costs no real time; then the clock starts.
    sim = Simulator(clock="virtual", **options)
    start = sim.now()
    with no_garbage():
        pool = build_large_pool(sim, args.hosts, args.srs, args.vms, args.disks, args.seed)
    # The new pool is on disk, so that a killed xapi does not lose it.
    sim.call("pool.sync_database", pool.session)
    sim.call("session.logout", pool.session)
    sim.run_clock(start, args.speed)
    for rule in rules:
        # After the pool is built, because the faults must not apply to that.
        sim.faults.add(rule)
    return sim


def _save(sim: Simulator, path: str) -> None:
    try:
        sim.save(path)
    except OSError as error:
        raise StateError("cannot write the state file %s: %s" % (path, error.strerror))


def _complain(text: str) -> None:
    """Print a line on standard error, if that takes it."""
    with suppress(OSError):
        os.write(2, ("vmss simulator: %s\n" % text).encode("utf-8", "backslashreplace"))


def _announce(sim: Simulator, server: Server) -> None:
    """Print the addresses of the server, which shows that it is ready."""
    lines: List[str] = []
    for number, (host, endpoint) in enumerate(server.endpoints.items()):
        note = " (%s)" % sim.db.row("host", host)["name_label"] if number else ""
        if endpoint.socket is not None:
            lines.append("ready: unix:%s%s\n" % (endpoint.socket, note))
        if endpoint.http is not None:
            lines.append("ready: http://%s:%d%s\n" % (*endpoint.http, note))
        if endpoint.https is not None:
            lines.append("ready: https://%s:%d%s\n" % (*endpoint.https[:2], note))
    try:
        # Not through Python's buffer, which would retry a failed write at the end.
        os.write(1, os.fsencode("".join(lines)))
    except OSError as error:
        _complain("ready, but standard output cannot be written: %s" % error.strerror)


def _password(path: Optional[str]) -> str:
    if path is None:
        return "simulator"
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.readline().rstrip("\r\n")
    except OSError as error:
        raise BadArgument("cannot read the password file %s: %s" % (path, error.strerror))


def _address(option: str, text: str) -> Tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise BadArgument("%s must be HOST:PORT, not %s" % (option, text))
    return host.strip("[]") or "127.0.0.1", int(port)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError("%s is not a whole number, 0 or more" % ascii(text))
    return int(text)


def _variable(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("%s is not NAME=VALUE" % ascii(text))
    return name, value


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 1e6:
        raise argparse.ArgumentTypeError("%s is not a number above 0 and below a million" % ascii(text))
    return speed


def _time(text: str) -> datetime:
    """ISO 8601, with or without a zone (UTC), to the minute or the second."""
    plain = text[:-1] + "+0000" if text.endswith(("Z", "z")) else text
    if len(plain) > 6 and plain[-3] == ":" and plain[-6] in "+-":
        plain = plain[:-3] + plain[-2:]
    for form in ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        for candidate in (form, form.replace("T", " ", 1)):
            try:
                value = datetime.strptime(plain, candidate)  # noqa: DTZ007, see below
            except ValueError:
                continue
            return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
    raise argparse.ArgumentTypeError("%s is not a date and time, such as 2026-03-01T10:15:00Z" % ascii(text))
