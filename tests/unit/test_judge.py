"""Judging a run: what was told against what had to come, by hand."""

import pytest
from fabric.judge import (
    AFTER_SECONDS,
    KILL_PAUSE_SECONDS,
    QUIET,
    RETURN,
    Counts,
    Happened,
    count,
    pauses,
    promises,
    summary,
)
from fabric.plan import Event
from fabric.streams import PROMPTS, Told

EXPECTED = [[100 * prompt + place for place in range(4)] for prompt in range(PROMPTS)]


def request(stream: int, number: int, tokens: list[int] | None = None, *, at: float = 0.0) -> list[Told]:
    """A request's lines, a tenth of a second apart."""
    tokens = EXPECTED[(stream + number) % PROMPTS] if tokens is None else tokens
    return [Told(stream, number, at + place / 10, token) for place, token in enumerate(tokens)]


def test_requests_that_came_whole_and_right_count_as_such() -> None:
    told = [*request(0, 0), *request(0, 1), *request(1, 0)]
    assert count(told, EXPECTED) == Counts(tokens=12, requests=3)


@pytest.mark.parametrize("tokens", [[0, 1, 2, 4], [0, 1, 2, 3, 4]])
def test_a_token_that_is_other_or_too_many_is_wrong(tokens: list[int]) -> None:
    assert count(request(0, 0, tokens), EXPECTED).wrong == 1


def test_a_request_that_ends_in_an_error_is_lost() -> None:
    told = [*request(0, 0, [0, 1]), Told(0, 0, 9.0, error="ProcessorLost: gone"), *request(0, 1)]
    counts = count(told, EXPECTED)
    assert (counts.lost, counts.hung, counts.errors) == (1, 0, ["ProcessorLost: gone"])


def test_a_request_without_its_end_is_lost_if_others_follow_and_hangs_if_none_does() -> None:
    assert count([*request(0, 0, [0, 1]), *request(0, 1)], EXPECTED).lost == 1
    assert count([*request(0, 0), *request(0, 1, [100, 101])], EXPECTED).hung == 1


def happened(kind: str, began: float, ended: float, back: float = 0.0) -> Happened:
    return Happened(Event(began, kind, 0, ended - began), began, ended, max(back, ended))


def test_a_pause_is_the_longest_gap_that_touches_the_event_for_every_stream() -> None:
    told = [Told(0, 0, at, 1) for at in (0.0, 0.1, 0.4, 0.5, 9.0, 9.1)] + [Told(1, 0, at, 1) for at in (0.0, 0.2, 0.3)]
    found = pauses(told, [happened("kill", 0.2, 0.6)])
    assert (found["kill"].count, found["kill"].most) == (2, 8500.0)
    assert found[QUIET].most == 100.0


def test_a_gap_after_the_event_and_its_aftermath_is_quiet() -> None:
    late = 1.0 + AFTER_SECONDS + 0.1
    told = [Told(0, 0, at, 1) for at in (0.9, 1.05, late, late + 3)]
    found = pauses(told, [happened("stop", 1.0, 1.0)])
    assert found["stop"].most == pytest.approx(1000 * (late - 1.05), abs=0.1)
    assert found[QUIET].most == 3000.0


def test_starting_again_is_judged_apart_from_the_kill() -> None:
    told = [Told(0, 0, at, 1) for at in (0.9, 1.1, 2.1, 2.9, 3.0)]
    found = pauses(told, [happened("kill", 1.0, 2.0, back=2.5)])
    assert found["kill"].most == 1000.0
    found = pauses(told, [happened("kill", 1.0, 1.05, back=2.5)])
    assert (found["kill"].most, found[RETURN].most) == (200.0, 1000.0)


def test_percentiles_are_of_the_values_themselves() -> None:
    found = summary([value / 1000 for value in range(1, 101)])
    assert (found.count, found.p50, found.p99, found.most) == (100, 50.0, 99.0, 100.0)


def test_promises_are_broken_by_any_fault_and_by_long_pauses() -> None:
    good = {"kill": summary([KILL_PAUSE_SECONDS])}
    assert all(promise.kept for promise in promises(Counts(), good, []).values())
    for counts in (Counts(wrong=1), Counts(lost=1), Counts(hung=1)):
        assert sum(not promise.kept for promise in promises(counts, good, []).values()) == 1
    assert not promises(Counts(), good, ["context 4711"])["processes that grow"].kept
    long = {"kill": summary([KILL_PAUSE_SECONDS + 0.001])}
    assert sum(not promise.kept for promise in promises(Counts(), long, []).values()) == 1
