"""The contract between the memories and whatever runs their operations.

A backend makes two things: `WeightKernels`, which hold the weights of some segments and run one segment on
rows, and `ContextKernels`, which rotate, append and attend for rows of sessions whose pages lie in one pool.
Ask `capabilities()` what a backend can do; never test its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from twofold.cache.pages import PAGE_POSITIONS
from twofold.model.checkpoint import Tensors
from twofold.model.manifest import Manifest, Model
from twofold.wire.rows import Layout, Rows

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Capabilities:
    """What a backend promises."""

    name: str
    vector_level: str
    threads: int
    same_bits_everywhere: bool  # R5 across kinds of processor


@dataclass(frozen=True)
class PagePool:
    """Memory of a KV cache: u8[pages, page_bytes]; where a layer lies in a page is `page_layout(manifest)`."""

    memory: npt.NDArray[np.uint8]

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of 64 positions over all layers."""
        return int(self.memory.shape[1])


class WeightKernels(Protocol):
    """The weights of some segments, ready to run; no run depends on an earlier one."""

    def run(self, segment: int, rows: Rows, count: int) -> None:
        """Run `segment` on the first `count` rows, from the planes it takes into the planes it gives."""

    def native_segments(self) -> int | None:
        """Address of an array of the native calls by segment; None if there are none."""

    def total(self, segment: int) -> int:
        """Rows that the segment has been run on, by itself or within another; from any thread."""

    def forget(self) -> None:
        """Wipe what earlier runs left in memory of ours; between two runs."""

    @property
    def size_bytes(self) -> int:
        """Bytes the weights occupy."""

    def close(self) -> None:
        """Give the memory back; no run may follow."""


class Stretch(NamedTuple):
    """Rows at neighbouring positions of one session, whose pages are `pages`."""

    first: int
    rows: int
    pages: Sequence[int]


class PlacedRows(Protocol):
    """The rows of one lane as context memory sees them: which position of which session each stands at.

    What follows from that for every layer, as the rotary sines and cosines, is worked out once a step and kept here.
    """

    def place(self, stretches: Sequence[Stretch]) -> None:
        """The rows of the next step: those of one stretch after the other, each of another session."""

    def attend(self, layer: int, count: int) -> None:
        """Rotate and append the first `count` rows, then attend: planes q, k, v → attended."""

    def layers(self, count: int) -> int | None:
        """Address of the native calls that do the same for each layer (`native/walk.c`); None if there are none."""


class ContextKernels(Protocol):
    """The context-aware operations over one pool of pages; one operation at a time."""

    def placed(self, rows: Rows) -> PlacedRows:
        """The `rows` of a lane, to be placed anew for every step."""

    def close(self) -> None:
        """Give the memory back; no call may follow."""


class Backend(Protocol):
    """One way of running the operations."""

    def capabilities(self) -> Capabilities:
        """What this backend is and promises."""

    def weights(
        self,
        model: Model,
        tensors: Tensors,
        segments: Sequence[int],
        layout: Layout,
        progress: Progress | None = None,
    ) -> WeightKernels:
        """Load the weights of `segments`; raises ModelError for a tensor that is missing or of the wrong shape."""

    def context(self, manifest: Manifest, pool: PagePool, rows: int) -> ContextKernels:
        """Kernels for steps of at most `rows` rows over `pool`."""


def page_layout(manifest: Manifest) -> tuple[list[int], int]:
    """(byte offset of each layer in a page, bytes of a page): [layer][KV head][block of 16]{K transposed, V}, f16."""
    offsets, end = [], 0
    for layer in manifest.layers:
        offsets.append(end)
        end += PAGE_POSITIONS * layer.context_bytes
    return offsets, max(end, 1)
