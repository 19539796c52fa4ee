"""HTML as text: elements are put together here and nowhere else, and here every text from outside is escaped."""

from html import escape
from typing import Any, Iterable, Optional, Union

from vmss.core.text import one_line

# Text, an element, or any number of these in lists and generators, one in another.
Content = Union[str, Iterable[Any]]

# Elements that have no content, and no end tag.
_VOID = ("meta", "br")


class Markup(str):
    """Text that is HTML already. Whatever is not, is escaped where it is put into an element."""


def tag(element: str, *content: Content, **attributes: Optional[str]) -> Markup:
    """An element. Content is text, elements, or lists of these; an attribute that is None is left out. `class_` stands
    for `class`, and `aria_label` for `aria-label`."""
    written = "".join(
        ' %s="%s"' % (key.rstrip("_").replace("_", "-"), _of(value))
        for key, value in attributes.items()
        if value is not None
    )
    start = "<%s%s>" % (element, written)
    return Markup(start if element in _VOID else "%s%s</%s>" % (start, joined(content), element))


def joined(content: Iterable[Content]) -> Markup:
    """One after another."""
    return Markup("".join(_of(part) for part in content))


def _of(part: Content) -> str:
    if isinstance(part, Markup):
        return part
    return _escaped(part) if isinstance(part, str) else joined(part)


def _escaped(text: str) -> str:
    """A text of any origin: on one line, without characters that change how what is around them is shown."""
    return escape(one_line(text), quote=True)
