"""Measuring: which limit binds, and that a figure is what its rounds say."""

from pathlib import Path

import pytest
from engines import engine, native

from twofold.engine import measure
from twofold.engine.measure import Figure, Limits
from twofold.model.anatomy import anatomy
from twofold.model.checkpoint import Checkpoint


def limits() -> Limits:
    return Limits(
        Figure("read bandwidth", "bytes_per_second", 100.0, []),
        Figure("int8 rate", "multiplications_per_second", 1000.0, []),
    )


def test_the_slower_of_reading_and_multiplying_binds() -> None:
    assert limits().rate(1, read_bytes=50, multiplications=100) == ("read bandwidth", 2.0)
    assert limits().rate(8, read_bytes=50, multiplications=8000) == ("int8 rate", 1.0)


def test_a_figure_is_the_median_of_its_rounds_without_the_first() -> None:
    values = iter([99.0, 3.0, 1.0, 2.0])
    figure = measure.repeated("x", "seconds", lambda: next(values), 3)
    assert (figure.median, figure.rounds) == (2.0, [3.0, 1.0, 2.0])


@pytest.mark.parametrize("streams", [1, 3])
def test_decode_and_prefill_are_measured_and_leave_no_session_behind(tiny_path: Path, streams: int) -> None:
    with Checkpoint.open(tiny_path) as checkpoint:
        parts = anatomy(checkpoint.model, checkpoint.tensor)
    with native() as backend, engine(tiny_path, backend) as fast:
        free = fast.context.pages.free_pages
        bounds = measure.limits(backend, 1)
        decoded = measure.decode(fast, parts, bounds, streams=streams, context=5, tokens=3, rounds=2)
        prefilled = measure.prefill(fast, parts, bounds, prompt=70, rounds=2)
        assert fast.context.pages.free_pages == free
    for figure in (decoded, prefilled, bounds.read, bounds.multiply):
        assert min(figure.rounds) > 0
    assert decoded.share_of_limit is not None
    assert prefilled.limit in ("read bandwidth", "int8 rate")
