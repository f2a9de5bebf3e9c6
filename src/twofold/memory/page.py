"""A page of context memory outside of it: f16, little endian, [layer][KV head][block of 16]{K transposed, V}."""

import numpy as np
import numpy.typing as npt

from twofold.cache.pages import PAGE_POSITIONS
from twofold.kernels.base import page_layout
from twofold.model.manifest import Manifest

BLOCK = 16


def page_image(manifest: Manifest, page: npt.NDArray[np.uint8], positions: int) -> bytes:
    """The first `positions` positions (64 or more: all) of a page u8[page_bytes], the rest zero. The page stays."""
    image = page.copy()
    offsets, _ = page_layout(manifest)
    for offset, layer in zip(offsets, manifest.layers, strict=True):
        raw = image[offset : offset + PAGE_POSITIONS * layer.context_bytes].view(np.uint16)
        blocks = raw.reshape(layer.kv_heads, PAGE_POSITIONS // BLOCK, 2, BLOCK * layer.head_dim)
        for block in range(positions // BLOCK, PAGE_POSITIONS // BLOCK):
            seen = max(0, positions - block * BLOCK)
            blocks[:, block, 0].reshape(-1, layer.head_dim, BLOCK)[:, :, seen:] = 0
            blocks[:, block, 1].reshape(-1, BLOCK, layer.head_dim)[:, seen:] = 0
    return image.view(np.uint16).astype("<u2").tobytes()


def native_page(data: bytes) -> npt.NDArray[np.uint8]:
    """The page u8[page_bytes] of an image of it."""
    return np.frombuffer(data, "<u2").astype(np.uint16).view(np.uint8)
