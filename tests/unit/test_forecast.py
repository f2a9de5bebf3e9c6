import pytest
from toy_processor import MANIFEST

from twofold.engine.forecast import Link, forecast, frame_bytes
from twofold.wire import frame
from twofold.wire.rows import Layout

LINK = Link(0.001, 1e6, 2e6)


def test_a_step_is_a_round_trip_a_segment_and_the_bytes_of_every_frame() -> None:
    step = forecast(MANIFEST, LINK, 4, 2)
    layout = Layout(MANIFEST)
    sizes = [(cut, count) for cut, count in zip(MANIFEST.cuts, (4, 2), strict=True)]
    assert step.trips == 2
    assert step.up == sum(frame.HEADER_BYTES + layout.payload_bytes(cut.takes, count) for cut, count in sizes)
    assert step.down == sum(frame.HEADER_BYTES + layout.payload_bytes(cut.gives, count) for cut, count in sizes)
    assert step.seconds == 2 * 0.001 + (step.up / 1e6 + step.down / 2e6)
    assert step.rows_per_second == 4 / step.seconds


def test_a_prefill_leaves_out_the_last_segment() -> None:
    step = forecast(MANIFEST, LINK, 4, 0)
    assert step.trips == 1
    assert (step.up, step.down) == frame_bytes(MANIFEST.cuts[0], 4)


@pytest.mark.parametrize("link", [Link(0.0, None, None)])
def test_a_link_too_fast_to_tell_sets_no_limit(link: Link) -> None:
    step = forecast(MANIFEST, link, 1, 1)
    assert step.seconds == 0
    assert step.rows_per_second is None
