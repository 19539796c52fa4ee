"""The registry into which the modules of the classes enter the behaviour of their methods.

A handler takes the `Call` and the checked arguments. It is a plain function, or a generator function when the
operation takes simulated time.
"""

import inspect
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

Function = Callable[..., Any]


class Handler(NamedTuple):
    """The behaviour of a method; `steps` says that it is a generator function."""

    function: Function
    steps: bool


handlers: Dict[str, Handler] = {}
simulator_signatures: Dict[str, List[Tuple[str, str]]] = {}


def method(*names: str) -> Callable[[Function], Function]:
    """Register the decorated function as the behaviour of these methods."""

    def enter(function: Function) -> Function:
        for name in names:
            handlers[name] = Handler(function, inspect.isgeneratorfunction(function))
        return function

    return enter


def simulator_method(name: str, *parameters: Tuple[str, str]) -> Callable[[Function], Function]:
    """Register a method that real xapi does not have; parameters are (name, type)."""

    def enter(function: Function) -> Function:
        simulator_signatures[name] = list(parameters)
        return method(name)(function)

    return enter
