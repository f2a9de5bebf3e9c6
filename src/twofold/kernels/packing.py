"""Loading: the tensors of a model file, packed one after another into one stretch of memory.

    file order        blk.0.attn_q ─┐  blk.0.attn_k ─┐        each slice of a tensor is given back to the
                                    ▼                ▼        system once it is packed, so that file and
    packed memory     [ panels, 64-byte aligned ][ panels ]…  packed weights are never both here whole

Matrices become panels of 16 output rows (native/twofold.h); the weights that are vectors stay float32.
"""

import ctypes
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from twofold.errors import DeviceError, InternalError, ModelError
from twofold.kernels.base import Progress
from twofold.kernels.binding import Functions, MatrixStruct
from twofold.kernels.blocks import decode
from twofold.model.checkpoint import Tensor, Tensors
from twofold.model.manifest import Model
from twofold.model.operations import Linear, VectorOperation, weight_of
from twofold.units import MIB

ALIGN = 64
PANEL_ROWS = 16
SLICE_BYTES = 8 * MIB  # of a file, between two times of giving back


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a tensor of `rows` rows of `width` lies in packed memory; a vector is one row of float32."""

    name: str
    rows: int
    width: int
    format_id: int
    vector: bool
    offset: int  # bytes
    size_bytes: int

    def at(self, memory: int) -> MatrixStruct:
        """What the kernels know of it, where packed memory begins at the address `memory`."""
        return MatrixStruct(self.rows, self.width, memory + self.offset, self.format_id, 0)


class Arena:
    """One stretch of zeroed memory of at least `size_bytes` bytes, in huge pages where the system gives them."""

    def __init__(self, functions: Functions, size_bytes: int) -> None:
        self._functions, self._size_bytes = functions, size_bytes
        self._take()

    def _take(self) -> None:
        self._address = self._functions.alloc(self._size_bytes)
        if not self._address:
            raise DeviceError(
                f"{self._size_bytes} bytes of memory for weights could not be had; "
                "close programs or use a smaller model"
            )

    @property
    def address(self) -> int:
        """Where it begins, 64-byte aligned."""
        if not self._address:
            raise InternalError("weights were used after their memory was given back")
        return int(self._address)

    def clear(self) -> None:
        """Make all of it zero, in memory that is taken anew."""
        self.free()
        self._take()

    def free(self) -> None:
        """Give the memory back."""
        if self._address:
            self._functions.free(self._address, self._size_bytes)
            self._address = None


def named_tensors(model: Model, segments: Sequence[int], tensors: Tensors) -> dict[str, Tensor]:
    """The tensors that the segments need, in the order of the file."""
    operations = [operation for index in segments for operation in model.segments[index].operations]
    names = {name for name in map(weight_of, operations) if name}
    found = {name: tensors(name) for name in names}
    return dict(sorted(found.items(), key=lambda item: _address_of(item[1].raw)))


def plan(functions: Functions, model: Model, segments: Sequence[int], found: Mapping[str, Tensor]) -> list[Place]:
    """A place for each tensor, one after another; ModelError for one that cannot be packed."""
    vectors = _vectors(model, segments)
    places, end = [], 0
    for name, tensor in found.items():
        if name in vectors:
            size = 4 * tensor.width
        else:
            size = int(functions.packed_bytes(tensor.format.ggml_id, tensor.rows, tensor.width))
        if not size:
            what = f"{tensor.format.name} of {tensor.rows} × {tensor.width}"
            raise ModelError(f"tensor {name}: {what} cannot be packed")
        offset = -(-end // ALIGN) * ALIGN
        places.append(
            Place(name, tensor.rows, tensor.width, tensor.format.ggml_id, name in vectors, offset, size)
        )  # fmt: skip
        end = offset + size
    return places


def packed_bytes(places: Sequence[Place]) -> int:
    """Bytes of memory that the places need, a multiple of 64."""
    return -(-max((place.offset + place.size_bytes for place in places), default=1) // ALIGN) * ALIGN


class Packer:
    """Packs tensors with the threads of `pool` into zeroed memory that begins at `memory`."""

    def __init__(self, functions: Functions, pool: int, memory: int) -> None:
        self._functions, self._pool, self._memory = functions, pool, memory

    def pack(self, places: Sequence[Place], found: Mapping[str, Tensor], progress: Progress | None) -> None:
        """Pack all of `places`; ModelError naming a tensor that holds NaN or infinity."""
        done, total = 0, sum(len(tensor.raw) for tensor in found.values())
        for place in places:
            tensor = found[place.name]
            step = _slice_rows(tensor)
            for row in range(0, tensor.rows, step):
                part = tensor.slice(row, min(step, tensor.rows - row))
                if not (self._vector(place, part) if place.vector else self._matrix(place, part, row)):
                    raise ModelError(
                        f"tensor {place.name} holds NaN or infinity; the file is damaged, download or convert it again"
                    )
                part.release()
                done += len(part.raw)
                if progress:
                    progress(done, total)

    def _vector(self, place: Place, tensor: Tensor) -> bool:
        """Whether all is finite; then it is packed."""
        values = decode(tensor.format, tensor.raw, 1, tensor.width).dequantised()
        ctypes.memmove(self._memory + place.offset, values.ctypes.data, place.size_bytes)
        return bool(np.isfinite(values).all())

    def _matrix(self, place: Place, part: Tensor, row: int) -> bool:
        """Whether all is finite; then the rows from `row` on are packed."""
        kind = place.format_id
        before = int(self._functions.packed_bytes(kind, row, place.width))
        damaged = self._functions.pack(
            self._pool, kind, _address_of(part.raw), part.rows, part.width,
            part.format.size_bytes(part.width), self._memory + place.offset + before,
        )  # fmt: skip
        return not damaged


def _slice_rows(tensor: Tensor) -> int:
    """Rows of a tensor to pack at once: whole panels of about SLICE_BYTES."""
    return max(1, SLICE_BYTES // tensor.format.size_bytes(tensor.width) // PANEL_ROWS) * PANEL_ROWS


def _address_of(raw: memoryview) -> int:
    return int(np.frombuffer(raw, np.uint8).ctypes.data)


def _vectors(model: Model, segments: Sequence[int]) -> set[str]:
    """The tensors that are vectors kept as float32."""
    operations = [operation for index in segments for operation in model.segments[index].operations]
    vectors = {
        operation.weight for operation in operations if isinstance(operation, VectorOperation) and operation.weight
    }
    if vectors & {operation.weight for operation in operations if isinstance(operation, Linear)}:
        raise InternalError("one tensor is used both as a vector and as a matrix")
    return vectors
