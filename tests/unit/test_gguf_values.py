"""Values of GGUF metadata: many strings are read as one is, and limits hold before anything is read."""

import struct

import pytest
from gguf_bytes import ARRAY, STRING, array, string
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import ModelError
from twofold.model.gguf_values import MANY, MAX_STRING_BYTES, MAX_VALUES, Cursor
from twofold.model.strings import Strings


def test_a_string_over_the_limit_is_refused() -> None:
    size = MAX_STRING_BYTES + 1
    data = struct.pack("<Q", size) + bytes(size)
    with pytest.raises(ModelError, match=r"longer than 16\.0 MiB"):
        Cursor(data, "model.gguf").string("the text")


@given(
    st.lists(st.text(max_size=5) | st.sampled_from(["", "\0", "a\0b", "\u0120the", "\U0001f600"]), max_size=5),
    st.integers(1, MANY),
)
@settings(max_examples=50, deadline=None)
def test_many_strings_are_read_as_one_string_is(some: list[str], more: int) -> None:
    words = [*some, *map(str, range(MANY)), *some] * more
    data = b"".join(map(string, words)) + b"behind"
    cursor = Cursor(array(STRING, len(words)) + data, "model.gguf")
    assert cursor.value(ARRAY, "the words") == Strings.of(words)
    assert cursor.remaining == len(b"behind")


DAMAGED_STRINGS = {
    "cut_in_a_length": (lambda data: data[:-9], "ends inside the words"),
    "cut_in_a_string": (lambda data: data[:-1], "holds a string of 3 bytes where 2 remain"),
    "not_utf8": (lambda data: data[:-2] + b"\xff!", "is not UTF-8, at byte "),
    "utf8_over_two_strings": (lambda data: data[:-12] + b"\xc3" + string(b"\xa9xx"), "is not UTF-8, at byte "),
    "a_length_of_all_ones": (lambda data: data[:-11] + b"\xff" * 11, "holds a string of 18446744073709551615 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGED_STRINGS)
def test_damage_among_many_strings_is_named_as_of_one(damage: str) -> None:
    change, told = DAMAGED_STRINGS[damage]
    words = change(string("one") * MANY * 2)
    cursor = Cursor(words, "model.gguf")
    with pytest.raises(ModelError, match=told):
        cursor._run(STRING, MANY * 2, "the words", depth=0)


def test_many_strings_longer_together_than_one_may_be_are_read() -> None:
    long = "x" * (MAX_STRING_BYTES // MANY)
    data = array(STRING, MANY + 1) + string(long) * (MANY + 1)
    assert Cursor(data, "model.gguf").value(ARRAY, "the words") == Strings.of([long] * (MANY + 1))


def test_more_values_than_the_limit_are_refused_before_they_are_read() -> None:
    one = array(0, MAX_VALUES // 2, bytes(MAX_VALUES // 2))
    cursor = Cursor(one * 2, "model.gguf")
    cursor.value(ARRAY, "the first")
    with pytest.raises(ModelError, match="the second brings the metadata to more than 4194304 values"):
        cursor.value(ARRAY, "the second")
