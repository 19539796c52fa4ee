"""What a pass, or a command that reads, stands on: the places, the settings, and the role of this host."""

from typing import Any, Callable, NamedTuple, Optional

from vmss.edges.clock import Clock
from vmss.edges.settings import Place, Settings

POOL_ROLE = "/etc/xensource/pool.conf"


class Surroundings(NamedTuple):
    """What a pass stands on. `say` takes lines of progress for people; `started` is called once the pass holds
    the lock and has found the policy it was asked for. `clock` stands in for the coordinator's, `transport` for the
    connection to xapi."""

    place: Place
    settings: Settings
    say: Callable[[str], None] = lambda text: None
    started: Callable[[], None] = lambda: None
    clock: Optional[Clock] = None
    transport: Any = None


def on_coordinator() -> bool:
    """Whether this host is its pool's coordinator, by the file that xapi keeps (ocaml/xapi-aux/pool_role.ml)."""
    try:
        with open(POOL_ROLE, encoding="utf-8", errors="replace") as file:
            return not file.read(4096).strip().startswith("slave:")
    except OSError:
        return True  # xapi itself will tell
