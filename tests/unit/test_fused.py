"""Fused experts are read as the same numbers, gate and up apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from twofold.errors import ModelError
from twofold.kernels.blocks import decode
from twofold.model.hub.fused import fused
from twofold.model.hub.safetensors import SafetensorsFile

EXPERTS, HIDDEN, FFN = 3, 64, 32
NAME = "model.layers.2.mlp.experts."
FLOATS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)  # of 4 bits


def safetensors(**tensors: np.ndarray) -> SafetensorsFile:  # type: ignore[type-arg]
    """A file of these tensors, in memory."""
    kinds = {"float32": "F32", "uint8": "U8"}
    head, end = {}, 0
    for name, values in tensors.items():
        place = [end, end := end + values.nbytes]
        head[NAME + name] = {"dtype": kinds[values.dtype.name], "shape": values.shape, "data_offsets": place}
    text = json.dumps(head).encode()
    data = len(text).to_bytes(8, "little") + text + b"".join(values.tobytes() for values in tensors.values())
    return SafetensorsFile(Path("model.safetensors"), data)


def read(file: SafetensorsFile, name: str) -> np.ndarray:  # type: ignore[type-arg]
    """The tensor `name` of all experts, f32."""
    made = next(each for each in fused([file])[0] if each.name == f"blk.2.{name}")
    count, *shape, width = made.stored.shape
    rows = shape[0] if shape else 1
    experts = [decode(made.stored.format, made.read(expert), rows, width).dequantised() for expert in range(count)]
    return np.stack(experts).reshape(made.stored.shape)


def test_columns_of_a_float_tensor_become_rows_of_gate_and_up() -> None:
    rng = np.random.default_rng(0)
    both = rng.standard_normal((EXPERTS, HIDDEN, 2 * FFN)).astype(np.float32)
    bias = rng.standard_normal((EXPERTS, 2 * FFN)).astype(np.float32)
    down = rng.standard_normal((EXPERTS, FFN, HIDDEN)).astype(np.float32)
    file = safetensors(gate_up_proj=both, gate_up_proj_bias=bias, down_proj=down)
    for first, part in enumerate(("gate", "up")):
        assert np.array_equal(read(file, f"ffn_{part}_exps.weight"), both[:, :, first::2].swapaxes(1, 2))
        assert np.array_equal(read(file, f"ffn_{part}_exps.bias"), bias[:, first::2])
    assert np.array_equal(read(file, "ffn_down_exps.weight"), down.swapaxes(1, 2))


def test_blocks_of_four_bits_keep_every_value() -> None:
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (EXPERTS, 2 * FFN, HIDDEN // 32, 16), np.uint8)
    scales = rng.integers(100, 140, blocks.shape[:3], np.uint8)
    pairs = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*blocks.shape[:3], 32)  # two by two in a byte
    values = np.array(FLOATS)[pairs] * 2.0 ** (scales[..., None].astype(int) - 127)
    expected = values.reshape(EXPERTS, 2 * FFN, HIDDEN).astype(np.float32)
    file = safetensors(gate_up_proj_blocks=blocks, gate_up_proj_scales=scales)
    for first, part in enumerate(("gate", "up")):
        assert np.array_equal(read(file, f"ffn_{part}_exps.weight"), expected[:, first::2])


def test_blocks_without_scales_are_refused() -> None:
    file = safetensors(gate_up_proj_blocks=np.zeros((EXPERTS, 2 * FFN, HIDDEN // 32, 16), np.uint8))
    with pytest.raises(ModelError, match="no scales"):
        fused([file])


def test_a_fused_tensor_of_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="impossible shape"):
        fused([safetensors(down_proj=np.zeros((EXPERTS, HIDDEN), np.float32))])
