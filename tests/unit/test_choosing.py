"""Choosing natively: at every vector level the token, the log-partition and the largest that the definitions give."""

import numpy as np
import pytest
from engines import LEVELS
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.engine.sampling import Sampling, masked, sample, uniform
from twofold.kernels import arithmetic
from twofold.kernels.arithmetic import F32
from twofold.kernels.binding import ChoiceStruct
from twofold.kernels.choosing import Choosing, best

EACH_LEVEL = pytest.mark.parametrize("level", LEVELS)
WIDTHS = st.sampled_from([1, 2, 15, 16, 17, 64, 100, 1000, 1025, 3000])


@st.composite
def rows(draw: st.DrawFn) -> F32:
    """Logits as models give them, flat or peaked, sometimes with many equals or with some that are ruled out."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    logits = random.standard_normal(draw(WIDTHS)).astype(np.float32) * np.float32(
        draw(st.sampled_from([0.1, 1, 4, 20]))
    )
    if draw(st.booleans()):
        logits = np.round(logits)
    if draw(st.booleans()):
        logits[1::2] = -np.inf
    return logits


def samplings() -> st.SearchStrategy[Sampling]:
    return st.builds(
        Sampling,
        temperature=st.sampled_from([0.2, 0.7, 1.0, 1.7]),
        top_k=st.sampled_from([0, 1, 3, 40, 1000, 2000]),
        top_p=st.sampled_from([1.0, 0.999, 0.95, 0.5, 0.01]),
        min_p=st.sampled_from([0.0, 0.001, 0.1, 1.0]),
        seed=st.integers(0, 1 << 40),
    )


def choice(logits: F32, sampling: Sampling, drawn: float) -> ChoiceStruct:
    return ChoiceStruct(
        len(logits), sampling.top_k, sampling.top_p, sampling.min_p, drawn, sampling.temperature, logits.max()
    )


@EACH_LEVEL
@settings(max_examples=200, deadline=None)
@given(logits=rows(), sampling=samplings(), position=st.integers(0, 5000))
def test_the_token_is_the_one_of_the_definition(level: str, logits: F32, sampling: Sampling, position: int) -> None:
    token = Choosing(level).token(logits, choice(logits, sampling, uniform(sampling.seed, position)))
    assert token in (None, sample(logits, sampling, position))


@EACH_LEVEL
def test_hardly_ever_is_the_definition_asked(level: str) -> None:
    logits = np.random.default_rng(5).standard_normal((200, 5000)).astype(np.float32) * 3
    for kept in ({}, {"top_p": 0.9}, {"top_k": 40}, {"min_p": 0.05}, {"top_k": 100, "top_p": 0.8, "min_p": 0.01}):
        sampling = Sampling(temperature=0.8, **kept)  # type: ignore[arg-type]
        given = [Choosing(level).token(row, choice(row, sampling, uniform(1, i))) for i, row in enumerate(logits)]
        assert given.count(None) == 0


@EACH_LEVEL
@pytest.mark.parametrize(
    ("sampling", "drawn"),
    [
        (Sampling(temperature=1, top_p=0.5), 0.1),  # two of four equals are exactly half
        (Sampling(temperature=1), 0.5),
        (Sampling(temperature=1, top_k=1025), 0.5),
    ],
)
def test_where_the_order_of_a_sum_could_matter_the_definition_is_asked(
    level: str, sampling: Sampling, drawn: float
) -> None:
    logits = np.zeros(4 if sampling.top_k == 0 else 2000, np.float32)
    assert Choosing(level).token(logits, choice(logits, sampling, drawn)) is None


@EACH_LEVEL
@settings(max_examples=60, deadline=None)
@given(logits=rows(), seed=st.integers(0, 1 << 32), share=st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_what_is_not_allowed_is_ruled_out_as_by_the_definition(
    level: str, logits: F32, seed: int, share: float
) -> None:
    bits = np.random.default_rng(seed).random(-(-len(logits) // 32) * 32) < share
    allowed = np.packbits(bits, bitorder="little").view(np.uint32)
    left = Choosing(level).mask(logits, allowed, np.empty_like(logits))
    assert left.tobytes() == masked(logits, allowed).tobytes()
    assert (left == np.where(bits[: len(logits)], logits, -np.inf)).all()


@EACH_LEVEL
@settings(max_examples=60, deadline=None)
@given(logits=rows())
def test_log_partition_and_largest_are_those_of_the_definitions(level: str, logits: F32) -> None:
    native = Choosing(level)
    assert native.log_partition(logits, float(logits.max())) == arithmetic.log_partition(logits)
    k = min(20, len(logits))
    assert native.top(logits, k) == arithmetic.top(logits[None], k)[0].tolist()


def test_the_log_partition_is_that_of_numpy_to_rounding() -> None:
    logits = np.random.default_rng(1).standard_normal(50_000).astype(np.float32) * 3
    wanted = np.log(np.exp(logits.astype(np.float64) - float(logits.max())).sum())
    # each exponential is within two units in the last place of f32
    assert abs(best().log_partition(logits, float(logits.max())) - wanted) < 2.0**-22
