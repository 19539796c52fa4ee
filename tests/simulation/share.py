"""The part of many worlds that a run of the suite takes: all, or its share where .ci/run divides them among Pythons."""

import os
from typing import Iterable, List, TypeVar

Item = TypeVar("Item")


def share(worlds: Iterable[Item]) -> List[Item]:
    """All of these worlds; with VMSS_SHARE=2/3 in the environment, every third of them, from the second on; with
    2,3/3, those and the ones after them.

    For worlds of which there are many of one kind, so that each kind is met in each share; and for what changes so
    seldom that it is enough if one tree of four finds it.
    """
    numbers, _, shares = os.environ.get("VMSS_SHARE", "1/1").partition("/")
    mine = {int(number) - 1 for number in numbers.split(",")}
    return [world for at, world in enumerate(worlds) if at % int(shares) in mine]
