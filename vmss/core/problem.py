"""The end of a command: its exit status, and for a command that cannot be carried out one line for the user."""

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NO_SESSION, EXIT_LOCKED = range(5)


class Problem(Exception):
    """A command cannot be carried out. The text is one line that names the thing, its value and the rule."""

    status = EXIT_BAD_INPUT


class BadInput(Problem):
    """The arguments ask for something that cannot be done."""


class UnknownPolicy(BadInput):
    """No snapshot schedule has this uuid or name."""
