"""Rows: planes lie apart, aligned, and what crosses the cut is exactly the first rows of each."""

from pathlib import Path

import numpy as np
import pytest

from twofold.model.checkpoint import Checkpoint
from twofold.wire.rows import ALIGN, Layout, Rows


@pytest.fixture
def rows(tiny_path: Path) -> Rows:
    with Checkpoint.open(tiny_path) as checkpoint:
        return Rows(Layout(checkpoint.model.manifest))


def test_planes_are_aligned_and_do_not_overlap(rows: Rows) -> None:
    for number, array in enumerate(rows.arrays.values()):
        array.view(np.uint8)[:] = number
        assert array.ctypes.data % ALIGN == 0
    for number, array in enumerate(rows.arrays.values()):
        assert (array.view(np.uint8) == number).all()


def test_keep_moves_the_wanted_rows_to_the_front(rows: Rows) -> None:
    last = len(rows.layout.cuts) - 1
    rows["carry"][:5] = np.arange(5)[:, None]
    rows["attended"][:5] = np.arange(5)[:, None]
    rows.keep(last, [0, 2, 4])
    assert rows["carry"][:3, 0].tolist() == rows["attended"][:3, -1].tolist() == [0, 2, 4]


def test_rows_over_given_memory_share_it(rows: Rows) -> None:
    memory = bytearray(rows.layout.size_bytes)
    other = Rows(rows.layout, memory)
    other["carry"][0, 0] = 1.25
    offset = rows.layout.offsets["carry"]
    assert np.frombuffer(memory, "<f4", 1, offset)[0] == 1.25


def test_only_the_ends_of_a_step_are_limited_to_few_rows(rows: Rows) -> None:
    layout = rows.layout
    assert [layout.limit(i) for i in range(len(layout.cuts))] == [256] * (len(layout.cuts) - 2) + [32, 32]
