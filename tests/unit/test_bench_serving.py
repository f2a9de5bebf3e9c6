"""The comparison under load: ratios inside rounds, ours from Python no peer, tails over all rounds."""

from serving import BEST, OURS, PYTHON, Taken, of_rounds, rows_of
from traffic.figures import Timing


def lasting(seconds: float, first: float = 0.5) -> list[Timing]:
    return [Timing(0.0, first, seconds, 10)]


def test_the_best_peer_is_the_better_of_each_round_and_our_own_python_is_none() -> None:
    taken: Taken = {
        8: [
            {OURS: lasting(1.0), PYTHON: lasting(0.8), "a": lasting(2.0), "b": lasting(4.0)},
            {OURS: lasting(1.0), PYTHON: lasting(1.0), "a": lasting(9.0), "b": lasting(3.0)},
        ]
    }
    row = rows_of(taken, "tokens_per_second")["8"]
    assert set(row) == {"a", "b", BEST, PYTHON}
    assert (row[BEST]["minimum"], row[BEST]["maximum"]) == (2.0, 3.0)
    assert (row[PYTHON]["minimum"], row[PYTHON]["maximum"]) == (0.8, 1.0)


def test_of_times_the_best_peer_is_the_one_that_takes_least() -> None:
    rounds = [{OURS: lasting(2.0, 0.2), PYTHON: lasting(2.0), "a": lasting(2.0, 0.1), "b": lasting(2.0, 0.4)}]
    assert rows_of({1: rounds}, "ttft_p99")["1"][BEST]["median"] == 2.0


def test_a_tail_is_that_of_all_rounds_and_the_rest_are_medians() -> None:
    rounds = [{OURS: lasting(1.0, first)} for first in (0.1, 0.2, 0.9)]
    told = of_rounds(rounds)[OURS]
    assert (round(told["ttft_p50"]), round(told["ttft_p99"])) == (200, 900)
