"""The surroundings of a pass or a command: the addresses, the settings, and the role of this host in its pool."""

from typing import Any, Callable, NamedTuple, Optional

from vmss.edges.clock import Clock
from vmss.edges.settings import Place, Settings, without_waiting

POOL_ROLE = "/etc/xensource/pool.conf"


class Surroundings(NamedTuple):
    """The surroundings of a pass. `say` is called with lines of progress for people; `started` once the pass holds the
    lock and has found the requested policy. `clock` replaces the coordinator's clock, `transport` the connection to
    xapi."""

    place: Place
    settings: Settings
    say: Callable[[str], None] = lambda text: None
    started: Callable[[], None] = lambda: None
    clock: Optional[Clock] = None
    transport: Any = None


def on_coordinator() -> bool:
    """Whether this host is its pool's coordinator, by xapi's own file (ocaml/xapi-aux/pool_role.ml)."""
    try:
        with open(POOL_ROLE, encoding="utf-8", errors="replace", opener=without_waiting) as file:
            return not file.read(4096).strip().startswith("slave:")
    except OSError:
        return True  # if it is not, xapi refuses the session
