"""GGUF, the file that holds a model: metadata, tensor directory, tensor bytes. Read only, mapped, not copied.

    magic "GGUF" | u32 version | u64 tensor count | u64 metadata count
    metadata     : key, u32 type, value           (see gguf_values.py)
    directory    : name, u32 dimensions, u64 each (fastest first), u32 type, u64 offset from the data's start
    padding to the alignment (`general.alignment`, 32 unless told)
    data         : each tensor at a multiple of the alignment

Versions 2 and 3, little endian. Source: the GGUF specification. Nothing in a file is believed: every count,
length and offset is checked against the file's size before it is used, and what is wrong is one ModelError.
"""

import dataclasses
import itertools
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from twofold.errors import InternalError, ModelError
from twofold.model.format import FORMATS, Format, format_of, name_of
from twofold.model.gguf_values import Cursor, Value, shown
from twofold.model.mapped import give_back, mapped, message_name
from twofold.model.source import rows_of

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4

_LEAST_ENTRY_BYTES = 8 + 4 + 1  # an empty key, its type, a one-byte value
_LEAST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8  # an empty name, one dimension
_MAX_ELEMENTS = 2**63 - 1


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the directory.

    `shape` is row-major, as NumPy would have it (the file stores the fastest dimension first, so reversed);
    `offset` counts from the start of the file; `offset + size_bytes` is inside the file.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    offset: int
    size_bytes: int


class GgufFile:
    """An open GGUF file: `metadata` and `tensors`, both in the order of the file, and the bytes by name.

    A float32 of the metadata is a Python float of the same value; every width of integer is an int.

    The file is mapped, not read: do not change it while it is open. If another process truncates it, touching
    bytes that are gone is answered by the kernel with SIGBUS, which ends this process. Replacing the file by
    a rename is safe: the mapping keeps the old one.
    """

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        """Read the head of a file of which `data` is all the bytes; `path` is what messages name."""
        cursor = Cursor(data, message_name(path))
        self.path = path
        self.size_bytes = len(data)
        self.version = _read_version(cursor)
        tensor_count, entry_count = _read_counts(cursor)
        self.metadata: dict[str, Value] = _read_metadata(cursor, entry_count)
        alignment = _alignment(cursor, self.metadata)
        declared = [_read_tensor(cursor, number, alignment) for number in range(tensor_count)]
        self.data_start = -(-cursor.at // alignment) * alignment
        self.tensors: dict[str, TensorInfo] = _place(cursor, declared, self.data_start, self.size_bytes)
        self._data: mmap.mmap | bytes | None = data

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map `path` and read its head. ModelError if it cannot be opened or is not a sound GGUF file."""
        data = mapped(path, ".gguf")
        try:
            return cls(path, data)
        except ModelError:
            data.close()
            raise

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> memoryview:
        """Exactly the bytes of one tensor, or of rows a to b - 1 of its matrix.

        It is a read-only view into the mapping, nothing copied, and stays valid for as long as it is held, also after
        `close`. ModelError if there is no such tensor.
        """
        if self._data is None:
            raise InternalError(f"{self.path} was closed before {name!r} was read; this is a bug, report it")
        info = self.tensors.get(name)
        if info is None:
            what = f"has no tensor {shown(name)}"
            raise ModelError(f"{message_name(self.path)}: {what}; use a complete file of a supported model")
        return rows_of(memoryview(self._data)[info.offset : info.offset + info.size_bytes], info, rows)

    def give_back(self, raw: memoryview) -> None:
        """Tell the system that the file up to the end of `raw`, a part of a tensor, need not stay in our memory."""
        if isinstance(self._data, mmap.mmap):
            give_back(self._data, raw)

    def close(self) -> None:
        """Drop the mapping: now, or with the last view that `raw` handed out. Closing twice is allowed."""
        self._data = None  # not mmap.close(), which refuses while views are held: they keep the mapping alive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _read_version(cursor: Cursor) -> int:
    magic = cursor.take(4, "the magic")
    if magic != MAGIC:
        raise cursor.refusal(f"is not a GGUF file (it begins with {magic!r}, not {MAGIC!r})", "give a .gguf file")
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in (1, *VERSIONS):
        raise cursor.refusal(f"is a big-endian GGUF file (version {swapped})", "convert it to little endian")
    known = " and ".join(map(str, VERSIONS))
    raise cursor.refusal(f"is GGUF version {version}, and versions {known} are read", "convert the model again")


def _read_counts(cursor: Cursor) -> tuple[int, int]:
    """The counts of tensors and of metadata entries, both small enough for the bytes that follow."""
    tensor_count = cursor.u64("the tensor count")
    entry_count = cursor.u64("the metadata count")
    if tensor_count > cursor.remaining // _LEAST_TENSOR_BYTES:
        raise cursor.refusal(f"declares {tensor_count} tensors, more than {cursor.remaining} bytes can describe")
    if entry_count > cursor.remaining // _LEAST_ENTRY_BYTES:
        raise cursor.refusal(f"declares {entry_count} metadata entries, more than {cursor.remaining} bytes can hold")
    return tensor_count, entry_count


def _read_metadata(cursor: Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for number in range(count):
        key = cursor.string(f"the key of metadata entry {number}")
        if key in metadata:
            raise cursor.refusal(f"the metadata key {shown(key)} appears twice")
        kind = cursor.u32(f"the type of {shown(key)}")
        metadata[key] = cursor.value(kind, f"the value of {shown(key)}")
    return metadata


def _alignment(cursor: Cursor, metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    sound = isinstance(value, int) and not isinstance(value, bool) and 8 <= value <= 65536
    if not isinstance(value, int) or not sound or value & (value - 1):
        raise cursor.refusal(f"general.alignment is {shown(str(value))}, not a power of two from 8 to 65536")
    return value


def _read_tensor(cursor: Cursor, number: int, alignment: int) -> TensorInfo:
    """The next entry of the directory, its offset still counted from the start of the data."""
    name = cursor.string(f"the name of tensor {number}")
    what = f"tensor {shown(name)}"
    dimensions = cursor.u32(f"the dimension count of {what}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.refusal(f"{what} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
    shape = tuple(cursor.u64(f"the shape of {what}") for _ in range(dimensions))[::-1]
    elements = math.prod(shape)
    if not 1 <= elements <= _MAX_ELEMENTS:
        raise cursor.refusal(f"{what} has the impossible shape {shape}")
    ggml_id = cursor.u32(f"the type of {what}")
    stored = format_of(ggml_id)
    if stored is None:
        known = ", ".join(each.name for each in FORMATS)
        raise cursor.refusal(f"{what} is stored as {name_of(ggml_id)}", f"use a file in one of {known}")
    if shape[-1] % stored.block:
        raise cursor.refusal(f"{what} has rows of {shape[-1]}, not a multiple of {stored.name}'s {stored.block}")
    offset = cursor.u64(f"the offset of {what}")
    if offset % alignment:
        raise cursor.refusal(f"{what} begins at offset {offset}, not a multiple of the alignment {alignment}")
    return TensorInfo(name, shape, stored, offset, stored.size_bytes(elements))


def _place(cursor: Cursor, declared: list[TensorInfo], data_start: int, size_bytes: int) -> dict[str, TensorInfo]:
    """The directory by name, offsets counted from the file's start; each inside it, no two overlapping."""
    tensors: dict[str, TensorInfo] = {}
    for each in declared:
        if each.name in tensors:
            raise cursor.refusal(f"the tensor {shown(each.name)} appears twice")
        placed = dataclasses.replace(each, offset=data_start + each.offset)
        end = placed.offset + placed.size_bytes
        if end > size_bytes:
            raise cursor.refusal(f"tensor {shown(each.name)} ends at byte {end}, the file at byte {size_bytes}")
        tensors[each.name] = placed
    for left, right in itertools.pairwise(sorted(tensors.values(), key=lambda tensor: tensor.offset)):
        if right.offset < left.offset + left.size_bytes:
            raise cursor.refusal(f"the tensors {shown(left.name)} and {shown(right.name)} overlap")
    return tensors
