"""Words of the shell commands that remedies name, for somebody to copy."""

import shlex

from vmss.core.text import one_line


def shell_word(text: str, length_max: int = 2000) -> str:
    """A text, at most so many characters of it, as one word of a shell command."""
    return shlex.quote(one_line(text, length_max))
