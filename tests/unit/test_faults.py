"""Faults: what becomes of frames, by a clock that the test turns."""

import contextlib

import pytest
from fabric.faults import TRICKLE_BYTES, Fault, Faults, parse
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ConfigurationError

FRAMES = st.binary(min_size=1, max_size=400)
FAULTS = st.one_of(
    st.sampled_from(["corrupt", "duplicate", "drop"]).map(Fault),
    st.tuples(st.sampled_from(["hold", "trickle"]), st.floats(0, 1000)).map(lambda words: Fault(*words)),
    st.tuples(st.just("slow"), st.floats(0, 1000), st.floats(0, 1000)).map(lambda words: Fault(*words)),
)


def sent(faults: Faults, frame: bytes, now: float = 0.0) -> bytes:
    return b"".join(piece.data for piece in faults.treat(frame, now))


@given(FRAMES)
def test_without_a_fault_a_frame_passes_at_once_as_it_is(frame: bytes) -> None:
    assert Faults().treat(frame, 5.0) == [(0.0, frame)]


@given(FRAMES, st.integers(0, 100))
def test_corrupt_flips_one_bit_of_one_frame(frame: bytes, seed: int) -> None:
    faults = Faults(seed)
    faults.order(Fault("corrupt"), 0.0)
    changed = sent(faults, frame)
    assert sum((a ^ b).bit_count() for a, b in zip(changed, frame, strict=True)) == 1
    assert sent(faults, frame) == frame


@given(FRAMES)
def test_duplicate_sends_one_frame_twice(frame: bytes) -> None:
    faults = Faults()
    faults.order(Fault("duplicate"), 0.0)
    assert sent(faults, frame) == frame + frame
    assert sent(faults, frame) == frame


def test_hold_keeps_frames_until_it_ends() -> None:
    faults = Faults()
    faults.order(Fault("hold", 2.0), 10.0)
    assert faults.treat(b"x", 10.5) == [(1.5, b"x")]
    assert faults.treat(b"x", 12.0) == [(0.0, b"x")]


def test_slow_makes_each_frame_late_while_it_lasts() -> None:
    faults = Faults()
    faults.order(Fault("slow", 2.0, 30.0), 10.0)
    assert faults.treat(b"x", 11.9) == [(0.03, b"x")]
    assert faults.treat(b"x", 12.0) == [(0.0, b"x")]


@given(FRAMES)
def test_trickle_sends_all_in_small_pieces_with_waits_between(frame: bytes) -> None:
    faults = Faults()
    faults.order(Fault("trickle", 1.0), 0.0)
    pieces = faults.treat(frame, 0.5)
    assert b"".join(piece.data for piece in pieces) == frame
    assert all(len(piece.data) <= TRICKLE_BYTES for piece in pieces)
    assert all(piece.wait > 0 for piece in pieces[1:])


@given(FAULTS)
def test_a_fault_survives_being_written_and_read(fault: Fault) -> None:
    assert parse(fault.line) == fault


@given(st.text(max_size=30))
def test_any_line_is_a_fault_or_refused(line: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse(line).line.split()[0] == line.split()[0]


@pytest.mark.parametrize("line", ["", "hold", "hold x", "hold -1", "hold nan", "slow 1", "corrupt 1", "no"])
def test_a_fault_with_other_numbers_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a fault"):
        parse(line)
