"""In one process a step is one native call too, with the bits of the loop in Python."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engines import Bits, all_logits, engine, some_tokens

from twofold.engine import walk
from twofold.engine.engine import Engine, Part
from twofold.errors import RequestError
from twofold.kernels.native import Native

VOCABULARY = 273  # of the tiny model
TOKENS = some_tokens(40, VOCABULARY)


@pytest.fixture
def here(tiny_path: Path, backend: Native) -> Iterator[Engine]:
    with engine(tiny_path, backend) as made:
        session = made.open()
        made.feed(session, TOKENS[:3])  # the first step finds out who is called
        made.close(session)
        yield made


@pytest.fixture
def expected(tiny_path: Path) -> Bits:
    with engine(tiny_path) as plain:
        return all_logits(plain, TOKENS)


def in_python(engine: Engine) -> int:
    """Calls so far that were not made by a native walk."""
    return sum(engine.weights.spent.segments_ns.values())


def test_a_step_in_one_process_is_walked_natively_with_the_bits_of_the_loop(here: Engine, expected: Bits) -> None:
    layers = len(here.manifest.layers)
    for chunk in (1, 7, 32):
        calls, one_by_one = here.weights.spent.calls, in_python(here)
        assert np.array_equal(all_logits(here, TOKENS, chunk), expected)
        assert here.weights.spent.calls - calls == -(-len(TOKENS) // chunk) * (layers + 1)
        assert in_python(here) == one_by_one
    work = here.work()
    assert (sum(work.segments_ns), sum(work.layers_ns)) == (work.weights_ns, work.context_ns)


def test_a_walk_that_takes_long_goes_on_call_by_call(
    here: Engine, expected: Bits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "LONG_NS", 0)
    one_by_one = in_python(here)
    assert np.array_equal(all_logits(here, TOKENS, 7), expected)
    assert in_python(here) > one_by_one


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_an_id_outside_the_vocabulary_is_refused_in_a_native_walk_and_the_session_goes_on(
    here: Engine, expected: Bits, token: int
) -> None:
    session = here.open()
    here.feed(session, TOKENS[:20])
    with pytest.raises(RequestError, match="outside the vocabulary of 273"):
        here.feed(session, [TOKENS[20], token])
    assert np.array_equal(here.feed(session, TOKENS[20:]).view(np.uint32), expected[-1:])
    here.close(session)


def test_sessions_that_take_each_others_places_in_the_step_keep_their_bits(here: Engine, expected: Bits) -> None:
    sessions = [here.open() for _ in range(3)]
    for at, token in enumerate(TOKENS):
        turned = sessions[at % 3 :] + sessions[: at % 3]
        given = here.step([Part(session, [token]) for session in turned])
        assert all(np.array_equal(row.view(np.uint32), expected[at]) for row in given)
        if at == 20:  # its pages go to another, and its place in the step as well
            here.close(sessions.pop())
            sessions.append(here.open())
            here.feed(sessions[-1], TOKENS[: at + 1])


def test_what_is_to_happen_meanwhile_happens_once_before_the_rows_go(here: Engine) -> None:
    session, seen = here.open(), []
    calls = here.weights.spent.calls
    here.step([Part(session, TOKENS)], meanwhile=lambda: seen.append(here.weights.spent.calls))
    here.step([Part(session, [1])])
    assert seen == [calls]
    here.close(session)
