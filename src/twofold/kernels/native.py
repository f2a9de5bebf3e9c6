"""The native backend: plain C behind ctypes, one call a segment and one call a context layer.

Pointers are taken once, when the weights are loaded or the rows are first seen; nothing is allocated on the
step path. Weights are repacked into panels of 16 output rows (native/twofold.h) in huge pages.
"""

import ctypes
import itertools
import mmap
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twofold.cache.pages import PAGE_POSITIONS
from twofold.errors import ConfigurationError, DeviceError, InternalError, ModelError
from twofold.kernels.base import Capabilities, PagePool, Progress, Stretch, page_layout
from twofold.kernels.binding import (
    AttendCall,
    AttentionStruct,
    ChosenStruct,
    ContextCall,
    Functions,
    MatrixStruct,
    MixtureStruct,
    RotaryStruct,
    SegmentCall,
    StepStruct,
    ValueStruct,
)
from twofold.kernels.lowering import Buffer, LoweredStep, Lowering
from twofold.kernels.packed_file import PackedCache, PackedFile
from twofold.kernels.packing import Arena, Packer, Place, named_tensors, packed_bytes, plan
from twofold.model.checkpoint import Tensor, Tensors
from twofold.model.format import Format
from twofold.model.manifest import Manifest, Model
from twofold.model.operations import Experts, Rotary, Route, Shares
from twofold.model.segment import EXPERT_IN, EXPERT_OUT
from twofold.wire.rows import Layout, Rows

MAX_HEAD_DIM = 256
PART_COLUMNS = 128  # PART * UNIT of native/twofold.h
MAX_CONTEXT_ROWS = 1024  # MAX_ROWS of native/context.c


def physical_cores() -> int:
    """Physical cores that this process may use (threads of one core count once)."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            package = (topology / "physical_package_id").read_text().strip()
            cores.add((package, (topology / "core_id").read_text().strip()))
        except OSError:
            cores.add(("", str(cpu)))
    return max(1, len(cores))


def reserved(size_bytes: int) -> npt.NDArray[np.uint8]:
    """Zeroed memory at a page, given by the system as it is touched; malloc's may be touched when it is handed out."""
    return np.frombuffer(mmap.mmap(-1, max(1, size_bytes)), np.uint8)


class Native:
    """One pool of threads at one vector level; both memories of a process may share it."""

    def __init__(
        self, *, threads: int | None = None, level: str | None = None, packed_cache: PackedCache | None = None
    ) -> None:
        """`threads`: default the physical cores. `level`: default the best this processor has.

        `packed_cache`: where packed weights are kept for the next start; default nowhere.
        """
        self._packed_cache = packed_cache
        self.functions = Functions()
        names = self.functions.levels()
        self.level_name = level or names[0]
        if self.level_name not in names:
            raise ConfigurationError(f"vector level '{level}' is not one of this processor's: {', '.join(names)}")
        self.level = self.functions.level(self.level_name.encode())
        self.threads = threads or physical_cores()
        self.pool = self.functions.pool_new(self.threads)
        if not self.pool:
            raise DeviceError(f"{self.threads} threads could not be started; ask for fewer with --threads")

    def capabilities(self) -> Capabilities:
        """What this backend is and promises."""
        return Capabilities("native", self.level_name, self.threads, same_bits_everywhere=True)

    def weights(
        self,
        model: Model,
        tensors: Tensors,
        segments: Sequence[int],
        layout: Layout,
        progress: Progress | None = None,
    ) -> "NativeWeights":
        """Load and repack the weights of `segments`."""
        return NativeWeights(self, model, tensors, segments, layout, progress)

    def fill(
        self,
        arena: Arena,
        manifest: Manifest,
        places: Sequence[Place],
        tensors: Mapping[str, Tensor],
        progress: Progress | None,
    ) -> None:
        """Fill `arena` with packed weights: from the cache if there is one that holds them, else from the tensors."""
        cache = self._packed_cache
        if cache is None:
            Packer(self.functions, self.pool, arena.address).pack(places, tensors, progress)
            return
        file = PackedFile(self.functions, self.pool, cache.folder, manifest, places)
        sound = file.read(arena.address)
        if sound:
            return
        if sound is not None:
            cache.told()
            arena.clear()
        Packer(self.functions, self.pool, arena.address).pack(places, tensors, progress)
        with suppress(OSError):  # a cache that cannot be written costs time, no more
            file.write(arena.address)

    def context(self, manifest: Manifest, pool: PagePool, rows: int) -> "NativeContext":
        """Kernels for steps of at most `rows` rows over `pool`."""
        return NativeContext(self, manifest, pool, rows)

    def close(self) -> None:
        """End the threads; no memory made by this backend may be used afterwards."""
        if self.pool:
            self.functions.pool_free(self.pool)
            self.pool = None


class NativeWeights:
    """Packed weights of some segments and the steps that run them."""

    def __init__(
        self,
        native: Native,
        model: Model,
        tensors: Tensors,
        segments: Sequence[int],
        layout: Layout,
        progress: Progress | None,
    ) -> None:
        self._native, self._layout, self._keep = native, layout, []  # type: Native, Layout, list[object]
        self._tensors = named_tensors(model, segments, tensors)
        places = plan(native.functions, model, segments, self._tensors)
        self.size_bytes = sum(place.size_bytes for place in places)
        self._arena = Arena(native.functions, packed_bytes(places))
        native.fill(self._arena, model.manifest, places, self._tensors, progress)
        self._matrices = {place.name: place.at(self._arena.address) for place in places}
        self._buffers: dict[str, ValueStruct] = {}
        self._scratch: list[tuple[npt.NDArray[np.uint8], int]] = []  # memory beside the rows, and bytes a row of it
        self._addresses = (ctypes.c_void_p * model.manifest.segments)()
        self._calls: dict[int, tuple[SegmentCall, int]] = {}
        for index in reversed(segments):  # experts before what calls them
            self._calls[index] = self._prepare(model, index)
            self._addresses[index] = self._calls[index][1]
        self._tensors.clear()

    def run(self, segment: int, rows: Rows, count: int) -> None:
        """Run `segment` on the first `count` rows."""
        call, address = self._calls[segment]
        call.rows, call.count = rows.address, count
        self._native.functions.segment(address)

    def native_segments(self) -> int:
        """Address of an array of the calls by segment (`struct segment_call`), 0 where it is not held."""
        return ctypes.addressof(self._addresses)

    def total(self, segment: int) -> int:
        """Rows that the segment has been run on."""
        return int(self._calls[segment][0].total)

    def forget(self) -> None:
        """Wipe the scratch memory, as far as it was touched."""
        touched = max([call.touched for call, _ in self._calls.values()], default=0)
        for memory, row_bytes in self._scratch if touched else ():
            memory[: touched * row_bytes] = 0
        for call, _ in self._calls.values():
            call.touched = 0

    def close(self) -> None:
        """Give the memory back."""
        self._arena.free()
        self._calls.clear()

    def _prepare(self, model: Model, index: int) -> tuple[SegmentCall, int]:
        def shape(name: str) -> tuple[int, int, Format]:
            tensor = self._tensors[name]
            return tensor.rows, tensor.width, tensor.format

        lowered = Lowering(model.segments[index], shape).run()
        steps = (StepStruct * len(lowered))(*(self._step(step) for step in lowered))
        call = SegmentCall(self._native.pool, self._native.level, ctypes.addressof(steps), len(lowered), None, 0, 0, 0)
        self._keep.append(steps)
        return call, ctypes.addressof(call)

    def _step(self, step: LoweredStep) -> StepStruct:
        a, out = self._value(step.a), self._value(step.out)
        b = self._value(step.b) if step.b else None
        matrix = self._matrices[step.weight] if step.weight else MatrixStruct()
        c, zero = self._value(step.c) if step.c else None, step.out.zero_point
        mixture = self._mixture(step.experts, step.a.width) if step.experts else None
        return StepStruct(
            step.kind, step.waits, a, b, c, out, matrix, step.constant, step.slope, step.fine, step.columns, zero,
            _chosen(step.choice), mixture,
        )  # fmt: skip

    def _mixture(self, experts: Experts, width: int) -> int:
        """The address of what a step of these experts knows of them."""
        last = experts.first + experts.count
        if not all(self._addresses[experts.first : last]):
            raise InternalError(f"experts in segments {experts.first} to {last - 1} are not all held")
        steps = max(self._calls[index][0].steps for index in range(experts.first, last))
        planes = (ValueStruct(self._layout.offsets[name], width, None, None) for name in (EXPERT_IN, EXPERT_OUT))
        first = ctypes.addressof(self._addresses) + experts.first * ctypes.sizeof(ctypes.c_void_p)
        made = MixtureStruct(first, experts.count, steps, *planes)
        self._keep.append(made)
        return ctypes.addressof(made)

    def _value(self, buffer: Buffer) -> int:
        key = f"{buffer.plane is not None}:{buffer.passes}:{buffer.name}:{buffer.width}"
        if key not in self._buffers:
            self._buffers[key] = self._place(buffer)
        return ctypes.addressof(self._buffers[key])

    def _place(self, buffer: Buffer) -> ValueStruct:
        if buffer.plane is not None:
            return ValueStruct(self._layout.offsets[buffer.plane], buffer.width, None, None, 0)
        if buffer.passes:
            return self._place_passing(buffer)
        scratch = self._reserve(buffer.width * (buffer.bits or 32) // 8)
        scale = self._reserve(max(1, buffer.width // 32) * 16 if buffer.bits else 0)
        return ValueStruct(-1, buffer.width, scratch.ctypes.data, scale.ctypes.data if buffer.bits else None, 0)

    def _place_passing(self, buffer: Buffer) -> ValueStruct:
        """Room for the columns under way of each thread."""
        parts = [self._layout.rows * PART_COLUMNS * 4 * thread for thread in range(self._native.threads + 1)]
        memory = reserved(parts[-1])
        self._scratch += [(memory[start:end], PART_COLUMNS * 4) for start, end in itertools.pairwise(parts)]
        return ValueStruct(-1, buffer.width, memory.ctypes.data, None, parts[1])

    def _reserve(self, row_bytes: int) -> npt.NDArray[np.uint8]:
        """Scratch memory for the rows of a call, the first of them in its front."""
        memory = reserved(self._layout.rows * row_bytes)
        self._scratch.append((memory, row_bytes))
        return memory


def _chosen(choice: Route | Shares | None) -> ChosenStruct:
    match choice:
        case Route():
            return ChosenStruct(choice.sigmoid, 1, choice.groups, choice.kept)
        case Shares():
            return ChosenStruct(choice.sigmoid, choice.normalised, 1, 1)
        case None:
            return ChosenStruct()


class NativeContext:
    """Attention over pages: one native call a layer."""

    def __init__(self, native: Native, manifest: Manifest, pool: PagePool, rows: int) -> None:
        offsets, page_bytes = page_layout(manifest)
        if pool.page_bytes != page_bytes:
            raise InternalError("the pool's pages are not of this model")
        if rows > MAX_CONTEXT_ROWS:
            raise InternalError(f"steps of {rows} rows; the native kernels take {MAX_CONTEXT_ROWS}")
        if max((a.head_dim for a in manifest.layers), default=0) > MAX_HEAD_DIM:
            raise ModelError(f"heads wider than {MAX_HEAD_DIM} are not supported by the native kernels")
        self.native, self.rows, self.pool, self.layers = native, rows, pool, manifest.layers
        self._sinks = [np.array(a.sinks, np.float32) for a in manifest.layers]
        self.attention = [
            AttentionStruct(
                a.heads, a.kv_heads, a.head_dim, offset, a.window, sinks.ctypes.data if a.sinks else None,
                a.scale, a.soft_cap, a.rotary.interleaved, a.rotary.dimensions,
            )
            for a, sinks, offset in zip(manifest.layers, self._sinks, offsets, strict=True)
        ]  # fmt: skip
        self.chunks = min(len(pool.memory), -(-manifest.context_length // PAGE_POSITIONS))  # of one session
        self.scratch_floats = self._scratch_needed(self.chunks)
        self.scratch = reserved(self.scratch_floats * 4)

    def _scratch_needed(self, chunks: int) -> int:
        """Floats that any layer needs while a session of `chunks` chunks is shared over the threads."""
        native, addresses = self.native, [ctypes.addressof(attention) for attention in self.attention]
        sizes = [native.functions.context_scratch(native.level, a, native.threads, chunks) for a in addresses]
        return max(sizes, default=0)

    def placed(self, rows: Rows) -> "NativeRows":
        """The rows of a lane."""
        return NativeRows(self, rows)

    def close(self) -> None:
        """Nothing to give back: the pool is the caller's."""


class NativeRows:
    """The rows of one lane: where they stand, their rotary tables, and the native call of each layer on them."""

    def __init__(self, context: NativeContext, rows: Rows) -> None:
        self._context, self._planes = context, rows
        self._functions = context.native.functions
        self._positions = (ctypes.c_int64 * context.rows)()
        self._tables = (ctypes.c_void_p * context.rows)()
        self._known: list[list[int]] = [[]] * context.rows  # the pages of each stretch, as in `_pages`
        self._pages = reserved(context.rows * context.chunks * 4).view(np.int32).reshape(context.rows, context.chunks)
        self._pages_at = self._pages.ctypes.data
        kinds = {layer.rotary for layer in context.layers}
        self._angles = {rotary: _RotaryTable(rotary, context.rows) for rotary in kinds}
        widest = max((a.heads * a.head_dim for a in context.layers), default=1)
        self._rotated = np.zeros((context.rows, widest), np.float32)
        self._calls = self._prepare()
        self._addresses = (ctypes.c_void_p * len(self._calls))(*(ctypes.addressof(call) for call, _ in self._calls))
        self._count = 0  # rows of the calls at `_addresses`

    def place(self, stretches: Sequence[Stretch]) -> None:
        """Say what the rows of the next step are, and make their rotary tables."""
        end = 0
        for number, (first, rows, pages) in enumerate(stretches):
            start, end = end, end + rows
            if end > self._context.rows:
                raise InternalError(f"{end} rows in a step made for {self._context.rows}")
            if self._known[number] != pages:  # mostly they are those of the step before
                self._known[number] = list(pages)
                self._pages[number, : len(pages)] = pages
            self._positions[start:end] = list(range(first, first + rows))
            self._tables[start:end] = [self._pages_at + 4 * self._context.chunks * number] * rows
        for table in self._angles.values():
            table.fill(self._functions, ctypes.addressof(self._positions), end)

    def attend(self, layer: int, count: int) -> None:
        """Rotate, append, attend: planes q, k, v → attended."""
        self._set(count)
        self._functions.context(self._addresses[layer])

    def layers(self, count: int) -> int | None:
        """The native calls of all layers (`PlacedRows.layers`)."""
        self._set(count)
        return ctypes.addressof(self._addresses)

    def _set(self, count: int) -> None:
        """The calls are of so many rows."""
        if self._count != count:
            self._count = count
            for _, attend in self._calls:
                attend.count = count

    def _prepare(self) -> list[tuple[ContextCall, AttendCall]]:
        calls, context, native = [], self._context, self._context.native
        planes = [self._planes[name].ctypes.data for name in ("q", "k", "v", "attended")]
        for layer, attention in zip(context.layers, context.attention, strict=True):
            rotary = self._angles[layer.rotary]
            attend = AttendCall(
                0, ctypes.addressof(self._positions), ctypes.addressof(self._tables), context.pool.memory.ctypes.data,
                context.pool.page_bytes, rotary.cosine.ctypes.data, rotary.sine.ctypes.data,
                *planes, self._rotated.ctypes.data,
            )  # fmt: skip
            call = ContextCall(
                native.pool, native.level, ctypes.addressof(attention), ctypes.pointer(attend),
                native.threads, context.scratch.ctypes.data, context.scratch_floats,
            )  # fmt: skip
            calls.append((call, attend))
        return calls


class _RotaryTable:
    """Cosines and sines of a step's rows for one rotary embedding."""

    def __init__(self, rotary: Rotary, rows: int) -> None:
        self._frequencies = np.array(rotary.frequencies, np.float32)
        self._rotary = RotaryStruct(
            self._frequencies.ctypes.data, len(rotary.frequencies), rotary.magnitude, rotary.interleaved
        )
        self.cosine = np.zeros((rows, rotary.dimensions), np.float32)
        self.sine = np.zeros((rows, rotary.dimensions), np.float32)
        self._own = ctypes.addressof(self._rotary)
        self._tables = self.cosine.ctypes.data, self.sine.ctypes.data

    def fill(self, functions: Functions, positions: int, count: int) -> None:
        """The first `count` rows for the positions at this address."""
        functions.rotary(self._own, positions, count, *self._tables)
