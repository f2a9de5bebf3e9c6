"""Weights of any format as bytes: quantised where the `gguf` package can, else random blocks of a like size."""

import gguf
import numpy as np
import numpy.typing as npt

from twofold.model.format import Format

Bytes = npt.NDArray[np.uint8]
# (bytes before the scales, spread of a weight divided by the super-block's d) of what the package cannot make
_SUPER = {"Q4_K": (4, 24.0 * 4.6), "Q5_K": (4, 24.0 * 9.2), "Q6_K": (0, 36.0 * 18.5)}


def stored(values: npt.NDArray[np.float32], kind: Format) -> Bytes:
    """`values` f32[R, K] as u8[R, bytes]; for Q4_K, Q5_K and Q6_K random weights of the same spread instead."""
    if kind.name in _SUPER:
        return _random(values.shape, kind, float(values.std()))
    raw = gguf.quants.quantize(values, getattr(gguf.GGMLQuantizationType, kind.name))
    return np.ascontiguousarray(raw).view(np.uint8).reshape(len(values), -1)


def on_the_grid(values: npt.NDArray[np.float32], kind: Format) -> npt.NDArray[np.float32]:
    """`values` as they are after having been stored as `kind`."""
    rows = values.reshape(-1, values.shape[-1])
    form = getattr(gguf.GGMLQuantizationType, kind.name)
    return np.asarray(gguf.quants.dequantize(stored(rows, kind), form), np.float32).reshape(values.shape)


def _random(shape: tuple[int, ...], kind: Format, spread: float) -> Bytes:
    rows, width = shape
    rng = np.random.default_rng(rows * width + kind.ggml_id)
    raw = rng.integers(0, 256, (rows, width // 256, kind.block_bytes), dtype=np.uint8)
    d = np.full((rows, width // 256, 1), spread / _SUPER[kind.name][1], np.float16).view(np.uint8)
    if kind.name == "Q6_K":
        raw[..., 192:208] = rng.integers(-60, 60, (rows, width // 256, 16)).astype(np.int8).view(np.uint8)
        raw[..., 208:210] = d
    else:
        minimum = 7.5 if kind.name == "Q4_K" else 15.5  # centres the weights
        raw[..., 0:2] = d
        raw[..., 2:4] = (d.view(np.float16) * np.float16(minimum)).view(np.uint8)
        raw[..., 8:12] = raw[..., 4:8]  # a block's minimum goes with its scale
        raw[..., 12:16] = (raw[..., 12:16] & 15) * 17
    return raw.reshape(rows, -1)
