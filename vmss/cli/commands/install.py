"""`vmss install`: for machines that take no RPM."""

import argparse
import sys
from typing import List

from vmss.cli.parts import new_parser, say

STATUS = """exit status:
  0  all is there, or all is gone     1  something was kept, or does not work: a line says what
  2  bad usage, or it cannot be done"""


def parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    install = new_parser(
        "install",
        "Put the plugin, its modules, the cron entry, the rule for logrotate, the descriptions for bug "
        "reports, an example of the configuration, and the directories of the lock and the log in their places. What "
        "is there already is not touched; what an administrator has changed is kept.",
        STATUS,
    )
    install.add_argument("--root", metavar="DIR", default="/", help="another root than /")
    return install


def do(arguments: argparse.Namespace) -> int:
    """Install, and say what was done."""
    from vmss.installation.install import install

    return tell(*install(arguments.root), nothing="all is installed already")


def tell(changed: List[str], kept: List[str], nothing: str) -> int:
    """Print what was done and what was not; return the exit status."""
    for line in changed:
        say(line)
    for line in kept:
        print("vmss: " + line, file=sys.stderr)
    if not changed and not kept:
        say(nothing)
    return 1 if kept else 0
