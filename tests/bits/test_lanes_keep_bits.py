"""However many lanes a step is dealt to, every logit is the same bit for bit, whatever happens on the way."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from engines import Bits, engine, some_tokens
from troubled import Troubled, engine_at, served

from twofold.engine.assemble import attached_to
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine, Part
from twofold.errors import ModelError
from twofold.kernels.native import Native
from twofold.kernels.reference import Reference
from twofold.memory.context import ContextMemory
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint
from twofold.units import Seconds

LANES = (1, 2, 3, 5, 8)
PROMPTS = (3, 11, 1, 26, 7)  # tokens of each session


@contextlib.contextmanager
def in_process(path: Path, lanes: int) -> Iterator[Engine]:
    """An engine that walks in Python, with weights and context of the reference."""
    with Checkpoint.open(path) as checkpoint:
        memory = WeightMemory(checkpoint.model, checkpoint.tensor, Reference())
    context = ContextMemory(memory.manifest, Reference(), positions=1024)
    with attached_to(memory) as attachments:
        yield Engine(Caller(attachments, wait=Seconds(0)), context, lanes=lanes)
    context.pages.check()


def seen(engine: Engine) -> Bits:
    """All that several sessions get: of long prompts, of prompts beside tokens, and of tokens."""
    found = []
    sessions = [engine.open() for _ in PROMPTS]
    prompts = [some_tokens(count, engine.manifest.vocabulary, seed) for seed, count in enumerate(PROMPTS)]
    found.append(np.concatenate([engine.feed(s, p, chunk=5).copy() for s, p in zip(sessions, prompts, strict=True)]))
    found.append(engine.feed(sessions[0], prompts[3], wanted=9).copy())
    for turn in range(4):
        tokens = some_tokens(len(sessions), engine.manifest.vocabulary, 10 + turn)
        found.append(np.stack(engine.decode(sessions, tokens)))
    mixed = [
        Part(sessions[0], prompts[1], 4),
        Part(sessions[1], [3]),
        Part(sessions[2], prompts[3], 0),
        Part(sessions[3], [5]),
    ]
    found.append(np.stack(engine.step(mixed)))
    found.append(engine.feed(sessions[2], [9]).copy())
    found.append(np.stack(engine.step([Part(sessions[4], 2 * prompts[3], 40)])))  # more than an end takes at once
    for session in sessions:
        engine.close(session)
    return np.concatenate(found).view(np.uint32)


@pytest.fixture
def expected(tiny_path: Path) -> Bits:
    with in_process(tiny_path, 1) as plain:
        return seen(plain)


@pytest.mark.parametrize("lanes", LANES)
def test_any_number_of_lanes_gives_the_same_bits_walked_in_python(tiny_path: Path, lanes: int, expected: Bits) -> None:
    with in_process(tiny_path, lanes) as several:
        assert np.array_equal(seen(several), expected)


@pytest.mark.parametrize("link", ["shm", "tcp"])
@pytest.mark.parametrize("lanes", LANES)
def test_any_number_of_lanes_gives_the_same_bits_over_links(
    weights: Troubled, backend: Native, tmp_path: Path, link: str, lanes: int, expected: Bits
) -> None:
    url = f"shm://{tmp_path}/s" if link == "shm" else "tcp://127.0.0.1:0"
    with served(weights, url) as processor, engine_at(processor.urls[0], backend, lanes=lanes) as several:
        assert np.array_equal(seen(several), expected)
        assert np.array_equal(seen(several), expected)
        assert len(several._lanes) == lanes


def decoded(engine: Engine, trouble: Sequence[int] = (), weights: Troubled | None = None) -> Bits:
    """What four sessions get of twelve tokens each; before some of the turns there is trouble."""
    sessions = [engine.open() for _ in range(4)]
    found = []
    for turn in range(12):
        if weights is not None and turn in trouble:
            weights.slow = 0.03
        found.append(np.stack(engine.decode(sessions, some_tokens(4, engine.manifest.vocabulary, turn))))
    for session in sessions:
        engine.close(session)
    return np.concatenate(found).view(np.uint32)


def test_a_lane_whose_call_is_slow_is_waited_for_and_the_others_go_on(
    weights: Troubled, backend: Native, tmp_path: Path, tiny_path: Path
) -> None:
    with in_process(tiny_path, 1) as plain:
        expected = decoded(plain)
    with served(weights, f"shm://{tmp_path}/s") as processor, engine_at(processor.urls[0], backend, lanes=2) as several:
        assert np.array_equal(decoded(several, (3, 4, 7), weights), expected)


def test_an_error_of_one_lane_s_call_leaves_all_sessions_as_they_were(
    weights: Troubled, backend: Native, tmp_path: Path, tiny_path: Path
) -> None:
    with served(weights, f"shm://{tmp_path}/s") as processor, engine_at(processor.urls[0], backend, lanes=2) as several:
        sessions = [several.open() for _ in range(4)]
        with engine(tiny_path) as plain:
            alone = [plain.open() for _ in range(4)]
            for turn in range(6):
                tokens = some_tokens(4, several.manifest.vocabulary, turn)
                if turn in (0, 3):
                    weights.out_of_order = True  # a batch that fails is made again call by call
                    with pytest.raises(ModelError, match="broken for once"):
                        several.decode(sessions, tokens)
                    weights.out_of_order = False
                    assert [session.tokens for session in sessions] == [session.tokens for session in alone]
                given, wanted = np.stack(several.decode(sessions, tokens)), np.stack(plain.decode(alone, tokens))
                assert np.array_equal(given.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("lanes", [2, 3])
def test_a_processor_lost_under_several_lanes_is_found_again(
    weights: Troubled, backend: Native, tmp_path: Path, tiny_path: Path, lanes: int
) -> None:
    url = f"shm://{tmp_path}/s"
    with in_process(tiny_path, 1) as plain:
        expected = decoded(plain)
    with contextlib.ExitStack() as first:
        first.enter_context(served(weights, url))
        with engine_at(url, backend, wait=20.0, lanes=lanes) as several:
            assert np.array_equal(decoded(several), expected)
            first.close()
            with served(weights, url):
                assert np.array_equal(decoded(several), expected)


def test_lanes_over_two_replicas_go_on_when_one_dies(
    weights: Troubled, backend: Native, tmp_path: Path, tiny_path: Path
) -> None:
    urls = [f"shm://{tmp_path}/{name}" for name in "ab"]
    with in_process(tiny_path, 1) as plain:
        expected = decoded(plain)
    with Checkpoint.open(tiny_path) as checkpoint:
        other = WeightMemory(checkpoint.model, checkpoint.tensor, Reference())
    with contextlib.ExitStack() as first, served(other, urls[1]):
        first.enter_context(served(weights, urls[0]))
        with engine_at(",".join(urls), backend, wait=20.0, lanes=3) as several:
            assert np.array_equal(decoded(several), expected)
            assert several.weights.spent.failovers == 0
            first.close()
            assert np.array_equal(decoded(several), expected)
