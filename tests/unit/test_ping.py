import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import ToyService, serving

from twofold import link
from twofold.engine import ping
from twofold.engine.ping import Trips, measure
from twofold.errors import ConfigurationError, FrameError
from twofold.units import Seconds
from twofold.wire.message import PING_BYTES, Drain, Message, Ping, Pong, encode

SOON = Seconds(5.0)


@pytest.fixture(params=["shm", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"shm://{tmp_path}/{secrets.token_hex(4)}" if request.param == "shm" else "tcp://127.0.0.1:0"


@pytest.mark.parametrize("held", [{0, 1}, {0}, {1}])
def test_a_link_is_measured_whatever_segments_are_held(url: str, held: set[int]) -> None:
    service = ToyService(frozenset(held))
    with serving(url, service) as processor:
        connection = link.connect(processor.urls[0])
        measured = measure(connection, 5)
        for trips in (measured.small, measured.up, measured.down):
            assert 0 < trips.least <= trips.p50 <= trips.p99
        assert 0 <= measured.call.least <= measured.call.p50 <= measured.call.p99
        assert 0 <= measured.link.latency_seconds <= measured.call.p50
        assert service.batches == [1] * 6
        connection.close()


def test_a_ping_is_answered_with_as_many_bytes_as_it_asks_for(url: str) -> None:
    with serving(url, ToyService()) as processor:
        connection = link.connect(processor.urls[0])
        for count in (0, 1, PING_BYTES):
            assert connection.ask(Ping(bytes(count), count), SOON) == Pong(data=bytes(count))
        connection.close()


@pytest.mark.parametrize("wrong", [Ping(bytes(PING_BYTES + 1)), Ping(answer=PING_BYTES + 1), Ping(answer=-1)])
def test_a_ping_beyond_the_limit_ends_the_connection_with_the_reason(url: str, wrong: Ping) -> None:
    with serving(url, ToyService()) as processor:
        connection = link.connect(processor.urls[0])
        with pytest.raises(FrameError, match="no valid message"):
            connection.ask(wrong, SOON)
        connection.close()


def test_the_largest_ping_fits_into_what_a_server_takes() -> None:
    assert len(encode(Ping(bytes(PING_BYTES), PING_BYTES))) <= 64 * 1024


class Scripted:
    """A connection on which so much time passes a question, by the bytes that cross."""

    peer = "scripted"
    answer: Message | None = None

    def __init__(self, inner: link.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manifest, self.held, self.layout = inner.manifest, inner.held, inner.layout
        self._now = 0
        monkeypatch.setattr(ping.time, "perf_counter", lambda: self._now / 1e9)
        monkeypatch.setattr(ping.time, "perf_counter_ns", lambda: self._now)

    def ask(self, message: Ping, _: Seconds) -> Message:
        self._now += 1_000_000 + 10 * len(message.data) + 20 * message.answer
        return self.answer or Pong(data=bytes(message.answer))

    def call(self, *_: object) -> int:
        self._now += 3_000_000
        return 1_000_000  # worked


def test_latency_and_rates_come_out_as_they_were_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(f"shm://{tmp_path}/s", ToyService(frozenset({0}))) as processor:
        inner = link.connect(processor.urls[0])
        measured = measure(Scripted(inner, monkeypatch), 3)  # type: ignore[arg-type]
        inner.close()
    assert (measured.small.p50, measured.call.p50) == pytest.approx((0.001, 0.002))  # sums of floats
    assert measured.link.up_bytes_per_second == pytest.approx(1e8)
    assert measured.link.down_bytes_per_second == pytest.approx(5e7)
    carried = (64 + 4) / 1e8 + (64 + 4 * 1024 + 2 * 64) / 5e7
    assert measured.link.latency_seconds == pytest.approx(0.002 - carried)


@pytest.mark.parametrize("answer", [Drain(), Pong(data=b"x")])
def test_another_answer_than_was_asked_for_is_a_frame_error(
    answer: Message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(f"shm://{tmp_path}/s", ToyService()) as processor:
        inner = link.connect(processor.urls[0])
        scripted = Scripted(inner, monkeypatch)
        scripted.answer = answer
        with pytest.raises(FrameError, match="something else than was asked for"):
            measure(scripted, 1)  # type: ignore[arg-type]
        inner.close()


def test_no_round_trips_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="give at least 1"):
        measure(None, 0)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_ranks_are_samples_with_their_share_at_or_below(samples: list[float]) -> None:
    trips = Trips.of(samples)
    assert trips.least == min(samples)
    for value, share in ((trips.p50, 0.5), (trips.p99, 0.99)):
        assert value in samples
        assert sum(sample <= value for sample in samples) >= share * len(samples)
        assert sum(sample < value for sample in samples) < share * len(samples)
