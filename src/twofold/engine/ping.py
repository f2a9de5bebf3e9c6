"""The link to a weight processor, measured: pings small and large, and calls of one row.

A call is what a step is made of, and over shared memory it goes another way than a message does. So the latency is
that of calls: of one row of zeros, less the time that the processor says it worked. The rates are those of messages:
how much longer a large ping takes than a small one, there and back.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from twofold.engine.attachment import SILENCE
from twofold.engine.forecast import Link, frame_bytes
from twofold.errors import ConfigurationError, FrameError
from twofold.link.base import Connection
from twofold.units import Seconds
from twofold.wire.message import PING_BYTES, Ping, Pong
from twofold.wire.rows import Rows

CALL_SECONDS = Seconds(10.0)


class Trips(msgspec.Struct, frozen=True):
    """Round trips of one kind, in seconds."""

    least: float
    p50: float
    p99: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Trips":
        """Of at least one sample."""
        ranked = sorted(samples)
        return cls(ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-(-99 * len(ranked) // 100) - 1])


class Measured(msgspec.Struct, frozen=True):
    """What was measured of a link."""

    count: int  # round trips of each kind
    small: Trips
    up: Trips  # pings that carry PING_BYTES
    down: Trips  # pongs that do
    call: Trips  # calls of one row, less the time worked
    link: Link


def measure(connection: Connection, count: int) -> Measured:
    """Measure the link of `connection` by `count` round trips of each kind; errors as for `Connection.finish`."""
    if count < 1:
        raise ConfigurationError(f"{count} round trips measure nothing; give at least 1")
    large = bytes(PING_BYTES)
    kinds: list[Callable[[], float]] = [
        lambda: _ping(connection, Ping()),
        lambda: _ping(connection, Ping(data=large)),
        lambda: _ping(connection, Ping(answer=PING_BYTES)),
        _caller(connection),
    ]
    samples: list[list[float]] = [[] for _ in kinds]
    for kind in kinds:
        kind()  # the first of each finds caches cold and memory untouched
    for _ in range(count):
        for kind, found in zip(kinds, samples, strict=True):
            found.append(kind())
    small, up, down, call = map(Trips.of, samples)
    carried = frame_bytes(connection.manifest.cuts[_lightest(connection)], 1)
    rates = _rate(up, small), _rate(down, small)
    latency = max(0.0, call.p50 - Link(0.0, *rates).seconds(1, *carried))
    return Measured(count, small, up, down, call, Link(latency, *rates))


def _rate(large: Trips, small: Trips) -> float | None:
    """Bytes a second, if the large ones took longer."""
    longer = large.p50 - small.p50
    return PING_BYTES / longer if longer > 0 else None


def _ping(connection: Connection, ping: Ping) -> float:
    start = time.perf_counter()
    pong = connection.ask(ping, SILENCE)
    took = time.perf_counter() - start
    if not isinstance(pong, Pong) or len(pong.data) != ping.answer:
        raise FrameError(f"{connection.peer} answered a ping with something else than was asked for")
    return took


def _caller(connection: Connection) -> Callable[[], float]:
    """Makes one call of one row of zeros and gives the seconds that the link took of it."""
    rows, segment = Rows(connection.layout), _lightest(connection)

    def call() -> float:
        for plane in connection.manifest.cuts[segment].takes:
            rows[plane.name][0] = 0  # a carry is written where it was read
        start = time.perf_counter_ns()
        worked = connection.call(rows, segment, 1, CALL_SECONDS)
        return max(0, time.perf_counter_ns() - start - worked) / 1e9

    return call


def _lightest(connection: Connection) -> int:
    """The segment held there whose call and reply have the fewest bytes."""
    if not connection.held:
        raise FrameError(f"{connection.peer} holds no segment")
    return min(connection.held, key=lambda segment: sum(frame_bytes(connection.manifest.cuts[segment], 1)))
