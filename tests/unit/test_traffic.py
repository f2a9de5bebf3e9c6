"""Requests of a seed, when they are sent, and the figures of what came."""

import asyncio
import itertools
import statistics

from traffic.figures import Timing, figures
from traffic.play import play
from traffic.work import Asked, Mix, requests

MIX = Mix()


def test_a_seed_gives_the_same_requests_and_another_gives_others() -> None:
    assert requests(3, 40, 10.0, MIX) == requests(3, 40, 10.0, MIX)
    assert requests(3, 40, 10.0, MIX) != requests(4, 40, 10.0, MIX)


def test_half_of_any_that_follow_share_a_prefix_and_nothing_else_is_shared() -> None:
    asked = requests(1, 40, 10.0, MIX)
    heads = [tuple(one.prompt[: MIX.prefix]) for one in asked]
    shared = [head for head in heads if heads.count(head) > 1]
    assert (len(shared), len(set(shared))) == (20, 1)
    assert heads.index(shared[0]) == 1


def test_lengths_stay_inside_their_bounds_and_arrivals_have_their_rate() -> None:
    asked = requests(1, 2000, 10.0, MIX)
    lengths = [len(one.prompt) for one in asked]
    assert MIX.prompt[0] <= min(lengths) < 2 * MIX.prompt[0]
    assert MIX.prefix + MIX.prompt[1] / 2 < max(lengths) <= MIX.prefix + MIX.prompt[1]
    assert {one.tokens for one in asked} <= set(range(MIX.answer[0], MIX.answer[1] + 1))
    gaps = [late.at - early.at for early, late in itertools.pairwise(asked)]
    assert abs(statistics.mean(gaps) - 0.1) < 0.01
    assert abs(statistics.stdev(gaps) - 0.1) < 0.02  # as of an exponential distribution


def test_no_more_are_under_way_than_may_be_and_all_are_answered_in_order() -> None:
    under, most = 0, 0

    async def send(asked: Asked) -> int:
        nonlocal under, most
        under += 1
        most = max(most, under)
        for _ in range(asked.tokens):
            await asyncio.sleep(0)
        under -= 1
        return asked.tokens

    asked = [Asked(0.0, [], tokens) for tokens in (5, 1, 7, 2, 9, 3)]
    assert asyncio.run(play(asked, send, 2)) == [5, 1, 7, 2, 9, 3]
    assert most == 2


def test_figures_are_those_of_the_definition() -> None:
    told = figures([Timing(10.0, 10.5, 11.5, 11), Timing(11.0, 11.1, 12.0, 4)])
    assert told.tokens_per_second == 7.5
    assert [round(value, 6) for value in told[1:]] == [100.0, 500.0, 100.0, 300.0]
