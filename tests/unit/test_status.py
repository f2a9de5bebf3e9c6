from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from twofold.wire.status import BUCKETS, ROW_BUCKETS, Counts, bucket, bucket_start, quantile, row_bucket

durations = st.integers(0, 2**36)


@given(durations)
def test_a_duration_is_in_the_bucket_that_starts_at_or_before_it_and_ends_after_it(duration: int) -> None:
    number = bucket(duration)
    assert bucket_start(number) <= duration
    assert number == BUCKETS - 1 or duration < bucket_start(number + 1)


def test_buckets_are_a_fourth_wide_at_most_and_the_last_holds_the_rest() -> None:
    starts = [bucket_start(number) for number in range(BUCKETS + 1)]
    assert starts == sorted(set(starts))
    assert all(b - a <= max(1, a / 4) for a, b in pairwise(starts))
    assert bucket(2**63) == BUCKETS - 1


def test_the_rows_of_a_batch_are_in_the_bucket_of_the_next_power_of_two() -> None:
    assert [row_bucket(rows) for rows in (1, 2, 3, 4, 5, 8, 9, 65536)] == [0, 1, 2, 2, 3, 3, 4, ROW_BUCKETS - 1]


@given(st.lists(durations, min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_that_of_the_sorted_durations_to_a_fourth(values: list[int], share: float) -> None:
    histogram = [0] * BUCKETS
    for value in values:
        histogram[bucket(value)] += 1
    ranked = sorted(values)
    exact = next(value for rank, value in enumerate(ranked, 1) if rank >= share * len(ranked))
    found = quantile(histogram, share)
    assert found is not None
    assert exact < found * 1e9 + 1e-3
    assert found * 1e9 <= exact * 1.25 + 1 + 1e-3 or exact >= 2**36


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile((), 0.5) is None
    assert quantile((0, 0), 0.5) is None


def test_what_was_counted_since_is_the_difference_of_every_figure() -> None:
    before = Counts(1, 2, 1, *(4, 5, 6, 7), (1,), (0, 1), (1,), {"Refused": 1})
    now = Counts(11, 22, 10, *(44, 55, 66, 77), (1, 9), (3, 8), (10,), {"Refused": 3, "FrameError": 2})
    since = Counts(10, 20, 9, *(40, 50, 60, 70), (0, 9), (3, 7), (9,), {"Refused": 2, "FrameError": 2})
    assert now.since(before) == since
    assert now.since(Counts()) == now
