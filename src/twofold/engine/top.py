"""How weight processors do, asked again and again: each look says what happened since the one before."""

import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import msgspec

from twofold.engine.attachment import SILENCE, Connect
from twofold.errors import FrameError, TwofoldError
from twofold.link.base import HANDSHAKE_SECONDS, Connection
from twofold.units import Seconds
from twofold.wire.message import AskStatus, Ping
from twofold.wire.status import Counts, Status, quantile


class Look(msgspec.Struct, frozen=True):
    """One processor at one moment; rates are over `seconds`, which end then. None: nothing happened to tell it by."""

    url: str
    state: str  # up, draining, down
    why: str | None = None  # it is down
    segments: tuple[int, ...] = ()
    connections: int = 0
    owners: int = 0
    tokens: dict[str, int] = {}
    waiting: int = 0  # calls
    uptime_seconds: float = 0.0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    batch_rows: float | None = None  # mean
    busy: float = 0.0  # share of the time that it worked
    wait_p50_seconds: float | None = None
    wait_p99_seconds: float | None = None
    work_p50_seconds: float | None = None
    work_p99_seconds: float | None = None
    received_bytes_per_second: float = 0.0
    sent_bytes_per_second: float = 0.0
    failures: dict[str, int] = {}  # since it started
    trip_seconds: float | None = None  # of a ping from here


def look_of(url: str, status: Status, before: Status | None, trip: Seconds) -> Look:
    """What `status` says, with rates since `before`; since the start without it, or if it is of an earlier life."""
    same = before is not None and before.pid == status.pid and before.uptime < status.uptime
    since, then = (before.counts, before.uptime) if before is not None and same else (Counts(), 0)
    counts, seconds = status.counts.since(since), max((status.uptime - then) / 1e9, 1e-9)
    return Look(
        url,
        "draining" if status.draining else "up",
        segments=status.segments,
        connections=status.connections,
        owners=status.owners,
        tokens=status.tokens,
        waiting=status.waiting,
        uptime_seconds=status.uptime / 1e9,
        seconds=seconds,
        rows_per_second=counts.rows / seconds,
        batch_rows=counts.rows / counts.batches if counts.batches else None,
        busy=counts.worked / 1e9 / seconds,
        wait_p50_seconds=quantile(counts.waits, 0.5),
        wait_p99_seconds=quantile(counts.waits, 0.99),
        work_p50_seconds=quantile(counts.works, 0.5),
        work_p99_seconds=quantile(counts.works, 0.99),
        received_bytes_per_second=counts.received / seconds,
        sent_bytes_per_second=counts.sent / seconds,
        failures=status.counts.failures,
        trip_seconds=trip,
    )


class Observed:
    """One processor that is looked at: connected when it is there, connected anew when it is there again."""

    def __init__(self, url: str, connect: Connect) -> None:
        self._url, self._connect = url, connect
        self._connection: Connection | None = None
        self._before: Status | None = None

    def look(self) -> Look:
        """How it does now."""
        try:
            connection = self._connection = self._connection or self._connect(self._url, HANDSHAKE_SECONDS)
            start = time.monotonic()
            connection.ask(Ping(), SILENCE)
            trip = Seconds(time.monotonic() - start)
            status = connection.ask(AskStatus(), SILENCE)
            if not isinstance(status, Status):
                raise FrameError(f"{connection.peer} answered a question for its status with {type(status).__name__}")
        except TwofoldError as error:
            self.close()
            return Look(self._url, "down", str(error))
        look = look_of(self._url, status, self._before, trip)
        self._before = status
        return look

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self._before = self._connection, None, None
        if connection is not None:
            connection.close()


class Observatory:
    """Several processors, looked at together; a context manager. One that does not answer holds up no other's look."""

    def __init__(self, urls: Sequence[str], connect: Connect) -> None:
        self._observed = [Observed(url, connect) for url in urls]
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._threads = self._exit.enter_context(ThreadPoolExecutor(max(1, len(self._observed))))
        for observed in self._observed:
            self._exit.callback(observed.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def look(self) -> list[Look]:
        """How each does now, in their order; takes as long as the slowest of them."""
        return list(self._threads.map(Observed.look, self._observed))
