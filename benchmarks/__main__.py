"""`python -m benchmarks` prints one page of ratios; `--quick` leaves out the largest pools."""

import argparse
import os
import platform
import time
from typing import Callable, Dict, Iterator, Tuple

from benchmarks import calls, commands, forecast, makespan, processes


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the largest pools: a third of the time")
    parser.add_argument(
        "--only", choices=("makespan", "calls", "processes", "commands", "forecast"), help="measure one part"
    )
    args = parser.parse_args()
    began = time.time()
    print("Python %s on %d processors" % (platform.python_version(), os.cpu_count() or 1))
    end = -1 if args.quick else None
    parts: Dict[str, Tuple[str, Callable[[], Iterator[str]]]] = {
        "makespan": ("The order of a pass", lambda: makespan.page((50, 200, 1000, 5000)[:end])),
        "calls": ("Calls and bytes", lambda: calls.page((0, 100, 1000, 10000)[:end])),
        "processes": ("Processes", lambda: processes.page((100, 400, 5000)[:end])),
        # The largest of these pools takes minutes by itself: only who asks for it waits so long.
        "commands": ("Commands that read", lambda: commands.page((1000, 5000)[: end if args.only else 1])),
        "forecast": ("The forecast of room and chains", lambda: forecast.page(quick=args.quick)),
    }
    for name, (title, page) in parts.items():
        if args.only in (None, name):
            print("\n## %s\n" % title, flush=True)
            for line in page():
                print(line, flush=True)
    print("\n(%.0f s)" % (time.time() - began))


if __name__ == "__main__":
    main()
