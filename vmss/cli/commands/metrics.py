"""`vmss metrics`: the numbers of the pool, its schedules, VMs and storage, in the text format of Prometheus."""

import argparse
import sys
from typing import TextIO

from vmss.cli.parts import READING_STATUS, new_parser, surroundings
from vmss.cli.streams import emit, in_utf8
from vmss.edges.settings import Place
from vmss.insight import metrics
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss metrics                            all numbers, each name with its meaning
  vmss metrics | grep _vms_late           how many VMs of each schedule are late
  vmss metrics | promtool check metrics   whether Prometheus can read it

With the setting metrics_file each pass writes them to a file at its end, for node_exporter. The command writes nothing.
The last tick is known in dom0 of the coordinator only.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    return new_parser(
        "metrics",
        "Numbers for Prometheus: the snapshots of each VM, the runs of each schedule, room and chains on storage, what "
        "is left over, and the last tick.",
        _EXAMPLES + "\n" + READING_STATUS,
    )


def do(arguments: argparse.Namespace) -> int:
    """Print them."""
    around = surroundings()
    with reading(around) as session:
        return show(session, around.place, in_utf8(sys.stdout))


def show(session: Reading, where: Place, out: TextIO) -> int:
    """Print the numbers of the pool that a session is open with."""
    emit(metrics.text(session, where), out)
    return 0
