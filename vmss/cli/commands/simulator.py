"""`vmss simulator`: the embedded xapi, with our own host plugin in it."""

import argparse
import os
import sys
from typing import Optional

from vmss.cli.parts import need, new_parser


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments. Raise NotInstalled where the simulator was left out."""
    need("simulator", "vmss.simulator")
    from vmss.simulator import command

    simulator = new_parser(
        "simulator",
        "An embedded xapi in the foreground: a whole pool to try things on. The RPM and `vmss install` leave it out.",
    )
    command.add_arguments(simulator)
    simulator.set_defaults(plugins=_plugins())
    return simulator


def do(arguments: argparse.Namespace) -> int:
    """Serve until told to end."""
    from vmss.simulator import command

    return command.main(arguments, socket_variable="VMSS_XAPI")


def _plugins() -> Optional[str]:
    """The folder of our own host plugin: of the checkout, or where it was installed."""
    here = os.path.abspath(__file__)
    for _ in range(4):
        here = os.path.dirname(here)
    for folder in (os.path.join(here, "plugins"), sys.prefix + "/etc/xapi.d/plugins", "/etc/xapi.d/plugins"):
        if os.path.exists(os.path.join(folder, "vmss")):
            return folder
    return None
