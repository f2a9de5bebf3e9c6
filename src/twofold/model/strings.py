"""Many strings kept as one: a vocabulary is a hundred thousand, and as objects they would take ten times the memory."""

import functools
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from twofold.errors import ModelError

Ends: TypeAlias = npt.NDArray[np.int32]
CONTINUED, CONTINUES = 0xC0, 0x80  # a byte of UTF-8 that begins no character, under this mask


class Strings(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """Strings of UTF-8, one after another: `text` is all their bytes, `ends` where each ends, as little-endian int32.

    An instance that exists is sound: raises ModelError for ends that are not in order up to the end of the text, and
    for a string that is not UTF-8.
    """

    text: bytes
    ends: bytes

    def __post_init__(self) -> None:
        if len(self.ends) % 4:
            raise ModelError("strings with a part of an end; the sender is broken, or the file damaged")
        ends = self.end
        if (int(ends[-1]) if len(ends) else 0) != len(self.text) or (np.diff(ends, prepend=np.int32(0)) < 0).any():
            raise ModelError("strings whose ends are not in order up to the last byte; the sender is broken")
        try:
            str(self.text, "utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"strings that are not UTF-8 at byte {error.start}; the sender is broken") from None
        inside = np.frombuffer(self.text, np.uint8)[ends[ends < len(self.text)]]
        if ((inside & CONTINUED) == CONTINUES).any():
            raise ModelError("strings that divide a character of UTF-8; the sender is broken")

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Strings":
        """These strings; UnicodeEncodeError for one with a lone surrogate."""
        parts = [string.encode() for string in strings]
        return cls(b"".join(parts), np.cumsum([*map(len, parts)], dtype="<i4").tobytes())

    @functools.cached_property
    def end(self) -> Ends:
        """Where each string ends in `text`."""
        return np.frombuffer(self.ends, "<i4")

    def __len__(self) -> int:
        return len(self.ends) // 4

    def __getitem__(self, index: int) -> str:
        """The string of this index, from 0; IndexError beyond the last."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self.end[index - 1]) if index else 0
        return str(self.text[start : int(self.end[index])], "utf-8")

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self.end.tolist():
            yield str(self.text[start:end], "utf-8")
            start = end
