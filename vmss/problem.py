"""What keeps a command from being done: one line for the user, and the exit status."""


class Problem(Exception):
    """Bad input, of one kind or another: the line names the thing, its value and the rule."""

    status = 2
