"""The query language of get_all_where and get_all_records_where.

The grammar is xapi's (ocaml/database/db_filter_parse.mly, db_filter_lex.mll): equality is the only comparison; `and`
and `or` have the same precedence and are left associative; `not` binds weaker than both; fields have the names of the
database.
"""

import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from .database import Database
from .datamodel import Field
from .errors import XapiError
from .table import Row, Table
from .values import NULL, read_set, stored_text

Reader = Callable[[str, Row], str]
Predicate = Callable[[str, Row], bool]

_TOKEN = re.compile(r'[ \t\n]*(?:"([^"]*)"|(field|and|or|not|true|false)|([()=]))')
_BLANK = re.compile(r"[ \t\n]*$")


# A lexeme: its kind, which is `literal`, a keyword or a sign, and its text.
Token = Tuple[str, str]


class _ParseError(Exception):
    """The text is not an expression; the message is OCaml's."""


END: Token = ("", "")


def _tokens(text: str) -> Iterator[Token]:
    """The lexemes, read as the parser asks for them: what it does not reach is not looked at."""
    position = 0
    match = _TOKEN.match(text)
    while match is not None:
        literal, keyword, sign = match.groups()
        yield ("literal", literal) if literal is not None else (keyword or sign, "")
        position = match.end()
        match = _TOKEN.match(text, position)
    if not _BLANK.match(text, position):
        raise _ParseError('Failure("lexing: empty token")')
    yield END


class Member(NamedTuple):
    """A condition on a column: how to read it, and the texts that it may have."""

    column: str
    read: Reader
    texts: Set[str]


class Expression(NamedTuple):
    """A parsed query: a test of a row, and conditions that every match fulfils; `alone`: they are the whole query."""

    test: Predicate
    required: List[Member]
    alone: bool = False


class _Parser:
    """Recursive descent over the tokens; `reader` turns a field name into a way to read it."""

    def __init__(self, tokens: Iterator[Token], reader: Callable[[str], Reader]) -> None:
        self.tokens = tokens
        self.next: Optional[Token] = None
        self.reader = reader

    def peek(self) -> str:
        if self.next is None:
            self.next = next(self.tokens)
        return self.next[0]

    def take(self, *kinds: str) -> str:
        """Go on after a lexeme, which has to be of one of these kinds; return its text."""
        token = self.next or next(self.tokens)
        if token[0] not in kinds:
            raise _ParseError("Stdlib.Parsing.Parse_error")
        self.next = None
        return token[1]

    def whole(self) -> Expression:
        expression = self.expression()
        if self.peek():
            raise _ParseError("Stdlib.Parsing.Parse_error")
        return expression

    def expression(self) -> Expression:
        if self.peek() == "not":
            # `not` binds weaker than `and` and `or`: it applies to the whole rest.
            self.take("not")
            inner = self.expression().test
            return Expression(lambda ref, row: not inner(ref, row), [])
        left = self.operand()
        while self.peek() in ("and", "or"):
            word = self.peek()
            self.take(word)
            right = self.expression() if self.peek() == "not" else self.operand()
            left = _both(left, right) if word == "and" else _either(left, right)
        return left

    def operand(self) -> Expression:
        kind = self.peek()
        if kind in ("true", "false"):
            self.take(kind)
            return Expression(lambda ref, row: kind == "true", [])
        if kind == "(":
            self.take("(")
            expression = self.expression()
            self.take(")")
            return expression
        return self.equality()

    def equality(self) -> Expression:
        left, left_field, left_text = self.value()
        self.take("=")
        right, right_field, right_text = self.value()
        if left_field is not None and right_field is None:
            return _membership(Member(left_field, left, {right_text}))
        if right_field is not None and left_field is None:
            return _membership(Member(right_field, right, {left_text}))
        return Expression(lambda ref, row: left(ref, row) == right(ref, row), [])

    def value(self) -> Tuple[Reader, Optional[str], str]:
        if self.peek() == "field":
            self.take("field")
            name = self.take("literal")
            return self.reader(name), name, ""
        text = self.take("literal")
        return (lambda ref, row: text), None, text


def _both(left: Expression, right: Expression) -> Expression:
    one, other = left.test, right.test
    return Expression(lambda ref, row: one(ref, row) and other(ref, row), left.required + right.required)


def _membership(member: Member) -> Expression:
    read, texts = member.read, member.texts
    return Expression(lambda ref, row: read(ref, row) in texts, [member], alone=True)


def _either(left: Expression, right: Expression) -> Expression:
    if left.alone and right.alone and left.required[0].column == right.required[0].column:
        # Clients ask for many objects by many equalities of one column: read the column once.
        left.required[0].texts.update(right.required[0].texts)
        return left
    one, other = left.test, right.test
    return Expression(lambda ref, row: one(ref, row) or other(ref, row), [])


def parse(text: str, reader: Callable[[str], Reader]) -> Expression:
    """Parse a query. Raise INVALID_VALUE if it cannot be parsed."""
    try:
        return _Parser(_tokens(text), reader).whole()
    except _ParseError as error:
        raise XapiError("INVALID_VALUE", text, str(error))


def _missing(name: str) -> Reader:
    """A reader for an unknown field, which raises when a row is read (xapi: ocaml/database/db_cache_impl.ml)."""

    def read(ref: str, row: Row) -> str:
        raise XapiError("INTERNAL_ERROR", "missing field", name, "")

    return read


def select(database: Database, cls: str, text: str) -> List[str]:
    """The references of the rows of a class that the query matches."""
    table = database.tables[cls]

    def reader(name: str) -> Reader:
        if name == "_ref":
            return lambda ref, row: ref
        field = table.cls.columns.get(name)
        if field is None:
            return _missing(name)
        if field.derived:
            found = field
            return lambda ref, row: stored_text(database.derived(found, ref))
        wire_name = field.name
        return lambda ref, row: stored_text(row[wire_name])

    expression = parse(text, reader)
    rows = table.rows
    candidates = _candidates(database, table, expression.required)
    if candidates is None:
        return [ref for ref, row in rows.items() if expression.test(ref, row)]
    return [ref for ref in candidates if ref in rows and expression.test(ref, rows[ref])]


def _candidates(database: Database, table: Table, required: List[Member]) -> Optional[List[str]]:
    """The smallest set of candidate rows that an index gives; None if no index helps."""
    best: Optional[List[str]] = None
    for member in required:
        if member.column != "_ref" and member.column not in table.cls.columns:
            return None
        rows = _found(database, table, member)
        if rows is not None and (best is None or len(rows) < len(best)):
            best = rows
    return best


def _found(database: Database, table: Table, member: Member) -> Optional[List[str]]:
    """The rows that may fulfil a condition, by an index; None if there is none for it."""
    texts = sorted(member.texts)
    if member.column == "_ref":
        return _in_order(table, texts)
    field = table.cls.columns[member.column]
    if field.derived:
        targets = [_pointed_at(database, field, text) for text in texts]
        return None if None in targets else _in_order(table, targets)
    found = [_index(database, table, field, text) for text in texts]
    if None in found:
        return None
    rows = [ref for index in found for ref in index or ()]
    return rows if field.relation or not field.type.startswith("ref ") else _in_order(table, rows)


def _in_order(table: Table, refs: Iterable[Optional[str]]) -> List[str]:
    """Those of these objects that exist, each once, as a look at every row would find them: the oldest first."""
    return sorted({ref for ref in refs if ref in table.created}, key=lambda ref: (table.created[ref], ref))


def _pointed_at(database: Database, field: Field, text: str) -> Optional[str]:
    """The only object whose back side of a relation can be this set: that at which its first member points. None if
    the set is empty, as that of many objects is."""
    try:
        sources = read_set(text)
    except ValueError:
        return ""
    if not sources:
        return None
    cls, _, name = (field.relation or "").partition(".")
    table = database.tables.get(cls)
    source = table.rows.get(sources[0]) if table is not None else None
    return str(source[name]) if source is not None else ""


def _index(database: Database, table: Table, field: Field, text: str) -> Optional[Dict[str, Any]]:
    """The rows in which a field has this text, if there is an index for it."""
    if field.type.startswith("ref ") and text and text != NULL:
        return database.index(table, field.name).get(text, {})
    if field.name == "name_label":
        return table.labels.get(text, {})
    if field.name == "uuid":
        return {table.uuids[text]: None} if text in table.uuids else {}
    return None
