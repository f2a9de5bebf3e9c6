"""Many strings kept as one give back what was put in, and nothing that is not sound exists."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ModelError
from twofold.model.strings import Strings

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    ["", "\0", "Ġthe", "\U0001f600"]
)


def raw(text: bytes, *ends: int) -> Strings:
    return Strings(text, np.array(ends, "<i4").tobytes())


@given(strings=st.lists(UNICODE))
def test_strings_come_back_as_they_were(strings: list[str]) -> None:
    kept = Strings.of(strings)
    assert list(kept) == [kept[i] for i in range(len(kept))] == strings
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=Strings) == kept


@pytest.mark.parametrize("index", [-1, 2])
def test_there_is_no_string_before_the_first_or_after_the_last(index: int) -> None:
    with pytest.raises(IndexError):
        Strings.of(["a", "b"])[index]


UNSOUND = {
    "a text that no string reaches": (b"ab", [1]),
    "a text without strings": (b"ab", []),
    "an end beyond the text": (b"ab", [1, 3]),
    "an end before the one before": (b"abc", [2, 1, 3]),
    "an end before the text": (b"abc", [-1, 3]),
    "bytes that are not UTF-8": (b"a\xff", [1, 2]),
    "a character over two strings": ("aé".encode(), [2, 3]),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_is_not_sound_is_refused(name: str) -> None:
    text, ends = UNSOUND[name]
    with pytest.raises(ModelError):
        raw(text, *ends)


def test_a_part_of_an_end_is_refused() -> None:
    with pytest.raises(ModelError, match="a part of an end"):
        Strings(b"ab", b"\2\0\0")


@given(text=st.binary(max_size=6), ends=st.lists(st.integers(-2, 8), max_size=4))
def test_any_bytes_are_strings_of_utf8_that_join_to_the_text_or_are_refused(text: bytes, ends: list[int]) -> None:
    try:
        kept = raw(text, *ends)
    except ModelError:
        return
    assert "".join(kept).encode() == text
    assert len(kept) == len(ends)
