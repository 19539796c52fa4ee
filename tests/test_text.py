"""Text from outside, made safe for one line."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.core.text import is_uuid, one_line, quoted

# Any code point, lone surrogates included, and many of those that break lines or turn the text around.
hostile = st.text(
    st.one_of(
        st.characters(),
        st.integers(0xD800, 0xDFFF).map(chr),
        st.sampled_from(
            "\x00\t\n\v\f\r\x1b\x1c\x7f\x85\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202e\u2066\u2069\ufeff\\'\""
        ),
    )
)


def is_safe(text: str) -> bool:
    text.encode("utf-8")
    categories = {unicodedata.category(character) for character in text}
    return not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"} and len(text.splitlines()) <= 1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ""),
        ("plain", "plain"),
        ("a\nb\r\nc", r"a\x0ab\x0d\x0ac"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("nul\x00", r"nul\x00"),
        ("next\x85line", r"next\x85line"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("half \udc80 of a pair", r"half \udc80 of a pair"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_what_could_break_a_line_or_turn_it_around_is_escaped(text: str, expected: str) -> None:
    assert one_line(text) == expected


@pytest.mark.parametrize(
    "text",
    ["Büro-Server 3", "データベース", 'it\'s "quoted" [and] {bracketed}, 100%', "C:\\Users", "\U0001f4be", "a b"],
)
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text
    assert quoted(text) == "'%s'" % text


def test_a_long_text_keeps_its_two_ends() -> None:
    assert one_line("abcdefghijklmnopqrstuvwxyz", 11) == "abcd...wxyz"
    assert one_line("abcdefghijk", 11) == "abcdefghijk"
    assert len(one_line("x" * 10000)) <= 2000


@pytest.mark.parametrize("length_max", [0, 1, 2, 3, 4, 5, 6])
def test_a_very_small_limit_is_a_limit_too(length_max: int) -> None:
    assert len(one_line("abcdefghijklmnopqrstuvwxyz", length_max)) <= length_max


@pytest.mark.parametrize(
    "value, expected",
    [
        ("text", "'text'"),
        ("", "''"),
        (None, "'None'"),
        (7, "'7'"),
        (True, "'True'"),
        (["a"], "'['a']'"),
        (b"\n", r"'b'\n''"),
        ("a\nb", r"'a\x0ab'"),
    ],
)
def test_a_value_of_any_type_is_quoted(value: Any, expected: str) -> None:
    assert quoted(value) == expected


def test_a_number_too_long_to_be_written_is_quoted_like_any_other_value() -> None:
    # Python 3.11 and later refuse to write more than 4300 digits.
    assert len(quoted(10**5000)) <= 100


@given(hostile, st.integers(0, 300))
def test_one_line_is_one_safe_line_of_bounded_length_whatever_the_text(text: str, length_max: int) -> None:
    line = one_line(text, length_max)
    assert is_safe(line)
    assert len(line) <= length_max * len("\\U000e0001")


@given(
    st.one_of(
        hostile,
        st.binary(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.lists(hostile),
        st.dictionaries(hostile, hostile),
    )
)
def test_a_quoted_value_is_one_safe_short_line_in_quotes_whatever_it_is(value: Any) -> None:
    line = quoted(value)
    assert is_safe(line)
    assert line[0] == line[-1] == "'"
    assert len(line) <= 2 + 80 * len("\\U000e0001")


@given(st.text(st.characters(blacklist_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), max_size=200))
def test_text_without_unsafe_characters_is_never_changed(text: str) -> None:
    assert one_line(text) == text


@given(hostile)
def test_a_line_that_is_safe_already_stays_as_it_is(text: str) -> None:
    line = one_line(text)
    assert one_line(line) == line


@given(st.uuids())
def test_a_uuid_is_one_as_xapi_writes_it(uuid: Any) -> None:
    assert is_uuid(str(uuid))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OpaqueRef:NULL",
        "f26bbb2c-6a4b-4c2b-a1d5-5f4d1b9f8d1",
        "f26bbb2c-6a4b-4c2b-a1d5-5f4d1b9f8d1ez",
        "f26bbb2c-6a4b-4c2b-a1d5-5f4d1b9f8d1e\n",
        " f26bbb2c-6a4b-4c2b-a1d5-5f4d1b9f8d1e",
        "F26BBB2C-6A4B-4C2B-A1D5-5F4D1B9F8D1E",
        "f26bbb2c6a4b4c2ba1d55f4d1b9f8d1e",
        None,
        7,
        b"",
        ["x"],
    ],
)
def test_anything_else_is_no_uuid(text: Any) -> None:
    assert not is_uuid(text)
