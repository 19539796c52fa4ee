"""`vmss simulator`: the embedded xapi, with our own host plugin in it."""

import argparse

from vmss.cli.parts import LOCAL_STATUS, need, new_parser
from vmss.installation.shipped import shipped_path


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments. Raise NotInstalled where the simulator was left out."""
    need("simulator", "vmss.simulator")
    from vmss.simulator import command

    simulator = new_parser(
        "simulator",
        "An embedded xapi in the foreground: a whole pool to try things on. The RPM and `vmss install` leave it out.",
    )
    command.add_arguments(simulator)
    simulator.epilog = "%s\n%s" % (simulator.epilog, LOCAL_STATUS.replace("done\n", "it was told to end\n"))
    simulator.set_defaults(plugins=shipped_path("/etc/xapi.d/plugins"))
    return simulator


def do(arguments: argparse.Namespace) -> int:
    """Serve until told to end."""
    from vmss.simulator import command

    return command.main(arguments, socket_variable="VMSS_XAPI")
