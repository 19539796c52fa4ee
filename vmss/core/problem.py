"""How a command ends: its exit status, and what keeps it from being done, in one line for the user."""

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NO_SESSION, EXIT_LOCKED = range(5)


class Problem(Exception):
    """Bad input, of one kind or another: the line names the thing, its value and the rule."""

    status = EXIT_BAD_INPUT


class BadInput(Problem):
    """Something that was asked for cannot be done."""


class UnknownPolicy(BadInput):
    """No snapshot schedule has the uuid that was asked for."""
