"""Attention by itself: native code equals the reference for every context parameter, level and number of threads."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from engines import LEVELS, native

from twofold.kernels.base import Backend, PagePool, Stretch, page_layout
from twofold.kernels.native import Native
from twofold.kernels.reference import Reference
from twofold.model.manifest import NUMERICS, Manifest
from twofold.model.operations import Attention, Rotary
from twofold.model.segment import Cut, Plane
from twofold.wire.rows import Layout, Rows

LENGTH = 210  # three chunks of 64 positions and a part of the fourth
Bits = npt.NDArray[np.uint16]


def attention(
    heads: int = 6, kv_heads: int = 2, head_dim: int = 48, rotary: Rotary | None = None, **options: object
) -> Attention:
    turned = rotary or Rotary(tuple(1.0 / (i + 1) for i in range(head_dim // 2)), interleaved=False)
    return Attention(heads, kv_heads, head_dim, 0.1875, turned, **options)  # type: ignore[arg-type]


VARIANTS = {
    "plain": attention(),
    "window inside a chunk": attention(window=5),
    "window of a whole chunk": attention(window=64),
    "window past a border": attention(window=70),
    "window of one": attention(window=1),
    "soft-cap": attention(soft_cap=1.5),
    "sinks": attention(sinks=(0.5, -3.0, 9.0, 0.0, 1.25, -60.0)),
    "all three": attention(window=100, soft_cap=2.5, sinks=(0.5, -3.0, 9.0, 0.0, 1.25, -60.0)),
    "more heads than sums side by side": attention(heads=26, kv_heads=2, head_dim=16, window=33),
    "interleaved pairs": attention(head_dim=48, rotary=Rotary((1.0, 0.3, 0.01) * 8, interleaved=True)),
    "a part of the head": attention(head_dim=48, rotary=Rotary((1.0, 0.3, 0.01, 0.5, 0.2), interleaved=False)),
    "a part of the head, interleaved": attention(
        head_dim=80, rotary=Rotary((1.0, 0.3, 0.01, 0.5, 0.2) * 3, interleaved=True, magnitude=1.1875)
    ),
    "no rotary embedding": attention(rotary=Rotary((), interleaved=False)),
    "one KV head": attention(heads=5, kv_heads=1, head_dim=80),
}


@dataclass
class Session:
    """Random q, k, v of LENGTH positions through one layer, in pages that lie in no order."""

    what: Attention
    pages: tuple[int, ...] = (4, 1, 3, 0)
    planes: dict[str, npt.NDArray[np.float16]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(3)
        for plane in self.manifest.cuts[0].gives:
            self.planes[plane.name] = (2 * rng.standard_normal((LENGTH, plane.width))).astype(np.float16)

    @property
    def manifest(self) -> Manifest:
        a = self.what
        q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
        made = (Plane("q", q, "f16"), Plane("k", kv, "f16"), Plane("v", kv, "f16"))
        attended = (Plane("attended", q, "f16"),)
        cuts = (Cut((Plane("ids", 1, "i32"),), made), Cut(attended, (Plane("logits", 8, "f32"),)))
        return Manifest("0" * 64, "one layer", "test", NUMERICS, 8, 320, cuts, (a,))

    def attended(self, backend: Backend, steps: Sequence[int]) -> Bits:
        """Bits of what attention gives for every position, fed in steps of these sizes, repeated."""
        memory = np.full((5, page_layout(self.manifest)[1]), 0x7C, np.uint8)  # NaN wherever nothing was written
        kernels = backend.context(self.manifest, PagePool(memory), 64)
        rows = Rows(Layout(self.manifest))
        placed = kernels.placed(rows)
        found, at, turn = [], 0, 0
        while at < LENGTH:
            count = min(steps[turn % len(steps)], LENGTH - at)
            placed.place([Stretch(at, count, self.pages)])
            for name, values in self.planes.items():
                rows[name][:count] = values[at : at + count]
            placed.attend(0, count)
            found.append(rows["attended"][:count].copy())
            at, turn = at + count, turn + 1
        kernels.close()
        return np.concatenate(found).view(np.uint16)


@pytest.mark.parametrize("name", VARIANTS)
def test_attention_equals_the_reference_at_every_level_and_number_of_threads(name: str) -> None:
    session = Session(VARIANTS[name])
    expected = session.attended(Reference(), [64])
    assert np.isfinite(expected.view(np.float16)).all()
    for level in LEVELS:
        with native(2, level) as backend:
            assert np.array_equal(session.attended(backend, [1, 30, 2, 7]), expected), level
    for threads in (1, 3, 8):
        with native(threads) as backend:
            assert np.array_equal(session.attended(backend, [1, 1, 1, 40, 5]), expected), threads


def test_a_row_sees_its_last_window_positions_and_no_other() -> None:
    session = Session(VARIANTS["window past a border"])
    before = session.attended(Reference(), [64])
    session.planes["v"][100] += 1
    changed = (session.attended(Reference(), [64]) != before).any(1)
    assert changed.tolist() == [100 <= position < 170 for position in range(LENGTH)]


class Cramped(Native):
    """A backend that has no room to keep the parts of a shared tile."""

    def context(self, manifest: Manifest, pool: PagePool, rows: int):  # type: ignore[no-untyped-def]
        kernels = super().context(manifest, pool, rows)
        kernels.scratch_floats = kernels._scratch_needed(0)
        return kernels


def test_without_room_to_share_a_tile_the_bits_are_the_same() -> None:
    session = Session(VARIANTS["all three"])
    with native(1) as one:
        expected = session.attended(one, [1])
    backend = Cramped(threads=3)
    assert np.array_equal(session.attended(backend, [1, 20]), expected)
    backend.close()
