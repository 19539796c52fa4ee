"""How long it takes until something has started: commands, the embedded xapi; and the pace of the simulation."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Iterator, NamedTuple, Sequence

from benchmarks.goals import Figures
from benchmarks.processes import ROOT, measured_output, server

BARE = "import XenAPI"


class Start(NamedTuple):
    """The start of an embedded xapi: seconds, and the peak of its memory in MB."""

    seconds: float
    memory: float


def of_command(python: str, *arguments: str) -> float:
    """The seconds that Python takes for something small: the best of several tries."""
    with tempfile.TemporaryDirectory() as name, server(Path(name), "--vms", "20") as served:
        return min(measured_output(served.environment, [python, *arguments])[0].wall for _ in range(15))


def of_simulator(vms: int) -> Start:
    """The start of `vmss simulator` with so many VMs."""
    with tempfile.TemporaryDirectory() as name:
        began = perf_counter()
        with server(Path(name), "--vms", str(vms)) as served:
            seconds = perf_counter() - began
            status = Path("/proc/%d/status" % served.pid).read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return Start(seconds, int(peak.group(1)) / 1000)


def passes_a_second(seconds: int) -> float:
    """The pace of the simulation of faults: passes for each second of processor time."""
    command = [sys.executable, "-m", "tests.simulation", "--seconds", str(seconds), "--seed", "1"]
    usage, output = measured_output(dict(os.environ, PYTHONPATH=str(ROOT)), command)
    found = re.search(r"passes: (\d+) ", output)
    assert found is not None, output[-1000:]
    return int(found.group(1)) / usage.cpu


def page(sizes: Sequence[int], python: str, figures: Figures) -> Iterator[str]:
    """Yield the lines of this part of the page. `python`: the interpreter of the commands."""
    version = subprocess.run([python, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    yield "With %s: `vmss list` takes %.2f s, `vmss status` %.2f s, and a script that only imports XenAPI %.2f s." % (
        version.stdout.decode().strip(),
        figures.setdefault("list, s", of_command(python, "-m", "vmss", "list")),
        figures.setdefault("status, s", of_command(python, "-m", "vmss", "status")),
        of_command(python, "-c", BARE),
    )
    yield ""
    yield "| start of the embedded xapi |     s |  MB |"
    yield "|----------------------------|------:|----:|"
    for vms in sizes:
        start = of_simulator(vms)
        yield "| %22d VMs | %5.1f | %3.0f |" % (vms, start.seconds, start.memory)
        if vms == 10000:
            figures.update({"simulator, s": start.seconds, "simulator, MB": start.memory})
    pace = passes_a_second(20)
    figures["simulation"] = pace
    yield ""
    yield "The simulation of faults makes %.0f passes a second and core." % pace
