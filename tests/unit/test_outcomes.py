"""What became of requests is judged as it was."""

import pytest
from traffic.client import Seen
from traffic.outcomes import ANSWERED, FAILED, LEFT, REFUSED, kind, outcomes, overtaken


def seen(sent: float, first: float | None = None, *, key: str = "") -> Seen:
    return Seen(sent, status=200, first=first, last=first, pieces=1, finish="length", key=key)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (seen(0.0, 1.0), ANSWERED),
        (Seen(0.0, status=200, finish="cancelled"), FAILED),
        (Seen(0.0, status=200, finish="length", error="it broke"), FAILED),
        (Seen(0.0, status=200), FAILED),
        (Seen(0.0, status=429, retry_after="2"), REFUSED),
        (Seen(0.0, status=429, retry_after="0"), FAILED),
        (Seen(0.0, status=429), FAILED),
        (Seen(0.0, status=500, retry_after="2"), FAILED),
        (Seen(0.0, error="no end within 120 s"), FAILED),
        (Seen(0.0, status=200, left=True), LEFT),
    ],
)
def test_only_a_whole_answer_or_a_429_that_says_when_to_come_back_is_an_end(one: Seen, expected: str) -> None:
    assert kind(one) == expected


def test_the_order_is_that_of_arrival_unless_one_waits_longer_than_a_later_one() -> None:
    assert overtaken([seen(0.0, 5.0), seen(1.0, 6.0), seen(2.0, 7.0)]) == 0.0
    assert overtaken([seen(0.0, 9.0), seen(1.0, 6.0), seen(2.0, 4.0), seen(3.0)]) == 5.0


def test_who_has_another_key_overtakes_nobody() -> None:
    told = outcomes([seen(0.0, 9.0, key="a"), seen(1.0, 2.0, key="b"), seen(2.0, 9.5, key="a")])
    assert (told.overtaken_seconds, told.longest_seconds, told.answered) == (0.0, 9.0, 3)
