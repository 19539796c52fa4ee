"""The goals of speed, and which of them hold by the figures that the other parts have measured in the same run."""

from typing import Dict, Iterator, NamedTuple, Tuple

# What the parts have measured, by the names below.
Figures = Dict[str, float]


class Goal(NamedTuple):
    """What is measured, in which unit, by which part, and the most that it may come to, or the least."""

    what: str
    unit: str
    name: str
    part: str
    limit: float
    at_least: bool = False


GOALS: Tuple[Goal, ...] = (
    Goal("5,000 VMs of 10 snapshots: `vmss doctor`", "s", "doctor, s", "commands", 5),
    Goal("", "MiB", "doctor, MiB", "commands", 20),
    Goal("`vmss next`", "s", "next, s", "commands", 2),
    Goal("", "MiB", "next, MiB", "commands", 5),
    Goal("`vmss run --dry-run`", "s", "run --dry-run, s", "commands", 10),
    Goal("", "MiB", "run --dry-run, MiB", "commands", 40),
    Goal("`vmss show` of a schedule with all VMs", "s", "show, s", "commands", 5),
    Goal("", "MiB", "show, MiB", "commands", 40),
    Goal("our processor time per served VM, of 5,000", "ms", "pass, ms", "processes", 3),
    Goal("the same to 100", "ratio", "pass, growth", "processes", 1.2),
    Goal("the embedded xapi's, per served VM, of 5,000", "ms", "server, ms", "processes", 4),
    Goal("the same to 100", "ratio", "server, growth", "processes", 1.2),
    Goal("bytes down per served VM, of 5,000", "KiB", "pass, KiB down", "processes", 25),
    Goal("idle tick with 1,000 schedules", "KB", "idle, KB", "processes", 50),
    Goal("the same to one with ten", "ratio", "idle, growth", "processes", 1.5),
    Goal("idle tick to a bare script: time, the worst of five", "ratio", "idle, time", "processes", 1.15),
    Goal("processor time, the worst of five", "ratio", "idle, cpu", "processes", 1.15),
    Goal("start of `vmss list`", "s", "list, s", "starts", 0.10),
    Goal("start of `vmss status`", "s", "status, s", "starts", 0.10),
    Goal("embedded xapi: start with 10,000 VMs", "s", "simulator, s", "starts", 3),
    Goal("", "MB", "simulator, MB", "starts", 150),
    Goal("simulation of faults: passes a second and core", "", "simulation", "starts", 400, at_least=True),
    Goal("Xen Orchestra's time to ours, 16 SRs", "ratio", "xo, 16 SRs", "xen_orchestra", 8, at_least=True),
    Goal("the same, 8 VMs at once, 4 SRs", "ratio", "xo, 8 at once", "xen_orchestra", 1.5, at_least=True),
)


def page(figures: Figures) -> Iterator[str]:
    """Yield the lines of this part of the page: the goals of which the figures were measured."""
    yield "| what                                                |  unit |    goal |     now | holds |"
    yield "|-----------------------------------------------------|------:|--------:|--------:|-------|"
    for goal in GOALS:
        if goal.name in figures:
            found = figures[goal.name]
            yield "| %-51s | %5s | %7s | %7s | %-5s |" % (
                goal.what,
                goal.unit,
                _shown(goal.limit),
                _shown(found),
                "yes" if (found >= goal.limit if goal.at_least else found <= goal.limit) else "no",
            )
    left = sorted({goal.part for goal in GOALS if goal.name not in figures})
    if left:
        yield ""
        yield "Not measured in this run: %s." % ", ".join(left)
    if "yardstick, ms" in figures:
        yield (
            "Fifteen small calls of the bare XenAPI client, one after another, took %.1f ms of processor time."
            % (figures["yardstick, ms"])
        )


def _shown(value: float) -> str:
    return "%.0f" % value if value >= 100 else "%.3g" % value
