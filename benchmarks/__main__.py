"""`python -m benchmarks` prints one page: what a pass, a tick, a command costs, and which goals hold."""

import argparse
import os
import platform
import sys
import time
from typing import Callable, Dict, Iterator, Tuple

from benchmarks import calls, commands, forecast, goals, makespan, processes, starts, xen_orchestra


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the largest pools: a third of the time")
    parser.add_argument(
        "--python", default=sys.executable, metavar="PATH", help="the Python whose start of commands is measured"
    )
    figures: goals.Figures = {}
    quick, alone, python = False, False, sys.executable
    parts: Dict[str, Tuple[str, Callable[[], Iterator[str]]]] = {
        "commands": ("Commands that read", lambda: commands.page((100, 1000) if quick else (100, 1000, 5000), figures)),
        "processes": (
            "Processes",
            # The largest takes minutes by itself: only who asks for it waits so long.
            lambda: processes.page((100, 1000) + (() if quick else (5000,)) + ((10000,) if alone else ()), figures),
        ),
        "starts": ("Starts", lambda: starts.page((100, 1000) if quick else (100, 1000, 10000), python, figures)),
        "calls": ("Calls and bytes", lambda: calls.page((0, 100, 1000) if quick else (0, 100, 1000, 10000))),
        "makespan": ("The order of a pass", lambda: makespan.page((50, 200, 1000, 5000) if alone else (50, 200, 1000))),
        "xen_orchestra": (
            "Beside Xen Orchestra",
            lambda: xen_orchestra.page(xen_orchestra.QUICK if quick else xen_orchestra.CASES, figures),
        ),
        "forecast": ("The forecast of room and chains", lambda: forecast.page(quick=quick)),
    }
    parser.add_argument("--only", choices=parts, help="measure one part")
    args = parser.parse_args()
    quick, alone, python = args.quick, bool(args.only) and not args.quick, args.python
    began = time.time()
    print("Python %s on %d processors" % (platform.python_version(), os.cpu_count() or 1))
    for name, (title, page) in parts.items():
        if args.only in (None, name):
            _print(title, page())
    if figures:
        _print("Goals", goals.page(figures))
    print("\n(%.0f s)" % (time.time() - began))


def _print(title: str, lines: Iterator[str]) -> None:
    began = time.time()
    print("\n## %s\n" % title, flush=True)
    for line in lines:
        print(line, flush=True)
    print("\n(%.0f s)" % (time.time() - began), flush=True)


if __name__ == "__main__":
    main()
