"""Weights as numbers: a tensor's bytes in a file turned into what the reference computes with.

Block layouts are those of the GGUF specification (ggml's block types); `gguf.quants` of the Python package
`gguf` is the tests' reference for the values.
"""

from dataclasses import dataclass

import numpy as np

from twofold.kernels.arithmetic import F32, I32, I64, quantise
from twofold.model import format as formats
from twofold.model.format import Format

Rows = slice | I64
ALL = slice(None)


@dataclass(frozen=True)
class FloatWeights:
    """A matrix [R, K] of floats, exact in f32."""

    values: F32

    def dequantised(self, rows: Rows = ALL) -> F32:
        """The chosen rows as f32[n, K]."""
        return self.values[rows]

    def linear(self, x: F32, bits: int) -> F32:
        """x f32[n, K] · valuesᵀ, summed over K in order; nothing is rounded to integers."""
        total = np.zeros((len(x), len(self.values)), np.float32)
        for k in range(x.shape[1]):
            total = total + x[:, k, None] * self.values[None, :, k]
        return total


@dataclass(frozen=True)
class BlockWeights:
    """A matrix [R, K] of integers q in blocks of 32, each with a scale d and perhaps an offset m: w = d · q + m."""

    q: I32  # [R, K/32, 32]
    d: F32  # [R, K/32]
    m: F32 | None

    def dequantised(self, rows: Rows = ALL) -> F32:
        """The chosen rows as f32[n, K]: the product rounded, then the sum."""
        q = self.q[rows]
        values = self.d[rows][..., None] * q.astype(np.float32)
        if self.m is not None:
            values = values + self.m[rows][..., None]
        return values.reshape(len(q), -1)

    def linear(self, x: F32, bits: int) -> F32:
        """x f32[n, K], rounded to blocks of `bits`-bit integers, · wᵀ; block after block."""
        q, d, q_sum = quantise(x, bits)
        total = np.zeros((len(x), len(self.q)), np.float32)
        for g in range(d.shape[1]):
            dot = (q[:, g] @ self.q[:, g].T).astype(np.float32)
            part = dot * (self.d[None, :, g] * d[:, g, None])
            if self.m is not None:
                part = part + self.m[None, :, g] * (d[:, g] * q_sum[:, g].astype(np.float32))[:, None]
            total = total + part
        return total


Weights = FloatWeights | BlockWeights


def decode(kind: Format, raw: memoryview, rows: int, width: int) -> Weights:
    """The numbers in `raw`, `rows` rows of `width` elements stored as `kind`."""
    if kind is formats.F32:
        return FloatWeights(np.frombuffer(raw, "<f4").reshape(rows, width).astype(np.float32))
    if kind is formats.F16:
        return FloatWeights(np.frombuffer(raw, "<f2").reshape(rows, width).astype(np.float32))
    if kind is formats.BF16:
        wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return FloatWeights(wide.view(np.float32).reshape(rows, width))
    blocks = np.frombuffer(raw, np.uint8).reshape(rows, width // 32, kind.block_bytes)
    d = blocks[..., :2].copy().view("<f2")[..., 0].astype(np.float32)
    if kind is formats.Q8_0:
        return BlockWeights(blocks[..., 2:].view(np.int8).astype(np.int32), d, None)
    if kind is formats.Q4_0:
        return BlockWeights(_nibbles(blocks[..., 2:]) - 8, d, None)
    m = blocks[..., 2:4].copy().view("<f2")[..., 0].astype(np.float32)
    return BlockWeights(_nibbles(blocks[..., 4:]), d, m)


def _nibbles(packed: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> I32:
    """16 bytes a block: element i is the low nibble of byte i, element 16 + i its high nibble."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.int32)
