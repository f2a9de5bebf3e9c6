"""Weights as numbers: a tensor's bytes in a file turned into what the reference computes with.

Block layouts are those of the GGUF specification (ggml's block types); `gguf.quants` of the Python package
`gguf` is the tests' reference for the values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twofold.kernels.arithmetic import F32, I32, I64, quantise
from twofold.model import format as formats
from twofold.model.format import Format

Bytes = npt.NDArray[np.uint8]  # [R, blocks, bytes of a block]
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


@dataclass(frozen=True)
class HalfBlockWeights:
    """A matrix [R, K] whose blocks of 32 have one integer scale for each half: w = (d · scale) · q."""

    q: I32  # [R, K/32, 32]
    d: F32  # [R, K/32]
    scale: F32  # [R, K/32, 2]

    def dequantised(self, rows: Rows = ALL) -> F32:
        """The chosen rows as f32[n, K]."""
        q = self.q[rows]
        d = self.d[rows][..., None] * self.scale[rows]
        return (np.repeat(d, 16, -1) * q.astype(np.float32)).reshape(len(q), -1)

    def linear(self, x: F32, bits: int) -> F32:
        """As for other blocks, the halves' integers scaled and added before the block's scale."""
        q, d, _ = quantise(x, bits)
        total = np.zeros((len(x), len(self.q)), np.float32)
        for g in range(d.shape[1]):
            low = (q[:, g, :16] @ self.q[:, g, :16].T).astype(np.float32)
            high = (q[:, g, 16:] @ self.q[:, g, 16:].T).astype(np.float32)
            part = low * self.scale[None, :, g, 0] + high * self.scale[None, :, g, 1]
            total = total + part * (self.d[None, :, g] * d[:, g, None])
        return total


Weights = FloatWeights | BlockWeights | HalfBlockWeights


def decode(kind: Format, raw: memoryview, rows: int, width: int) -> Weights:
    """The numbers in `raw`, `rows` rows of `width` elements stored as `kind`."""
    if kind.block == 1:
        return FloatWeights(_floats(kind, raw).reshape(rows, width))
    blocks = np.frombuffer(raw, np.uint8).reshape(rows, width // kind.block, kind.block_bytes)
    return _DECODERS[kind.name](blocks)


def _floats(kind: Format, raw: memoryview) -> F32:
    if kind is formats.BF16:
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, "<f4" if kind is formats.F32 else "<f2").astype(np.float32)


def _half(blocks: Bytes, at: int) -> F32:
    """The f16 at byte `at` of every block, as f32[R, blocks]."""
    return blocks[..., at : at + 2].copy().view("<f2")[..., 0].astype(np.float32)


def _nibbles(packed: Bytes) -> I32:
    """16 bytes a block: element i is the low nibble of byte i, element 16 + i its high nibble."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.int32)


def _fifth_bits(packed: Bytes) -> I32:
    """4 bytes a block: bit i is worth 16 in element i."""
    bits = packed.copy().view("<u4") >> np.arange(32, dtype=np.uint32)
    return ((bits & 1) << 4).astype(np.int32)


def _q4_0(b: Bytes) -> Weights:
    return BlockWeights(_nibbles(b[..., 2:]) - 8, _half(b, 0), None)


def _q4_1(b: Bytes) -> Weights:
    return BlockWeights(_nibbles(b[..., 4:]), _half(b, 0), _half(b, 2))


def _q5_0(b: Bytes) -> Weights:
    return BlockWeights(_nibbles(b[..., 6:]) + _fifth_bits(b[..., 2:6]) - 16, _half(b, 0), None)


def _q5_1(b: Bytes) -> Weights:
    return BlockWeights(_nibbles(b[..., 8:]) + _fifth_bits(b[..., 4:8]), _half(b, 0), _half(b, 2))


def _q8_0(b: Bytes) -> Weights:
    return BlockWeights(b[..., 2:].view(np.int8).astype(np.int32), _half(b, 0), None)


def _scales_k(b: Bytes) -> tuple[F32, F32]:
    """(scale, offset) f32[R, K/32] of Q4_K and Q5_K: six-bit integers in 12 bytes, times two f16."""
    low, least, top = b[..., 4:8], b[..., 8:12], b[..., 12:16]
    scale = np.concatenate([low & 63, (top & 15) | (low >> 6) << 4], axis=-1).astype(np.float32)
    offset = np.concatenate([least & 63, top >> 4 | (least >> 6) << 4], axis=-1).astype(np.float32)
    rows = len(b)
    return (_half(b, 0)[..., None] * scale).reshape(rows, -1), -(_half(b, 2)[..., None] * offset).reshape(rows, -1)


def _nibbles_k(packed: Bytes) -> I32:
    """128 bytes a super-block: each 32 bytes hold one block in their low and the next in their high nibbles."""
    runs = packed.reshape(*packed.shape[:2], 4, 1, 32) >> np.array([0, 4], np.uint8)[:, None]
    return (runs & 15).reshape(len(packed), -1, 32).astype(np.int32)


def _q4_k(b: Bytes) -> Weights:
    return BlockWeights(_nibbles_k(b[..., 16:]), *_scales_k(b))


def _q5_k(b: Bytes) -> Weights:
    fifth = (b[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return BlockWeights(_nibbles_k(b[..., 48:]) + fifth.reshape(len(b), -1, 32).astype(np.int32) * 16, *_scales_k(b))


def _q6_k(b: Bytes) -> Weights:
    rows, supers = b.shape[:2]
    low = b[..., :128].reshape(rows, supers, 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None]
    high = b[..., 128:192].reshape(rows, supers, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None]
    q = (low & 15).reshape(rows, -1, 32).astype(np.int32) + (high & 3).reshape(rows, -1, 32).astype(np.int32) * 16 - 32
    scale = b[..., 192:208].view(np.int8).astype(np.float32).reshape(rows, -1, 2)
    return HalfBlockWeights(q, np.repeat(_half(b, 208), 8, -1), scale)


FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int32)  # twice the value


def _mxfp4(b: Bytes) -> Weights:
    e = b[..., 0].astype(np.uint32)
    bits = np.where(e < 2, np.uint32(0x00200000) << e, (e - 1) << 23).astype(np.uint32)
    return BlockWeights(FP4[_nibbles(b[..., 1:])], bits.view(np.float32), None)


_DECODERS: dict[str, Callable[[Bytes], Weights]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0,
    "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "MXFP4": _mxfp4,
}  # fmt: skip
