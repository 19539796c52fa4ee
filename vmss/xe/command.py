"""What a command of xe is."""

from typing import Callable, NamedTuple, Tuple

from vmss.xe.layout import Output
from vmss.xe.session import Session
from vmss.xe.syntax import Line

Function = Callable[[Session, Line], Output]


class Command(NamedTuple):
    """A command: required and optional parameters, its text in `help`, its function. `slow`: it has a long timeout.
    `values`: what its parameters may be, which help says beyond xe's own."""

    needs: Tuple[str, ...]
    may_have: Tuple[str, ...]
    text: str
    do: Function
    slow: bool = False
    values: Tuple[Tuple[str, str], ...] = ()
