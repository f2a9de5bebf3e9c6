"""The values of a GGUF file, read from bytes that nobody has vouched for.

Little endian throughout. A string is `u64 length, UTF-8 bytes`; an array is `u32 type, u64 count, values`;
a number is its bytes. Source: the GGUF specification, "File Structure".

A declared length is compared with the bytes that remain before anything of that length exists, and what a
file may make us hold is bounded: strings of `MAX_STRING_BYTES`, `MAX_VALUES` values in all, arrays
`MAX_DEPTH` deep.
"""

import ctypes
import functools
import mmap
import struct
from typing import TypeAlias

import numpy as np

from twofold.errors import ModelError
from twofold.model.strings import Strings
from twofold.native import library
from twofold.units import MIB, bytes_text

Value: TypeAlias = "str | int | float | bool | Strings | list[Value]"

MAX_STRING_BYTES = 16 * MIB  # the longest known is a chat template of some 100 KiB
MAX_VALUES = 4 * 1024 * 1024  # the largest known vocabularies with scores and merges hold 1.5 million
MAX_DEPTH = 4  # arrays in arrays; no known file nests at all
MANY = 64  # strings that are worth a native call

DAMAGED = "the file is damaged, so download or convert it again"

BOOL, STRING, ARRAY = 7, 8, 9
_NUMBER_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "B", 10: "Q", 11: "q", 12: "d"}
_LEAST_BYTES = {STRING: 8, ARRAY: 12} | {k: struct.calcsize(f"<{code}") for k, code in _NUMBER_CODES.items()}
_U64 = struct.Struct("<Q")


def shown(text: str) -> str:
    """`text` quoted for a one-line message, cut where it is too long for one."""
    return repr(text) if len(text) <= 80 else repr(text[:77]) + "..."


class Cursor:
    """A place in the bytes of a file; every step forward is checked against the bytes that remain.

    `file` is the name that messages begin with. A method that reads and finds the bytes missing or wrong
    raises ModelError: one line that names the file, the value and the remedy.
    """

    def __init__(self, data: mmap.mmap | bytes, file: str) -> None:
        self.at = 0
        self.file = file
        self._data = data
        self._size = len(data)
        self._values_left = MAX_VALUES

    @property
    def remaining(self) -> int:
        """Bytes between here and the end of the file."""
        return self._size - self.at

    def refusal(self, what: str, remedy: str = DAMAGED) -> ModelError:
        """The error to raise: `file: what; remedy`."""
        return ModelError(f"{self.file}: {what}; {remedy}")

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes."""
        if size > self.remaining:
            raise self.refusal(f"ends inside {what} (byte {self.at} + {size} of {self._size})")
        start, self.at = self.at, self.at + size
        return self._data[start : self.at]

    def u32(self, what: str) -> int:
        """The next unsigned 32-bit number."""
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        """The next unsigned 64-bit number."""
        return int.from_bytes(self.take(8, what), "little")

    def string(self, what: str) -> str:
        """The next string."""
        return self._strings_one_by_one(1, what)[0]

    def value(self, kind: int, what: str) -> Value:
        """The next value, of the published type `kind`; a float32 widens to a Python float exactly, an array of
        strings is `Strings`."""
        return self._run(kind, 1, what, depth=0)[0]

    def _run(self, kind: int, count: int, what: str, *, depth: int) -> list[Value] | Strings:
        """The next `count` values, all of type `kind`, inside `depth` arrays."""
        least = _LEAST_BYTES.get(kind)
        if least is None:
            raise self.refusal(f"{what} has the unknown value type {kind}")
        if count > self.remaining // least:
            raise self.refusal(f"{what} declares {count} values, more than {self.remaining} bytes can hold")
        if count > self._values_left:
            raise self.refusal(f"{what} brings the metadata to more than {MAX_VALUES} values")
        self._values_left -= count
        if kind == STRING:
            return self._strings(count, what)
        if kind == ARRAY:
            return [self._array(what, depth + 1) for _ in range(count)]
        numbers = struct.unpack_from(f"<{count}{_NUMBER_CODES[kind]}", self._data, self.at)
        self.at += count * least
        if kind != BOOL:
            return [*numbers]
        if max(numbers, default=0) > 1:
            raise self.refusal(f"{what} holds a bool that is neither 0 nor 1")
        return [number == 1 for number in numbers]

    def _array(self, what: str, depth: int) -> list[Value] | Strings:
        if depth > MAX_DEPTH:
            raise self.refusal(f"{what} nests arrays more than {MAX_DEPTH} deep")
        kind = self.u32(f"the element type of {what}")
        return self._run(kind, self.u64(f"the length of {what}"), what, depth=depth)

    def _strings(self, count: int, what: str) -> Strings:
        """The next `count` strings."""
        joined = self._joined(count) if count >= MANY else None
        return Strings.of(self._strings_one_by_one(count, what)) if joined is None else joined

    def _joined(self, count: int) -> Strings | None:
        """The same natively; None, nothing taken, for what only the plain way reads, or says what is wrong with."""
        data = np.frombuffer(self._data, np.uint8, offset=self.at)
        room = mmap.mmap(-1, min(len(data), MAX_STRING_BYTES))  # given by the system as it is touched, and taken back
        joined = np.frombuffer(room, np.uint8)
        ends = np.empty(count, "<i4")
        read = _join_strings()(data.ctypes.data, len(data), count, joined.ctypes.data, len(joined), ends.ctypes.data)
        if read < 0:
            return None
        try:
            strings = Strings(joined[: read - 8 * count].tobytes(), ends.tobytes())
        except ModelError:
            return None
        self.at += read
        return strings

    def _strings_one_by_one(self, count: int, what: str) -> list[str]:
        data, size, at = self._data, self._size, self.at
        strings: list[str] = []
        for _ in range(count):
            start = at + 8
            if start > size:
                raise self.refusal(f"ends inside {what} (byte {size})")
            (length,) = _U64.unpack_from(data, at)
            if length > size - start:
                raise self.refusal(f"{what} holds a string of {length} bytes where {size - start} remain")
            if length > MAX_STRING_BYTES:
                raise self.refusal(f"{what} holds a string longer than {bytes_text(MAX_STRING_BYTES)}")
            at = start + length
            try:
                strings.append(str(data[start:at], "utf-8"))
            except UnicodeDecodeError:
                raise self.refusal(f"{what} holds a string that is not UTF-8, at byte {start}") from None
        self.at = at
        return strings


@functools.cache
def _join_strings() -> "ctypes._NamedFuncPointer":
    function = library().tf_join_strings
    function.restype = ctypes.c_int64
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (pointer, count, count, pointer, count, pointer)
    return function
