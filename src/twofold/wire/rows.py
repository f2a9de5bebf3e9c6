"""Rows: the planes of a call, in one piece of memory that both sides can share.

    ┌─ids──────┬─carry──────────┬─q───────┬─k────┬─v────┬─attended─┬─logits────┐
    │ capacity │ capacity       │ …       │      │      │          │ heads     │   each plane starts at a
    │ rows     │ rows           │         │      │      │          │ rows      │   multiple of 64 bytes
    └──────────┴────────────────┴─────────┴──────┴──────┴──────────┴───────────┘

A call of n rows uses the first n rows of each of its planes. A plane that a segment both takes and gives
(the carry) is one matrix, so nothing is copied between two calls in one process. On a link the planes of a call
travel one after the other, as the payload of a frame.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twofold.model.manifest import Manifest
from twofold.model.segment import NUMPY, Plane

ROWS = 256  # rows of one call
HEAD_ROWS = 32  # rows of one call of an end of the step: a row of logits is large
ALIGN = 64
MODEL_BYTES = 16

AnyArray = npt.NDArray[np.generic]


class Layout:
    """Where each plane of a model lies: `offsets[name]` in bytes, `size_bytes` in all."""

    def __init__(self, manifest: Manifest, *, rows: int = ROWS, head_rows: int = HEAD_ROWS) -> None:
        self.rows, self.head_rows = rows, head_rows
        self.model = bytes.fromhex(manifest.digest)[:MODEL_BYTES]  # what every CALL and REPLY carries of the digest
        self.cuts = manifest.cuts
        self.planes: dict[str, Plane] = {plane.name: plane for plane in manifest.planes()}
        last = {plane.name for end in manifest.ends for plane in manifest.cuts[end].gives}
        self.capacity = {name: head_rows if name in last else rows for name in self.planes}
        self.offsets: dict[str, int] = {}
        end = 0
        for name, plane in self.planes.items():
            self.offsets[name] = end
            end += -(-plane.row_bytes * self.capacity[name] // ALIGN) * ALIGN
        self.size_bytes = max(end, ALIGN)

    def limit(self, segment: int) -> int:
        """The most rows one call of `segment` may carry."""
        cut = self.cuts[segment]
        return min((self.capacity[plane.name] for plane in (*cut.takes, *cut.gives)), default=self.rows)

    def longest(self, *, gives: bool) -> int:
        """Bytes of the longest payload of any call, or of any reply."""
        cuts = enumerate(self.cuts)
        return max(self.payload_bytes(cut.gives if gives else cut.takes, self.limit(i)) for i, cut in cuts)

    def payload_bytes(self, planes: Sequence[Plane], count: int) -> int:
        """Bytes of `count` rows of `planes` on a wire: the planes one after the other, rows packed."""
        return sum(plane.row_bytes for plane in planes) * count


class Rows:
    """The planes of calls: `rows[name]` is an array [capacity, width] over the shared memory."""

    def __init__(self, layout: Layout, memory: memoryview | bytearray | None = None) -> None:
        """Lay the planes over `memory` (writable, at least `layout.size_bytes`), or over new memory."""
        self.layout = layout
        if memory is None:
            memory = np.zeros(layout.size_bytes + ALIGN, np.uint8).data.cast("B")
            address = np.frombuffer(memory, np.uint8).ctypes.data
            memory = memory[-address % ALIGN :]
        self.memory = memory
        self.arrays: dict[str, AnyArray] = {}
        for name, plane in layout.planes.items():
            count = layout.capacity[name] * plane.width
            flat = np.frombuffer(memory, NUMPY[plane.dtype], count, layout.offsets[name])
            self.arrays[name] = flat.reshape(layout.capacity[name], plane.width)
        self.address = np.frombuffer(memory, np.uint8, 1).ctypes.data

    def __getitem__(self, name: str) -> AnyArray:
        return self.arrays[name]

    def keep(self, segment: int, wanted: Sequence[int]) -> None:
        """Move the `wanted` rows (numbers that rise) of the planes that `segment` takes to the front."""
        if wanted[-1] != len(wanted) - 1:
            for plane in self.layout.cuts[segment].takes:
                array = self.arrays[plane.name]
                array[: len(wanted)] = array[list(wanted)]
