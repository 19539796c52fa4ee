"""`vmss demo`: watch a simulated pool."""

import argparse
from typing import TextIO, cast

from vmss.cli.parts import LOCAL_STATUS, count, need, new_parser
from vmss.cli.streams import Checked


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments. Raise NotInstalled where the demo was left out."""
    need("demo", "vmss.demo", "vmss.simulator")
    demo = new_parser(
        "demo",
        "A simulated pool in virtual time, driven through the real client over a real socket. The RPM and "
        "`vmss install` leave it out.",
        LOCAL_STATUS,
    )
    demo.add_argument("--days", type=count(1, 366), default=7, metavar="N", help="days to simulate (default 7)")
    demo.add_argument("--vms", type=count(1, 200), default=6, metavar="N", help="VMs in the pool (default 6)")
    return demo


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    from vmss.demo import demo

    return demo(arguments.days, arguments.vms, cast(TextIO, Checked()))
