"""The surroundings of a pass or a command: the addresses, the settings, and the role of this host in its pool."""

import os
import re
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from vmss.core.text import one_line
from vmss.edges.clock import Clock
from vmss.edges.settings import Place, Settings
from vmss.edges.settings_file import without_waiting

if TYPE_CHECKING:
    from vmss.core.notices import Notice

POOL_ROLE = "/etc/xensource/pool.conf"


class Surroundings(NamedTuple):
    """The surroundings of a pass. `say` is called with lines of progress for people; `waits` with what is waited for,
    before that begins; `started` once the pass holds the lock and has found the requested policy; `works` before it
    does anything, which most ticks never do; `notice` with each run, once its alert was raised. None of them may raise
    or wait. `clock` replaces the coordinator's clock, `transport` the connection to xapi."""

    place: Place
    settings: Settings
    say: Callable[[str], None] = lambda text: None
    waits: Callable[[str], None] = lambda text: None
    started: Callable[[], None] = lambda: None
    works: Callable[[], None] = lambda: None
    notice: "Optional[Callable[[Notice], None]]" = None
    clock: Optional[Clock] = None
    transport: Any = None


# Where programs of dom0 are looked for, also by xapi for its plugins.
PATH = "/sbin:/usr/sbin:/bin:/usr/bin"
# What is left of the environment of a caller with fewer rights: how a terminal shows text. PATH is replaced.
_HARMLESS = re.compile(r"(TERM|LANG|LC_[A-Z]+|COLUMNS|LINES|NO_COLOR)\Z")


def drop_callers_environment() -> str:
    """Remove from the environment what the caller may have put there, if this process has more rights than its caller.
    Return a line for the caller if variables of ours were among it, else "".

    They would name files, sockets and programs that are then opened or started with the rights of this process.
    """
    if not _has_more_rights_than_caller():
        return ""
    ours = ", ".join(sorted(name for name in os.environ if name.startswith("VMSS_")))
    for name in list(os.environ):
        if not _HARMLESS.match(name):
            del os.environ[name]
    os.environ["PATH"] = PATH
    return ours and (
        "not used, because this runs with the rights of another user than its caller: %s (in a shell of root's: unset "
        "SUDO_UID)" % one_line(ours, 200)
    )


def _has_more_rights_than_caller() -> bool:
    """Whether this process has rights that whoever started it does not have.

    The kernel tells it of a program with the set-user-ID bit. sudo and pkexec change the real user too, but each says
    who called it in a variable of its own, which the caller can neither set nor remove. A shell of root's that sudo
    has started cannot be told from a single command; whoever has that shell can remove the variable.
    """
    if (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid()):
        return True
    callers = [os.environ[name] for name in ("SUDO_UID", "PKEXEC_UID") if name in os.environ]
    return any(caller not in ("0", str(os.geteuid())) for caller in callers)


def on_coordinator() -> bool:
    """Whether this host is its pool's coordinator, by xapi's own file (ocaml/xapi-aux/pool_role.ml)."""
    try:
        with open(POOL_ROLE, encoding="utf-8", errors="replace", opener=without_waiting) as file:
            return not file.read(4096).strip().startswith("slave:")
    except OSError:
        return True  # if it is not, xapi refuses the session
