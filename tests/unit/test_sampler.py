"""The sampler: every step in the written order, as a plain oracle has them; the same whatever else is going on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import SPECIAL_TOKENS, tokens

from twofold.engine.limits import Limits
from twofold.engine.request import Chosen, Request
from twofold.engine.sampler import Sampler
from twofold.engine.sampling import Sampling, sample
from twofold.errors import ModelError, RequestError
from twofold.kernels.arithmetic import F32
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer

VOCABULARY = len(tokens())
END = SPECIAL_TOKENS.index("<|im_end|>")


@pytest.fixture(scope="module")
def tokenizer(tiny_path) -> Tokenizer:
    with Checkpoint.open(tiny_path) as checkpoint:
        return Tokenizer(checkpoint.tokenizer)


def logits_of(seed: int) -> F32:
    return (np.random.default_rng(seed).standard_normal(VOCABULARY) * 3).astype(np.float32)


def request(
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    *,
    prompt: tuple[int, ...] = (5, 6),
    logprobs: int | None = None,
) -> Request:
    return Request(prompt=prompt, sampling=sampling or Sampling(), limits=limits or Limits(), logprobs=logprobs)


def adjusted(logits: F32, sampling: Sampling, limits: Limits, prompt: tuple[int, ...], answer: list[int]) -> F32:
    """The oracle: one token after the other, each operation in float32."""
    f32 = np.float32
    result = logits.copy()
    for token in range(len(logits)):
        value = logits[token] + f32(dict(sampling.logit_bias).get(token, 0.0))
        times = answer.count(token)
        if token in prompt or times:
            value = value / f32(sampling.repetition_penalty) if value > 0 else value * f32(sampling.repetition_penalty)
            value = value - f32(sampling.frequency_penalty) * f32(times)
            value = value - f32(sampling.presence_penalty) * f32(times > 0)
        if len(answer) < limits.min_tokens and token in {*limits.stop_ids, *(() if limits.ignore_end else (END,))}:
            value = f32(-np.inf)
        result[token] = value
    return result


PENALTIES = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.3]),
    top_p=st.sampled_from([1.0, 0.9]),
    seed=st.integers(0, 99),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    presence_penalty=st.sampled_from([0.0, 1.5, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.4, -0.1]),
    logit_bias=st.sampled_from([(), ((7, 5.5),), ((9, -100.0), (10, 3.25))]),
)
LIMITS = st.sampled_from([Limits(), Limits(min_tokens=4), Limits(min_tokens=6, stop_ids=(9, 11), ignore_end=True)])


@settings(max_examples=60, deadline=None)
@given(sampling=PENALTIES, limits=LIMITS, seed=st.integers(0, 1 << 30), shift=st.sampled_from([0.0, -12.0]))
def test_bias_penalties_and_minimum_come_before_the_choice_in_this_order(
    tokenizer: Tokenizer, sampling: Sampling, limits: Limits, seed: int, shift: float
) -> None:
    prompt, answer = (5, 6, 7, 7), []  # type: tuple[int, ...], list[int]
    sampler = Sampler(request(sampling, limits, prompt=prompt), tokenizer, VOCABULARY)
    logits = (
        logits_of(seed) + np.float32(shift) + np.float32(3) * (np.arange(VOCABULARY) % 5 == 2)
    )  # few tokens lead, so that they repeat
    for step in range(8):
        wanted = sample(adjusted(logits, sampling, limits, prompt, answer), sampling, 4 + step)
        assert sampler.choose(logits, 4 + step) == Chosen(wanted)
        answer.append(wanted)


def test_the_logits_are_left_as_they_are(tokenizer: Tokenizer) -> None:
    logits = logits_of(1)
    before = logits.copy()
    sampling = Sampling(temperature=1, repetition_penalty=2, presence_penalty=1, logit_bias=((5, 3.0),))
    Sampler(request(sampling, Limits(min_tokens=2), logprobs=3), tokenizer, VOCABULARY).choose(logits, 0)
    assert logits.tobytes() == before.tobytes()


def test_a_token_depends_on_seed_and_position_alone_and_not_on_other_answers(tokenizer: Tokenizer) -> None:
    rows, sampling = [logits_of(i) for i in range(20)], Sampling(temperature=1.5, seed=8)
    alone = Sampler(request(sampling), tokenizer, VOCABULARY)
    expected = [alone.choose(row, at) for at, row in enumerate(rows)]
    many = [Sampler(request(sampling), tokenizer, VOCABULARY) for _ in range(3)]
    assert [[sampler.choose(row, at) for sampler in many] for at, row in enumerate(rows)] == [[e] * 3 for e in expected]
    assert alone.choose(rows[4], 4) == expected[4]
    others = Sampler(request(Sampling(temperature=1.5, seed=9)), tokenizer, VOCABULARY)
    assert [others.choose(row, at) for at, row in enumerate(rows)] != expected


def test_log_probabilities_are_of_the_model_and_not_of_what_was_made_of_it(tokenizer: Tokenizer) -> None:
    logits = logits_of(3)
    likeliest = np.argsort(-logits, kind="stable").tolist()
    sampling = Sampling(temperature=0.5, top_k=1, logit_bias=((20, 100.0),))
    chosen = Sampler(request(sampling, logprobs=5), tokenizer, VOCABULARY).choose(logits, 0)
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert chosen.token == 20
    assert chosen.logprob is not None
    assert [token for token, _ in chosen.top] == likeliest[:5]
    for token, value in [(20, chosen.logprob), *chosen.top]:
        assert abs(value - exact[token]) < 2.0**-21  # exponentials of f32, and their logarithm


def test_log_probabilities_of_the_token_alone_and_of_none(tokenizer: Tokenizer) -> None:
    chosen = Sampler(request(logprobs=0), tokenizer, VOCABULARY).choose(logits_of(3), 0)
    assert chosen.top == ()
    assert chosen.logprob is not None
    assert chosen.logprob < 0
    assert Sampler(request(), tokenizer, VOCABULARY).choose(logits_of(3), 0).logprob is None


def test_a_certain_token_has_log_probability_zero_and_none_is_above(tokenizer: Tokenizer) -> None:
    logits = np.full(VOCABULARY, -200, np.float32)
    logits[30] = 25.3
    chosen = Sampler(request(logprobs=2), tokenizer, VOCABULARY).choose(logits, 0)
    assert chosen.logprob == 0
    assert all(value <= 0 and math.isfinite(value) for _, value in chosen.top)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (request(prompt=(VOCABULARY,)), "prompt"),
        (request(limits=Limits(stop_ids=(VOCABULARY,))), "stop-ids"),
        (request(Sampling(logit_bias=((VOCABULARY, 1.0),))), "logit-bias"),
        (request(Sampling(logit_bias=((-1, 1.0),))), "logit-bias"),
    ],
)
def test_what_is_outside_the_vocabulary_or_its_range_is_refused_by_name(
    tokenizer: Tokenizer, wrong: Request, name: str
) -> None:
    with pytest.raises(RequestError, match=name):
        Sampler(wrong, tokenizer, VOCABULARY)


def test_logits_that_are_not_numbers_are_refused(tokenizer: Tokenizer) -> None:
    logits = logits_of(0)
    logits[9] = np.nan
    with pytest.raises(ModelError, match="not numbers"):
        Sampler(request(Sampling(temperature=1, logit_bias=((9, 1.0),))), tokenizer, VOCABULARY).choose(logits, 0)
