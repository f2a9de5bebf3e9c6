"""The reference backend: the definition of every operation, in NumPy. Slow, obvious, complete."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twofold.errors import InternalError
from twofold.kernels import arithmetic
from twofold.kernels.arithmetic import F16, F32
from twofold.kernels.base import Capabilities, PagePool, Progress, Stretch, page_layout
from twofold.kernels.blocks import Weights, decode
from twofold.model.checkpoint import Tensors
from twofold.model.manifest import Manifest, Model
from twofold.model.operations import (
    Add,
    Attention,
    Bias,
    ClampedSwiGLU,
    Embed,
    Experts,
    Gather,
    GeGLU,
    LayerNorm,
    Linear,
    LogSumExp,
    RMSNorm,
    Route,
    Scale,
    Shares,
    SwiGLU,
    Top,
    WeightOperation,
    weight_of,
)
from twofold.model.segment import EXPERT_IN, EXPERT_OUT, NUMPY
from twofold.wire.rows import Layout, Rows

BLOCK = 16
_Weightless = SwiGLU | GeGLU | ClampedSwiGLU | Add | Scale | Shares | Top | Gather | LogSumExp


class ReferenceWeights:
    """Weights as NumPy arrays; a segment is run operation by operation."""

    def __init__(self, model: Model, tensors: Tensors, segments: Sequence[int]) -> None:
        self._segments = {index: model.segments[index] for index in segments}
        self._weights: dict[str, Weights] = {}
        self._totals: Counter[int] = Counter()
        self.size_bytes = 0
        for segment in self._segments.values():
            for name in filter(None, map(weight_of, segment.operations)):
                if name not in self._weights:
                    tensor = tensors(name)
                    self._weights[name] = decode(tensor.format, tensor.raw, tensor.rows, tensor.width)
                    self.size_bytes += len(tensor.raw)

    def run(self, segment: int, rows: Rows, count: int) -> None:
        """Run `segment` on the first `count` rows."""
        cut = self._segments[segment].cut
        values = {plane.name: _widened(rows[plane.name][:count]) for plane in cut.takes}
        self._work(segment, values, count)
        for plane in cut.gives:
            with np.errstate(over="ignore"):
                rows[plane.name][:count] = values[plane.name].astype(NUMPY[plane.dtype])

    def _work(self, segment: int, values: dict[str, F32], count: int) -> None:
        """All operations of a segment, on `count` rows of values and into values by name."""
        self._totals[segment] += count
        for operation in self._segments[segment].operations:
            values[operation.out] = self._apply(operation, values)

    def _mixed(self, operation: Experts, values: dict[str, F32]) -> F32:
        """Each expert on the rows that are routed to it, summed by rising number."""
        x, ids, shares = values[operation.x], values[operation.ids], values[operation.shares]
        total = np.zeros_like(x)
        for expert in range(operation.count):
            row, place = np.nonzero(ids == expert)
            if len(row):
                inside = {EXPERT_IN: x[row]}
                self._work(operation.first + expert, inside, len(row))
                total[row] = total[row] + inside[EXPERT_OUT] * shares[row, place][:, None]
        return total

    def native_segments(self) -> None:
        """None are native."""

    def total(self, segment: int) -> int:
        """Rows that the segment has been run on."""
        return self._totals[segment]

    def forget(self) -> None:
        """Nothing to wipe: what a run makes goes with it."""

    def close(self) -> None:
        """Forget the weights."""
        self._weights.clear()

    def _apply(self, operation: WeightOperation, values: dict[str, F32]) -> F32:
        match operation:
            case Embed():
                return self._weights[operation.weight].dequantised(values[operation.ids][:, 0].astype(np.int64))
            case RMSNorm():
                weight, x = self._weights[operation.weight].dequantised()[0], values[operation.x]
                return arithmetic.rms_norm(x.reshape(-1, len(weight)), weight, operation.epsilon).reshape(x.shape)
            case LayerNorm():
                weight = self._weights[operation.weight].dequantised()[0]
                return arithmetic.layer_norm(values[operation.x], weight, operation.epsilon)
            case Bias():
                biased: F32 = values[operation.x] + self._weights[operation.weight].dequantised()[0]
                return biased
            case Linear():
                return self._weights[operation.weight].linear(values[operation.x], operation.activation_bits)
            case _:
                return self._routed(operation, values)

    def _routed(self, operation: Route | Experts | _Weightless, values: dict[str, F32]) -> F32:
        match operation:
            case Route():
                bias = self._weights[operation.weight].dequantised()[0] if operation.weight else None
                return arithmetic.route(values[operation.x], bias, operation).astype(np.float32)
            case Experts():
                return self._mixed(operation, values)
            case _:
                return _weightless(operation, values)


def _weightless(operation: _Weightless, values: dict[str, F32]) -> F32:
    match operation:
        case SwiGLU() | GeGLU() | ClampedSwiGLU():
            return _gated(operation, values[operation.gate], values[operation.up])
        case Add():
            return values[operation.a] + values[operation.b]
        case Scale():
            return values[operation.x] * np.float32(operation.factor)
        case Shares():
            return arithmetic.shares(values[operation.x], values[operation.ids].astype(np.int64), operation)
        case _:
            return _of_a_head(operation, values)


def _gated(operation: SwiGLU | GeGLU | ClampedSwiGLU, gate: F32, up: F32) -> F32:
    match operation:
        case SwiGLU():
            return arithmetic.swiglu(gate, up)
        case GeGLU():
            return arithmetic.geglu(gate, up)
        case ClampedSwiGLU():
            return arithmetic.clamped_swiglu(gate, up, operation.limit, operation.slope)


def _of_a_head(operation: Top | Gather | LogSumExp, values: dict[str, F32]) -> F32:
    match operation:
        case Top():
            return arithmetic.top(values[operation.x], operation.k).astype(np.float32)
        case Gather():
            return arithmetic.gather(values[operation.x], values[operation.ids].astype(np.int64))
        case LogSumExp():
            return arithmetic.log_sum_exp(values[operation.x])


def _widened(plane: npt.NDArray[np.generic]) -> F32:
    """A plane as the operations see it: f16 becomes f32, ids stay exact (below 2^24)."""
    return plane.astype(np.float32)


class ReferenceContext:
    """Attention over pages."""

    def __init__(self, manifest: Manifest, pool: PagePool) -> None:
        self._layers, self._pool = manifest.layers, pool
        self._offsets, _ = page_layout(manifest)

    def placed(self, rows: Rows) -> "ReferenceRows":
        """The rows of a lane."""
        return ReferenceRows(self._layers, self._offsets, self._pool, rows)

    def close(self) -> None:
        """Nothing to give back: the pool is the caller's."""


class ReferenceRows:
    """Attention of the rows of one lane, row by row and head by head."""

    def __init__(self, layers: Sequence[Attention], offsets: Sequence[int], pool: PagePool, rows: Rows) -> None:
        self._layers, self._offsets, self._pool, self._rows = layers, offsets, pool, rows
        self._positions: list[int] = []
        self._tables: list[list[int]] = []

    def place(self, stretches: Sequence[Stretch]) -> None:
        """Say what the rows of the next step are."""
        self._positions = [position for first, rows, _ in stretches for position in range(first, first + rows)]
        self._tables = [list(pages) for _, rows, pages in stretches for _ in range(rows)]

    def layers(self, count: int) -> int | None:
        """There are no native calls (`PlacedRows.layers`)."""
        return None

    def attend(self, layer: int, count: int) -> None:
        """Rotate, append, attend: planes q, k, v → attended."""
        what, rows = self._layers[layer], self._rows
        frequencies = np.array(what.rotary.frequencies, np.float32)
        cosine, sine = arithmetic.rotary_angles(
            np.array(self._positions[:count], np.int64), frequencies, what.rotary.magnitude
        )
        shape = (-1, what.head_dim)
        for r in range(count):
            k = rows["k"][r].astype(np.float32).reshape(shape)
            turned = arithmetic.rotate(k, cosine[r], sine[r], interleaved=what.rotary.interleaved).astype(np.float16)
            self._append(layer, what, r, turned, rows["v"][r].reshape(shape))
        for r in range(count):
            q = rows["q"][r].astype(np.float32).reshape(shape)
            q = arithmetic.rotate(q, cosine[r], sine[r], interleaved=what.rotary.interleaved) * np.float32(what.scale)
            for head in range(what.heads):
                keys, values = self._cached(layer, what, r, head // (what.heads // what.kv_heads))
                sink = what.sinks[head] if what.sinks else None
                out = arithmetic.attend(q[head], keys, values, window=what.window, soft_cap=what.soft_cap, sink=sink)
                rows["attended"][r, head * what.head_dim : (head + 1) * what.head_dim] = out.astype(np.float16)

    def _page(self, layer: int, what: Attention, page: int) -> F16:
        """One layer of one page: f16[KV head, block of 16 positions, K or V, 16 · head_dim]."""
        start = self._offsets[layer]
        raw = self._pool.memory[page, start : start + 64 * what.context_bytes]
        return raw.view(np.float16).reshape(what.kv_heads, 4, 2, BLOCK * what.head_dim)

    def _append(self, layer: int, what: Attention, row: int, k: F16, v: npt.NDArray[np.generic]) -> None:
        position = self._positions[row]
        page = self._page(layer, what, self._tables[row][position // 64])
        block, t = position % 64 // BLOCK, position % BLOCK
        page[:, block, 0].reshape(what.kv_heads, what.head_dim, BLOCK)[:, :, t] = k
        page[:, block, 1].reshape(what.kv_heads, BLOCK, what.head_dim)[:, t] = v

    def _cached(self, layer: int, what: Attention, row: int, kv_head: int) -> tuple[F16, F16]:
        """(keys, values) f16[t, head_dim] of all positions up to the row's own."""
        seen = self._positions[row] + 1
        pages = [self._page(layer, what, p)[kv_head] for p in self._tables[row][: -(-seen // 64)]]
        blocks = np.concatenate(pages)
        keys = blocks[:, 0].reshape(-1, what.head_dim, BLOCK).transpose(0, 2, 1).reshape(-1, what.head_dim)
        return keys[:seen], blocks[:, 1].reshape(-1, what.head_dim)[:seen]


class Reference:
    """The backend that defines the others."""

    def capabilities(self) -> Capabilities:
        """What this backend is and promises."""
        return Capabilities("reference", "numpy", 1, same_bits_everywhere=True)

    def weights(
        self,
        model: Model,
        tensors: Tensors,
        segments: Sequence[int],
        layout: Layout,
        progress: Progress | None = None,
    ) -> ReferenceWeights:
        """Load the weights of `segments`."""
        return ReferenceWeights(model, tensors, segments)

    def context(self, manifest: Manifest, pool: PagePool, rows: int) -> ReferenceContext:
        """Kernels over `pool`."""
        if pool.page_bytes != page_layout(manifest)[1]:
            raise InternalError("the pool's pages are not of this model")
        return ReferenceContext(manifest, pool)
