"""The walk in one native call gives the bits of the loop it stands for, whatever happens on the way."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engines import Bits, all_logits, engine, some_tokens
from troubled import Troubled, engine_at, served

from twofold.engine.engine import Engine
from twofold.errors import ModelError, Unreachable
from twofold.kernels.native import Native
from twofold.units import Seconds


@pytest.fixture(params=["shm", "tcp"])
def walking(request: pytest.FixtureRequest, weights: Troubled, backend: Native, tmp_path: Path) -> Iterator[Engine]:
    url = f"shm://{tmp_path}/{secrets.token_hex(4)}" if request.param == "shm" else "tcp://127.0.0.1:0"
    with served(weights, url) as processor, engine_at(processor.urls[0], backend, lanes=1) as made:
        yield made


@pytest.fixture
def expected(tiny_path: Path) -> Bits:
    with engine(tiny_path) as plain:
        return all_logits(plain, some_tokens(40, plain.manifest.vocabulary))


def test_the_walk_gives_the_bits_of_the_loop_and_counts_the_same_calls(
    walking: Engine, tiny_path: Path, expected: Bits
) -> None:
    tokens = some_tokens(40, walking.manifest.vocabulary)
    for chunk in (1, 7, 32):
        before = walking.weights.spent.calls
        assert np.array_equal(all_logits(walking, tokens, chunk), expected)
        steps = -(-len(tokens) // chunk)
        assert walking.weights.spent.calls - before == steps * (len(walking.manifest.layers) + 1)
    assert walking.weights.ports(len(walking.manifest.layers), len(walking.manifest.layers)) is not None
    work = walking.work()
    assert min(*work.segments_ns, *work.layers_ns) > 0
    assert (sum(work.segments_ns), sum(work.layers_ns)) == (work.weights_ns, work.context_ns)


def test_a_slow_call_on_the_way_is_waited_for(walking: Engine, weights: Troubled, expected: Bits) -> None:
    tokens = some_tokens(40, walking.manifest.vocabulary)
    session = walking.open()
    walking.feed(session, tokens[:20])
    for token in tokens[20:-1]:
        weights.slow = 0.03
        walking.feed(session, [token])
    assert np.array_equal(walking.feed(session, tokens[-1:]).view(np.uint32), expected[-1:])
    walking.close(session)


def test_an_error_of_a_call_on_the_way_is_raised_and_the_session_goes_on(
    walking: Engine, weights: Troubled, expected: Bits
) -> None:
    tokens = some_tokens(40, walking.manifest.vocabulary)
    session = walking.open()
    walking.feed(session, tokens[:20])
    weights.broken = True
    with pytest.raises(ModelError, match="broken for once"):
        walking.feed(session, tokens[20:])
    assert np.array_equal(walking.feed(session, tokens[20:]).view(np.uint32), expected[-1:])
    walking.close(session)


def test_a_processor_lost_on_the_way_is_found_again_when_it_is_back(
    weights: Troubled, backend: Native, tmp_path: Path, expected: Bits
) -> None:
    url, tokens = f"shm://{tmp_path}/s", some_tokens(40, weights.manifest.vocabulary)
    with contextlib.ExitStack() as first:
        first.enter_context(served(weights, url))
        with engine_at(url, backend, wait=20.0) as walking:
            session = walking.open()
            walking.feed(session, tokens[:30])
            first.close()
            with served(weights, url):
                assert np.array_equal(walking.feed(session, tokens[30:]).view(np.uint32), expected[-1:])
            walking.weights.wait = Seconds(0.0)
            with pytest.raises(Unreachable):
                walking.feed(session, tokens[:1])
            walking.close(session)
