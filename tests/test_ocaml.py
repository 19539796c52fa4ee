"""Integers in OCaml's notation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.core.ocaml import parse_int, read_int


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["%d", "%#x", "%#X", "%#o"]))
def test_every_integer_of_64_bits_is_read_in_every_notation(number: int, form: str) -> None:
    assert parse_int(form % number) == number


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_binary_number_of_64_digits_is_not_too_long(number: int) -> None:
    assert parse_int(format(number, "+#b")) == number


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**60])
def test_a_number_of_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="has more than 64 bits"):
        parse_int(str(number))


# Unlike Python's int() and literals: a leading zero says nothing, an underscore may come last and twice, but not first.
@pytest.mark.parametrize("text, number", [("007", 7), ("0u9", 9), ("1__0_", 10), ("-0", 0), ("+5", 5), ("0b1_0", 2)])
def test_the_notation_is_that_of_ocaml(text: str, number: int) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize("text", ["", "0x", "0x_1", "_1", "0b2", "0o8", "--1", "1.0", " 1", "1\n", "\u0667", "1" * 100])
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A'[^\n]*' is not a whole number\Z"):
        parse_int(text)


@pytest.mark.parametrize("value", [7, "7", "0x7", "07"])
def test_a_record_has_an_integer_as_text_or_as_a_number(value: object) -> None:
    assert read_int(value, 0, 23) == 7


@pytest.mark.parametrize("value", [True, None, 7.0, [7], "0" * 30])
def test_what_is_no_integer_of_a_record_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        read_int(value, 0, 23)
