"""Generation: where it stops, what it tells, and that text is never shown past a stop string."""

from pathlib import Path

import pytest
from engines import engine, native
from hypothesis import given
from hypothesis import strategies as st

from twofold.engine.engine import Engine
from twofold.engine.generate import Generation, HeldText
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling
from twofold.errors import RequestError
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


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": -3}, {"stop": ("",)}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Limits(**wrong)  # type: ignore[arg-type]


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
