"""`vmss notify`: try the receivers of pings and documents."""

import argparse

from vmss.cli.parts import new_parser, surroundings, tell
from vmss.cli.streams import tell_error
from vmss.core.problem import EXIT_FAILED, EXIT_OK, BadInput
from vmss.edges.surroundings import Surroundings
from vmss.insight.notifying import try_out

_EXAMPLES = """examples:
  vmss notify       try ping_url and webhook_url, as far as they are set

The ping is one of success: to its receiver it is a tick that has ended well. The document says that it is a test. They
go out as those of passes do, so this also tells whether notify_ca_file and notify_proxy are right.

exit status:
  0  each has taken it
  1  one has not: a line says why
  2  bad usage, or neither is set"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    return new_parser(
        "notify",
        "Send a ping to ping_url and a test document to webhook_url, and say whether they are taken.",
        _EXAMPLES,
    )


def do(arguments: argparse.Namespace) -> int:
    """Try them."""
    return show(surroundings())


def show(around: Surroundings) -> int:
    """Try them, and say how they have answered."""
    answers = try_out(around)
    if not answers:
        raise BadInput("neither ping_url nor webhook_url is set in the settings file")
    for setting, trouble in answers:
        if trouble:
            tell_error("vmss: %s: not taken: %s" % (setting, trouble))
        else:
            tell("%s: taken" % setting)
    return EXIT_FAILED if any(trouble for _, trouble in answers) else EXIT_OK
