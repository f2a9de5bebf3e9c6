"""A kept context goes on with the same bits as one that never stopped, wherever it was made and wherever it goes on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from engines import LEVELS

from twofold.config import Settings
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.engine import Session
from twofold.engine.generate import Generation, Limits
from twofold.engine.kept import kept
from twofold.engine.sampling import Sampling
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.store.contexts import Contexts, Quota
from twofold.units import GIB

TOKENS = 16  # generated before the stop, and after it
PROMPT = "the lighthouse keeper wrote hello in the log, the wind rose, and on the rocks below the bell rang. " * 2
SAMPLING = Sampling(temperature=0.9, top_p=0.95, top_k=80, min_p=0.02, seed=11)
Answer = tuple[list[int], str]  # tokens, digest of their logits


class Place(NamedTuple):
    """Where one half of the work is done."""

    settings: Settings = Settings(threads=2)
    split: bool = False
    listen: str | None = None  # of a weight processor of its own


PLACES = {
    **{f"level {level}": Place(Settings(vector_level=level)) for level in LEVELS},
    "1 thread": Place(Settings(threads=1)),
    "3 threads": Place(Settings(threads=3)),
    "another pool": Place(Settings(context=256)),
    "split": Place(Settings(), split=True),
    "tcp": Place(listen="tcp://127.0.0.1:0"),
}


def quiet(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


@contextlib.contextmanager
def ready_at(place: Place, path: Path) -> Iterator[Ready]:
    with contextlib.ExitStack() as stack:
        model, settings = str(path), place.settings
        if place.listen:
            child = stack.enter_context(SpawnedWeights(weights_command(path, listen=place.listen, threads=1)))
            model, settings = None, Settings(weights=child.url)
        yield stack.enter_context(open_engine(model, settings, split=place.split, progress=quiet))


def answer(ready: Ready, session: Session, ids: list[int]) -> Answer:
    generation = Generation(ready.engine, session, ready.tokenizer, SAMPLING, Limits(TOKENS, ignore_end=True))
    list(generation.run(ids))
    return generation.token_ids, generation.logits_digest


def begin(ready: Ready, contexts: Contexts, name: str) -> Answer:
    """The first half, kept."""
    with kept(ready.engine, contexts, name, lambda: 0.0) as keeper:
        found = answer(ready, keeper.session, ready.tokenizer.encode(PROMPT))
        keeper.pending = found[0][-1:]
        keeper.keep()
    return found


def go_on(ready: Ready, contexts: Contexts, name: str) -> Answer:
    """The second half."""
    with kept(ready.engine, contexts, name, lambda: 0.0) as keeper:
        return answer(ready, keeper.session, keeper.pending)


class Whole(NamedTuple):
    """What one process comes to that never stops, and the context `first` that it would have kept half way."""

    path: Path
    contexts: Contexts
    answers: tuple[Answer, Answer]


@pytest.fixture(scope="module", params=["tiny_path", "smollm2_path"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    path = request.getfixturevalue(request.param)
    contexts = Contexts(tmp_path_factory.mktemp("kept") / "contexts", Quota(GIB))
    with ready_at(Place(), path) as ready:
        session = ready.engine.open()
        first = answer(ready, session, ready.tokenizer.encode(PROMPT))
        answers = first, answer(ready, session, first[0][-1:])
        ready.engine.close(session)
        assert begin(ready, contexts, "first") == first
    return Whole(path, contexts, answers)


@pytest.mark.parametrize("place", PLACES)
def test_a_kept_context_goes_on_anywhere_as_if_it_had_never_stopped(whole: Whole, place: str) -> None:
    with ready_at(PLACES[place], whole.path) as ready:
        assert go_on(ready, whole.contexts, "first") == whole.answers[1]


@pytest.mark.parametrize("place", PLACES)
def test_a_context_kept_anywhere_is_the_same_file_to_the_byte(whole: Whole, place: str) -> None:
    with ready_at(PLACES[place], whole.path) as ready:
        assert begin(ready, whole.contexts, "other") == whole.answers[0]
    files = [(whole.contexts.folder / f"{name}.context").read_bytes() for name in ("first", "other")]
    whole.contexts.delete("other")
    assert files[0] == files[1]
    assert len(files[0]) > 3 * 4096


def test_the_halves_differ_so_the_comparison_says_something(whole: Whole) -> None:
    (first, one), (second, other) = whole.answers
    assert len(first) == len(second) == TOKENS
    assert first != second
    assert one != other
