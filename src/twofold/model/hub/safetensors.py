"""Safetensors, the file of tensors that the model hub uses. Read only, mapped, not copied.

    u64 bytes of the head | the head, JSON: name → {dtype, shape, data_offsets} | data

Source: the format's description in its own repository. Nothing in a file is believed: the head's length, every
shape and every offset is checked against the file's size before it is used, and what is wrong is one ModelError.
"""

import itertools
import math
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from twofold.errors import ModelError
from twofold.model.gguf_values import shown
from twofold.model.mapped import give_back, holds, mapped

MAX_HEAD_BYTES = 100_000_000  # as the format's own reader has it
MAX_TENSORS = 1 << 20
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "U16": 2, "U32": 4,
    "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
_PICKLED = re.compile(rb"PK\x03\x04|\x80[\x02-\x05]")


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Stretch:
    """Where a tensor lies: `shape` row-major; `begin` and `end` count from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """An open safetensors file: `tensors` in the order of their data, and their bytes by name."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        """Read the head of a file of which `data` is all the bytes; `path` is what messages name."""
        self.path, self._data = path, data
        self.tensors = _placed(path, _entries(path, data), len(data))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map `path` and read its head. ModelError if it cannot be opened or is not a sound safetensors file."""
        return cls(path, mapped(path, ".safetensors"))

    def raw(self, name: str) -> memoryview:
        """Exactly the bytes of one tensor, nothing copied; valid for as long as the view is held."""
        at = self.tensors[name]
        return memoryview(self._data)[at.begin : at.end]

    def give_back(self, raw: memoryview) -> None:
        """If `raw` is a part of this file, tell the system that the file up to its end need not stay in our memory."""
        if isinstance(self._data, mmap.mmap) and holds(self._data, raw):
            give_back(self._data, raw)


def _entries(path: Path, data: mmap.mmap | bytes) -> tuple[dict[str, _Entry], int]:
    """The head's entries, and where the data begins."""
    length = int.from_bytes(data[:8], "little")
    if _PICKLED.match(data[:4]):
        raise _refusal(path, "is a pickled file, which could run any program; use a safetensors file")
    if len(data) < 8 or not 2 <= length <= min(MAX_HEAD_BYTES, len(data) - 8):
        raise _refusal(path, f"states a head of {length} bytes in a file of {len(data)}; download it again")
    try:
        head = msgspec.json.decode(data[8 : 8 + length], type=dict[str, msgspec.Raw])
        head.pop("__metadata__", None)
        if len(head) > MAX_TENSORS:
            raise _refusal(path, f"lists {len(head)} tensors; no model has more than {MAX_TENSORS}")
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in head.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(path, f"has a damaged head ({error}); download it again") from None
    return entries, 8 + length


def _placed(path: Path, head: tuple[dict[str, _Entry], int], size: int) -> dict[str, Stretch]:
    entries, start = head
    placed = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        what, (begin, end) = f"tensor {shown(name)}", entry.data_offsets
        each = DTYPE_BYTES.get(entry.dtype)
        if each is None:
            raise _refusal(path, f"{what} is stored as {shown(entry.dtype)}, which is not supported")
        if any(not 0 <= length < 1 << 48 for length in entry.shape) or len(entry.shape) > 8:
            raise _refusal(path, f"{what} has the impossible shape {entry.shape[:8]}")
        if not 0 <= begin <= end <= size - start or end - begin != math.prod(entry.shape) * each:
            raise _refusal(path, f"{what} lies at {begin} to {end}, which its shape or the file does not allow")
        placed[name] = Stretch(entry.dtype, tuple(entry.shape), start + begin, start + end)
    for (left, before), (right, after) in itertools.pairwise(placed.items()):
        if after.begin < before.end:
            raise _refusal(path, f"the tensors {shown(left)} and {shown(right)} overlap")
    return placed


def _refusal(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: {what}")
