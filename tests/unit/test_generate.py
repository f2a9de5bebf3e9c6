"""Generation: where it stops, what it tells, and that text is never shown past a stop string."""

from pathlib import Path

import pytest
from engines import engine, native
from hypothesis import given
from hypothesis import strategies as st

from twofold.engine import ending
from twofold.engine.engine import Engine
from twofold.engine.generate import Generation
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling
from twofold.engine.telling import HeldText
from twofold.errors import InternalError, RequestError
from twofold.memory.map import MemoryMap
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer


@given(
    st.text("abc", max_size=40),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 5), min_size=1),
)
def test_held_text_ends_just_before_the_first_stop_string(text: str, stops: list[str], cuts: list[int]) -> None:
    held, shown, at, turn = HeldText(stops), "", 0, 0
    while at < len(text) and not held.stopped:
        size = cuts[turn % len(cuts)]
        shown += held.push(text[at : at + size])
        at, turn = at + size, turn + 1
    if not held.stopped:
        shown += held.finish("")
    ends = [text.find(stop) for stop in stops if stop in text]
    assert held.stopped == bool(ends)
    assert text.startswith(shown)
    if ends:
        assert len(shown) <= max(text.find(s) for s in stops if s in text)
        assert not any(stop in shown for stop in stops)
    else:
        assert shown == text


def test_text_that_could_begin_a_stop_string_is_held_back_and_released_when_it_does_not() -> None:
    held = HeldText(["END"])
    assert [held.push(piece) for piece in ("aE", "N", "X", "EN")] == ["a", "", "ENX", ""]
    assert held.finish("") == "EN"


def generate(fast: Engine, path: Path, prompt: list[int], limits: Limits) -> Generation:
    with Checkpoint.open(path) as checkpoint:
        tokenizer = Tokenizer(checkpoint.tokenizer)
    generation = Generation(fast, fast.open(), tokenizer, Sampling(temperature=1, seed=2), limits)
    assert "".join(generation.run(prompt)) == generation.text
    return generation


def test_generation_stops_at_the_limit_and_counts_what_it_did(tiny_path: Path) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        generation = generate(fast, tiny_path, [5, 6, 7], Limits(9, ignore_end=True))
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == generation.timings.generated_tokens == 9
    assert generation.timings.prompt_tokens == 3
    assert generation.timings.weights_seconds > 0
    assert generation.timings.context_seconds > 0


def test_generation_stops_at_a_stop_string_that_spans_tokens(tiny_path: Path) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        text = generate(fast, tiny_path, [5, 6, 7], Limits(40, ignore_end=True)).text
        stop = text[10:13]
        stopped = generate(fast, tiny_path, [5, 6, 7], Limits(40, (stop,), ignore_end=True))
    assert stopped.finish_reason == "stop"
    assert stopped.text == text[: text.find(stop)]


def test_generation_fills_the_context_and_no_more(tiny_path: Path) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        room = fast.manifest.context_length
        generation = generate(fast, tiny_path, [5] * (room - 4), Limits(100, ignore_end=True))
        assert len(generation.token_ids) == 4
        for count in (0, room, room + 50):
            with pytest.raises(RequestError):
                generate(fast, tiny_path, [5] * count, Limits(1))


def test_the_logits_digest_is_of_the_logits_that_were_sampled(tiny_path: Path) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        one = generate(fast, tiny_path, [5, 6, 7], Limits(5, ignore_end=True))
        same = generate(fast, tiny_path, [5, 6, 7], Limits(5, ignore_end=True))
        other = generate(fast, tiny_path, [5, 6, 8], Limits(5, ignore_end=True))
    assert one.logits_digest == same.logits_digest != other.logits_digest


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.5, top_k=40, top_p=0.9, seed=3)])
def test_without_a_digest_the_largest_logits_alone_give_the_same_tokens(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    monkeypatch.setattr(ending, "NETWORKS", ("inproc",))
    with Checkpoint.open(tiny_path) as checkpoint:
        tokenizer = Tokenizer(checkpoint.tokenizer)
    with native() as backend, engine(tiny_path, backend) as fast:
        found, asked = [], []
        end = ending.Ending.segment

        def spied(self: ending.Ending, largest: int | None, seen: MemoryMap) -> int:
            asked.append(end(self, largest, seen) - self.all)
            return end(self, largest, seen)

        monkeypatch.setattr(ending.Ending, "segment", spied)
        for hashed in (True, False):
            limits = Limits(12, ignore_end=True)
            made = Generation(fast, fast.open(), tokenizer, sampling, limits, hashed=hashed)
            list(made.run([5, 6, 7]))
            found.append(made.token_ids)
        assert asked == [0] * 12 + [1] * 12
        assert found[0] == found[1]
        with pytest.raises(InternalError, match="not hashed"):
            assert made.logits_digest


def test_stop_ids_end_the_answer_and_are_not_in_its_text(tiny_path: Path) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        free = generate(fast, tiny_path, [5, 6, 7], Limits(20, ignore_end=True))
        stop = free.token_ids[7]
        stopped = generate(fast, tiny_path, [5, 6, 7], Limits(20, ignore_end=True, stop_ids=(stop,)))
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert stopped.finish_reason == "stop"
    with Checkpoint.open(tiny_path) as checkpoint:
        assert stopped.text == Tokenizer(checkpoint.tokenizer).decode(stopped.token_ids[:-1])


def test_nothing_ends_an_answer_before_its_minimum(tiny_path: Path) -> None:
    with native() as backend, engine(tiny_path, backend) as fast:
        free = generate(fast, tiny_path, [5, 6, 7], Limits(40, ignore_end=True))
        first, later = free.text[2:4], free.text[-4:]
        text = generate(fast, tiny_path, [5, 6, 7], Limits(40, (first, later), ignore_end=True, min_tokens=30)).text
        ends = tuple(set(free.token_ids))[:60]
        kept = generate(fast, tiny_path, [5, 6, 7], Limits(40, ignore_end=True, min_tokens=12, stop_ids=ends))
    assert first in text
    assert text != free.text
    assert len(kept.token_ids) > 12
    assert not set(kept.token_ids[:12]) & set(ends)


def test_penalties_count_what_the_session_saw_before_the_prompt(tiny_path: Path) -> None:
    seen = list(range(3, 200))

    def answer(fast: Engine, tokenizer: Tokenizer, sampling: Sampling) -> set[int]:
        session = fast.open()
        fast.feed(session, seen)
        generation = Generation(fast, session, tokenizer, sampling, Limits(6, ignore_end=True))
        for _ in generation.run([5]):
            pass
        fast.close(session)
        return set(generation.token_ids)

    with Checkpoint.open(tiny_path) as checkpoint:
        tokenizer = Tokenizer(checkpoint.tokenizer)
    with native() as backend, engine(tiny_path, backend) as fast:
        assert answer(fast, tokenizer, Sampling()) & set(seen)
        assert not answer(fast, tokenizer, Sampling(repetition_penalty=100)) & set(seen)
