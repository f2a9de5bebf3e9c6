"""Cables: when packets arrive, by a clock that the test turns."""

import socket

import pytest
from fabric.cables import QUEUE_BYTES, Cable, Cables
from hypothesis import given
from hypothesis import strategies as st

ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.0.3"}


def network(**cables: Cable) -> Cables:
    made = Cables(seed=1)
    for host, address in ADDRESSES.items():
        made.add(host, socket.inet_aton(address))
        made.set(host, cables.get(host, Cable()))
    return made


def packet(target: str, size_bytes: int = 100, mark: int = 0) -> bytes:
    head = bytes([0x45]) + bytes(15) + socket.inet_aton(ADDRESSES.get(target, target))
    return head + mark.to_bytes(4, "big") + bytes(size_bytes - len(head) - 4)


def arrivals(cables: Cables, until: float = 1e9) -> list[tuple[float, str]]:
    return [(arrival.time, arrival.host) for arrival in cables.arrived(until)]


def test_a_packet_takes_the_delay_of_both_cables() -> None:
    cables = network(a=Cable(delay_ms=5), b=Cable(delay_ms=20))
    cables.send(1.0, "a", packet("b"))
    assert cables.next_arrival() == pytest.approx(1.025)
    assert arrivals(cables, until=1.0249) == []
    assert [host for _, host in arrivals(cables, until=1.0251)] == ["b"]
    assert cables.next_arrival() is None


def test_a_rate_carries_one_packet_after_the_other() -> None:
    cables = network(a=Cable(rate_mbit=8))  # a megabyte a second
    for _ in range(3):
        cables.send(0.0, "a", packet("b", 1000))
    assert [time for time, _ in arrivals(cables)] == pytest.approx([0.001, 0.002, 0.003])
    cables.send(10.0, "a", packet("b", 1000))  # the cable has been free meanwhile
    assert cables.next_arrival() == pytest.approx(10.001)


def test_the_queue_of_a_rate_is_bounded() -> None:
    cables = network(a=Cable(rate_mbit=1))
    for _ in range(2 * QUEUE_BYTES // 1000):
        cables.send(0.0, "a", packet("b", 1000))
    assert QUEUE_BYTES <= 1000 * len(arrivals(cables)) <= QUEUE_BYTES + 2000


def test_a_one_way_cut_leaves_the_other_way() -> None:
    cables = network()
    cables.cut("a", "b")
    cables.send(0.0, "a", packet("b"))
    cables.send(0.0, "b", packet("a"))
    cables.send(0.0, "a", packet("c"))
    assert arrivals(cables) == [(0.0, "a"), (0.0, "c")]
    cables.heal()
    cables.send(1.0, "a", packet("b"))
    assert arrivals(cables) == [(1.0, "b")]


def test_the_share_of_lost_packets_is_what_was_asked_for() -> None:
    cables = network(a=Cable(loss=0.25))
    for number in range(4000):
        cables.send(number, "a", packet("b"))
    assert 900 < 4000 - len(arrivals(cables)) < 1100  # 1,000 with a deviation of 27


@given(st.lists(st.tuples(st.floats(0, 0.01), st.integers(24, 1500)), min_size=2, max_size=50), st.floats(0, 50))
def test_jitter_stays_within_its_bounds_and_overtakes_nobody(sent: list[tuple[float, int]], jitter_ms: float) -> None:
    cables = network(a=Cable(delay_ms=20, jitter_ms=jitter_ms))
    now, times = 0.0, []
    for mark, (pause, size_bytes) in enumerate(sent):
        now += pause
        times.append(now)
        cables.send(now, "a", packet("b", max(size_bytes, 24), mark))
    came = cables.arrived(1e9)
    assert [int.from_bytes(arrival.packet[20:24], "big") for arrival in came] == list(range(len(sent)))
    for moment, arrival in zip(times, came, strict=True):
        assert moment + max(0.020 - jitter_ms / 1000, 0) <= arrival.time + 1e-9
        assert arrival.time <= now + 0.020 + jitter_ms / 1000 + 1e-9


@given(st.binary(max_size=60))
def test_bytes_that_are_for_no_host_go_nowhere(raw: bytes) -> None:
    cables = network()
    known = len(raw) >= 20 and raw[0] >> 4 == 4 and raw[16:20] in {socket.inet_aton(a) for a in ADDRESSES.values()}
    cables.send(0.0, "a", raw)
    cables.send(0.0, "a", packet("192.0.2.1"))
    assert len(arrivals(cables)) == known
