"""Weights decode to exactly the values of the format's reference implementation."""

import gguf
import numpy as np
import pytest
from random_blocks import stored

from twofold.kernels.blocks import decode
from twofold.model.format import FORMATS, Format


@pytest.mark.parametrize("kind", FORMATS, ids=[f.name for f in FORMATS])
def test_decoded_values_equal_the_published_definition_for_any_bytes(kind: Format) -> None:
    rng = np.random.default_rng(kind.ggml_id)
    raw = rng.integers(0, 256, (6, kind.size_bytes(512)), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, getattr(gguf.GGMLQuantizationType, kind.name)).reshape(6, 512)
        values = decode(kind, memoryview(raw.tobytes()), 6, 512).dequantised()
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(values), finite)
    assert np.array_equal(values[finite], expected.astype(np.float32)[finite])
    assert finite.mean() > 0.5


@pytest.mark.parametrize("kind", FORMATS, ids=[f.name for f in FORMATS])
def test_a_product_is_close_to_that_of_the_decoded_matrix(kind: Format) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((40, 256)).astype(np.float32)
    weights = decode(kind, memoryview(stored(matrix, kind)).cast("B"), 40, 256)
    x = rng.standard_normal((3, 256)).astype(np.float32)
    exact = x.astype(np.float64) @ weights.dequantised().astype(np.float64).T
    for bits, bound in ((8, 0.5), (16, 0.002)):
        assert np.abs(weights.linear(x, bits) - exact).max() < bound * weights.dequantised().std()
