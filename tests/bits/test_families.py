"""R5 for every family, as matrices of floats and of four bits: a new family is held to all of this by being listed."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from engines import LEVELS, Bits, all_logits, engine, native, opened, some_tokens
from random_weights import RandomWeights
from tiny_hub import IDS, TINY, VOCABULARY, Tiny
from troubled import engine_at, served

from twofold.engine.engine import Engine
from twofold.kernels.native import Native
from twofold.memory.weight import WeightMemory
from twofold.model.format import F32, Q4_1, Format

TOKENS = some_tokens(140, VOCABULARY)  # past every window and two chunks of positions
HALF = 70
AT_ONCE = 32  # rows whose logits an engine gives together


class Case(NamedTuple):
    """A model, and what the reference makes of it."""

    source: RandomWeights
    expected: Bits


@pytest.fixture(
    scope="module",
    params=[(tiny, form) for tiny in TINY for form in (F32, Q4_1)],
    ids=[f"{name} {form.name}" for name in IDS for form in (F32, Q4_1)],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tiny, form = request.param
    source = made(tmp_path_factory, tiny, form)
    with engine(source) as reference:
        expected = all_logits(reference, TOKENS)
    assert np.isfinite(expected.view(np.float32)).all()
    assert len(np.unique(expected[-1])) > VOCABULARY // 2
    return Case(source, expected)


def made(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny, form: Format) -> RandomWeights:
    return RandomWeights(tmp_path_factory.mktemp("family"), tiny, form)


@pytest.fixture
def fast(case: Case, backend: Native) -> Iterator[Engine]:
    with engine(case.source, backend) as made:
        yield made


@pytest.mark.parametrize("level", LEVELS)
def test_native_equals_the_reference_at_every_level(case: Case, level: str) -> None:
    with native(threads=2, level=level) as backend, engine(case.source, backend) as fast:
        assert np.array_equal(all_logits(fast, TOKENS), case.expected)


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_a_whole_prompt_on_any_number_of_threads_has_the_same_bits(case: Case, threads: int) -> None:
    with native(threads) as backend, engine(case.source, backend) as fast:
        session = fast.open()
        assert np.array_equal(fast.feed(session, TOKENS, wanted=AT_ONCE).view(np.uint32), case.expected[-AT_ONCE:])
        fast.close(session)


@pytest.mark.parametrize("chunk", [1, 7, 31])
def test_chunks_change_no_bit(case: Case, fast: Engine, chunk: int) -> None:
    assert np.array_equal(all_logits(fast, TOKENS, chunk), case.expected)


def test_sessions_that_share_steps_have_the_bits_of_each_alone(case: Case, fast: Engine) -> None:
    lengths = [1, 17, 47, 64, 130]  # all that fits the pool
    sessions = [fast.open() for _ in lengths]
    for session, length in zip(sessions, lengths, strict=True):
        fast.feed(session, TOKENS[:length])
    for ahead in range(3):
        together = fast.decode(sessions, [TOKENS[length + ahead] for length in lengths])
        assert np.array_equal(np.stack(together).view(np.uint32), [case.expected[n + ahead] for n in lengths])
    for session in sessions:
        fast.close(session)


def test_a_session_forked_and_resumed_elsewhere_goes_on_with_the_same_bits(case: Case, fast: Engine) -> None:
    session = fast.open()
    fast.feed(session, TOKENS[:HALF])
    kept = fast.context.take_out(session.number)
    assert np.array_equal(fast.feed(session, TOKENS[HALF:]).view(np.uint32)[0], case.expected[-1])
    with engine(case.source) as reference:
        for other in (fast, reference):
            fork = other.open()
            other.context.close(fork.number)
            fork.number = other.context.put_in(kept, HALF)
            rest = other.feed(fork, TOKENS[HALF:], wanted=AT_ONCE)
            assert np.array_equal(rest.view(np.uint32), case.expected[-AT_ONCE:])
            other.close(fork)
    fast.close(session)


def test_a_session_that_was_rewound_equals_one_that_never_went_there(case: Case, fast: Engine) -> None:
    session = fast.open()
    fast.feed(session, TOKENS[: HALF + 20] + TOKENS[:30])
    fast.rewind(session, HALF + 20)
    assert np.array_equal(fast.feed(session, TOKENS[HALF + 20 :]).view(np.uint32)[0], case.expected[-1])
    fast.close(session)


@pytest.mark.parametrize("scheme", ["shm", "tcp"])
def test_two_processors_with_half_of_the_segments_each_change_no_bit(
    case: Case, backend: Native, scheme: str, tmp_path: Path
) -> None:
    with opened(case.source) as checkpoint:
        model = checkpoint.model
        steps = range(model.manifest.ends.stop)
        halves = [model.manifest.holding(half) for half in (steps[: len(steps) // 2], steps[len(steps) // 2 :])]
        memories = [WeightMemory(model, checkpoint.tensor, backend, segments=sorted(half)) for half in halves]
    urls = [f"shm://{tmp_path}/{i}" if scheme == "shm" else "tcp://127.0.0.1:0" for i in range(2)]
    with (
        served(memories[0], urls[0]) as one,
        served(memories[1], urls[1]) as other,
        engine_at(f"{one.urls[0]},{other.urls[0]}", backend) as split,
    ):
        assert np.array_equal(all_logits(split, TOKENS), case.expected)
    for memory in memories:
        memory.close()
