"""A page outside of context memory: what was seen, in a fixed order of bytes, and nothing else."""

import numpy as np
import pytest

from twofold.kernels.base import page_layout
from twofold.memory.page import native_page, page_image
from twofold.model.manifest import Manifest
from twofold.model.operations import Attention
from twofold.model.rotary import Rotary

SHAPES = ((2, 16), (1, 32))  # KV heads, head dimension of each layer


@pytest.fixture
def manifest() -> Manifest:
    rotary = Rotary((1.0,), 1.0, False)
    layers = tuple(Attention(kv, kv, dim, 1.0, rotary) for kv, dim in SHAPES)
    return Manifest("0" * 64, "two layers", "llama", 1, 10, 256, (), layers)


def page(manifest: Manifest) -> np.ndarray:  # type: ignore[type-arg]
    """Every element another number but zero."""
    _, size = page_layout(manifest)
    return np.arange(1, size // 2 + 1, dtype=np.uint16).view(np.uint8)


@pytest.mark.parametrize("positions", [1, 15, 16, 17, 40, 63, 64, 200])
def test_what_was_seen_stays_and_everything_after_it_is_zero(manifest: Manifest, positions: int) -> None:
    whole = page(manifest)
    before = whole.copy()
    image = np.frombuffer(page_image(manifest, whole, positions), "<u2")
    assert np.array_equal(whole, before)
    start = 0
    for kv_heads, dim in SHAPES:
        size = 64 * 2 * kv_heads * dim
        shape = (kv_heads, 4, 2, 16 * dim)
        was, now = (x[start : start + size].reshape(shape) for x in (whole.view(np.uint16), image))
        for position in range(64):
            block, t = divmod(position, 16)
            for x in (was, now):
                keys = x[:, block, 0].reshape(kv_heads, dim, 16)[:, :, t]
                values = x[:, block, 1].reshape(kv_heads, 16, dim)[:, t]
                both = np.concatenate([keys, values])
                if x is was:
                    expected = both
                elif position < positions:
                    assert np.array_equal(both, expected)
                else:
                    assert not both.any()
        start += size
    assert start == len(image)


def test_an_image_is_little_endian_and_becomes_the_page_again(manifest: Manifest) -> None:
    whole = page(manifest)
    image = page_image(manifest, whole, 64)
    assert image[:4] == b"\x01\x00\x02\x00"
    assert np.array_equal(native_page(image), whole)
