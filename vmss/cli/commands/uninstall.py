"""`vmss uninstall`: removes what `vmss install` has installed."""

import argparse

from vmss.cli.parts import INSTALL_STATUS, new_parser, tell_changes


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    uninstall = new_parser(
        "uninstall",
        "Remove what `vmss install` has installed. The log, the lock directory, the configuration and "
        "the pool's snapshot schedules are kept, and so is a file that was changed since.",
        INSTALL_STATUS,
    )
    uninstall.add_argument("--root", metavar="DIR", default="/", help="the root to remove it from (default /)")
    return uninstall


def do(arguments: argparse.Namespace) -> int:
    """Remove, and say what was done."""
    from vmss.installation.install import uninstall

    return tell_changes(*uninstall(arguments.root), nothing="`vmss install` has installed nothing here")
