"""Measuring kernels by themselves: a matrix product of any format and number of rows, attention at a context.

Weights are random and of no model, since speed does not depend on their values. As many copies of a matrix as the
caches cannot hold are multiplied in turn, so that weights come from memory as they do in a model.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twofold.engine.measure import Figure, Limits, of_limit, repeated
from twofold.kernels.base import Backend, PlacedRows
from twofold.kernels.native import Native
from twofold.memory.context import ContextMemory, Run
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Tensor
from twofold.model.format import Format
from twofold.model.manifest import NUMERICS, Manifest, Model
from twofold.model.operations import Attention, Linear, Rotary
from twofold.model.segment import Cut, Plane, Segment
from twofold.wire.rows import Layout, Rows

OUT_OF_CACHE_BYTES, MOST_COPIES = 128 << 20, 64  # a matrix below 2 MiB does stay in a cache
ROWS = (1, 4, 12, 32, 256)
FULL_PASS_ROWS = 4  # more rows than this go through fewer copies a sample, so that a sample stays short
_EMPTY = Segment(Cut((), ()), ())
# where the f16 scales of a block lie, bytes from .. to
_SCALES = {
    "Q4_0": (0, 2), "Q4_1": (0, 4), "Q5_0": (0, 2), "Q5_1": (0, 4), "Q8_0": (0, 2),
    "Q4_K": (0, 4), "Q5_K": (0, 4), "Q6_K": (208, 210),
}  # fmt: skip
_MXFP4_EXPONENT = 120  # 2^-8 before the element's own half


@dataclass(frozen=True)
class Shape:
    """A weight matrix: output features by input features."""

    outputs: int = 8192  # the FFN of a model of 1.2 billion parameters
    inputs: int = 2048


def random_weights(kind: Format, shape: Shape, *, scale: float = 0.004, seed: int = 0) -> bytes:
    """A matrix of random weights as a file stores it, every block's f16 scale (and offset) being `scale`.

    Float formats hold a normal distribution of standard deviation `scale`; all values are finite.
    """
    rng, elements = np.random.default_rng(seed), shape.outputs * shape.inputs
    if kind.block == 1:
        values = rng.standard_normal(elements, np.float32) * np.float32(scale)
        if kind.name == "BF16":
            return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        return values.astype(np.float32 if kind.name == "F32" else np.float16).tobytes()
    blocks = rng.integers(0, 256, (elements // kind.block, kind.block_bytes), np.uint8)
    if kind.name in _SCALES:
        start, end = _SCALES[kind.name]
        blocks[:, start:end] = np.full((end - start) // 2, scale, np.float16).view(np.uint8)
    else:
        blocks[:, 0] = _MXFP4_EXPONENT
    return blocks.tobytes()


class Product:
    """One linear of one format, `copies` times in memory; `run` multiplies `count` rows by the next copy."""

    def __init__(self, backend: Backend, kind: Format, shape: Shape, copies: int) -> None:
        x, out = Plane("x", shape.inputs, "f32"), Plane("out", shape.outputs, "f32")
        products = [Segment(Cut((x,), (out,)), (Linear("x", f"w{i}", "out"),)) for i in range(copies)]
        segments = (_EMPTY, *products, _EMPTY)
        manifest = Manifest("0" * 64, kind.name, "none", NUMERICS, 1, 1, tuple(s.cut for s in segments), ())
        raw = memoryview(random_weights(kind, shape))
        tensor = Tensor(shape.outputs, shape.inputs, kind, raw)
        self.memory = WeightMemory(Model(manifest, segments), lambda name: tensor, backend)
        self.rows = Rows(self.memory.layout)
        self.rows["x"][:] = np.random.default_rng(1).standard_normal(self.rows["x"].shape, np.float32)
        self.copies, self.read_bytes, self.multiplications = copies, len(raw), shape.outputs * shape.inputs
        self._turns = itertools.cycle(range(1, copies + 1))

    def run(self, count: int) -> None:
        """Planes x → out, the first `count` rows."""
        self.memory.work(next(self._turns), self.rows, count)


def linear(
    backend: Native, bounds: Limits, kind: Format, shape: Shape, *, rounds: int, rows: Sequence[int] = ROWS
) -> list[Figure]:
    """Multiplications a second of one format, a figure for each number of rows."""
    copies = min(MOST_COPIES, -(-OUT_OF_CACHE_BYTES // kind.size_bytes(shape.outputs * shape.inputs)))
    product = Product(backend, kind, shape, copies)
    figures = []
    for count in rows:
        times = max(1, product.copies * FULL_PASS_ROWS // max(count, FULL_PASS_ROWS))
        bound = bounds.rate(count * product.multiplications, product.read_bytes, count * product.multiplications)

        def sample(count: int = count, times: int = times) -> float:
            start = time.perf_counter()
            for _ in range(times):
                product.run(count)
            return times * count * product.multiplications / (time.perf_counter() - start)

        what = f"{kind.name}, {shape.outputs} × {shape.inputs}, {count} row{'' if count == 1 else 's'}"
        figures.append(of_limit(repeated(what, "multiplications_per_second", sample, rounds), bound))
    product.memory.close()
    return figures


def remembered(manifest: Manifest, backend: Backend, context: int) -> tuple[ContextMemory, PlacedRows]:
    """A context memory of one session that has seen `context` - 1 random positions, one row placed at the next.

    Raises RequestError if the model is made for fewer positions.
    """
    memory = ContextMemory(manifest, backend, positions=context)
    page = np.random.default_rng(0).standard_normal(memory.pool.page_bytes // 2, np.float32)
    memory.pool.memory[:] = page.astype(np.float16).view(np.uint8)
    session = memory.open()
    memory.pages.reserve(session, context - 1)
    memory.advance([(session, context - 1)])
    placed = memory.placed(Rows(Layout(manifest)))
    memory.place(placed, [Run(session, 0, 1)])
    return memory, placed


def attention(manifest: Manifest, backend: Native, bounds: Limits, *, context: int, rounds: int) -> Figure:
    """Bytes of KV cache a second that one row at position `context` - 1 reads, all layers in turn.

    Raises RequestError if the model is made for fewer positions.
    """
    memory, placed = remembered(manifest, backend, context)
    read_bytes = context * manifest.context_bytes_per_token()

    def sample() -> float:
        start = time.perf_counter()
        for layer in range(len(manifest.layers)):
            placed.attend(layer, 1)
        return read_bytes / (time.perf_counter() - start)

    first = manifest.layers[0]
    what = f"attention, {first.heads} on {first.kv_heads} heads of {first.head_dim}, {context} positions"
    figure = repeated(what, "bytes_per_second", sample, rounds)
    memory.shutdown()
    return of_limit(figure, ("read bandwidth", bounds.read.median))


def grouped_heads(context: int, *, layers: int = 16, heads: int = 32, kv_heads: int = 8) -> Manifest:
    """A manifest of nothing but attention over heads of 64, by default as a model of 1.2 billion parameters has it."""
    dimension = 64
    rotary = Rotary(tuple(500000.0 ** (-2 * i / dimension) for i in range(dimension // 2)), interleaved=True)
    layer = Attention(heads, kv_heads, dimension, dimension**-0.5, rotary)
    wide, narrow = heads * dimension, kv_heads * dimension
    gives = (Plane("q", wide, "f16"), Plane("k", narrow, "f16"), Plane("v", narrow, "f16"))
    cut = Cut((Plane("attended", wide, "f16"),), gives)
    return Manifest("0" * 64, "attention", "none", NUMERICS, 1, context, (cut,) * (layers + 1), (layer,) * layers)
