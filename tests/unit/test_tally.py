from hypothesis import given
from hypothesis import strategies as st
from toy_processor import MANIFEST

from twofold.processor.tally import Tally
from twofold.wire.frame import HEADER_BYTES
from twofold.wire.rows import Layout
from twofold.wire.status import BUCKETS, ROW_BUCKETS, bucket, row_bucket

# (segment, rows of each call, waits of each, worked)
calls = st.lists(st.tuples(st.integers(1, 256), st.integers(0, 10**10)), min_size=1, max_size=8)
batches = st.lists(st.tuples(st.integers(0, 1), calls, st.integers(0, 10**10)), max_size=8)


@given(batches)
def test_every_figure_is_that_of_the_batches_that_ran(ran: list[tuple[int, list[tuple[int, int]], int]]) -> None:
    tally = Tally(Layout(MANIFEST))
    for segment, made, worked in ran:
        tally.ran(segment, sum(rows for rows, _ in made), [wait for _, wait in made], worked)
    counts = tally.counts()
    every = [(segment, rows, wait) for segment, made, _ in ran for rows, wait in made]
    assert counts.calls == sum(counts.waits) == len(every)
    assert counts.batches == sum(counts.works) == sum(counts.batch_rows) == len(ran)
    assert counts.rows == sum(rows for _, rows, _ in every)
    assert counts.waited == sum(wait for *_, wait in every)
    assert counts.worked == sum(worked for *_, worked in ran)
    sizes = [MANIFEST.cuts[segment].bytes_per_row() for segment, *_ in every]
    headers = HEADER_BYTES * len(every)
    assert counts.received == headers + sum(size[0] * rows for size, (_, rows, _) in zip(sizes, every, strict=True))
    assert counts.sent == headers + sum(size[1] * rows for size, (_, rows, _) in zip(sizes, every, strict=True))
    assert (len(counts.waits), len(counts.batch_rows)) == (BUCKETS, ROW_BUCKETS)
    for segment, made, worked in ran:
        assert segment in (0, 1)
        assert counts.works[bucket(worked)]
        assert counts.batch_rows[row_bucket(sum(rows for rows, _ in made))]
        assert all(counts.waits[bucket(wait)] for _, wait in made)


def test_failures_are_counted_by_kind_and_what_was_told_stays_as_it_was() -> None:
    tally = Tally(Layout(MANIFEST))
    tally.failed("Refused")
    before = tally.counts()
    tally.failed("Refused")
    tally.failed("FrameError")
    assert before.failures == {"Refused": 1}
    assert tally.counts().failures == {"Refused": 2, "FrameError": 1}
