"""Serving many: each answer is what it would be alone, and comes to its end whatever happens to the others."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import engine, native, some_tokens
from recording import Recording

from twofold.engine.answer import Answer
from twofold.engine.engine import Engine
from twofold.engine.generate import Generation
from twofold.engine.limits import Limits
from twofold.engine.request import Chosen, Piece, Request
from twofold.engine.sampling import Sampling
from twofold.engine.seen import Seen
from twofold.engine.serving import Serving
from twofold.engine.telling import Telling
from twofold.errors import InternalError, ModelError, Overloaded, RequestError, TwofoldError, Unreachable
from twofold.kernels.arithmetic import F32
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer
from twofold.schedule.stream import Room
from twofold.units import Seconds

VOCABULARY = 273  # of the tiny model


def tokenizer_of(path: Path) -> Tokenizer:
    with Checkpoint.open(path) as checkpoint:
        return Tokenizer(checkpoint.tokenizer)


@contextlib.contextmanager
def serving(path: Path, **room: int) -> Iterator[tuple[Serving, Engine, list[Recording]]]:
    """A serving over the tiny model, the engine under it, and the samplers of its answers, in order."""
    samplers: list[Recording] = []

    def choosing(request: Request, tokenizer: Tokenizer, vocabulary: int) -> Recording:
        samplers.append(Recording(request, tokenizer, vocabulary))
        return samplers[-1]

    with native() as backend, engine(path, backend) as fast:
        limits = Room(**({"context_length": 256, "outside_pages": 2} | room))  # type: ignore[arg-type]
        with Serving(fast, tokenizer_of(path), room=limits, choosing=choosing) as served:
            yield served, fast, samplers


def request(prompt: list[int], tokens: int = 10, **more: object) -> Request:
    limits = Limits(tokens, ignore_end=True)
    return Request(**({"prompt": tuple(prompt), "limits": limits} | more))  # type: ignore[arg-type]


def mixed(count: int) -> list[Request]:
    """Requests of many lengths, some of which begin alike, chosen in many ways."""
    beginning = some_tokens(140, VOCABULARY)
    prompts = [(beginning if n % 2 else []) + some_tokens(1 + 11 * n % 90, VOCABULARY, seed=n) for n in range(count)]
    ways = [Sampling(), Sampling(temperature=0.8, top_p=0.9, seed=5), Sampling(temperature=1.5, repetition_penalty=1.3)]
    return [request(p, 5 + 7 * n % 23, sampling=ways[n % 3], owner=str(n % 4)) for n, p in enumerate(prompts)]


def alone(path: Path, requests: list[Request]) -> list[tuple[list[int], str, str]]:
    """(tokens, text, digest of the logits) of each, one after the other, each in a session of its own."""
    with native() as backend, engine(path, backend) as fast:
        answers = []
        for one in requests:
            session = fast.open()
            generation = Generation(fast, session, tokenizer_of(path), one.sampling, one.limits)
            text = "".join(generation.run(one.prompt))
            answers.append((generation.token_ids, text, generation.logits_digest))
            fast.close(session)
        return answers


def read(pieces: list[Piece]) -> tuple[list[int], str]:
    return [chosen.token for piece in pieces for chosen in piece.chosen], "".join(piece.text for piece in pieces)


def test_answers_under_load_are_bit_for_bit_the_answers_alone(tiny_path: Path) -> None:
    requests = mixed(16)
    expected = alone(tiny_path, requests)
    with serving(tiny_path, rows=48, heads=5) as (served, fast, samplers):  # a pool of 4 pages: they make room
        answers = [served.submit(one) for one in requests]
        for answer, sampler, (tokens, text, digest) in zip(answers, samplers, expected, strict=True):
            assert read(list(answer)) == (tokens, text)
            assert sampler.hash.hexdigest() == digest
        status = served.status()
        assert status.preemptions > 0
        assert status.finished == {"length": 16}
        assert status.pages_used == status.running == status.waiting == 0
        fast.context.pages.check()


def test_a_prefix_that_is_known_gives_the_same_bits_and_is_not_computed(tiny_path: Path) -> None:
    one = request(some_tokens(150, VOCABULARY))
    with serving(tiny_path) as (served, _, samplers):
        answers = []
        for _ in range(2):
            answer = served.submit(one)
            answers.append(read(list(answer)))
        assert answers[0] == answers[1]
        assert samplers[0].hash.hexdigest() == samplers[1].hash.hexdigest()
        assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (150, 128)
        assert served.status().rows == 150 + 9 + 22 + 9


def test_answers_come_to_event_loops_and_threads_alike(tiny_path: Path) -> None:
    requests = mixed(6)
    expected = [(tokens, text) for tokens, text, _ in alone(tiny_path, requests)]

    async def collect(served: Serving) -> list[tuple[list[int], str]]:
        async def one(asked: Request) -> tuple[list[int], str]:
            return read([piece async for piece in served.submit(asked)])

        return await asyncio.gather(*(one(asked) for asked in requests))

    with serving(tiny_path) as (served, _, _):
        assert asyncio.run(collect(served)) == expected
        found: dict[int, tuple[list[int], str]] = {}
        threads = [
            threading.Thread(target=lambda n=n: found.__setitem__(n, read(list(served.submit(requests[n])))))
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[n] for n in range(6)] == expected


def test_what_is_cancelled_ends_and_leaves_its_pages(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, fast, _):
        long, other = served.submit(request([1, 2, 3], 200)), served.submit(request([4, 5], 30))
        next(long)
        long.cancel()
        long.cancel()
        pieces = list(long)
        assert pieces[-1].finish == "cancelled"
        assert len(read(list(other))[0]) == 30
        long.cancel()
        assert served.status().finished == {"cancelled": 1, "length": 1}
        assert served.status().pages_used == 0
        fast.context.pages.check()


def test_what_is_cancelled_before_its_first_step_is_never_computed(tiny_path: Path) -> None:
    with serving(tiny_path, running=1) as (served, _, _):
        first = served.submit(request([1, 2, 3], 100))
        second = served.submit(request([4] * 50, 100))
        second.cancel()
        assert [piece.finish for piece in second] == ["cancelled"]
        first.cancel()
        assert list(first)[-1].finish == "cancelled"


def test_a_step_that_fails_ends_the_answers_in_it_and_no_others(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_path, running=2) as (served, fast, _):
        real, calls = fast.step, 0

        def failing(*arguments: object, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise Unreachable("nobody is there")
            return real(*arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(fast, "step", failing)
        answers = [served.submit(request([n, 2, 3], 12)) for n in range(3)]
        for answer in answers[:2]:
            with pytest.raises(Unreachable, match="nobody is there"):
                list(answer)
        assert len(read(list(answers[2]))[0]) == 12
        assert served.status().finished == {"error": 2, "length": 1}
        assert served.status().pages_used == 0


def test_logits_that_are_no_numbers_end_one_answer(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny_path) as (served, _, samplers):
        good, bad = served.submit(request([1, 2], 20)), served.submit(request([3, 4], 20))

        def refuse(logits: F32, position: int) -> Chosen:
            raise ModelError("not numbers")

        monkeypatch.setattr(samplers[1], "choose", refuse)
        with pytest.raises(ModelError, match="not numbers"):
            list(bad)
        assert len(read(list(good))[0]) == 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_of_ours_reaches_everybody_who_waits(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny_path) as (served, fast, _):
        monkeypatch.setattr(fast, "step", lambda *_, **__: 1 / 0)
        with pytest.raises(InternalError, match="please report"):
            list(served.submit(request([1, 2])))
        with pytest.raises(Overloaded, match="ending"):
            served.submit(request([1, 2]))


def test_more_than_can_wait_is_refused_with_a_time_to_come_back(tiny_path: Path) -> None:
    with serving(tiny_path, running=1, waiting=4) as (served, _, _):
        answers: list[Answer] = []
        with pytest.raises(Overloaded, match="come back") as refused:
            answers.extend(served.submit(request([1, 2, 3], 200)) for _ in range(20))
        assert 2 <= len(answers) <= 4
        assert refused.value.retry_after_seconds >= 1
        assert served.status().refused == 1
        for answer in answers:
            answer.cancel()


def test_what_cannot_be_had_is_refused_at_once(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        with pytest.raises(RequestError, match="prompt has 256 tokens, but only 255 fit"):
            served.submit(request([1] * 256))
        assert served.status().waiting == 0


def test_an_answer_stops_where_the_context_ends(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        pieces = list(served.submit(request([5] * 250, 100)))
        assert pieces[-1].finish == "length"
        assert len(read(pieces)[0]) == 6


def test_closing_lets_answers_end_within_the_drain_and_takes_no_others(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        answer = served.submit(request([1, 2, 3], 40))
        served.close(Seconds(60))
        assert list(answer)[-1].finish == "length"
        with pytest.raises(Overloaded, match="ending"):
            served.submit(request([1]))


def test_closing_without_a_drain_cancels_what_is_in_hand(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        answer = served.submit(request([1, 2, 3], 250))
        served.close()
        assert list(answer)[-1].finish == "cancelled"


def test_closing_frees_every_page(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, fast, _):
        list(served.submit(request([1] * 200)))
        assert served.status().pages_cached == 3
        served.close()
        assert fast.context.pages.free_pages == 4


def test_times_and_tokens_are_counted(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        for _ in range(3):
            list(served.submit(request([1, 2, 3], 8)))
        status = served.status()
        assert (status.prompt_tokens, status.generated_tokens) == (9, 24)
        times = status.times
        assert (times.first_token.count, times.token.count, times.answer.count, times.queue.count) == (3, 21, 3, 3)
        assert status.steps == 24


def test_an_answer_tells_what_a_generation_tells(tiny_path: Path) -> None:
    tokenizer = tokenizer_of(tiny_path)
    tokens, text, _ = alone(tiny_path, [request([5, 6, 7], 40, sampling=Sampling(temperature=1, seed=2))])[0]
    stop = text[10:13]
    telling, pieces = Telling(Limits(40, (stop,), ignore_end=True), tokenizer, 40), []
    for token in tokens:
        if (piece := telling.push(Chosen(token), complete=False)) is not None:
            pieces.append(piece)
        if pieces and pieces[-1].finish:
            break
    assert "".join(piece.text for piece in pieces) == text[: text.find(stop)]
    assert pieces[-1].finish == "stop"
    assert read(pieces)[0] == tokens[: telling.tokens]


def test_errors_are_ours(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _), pytest.raises(TwofoldError):
        served.submit(request([10**6]))


def test_an_answer_goes_on_with_what_another_left_as_if_it_had_never_stopped(tiny_path: Path) -> None:
    tokens = some_tokens(120, VOCABULARY)
    one = request(tokens, 12, sampling=Sampling(temperature=1, repetition_penalty=1.2, seed=4))
    ((expected, text, digest),) = alone(tiny_path, [one])
    with serving(tiny_path) as (served, _, _):
        first = served.submit(request(tokens[:99], 1, keep=True))
        list(first)
        left = first.left
    assert left is not None
    assert (list(left.tokens), left.length) == (tokens[:99], 99)
    with serving(tiny_path) as (served, fast, samplers):
        answer = served.submit(one, left)
        assert read(list(answer)) == (expected, text)
        assert samplers[0].hash.hexdigest() == digest
        assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (120, 99)
        assert answer.left is None
        again = served.submit(one, left)
        again.cancel()
        list(again)
        assert served.status().pages_used == 0
        fast.context.pages.check()


@pytest.mark.parametrize("same", [0, 1, 63, 64, 80])
def test_only_what_was_seen_of_this_prompt_is_gone_on_with(tiny_path: Path, same: int) -> None:
    seen = some_tokens(99, VOCABULARY)
    tokens = [*seen[:same], (seen[same] + 1) % VOCABULARY, *some_tokens(9, VOCABULARY, seed=2)]
    one = request(tokens, 12)
    ((expected, text, digest),) = alone(tiny_path, [one])
    with serving(tiny_path) as (served, _, samplers):
        first = served.submit(request(seen, 1, keep=True))
        list(first)
        assert first.left is not None
    with serving(tiny_path) as (served, _, samplers):
        answer = served.submit(one, first.left)
        assert read(list(answer)) == (expected, text)
        assert samplers[0].hash.hexdigest() == digest
        assert answer.usage.cached_tokens == same


def test_an_answer_that_was_cancelled_or_did_not_ask_for_it_leaves_nothing(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        answers = [served.submit(request([1], 200, keep=True)), served.submit(request([1], 2))]
        next(answers[0])
        answers[0].cancel()
        ends = [list(answer)[-1].finish for answer in answers]
        assert ends == ["cancelled", "length"]
        assert [answer.left for answer in answers] == [None, None]


def test_what_was_made_elsewhere_is_gone_on_from_by_nobody_else(tiny_path: Path) -> None:
    tokens = some_tokens(150, VOCABULARY)
    ((expected, text, _),) = alone(tiny_path, [request(tokens)])
    with serving(tiny_path) as (served, fast, _):
        forged = Seen(tokens, 140, b"\x11\x2a" * (3 * fast.context.pool.page_bytes // 2))
        assert read(list(served.submit(request(tokens), forged)))[0] != expected
        honest = served.submit(request(tokens))
        assert read(list(honest)) == (expected, text)
        assert honest.usage.cached_tokens == 0


def test_an_overload_with_people_who_walk_away_leaves_nothing_behind(tiny_path: Path) -> None:
    chance, before = random.Random(2), threading.active_count()
    ends: Counter[str | None] = Counter()

    async def client(served: Serving, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(12):
            tokens = some_tokens(chance.randint(1, 200), VOCABULARY, seed=chance.randrange(9))
            try:
                answer = served.submit(request(tokens, chance.randint(1, 50), owner=str(seed % 3)))
            except Overloaded:
                ends["refused"] += 1
                await asyncio.sleep(0)
                continue
            patience = chance.choice([1, 5, 1000])
            pieces = []
            async for piece in answer:
                pieces.append(piece)
                if len(pieces) == patience:
                    answer.cancel()
            ends[pieces[-1].finish] += 1

    async def crowd(served: Serving) -> None:
        await asyncio.gather(*(client(served, chance.randrange(1000)) for _ in range(24)))

    with serving(tiny_path, rows=64, heads=6, running=8, waiting=12) as (served, fast, _):
        asyncio.run(crowd(served))
        status = served.status()
        assert status.running == status.waiting == status.pages_used == 0
        assert sum(ends.values()) == 24 * 12
        assert min(ends["refused"], ends["length"], ends["cancelled"]) > 0
        assert not served._outside
        fast.context.pages.check()
    assert threading.active_count() == before
    assert fast.context.pages.free_pages == 4


def test_the_moments_of_an_answer_come_one_after_the_other(tiny_path: Path) -> None:
    with serving(tiny_path) as (served, _, _):
        answers = [served.submit(one) for one in mixed(6)]
        for answer in answers:
            list(answer)
            moments = answer.usage.moments
            found = [moments.arrived, moments.begun, moments.first, moments.ended]
            assert found == sorted(found, key=float)  # type: ignore[arg-type]
