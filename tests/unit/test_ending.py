"""The largest logits alone choose the token that all logits choose, or say that they cannot."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from engines import engine
from hypothesis import given
from hypothesis import strategies as st

from twofold.engine import ending
from twofold.engine.ending import Ending
from twofold.engine.sampling import Sampling, sample
from twofold.kernels import arithmetic
from twofold.kernels.arithmetic import F32
from twofold.memory.map import Entry, MemoryMap
from twofold.model.manifest import NUMERICS, Manifest
from twofold.model.operations import Attention, Rotary
from twofold.model.segment import TOP_WIDTH, Cut, Plane
from twofold.units import Seconds
from twofold.wire.rows import Layout, Rows

VOCABULARY = 700
TAKES = (Plane("attended", 64, "f16"),)
TOP = (Plane("top_ids", TOP_WIDTH, "i32"), Plane("top_values", TOP_WIDTH, "f32"), Plane("log_sum_exp", 1, "f32"))
MANIFEST = Manifest(
    "0" * 64, "ends", "test", NUMERICS, VOCABULARY, 64,
    (Cut((Plane("ids", 1, "i32"),), TAKES), Cut(TAKES, (Plane("logits", VOCABULARY, "f32"),)), Cut(TAKES, TOP)),
    (Attention(1, 1, 64, 0.125, Rotary((1.0,), False)),),
)  # fmt: skip


def ended(logits: F32) -> Rows:
    """Rows as either end leaves them."""
    rows, count = Rows(Layout(MANIFEST)), len(logits)
    rows["logits"][:count] = logits
    rows["top_ids"][:count] = arithmetic.top(logits, TOP_WIDTH)
    rows["top_values"][:count] = arithmetic.gather(logits, arithmetic.top(logits, TOP_WIDTH).astype(np.int64))
    with np.errstate(invalid="ignore"):
        rows["log_sum_exp"][:count] = arithmetic.log_sum_exp(logits)
    return rows


def held_at(*urls: str, held: frozenset[int] = frozenset({0, 1, 2})) -> MemoryMap:
    seen = MemoryMap().listed([Entry(url) for url in urls], Seconds(0))
    for url in urls:
        seen = seen.joined(url, MANIFEST, held, False, Seconds(0))
    return seen


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0.0), st.floats(1e-4, 100.0)),
    top_k=st.integers(1, TOP_WIDTH - 1),
    top_p=st.sampled_from([1.0, 0.9, 0.2]),
    min_p=st.sampled_from([0.0, 0.05]),
    seed=st.integers(0, 5),
)


@given(
    SAMPLINGS,
    st.integers(0, 1 << 30),
    st.sampled_from([0.01, 1.0, 8.0]),
    st.sampled_from([None, 1, 40, 600]),
    st.integers(0, 3),
)
def test_what_is_chosen_from_the_largest_is_what_is_chosen_from_all(
    sampling: Sampling, seed: int, spread: float, different: int | None, ulps: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (spread * rng.standard_normal((2, VOCABULARY))).astype(np.float32)
    if different:  # only so many values, some of them neighbours
        logits = logits[:, rng.integers(0, different, VOCABULARY)]
        for _ in range(ulps):
            logits = np.where(rng.integers(0, 2, logits.shape), np.nextafter(logits, np.float32(9e9)), logits)
    assert sampling.largest is not None
    found = Ending(MANIFEST).largest(ended(logits), 2, sampling.largest, 0)
    if found is None:
        assert different is not None
        return
    for row, short in zip(logits, found, strict=True):
        assert sample(short, sampling, 7) == sample(row, sampling, 7)


def test_ties_that_reach_past_what_the_segment_gives_are_not_decided() -> None:
    logits = np.zeros((1, VOCABULARY), np.float32)
    logits[0, :100] = 1
    made = Ending(MANIFEST)
    assert made.largest(ended(logits), 1, 100, 0) is not None
    assert made.largest(ended(logits), 1, 101, 0) is None
    logits[0, 300] = np.nan
    assert made.largest(ended(logits), 1, 100, 0) is None


def test_rows_that_are_used_again_keep_nothing_of_before() -> None:
    made, rng = Ending(MANIFEST), np.random.default_rng(1)
    for _ in range(3):
        logits = rng.standard_normal((3, VOCABULARY)).astype(np.float32)
        found = made.largest(ended(logits), 3, 5, 2)
        assert found is not None
        for row, short in zip(logits, found, strict=True):
            kept = np.isfinite(short)
            assert kept.sum() == TOP_WIDTH
            assert np.array_equal(short[kept], row[kept])


FAR = {
    "inproc://0": 0,
    "shm://a": 0,
    "tcp://h:1": 0,
    "ws://h:1": 0,
    "tls://h:1": 1,
    "wss://h:1": 1,
    "twofold://h:1/#x": 1,
}


@pytest.mark.parametrize(("url", "far"), FAR.items())
def test_only_networks_carry_the_largest_alone(url: str, far: int) -> None:
    made = Ending(MANIFEST)
    assert made.segment(1, held_at(url)) == made.all + far
    assert made.segment(None, held_at(url)) == made.all
    assert made.segment(TOP_WIDTH, held_at(url)) == made.all
    assert made.segment(1, held_at(url, held=frozenset({0, 1}))) == made.all
    assert Ending(without_top(MANIFEST)).segment(1, held_at(url)) == made.all


def without_top(manifest: Manifest) -> Manifest:
    """The same model without the other end."""
    return msgspec.structs.replace(manifest, cuts=manifest.cuts[:2])


@pytest.mark.parametrize("apart", [ending.APART, 1e9])
def test_an_engine_gives_the_largest_and_all_again_where_they_do_not_decide(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, apart: float
) -> None:
    monkeypatch.setattr(ending, "NETWORKS", ("inproc",))
    monkeypatch.setattr(ending, "APART", apart)
    with engine(tiny_path) as fast:
        plain, other = [fast.open() for _ in range(2)], [fast.open() for _ in range(2)]
        for tokens in ([5, 6], [1, 2]):
            expected = [row.copy() for row in fast.decode(plain, tokens)]
            before = fast.weights.spent.calls
            found = fast.decode(other, tokens, largest=3)
            calls = fast.weights.spent.calls - before
            assert calls == (1 if apart < 1 else 2) * (len(fast.manifest.layers) + 1)
            for row, short in zip(expected, found, strict=True):
                kept = np.isfinite(short)
                assert kept.sum() == (TOP_WIDTH if apart < 1 else len(row))
                assert np.array_equal(short[kept], row[kept])
                assert short.argmax() == row.argmax()
        assert [session.tokens for session in other] == [session.tokens for session in plain]
