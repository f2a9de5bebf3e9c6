"""Buckets count what falls in them."""

import itertools

from twofold.engine.serving_status import BUCKETS, TOKEN_BUCKETS, Histogram


def test_the_buckets_go_up_from_a_millisecond_to_a_thousand_seconds() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (0.001, 1000.0)
    assert (TOKEN_BUCKETS[0], TOKEN_BUCKETS[-1]) == (1, 100_000)
    for buckets in (BUCKETS, TOKEN_BUCKETS):
        assert all(low < high for low, high in itertools.pairwise(buckets))


def test_a_time_counts_in_the_first_bucket_that_reaches_it() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0015, 1000.0, 1001.0):
        histogram.add(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-2], histogram.counts[-1]) == (2, 1, 1, 1)
    assert (histogram.count, round(histogram.sum, 6)) == (5, 2001.0025)
