"""Large bodies: one at a time, within their share, whatever becomes of them; small ones pass at once."""

import asyncio

import pytest

from twofold.server.refusal import Refusal
from twofold.server.turnstile import LARGE_BYTES, SHARE, Turnstile


class Clock:
    """Time that passes where it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_large_body_keeps_the_next_waiting_until_it_was_within_its_share() -> None:
    clock = Clock()
    turnstile = Turnstile(clock)

    def work() -> str:
        clock.now += 0.03
        return "taken apart"

    assert asyncio.run(turnstile.passed(LARGE_BYTES + 1, work)) == "taken apart"
    assert turnstile.closed == pytest.approx(0.03 * (1 / SHARE - 1))
    clock.now += turnstile.closed
    assert turnstile.closed == 0


def test_a_body_that_is_refused_has_cost_its_time_as_well() -> None:
    clock = Clock()
    turnstile = Turnstile(clock)

    def work() -> None:
        clock.now += 0.03
        raise Refusal(400, "no body")

    with pytest.raises(Refusal):
        asyncio.run(turnstile.passed(LARGE_BYTES + 1, work))
    assert turnstile.closed > 0


def test_bodies_of_usual_size_pass_while_large_ones_wait() -> None:
    async def both() -> list[str]:
        order: list[str] = []
        clock = Clock()
        turnstile = Turnstile(clock)

        def large() -> None:
            clock.now += 0.001
            order.append("large")

        await turnstile.passed(LARGE_BYTES + 1, large)
        second = asyncio.create_task(turnstile.passed(LARGE_BYTES + 1, large))
        await asyncio.sleep(0)
        await turnstile.passed(LARGE_BYTES, lambda: order.append("small"))
        await second
        return order

    assert asyncio.run(both()) == ["large", "small", "large"]
