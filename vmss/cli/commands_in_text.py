"""Finds the command lines in a text for people, so that they are not broken in the middle."""

import re
from typing import Iterator, List, Tuple

# What follows a command within its line: an option, an assignment, a path, what stands in quotes, a uuid, a number, or
# a word in capitals, which the reader replaces. Any other word belongs to the sentence around it.
_ARGUMENT = (
    r"(?: (?:-[^\s,;)]+|[^\s,;()=]+=(?:'[^']*'|[^\s,;)]*)|/[^\s,;)]+|'[^']*'"
    r"|[0-9a-f]{8}-[-0-9a-f]{27}|[0-9]+\b|[A-Z]{2,}\b))*"
)
_COMMAND = re.compile(
    r"(?<![-\w/=])(?:(?:vmss xe|xe) [a-z]+(?:-[a-z]+)+|vmss (?!xe\b)[a-z]+|(?:systemctl|service) [a-z-]+ [a-z.]+"
    r"|(?:chmod|chown|chronyc|timedatectl|kill|mv|rm|rpm|df|ls)(?= [-/'0-9]))" + _ARGUMENT
)


def pieces(text: str) -> List[str]:
    """The pieces between which a text may be broken into lines: its words, and its command lines as a whole, each with
    the punctuation around it."""
    found: List[str] = []
    for part, glued in parts(text):
        words = [part] if glued else part.split(" ")
        if found:  # what stands without a space between belongs together
            found[-1] += words.pop(0)
        found += words
    return [piece for piece in found if piece]


def parts(text: str) -> Iterator[Tuple[str, bool]]:
    """The text in parts, and whether each is a command line."""
    end = 0
    for match in _COMMAND.finditer(text):
        command = match.group().rstrip(".:")
        yield text[end : match.start()], False
        yield command, True
        end = match.start() + len(command)
    yield text[end:], False
