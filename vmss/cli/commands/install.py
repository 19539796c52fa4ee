"""`vmss install`: for machines that take no RPM."""

import argparse

from vmss.cli.parts import INSTALL_STATUS, new_parser, tell_changes


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    install = new_parser(
        "install",
        "Put the plugin, its modules, the cron entry, the rule for logrotate, the descriptions for bug "
        "reports, an example of the configuration, and the directories of the lock and the log in their places. A file "
        "that is up to date is not touched; one that an administrator has changed is kept.",
        INSTALL_STATUS,
    )
    install.add_argument("--root", metavar="DIR", default="/", help="the root to install into (default /)")
    return install


def do(arguments: argparse.Namespace) -> int:
    """Install, and say what was done."""
    from vmss.installation.install import install

    return tell_changes(*install(arguments.root), nothing="all is installed already")
