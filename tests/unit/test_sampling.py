"""Sampling: the filters do what they say, ties go to the lower id, the same seed draws the same tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.engine.sampling import Sampling, _mix, sample, uniform
from twofold.errors import ModelError, RequestError
from twofold.kernels.arithmetic import F32


def drawn(logits: F32, sampling: Sampling, times: int = 400) -> set[int]:
    return {sample(logits, sampling, position) for position in range(times)}


def logits_of(*values: float) -> F32:
    return np.array(values, np.float32)


def test_temperature_zero_takes_the_likeliest_and_the_lower_id_of_a_tie() -> None:
    assert sample(logits_of(1, 5, 5, 2), Sampling(), 0) == 1


def test_top_k_draws_only_from_the_k_likeliest() -> None:
    logits = logits_of(0, 3, 1, 3, 2)
    assert drawn(logits, Sampling(temperature=5, top_k=3)) == {1, 3, 4}
    assert drawn(logits_of(1, 1, 1, 1), Sampling(temperature=1, top_k=2)) == {0, 1}
    assert drawn(logits, Sampling(temperature=5, top_k=99)) == {0, 1, 2, 3, 4}


def test_top_p_draws_from_the_smallest_set_that_reaches_the_share() -> None:
    logits = np.log(logits_of(0.5, 0.3, 0.15, 0.05))
    assert drawn(logits, Sampling(temperature=1, top_p=0.45)) == {0}
    assert drawn(logits, Sampling(temperature=1, top_p=0.6)) == {0, 1}
    assert drawn(logits, Sampling(temperature=1, top_p=0.9)) == {0, 1, 2}


def test_min_p_leaves_out_what_is_below_its_share_of_the_likeliest() -> None:
    logits = np.log(logits_of(0.5, 0.3, 0.15, 0.05))
    assert drawn(logits, Sampling(temperature=1, min_p=0.2)) == {0, 1, 2}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.floats(0.05, 1), st.integers(50, 400))
def test_top_p_keeps_the_same_set_as_a_plain_sort(seed: int, top_p: float, size: int) -> None:
    logits = np.random.default_rng(seed).standard_normal(size).astype(np.float32) * 3
    order = np.argsort(-logits, kind="stable")
    shares = np.exp(logits[order].astype(np.float64) - float(logits.max()))
    cumulative = np.cumsum(shares) / shares.sum()
    allowed = set(order[: int(np.searchsorted(cumulative, top_p - 1e-6)) + 2].tolist())
    assert drawn(logits, Sampling(temperature=1, top_p=top_p), times=50) <= allowed


def test_frequencies_follow_the_probabilities() -> None:
    logits = np.log(logits_of(0.6, 0.3, 0.1))
    tokens = [sample(logits, Sampling(temperature=1, seed=3), i) for i in range(6000)]
    shares = np.bincount(tokens, minlength=3) / len(tokens)
    assert np.abs(shares - [0.6, 0.3, 0.1]).max() < 0.03


def test_the_same_seed_and_position_draw_the_same_and_another_seed_differs() -> None:
    logits = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    runs = [[sample(logits, Sampling(temperature=1, seed=s), i) for i in range(50)] for s in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_random_numbers_are_splitmix64_and_spread_evenly() -> None:
    assert _mix(1234567) == 6457827717110365317  # the generator's published first output for this seed
    assert uniform(3, 4) == (_mix(_mix(3) + 4) >> 11) / 2**53
    numbers = np.array([uniform(9, i) for i in range(20000)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0}, {"temperature": 1e-50}, {"temperature": float("nan")}, {"temperature": float("inf")},
        {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 2.0}, {"top_k": -1}, {"seed": -1}, {"seed": 1 << 64},
        {"repetition_penalty": 0.0}, {"repetition_penalty": float("inf")}, {"presence_penalty": 2.1},
        {"frequency_penalty": float("nan")}, {"logit_bias": ((1, 101.0),)}, {"logit_bias": ((1, 1.0), (1, 2.0))},
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong)).replace("_", "-")):
        Sampling(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_refused(wrong: float, temperature: float) -> None:
    logits = np.array([0.0, wrong, 1.0], np.float32)
    with pytest.raises(ModelError, match="not numbers"):
        sample(logits, Sampling(temperature), 0)
