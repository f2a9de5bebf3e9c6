"""Weight memory as one lane of the step loop sees it: calls that go to whoever the memory map says, and elsewhere if
they fail there.

    begin ──▶ choose ──▶ send ──▶ finish ──▶ answered
                ▲          │         │
                │        failed   failed, or out of patience
                │          ▼         ▼
                └────── suspect the replica; if nobody is left, wait for one to come back

A call that fails leaves the rows as they were, so making it again elsewhere changes no bit.
"""

import ctypes
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from twofold.engine.attach import Attachments
from twofold.engine.attachment import Attachment, Lent, pause
from twofold.errors import DeadlinePassed, FrameError, InternalError, ProcessorLost, TwofoldError, Unreachable, one_line
from twofold.link.base import HANDSHAKE_SECONDS
from twofold.memory.map import MemoryMap
from twofold.units import Nanoseconds, Seconds
from twofold.wire.rows import Rows

CALL_DEADLINE = Seconds(60.0)
WAIT_SECONDS = Seconds(30.0)
LOST = (ProcessorLost, DeadlinePassed, FrameError)  # what a call can be made again after; the connection is closed


@dataclass(slots=True)
class Spent:
    """Where the time of calls went, over all lanes of an engine."""

    calls: int = 0
    weights_ns: int = 0  # time the weight memories say they worked
    link_ns: int = 0  # the rest of the time that a thread was busy with calls or waited for them
    failovers: int = 0  # times that a call was given up at one replica
    segments_ns: Counter[int] = field(default_factory=Counter)  # `weights_ns` of calls made one by one, by segment

    def add(self, calls: int, worked_ns: int, spent_ns: int) -> None:
        """So many calls kept a thread for `spent_ns`; weight memory worked `worked_ns` on them."""
        self.calls += calls
        self.weights_ns += worked_ns
        self.link_ns += max(0, spent_ns - worked_ns)


@dataclass(slots=True)
class Pending:
    """A call that was begun and is not answered."""

    segment: int
    count: int
    sent: float = 0.0  # when it was sent last
    tried: frozenset[str] = frozenset()  # who failed in this round
    wrong: tuple[tuple[str, str], ...] = ()  # (address, how it failed), in order
    rounds: int = 0  # how often nobody was left
    expiry: float | None = None  # when to give up, once nobody was left
    adopted: int | None = None  # what it has come to, if it was begun at a port


class Caller:
    """One lane: a call at a time, over a connection of its own to each replica."""

    def __init__(
        self,
        attachments: Attachments,
        *,
        deadline: Seconds = CALL_DEADLINE,
        wait: Seconds = WAIT_SECONDS,
        spent: Spent | None = None,
    ) -> None:
        """`deadline`: the longest one call may take. `wait`: how long to wait for a replica if nobody is left.

        `spent`: where to add up what calls take; default: a new one.
        """
        self.attachments = attachments
        self.rows = Rows(attachments.layout)
        self.deadline, self.wait = deadline, wait
        self.spent = spent or Spent()
        self._map: MemoryMap = attachments.map
        self._own: dict[str, Lent] = {}  # a connection to each replica
        self._only: dict[int, Lent] = {}  # of segments that no second replica can be called for
        self._ports: ctypes.Array[ctypes.c_void_p] | None = None  # of those; null for others
        self._ways: set[tuple[int, int | None]] = set()  # that lead through these ports alone
        self._pending: Pending | None = None
        self._lent: Lent | None = None
        self._spent_ns = 0
        self._others: list[Caller] = []
        attachments.enter_lane()

    def another(self) -> "Caller":
        """One lane more, to the same replicas; it is closed with this one."""
        self._others.append(Caller(self.attachments, deadline=self.deadline, wait=self.wait, spent=self.spent))
        return self._others[-1]

    @property
    def away(self) -> bool:
        """Whether weight memory works while this side does other things."""
        return not all(replica.url.startswith("inproc:") for replica in self.attachments.map.replicas)

    def begin(self, segment: int, count: int) -> None:
        """Begin a call on the first `count` of the lane's rows, which are to be left alone until `finish`.

        Errors as there.
        """
        start = time.perf_counter_ns()
        if self._pending is not None:
            raise InternalError("a lane makes one call at a time")
        pending = self._pending = Pending(segment, count)
        try:
            self._send(pending)
        except BaseException:
            self.abandon()
            raise
        self._spent_ns = time.perf_counter_ns() - start

    def finish(self) -> None:
        """Wait until the call is answered, by whichever replica.

        Raises Unreachable if no replica answered and none came back in time, and the error that a replica answered
        if that is about the call. The rows are as before then, and the lane can go on with another call.
        """
        start = time.perf_counter_ns()
        pending = self._pending
        if pending is None:
            raise InternalError("no call was begun")
        try:
            while (worked := self._answer(pending)) is None:
                self._send(pending)
        except BaseException:
            self.abandon()
            raise
        self._pending = None
        self.spent.add(1, worked, self._spent_ns + time.perf_counter_ns() - start)
        self.spent.segments_ns[pending.segment] += worked

    def abandon(self) -> None:
        """Forget the call that was begun, if there is one; a connection that still owes its answer is of no use."""
        self._pending = None
        if self._lent is not None:
            lent, self._lent = self._lent, None
            self._own.pop(lent.attachment.url, None)
            self._forget_only()
            lent.attachment.drop(lent)

    def ports(self, layers: int, end: int | None) -> int | None:
        """Address of the ports that calls go to, by segment; None if those of the first `layers` segments and of `end`
        are not known, or are many."""
        if self.attachments.map is not self._map:
            self._reread()
        if self._ports is None:
            found = {segment: lent.connection.port(self.rows) for segment, lent in self._only.items()}
            self._ports = (ctypes.c_void_p * len(self.rows.layout.cuts))(
                *map(found.get, range(len(self.rows.layout.cuts)))
            )
            self._ways.clear()
        if (layers, end) not in self._ways:
            if not all(self._ports[segment] for segment in (*range(layers), *(() if end is None else (end,)))):
                return None
            self._ways.add((layers, end))
        return ctypes.addressof(self._ports)

    def adopt(self, segment: int, count: int, what: int) -> None:
        """A call that was begun at one of `ports`, and has come to `what`, is for `finish` to wait for."""
        self._lent, self._spent_ns = self._only[segment], 0
        self._lent.attachment.in_flight.add(self._lent)
        self._pending = Pending(segment, count, time.monotonic(), adopted=what)

    def close(self) -> None:
        """Close the connections of this lane and of those made from it; a second time is nothing."""
        for other in self._others:
            other.close()
        for lent in self._own.values():
            lent.attachment.drop(lent)
        self._own.clear()
        self._forget_only()

    def _send(self, pending: Pending) -> None:
        """Send the call to whoever comes first of those that do not fail."""
        while True:
            lent, patience = self._choose(pending)
            self._lent = lent
            lent.attachment.in_flight.add(lent)
            pending.sent = time.monotonic()
            try:
                lent.connection.begin(self.rows, pending.segment, pending.count, patience)
            except TwofoldError as error:
                self._failed(pending, lent, error)
            else:
                return

    def _answer(self, pending: Pending) -> Nanoseconds | None:
        """How long weight memory worked; None if the call is to be made again."""
        lent = self._lent
        if lent is None:
            raise InternalError("a call is pending and nobody was called")
        what, pending.adopted = pending.adopted, None
        try:
            if what is None:
                worked = lent.connection.finish()
            else:
                worked = lent.connection.resume(pending.segment, pending.count, self.deadline, what)
        except TwofoldError as error:
            self._failed(pending, lent, error)
            return None
        self._lent = None
        lent.attachment.in_flight.discard(lent)
        if pending.segment not in self._only:
            self._learn(pending, lent.attachment)
        return worked

    def _failed(self, pending: Pending, lent: Lent, error: TwofoldError) -> None:
        """Blame the replica, or raise `error` if that is its answer."""
        self._lent = None
        lent.attachment.in_flight.discard(lent)
        if not isinstance(error, LOST):
            raise error
        self.spent.failovers += 1
        if isinstance(error, DeadlinePassed):
            self._learn(pending, lent.attachment)
        del self._own[lent.attachment.url]
        self._forget_only()
        lent.attachment.drop(lent)
        self._blame(pending, lent.attachment, error)

    def _blame(self, pending: Pending, attachment: Attachment, error: TwofoldError) -> None:
        pending.tried |= {attachment.url}
        pending.wrong += ((attachment.url, str(error)),)
        self.attachments.suspect(attachment, error)

    def _learn(self, pending: Pending, attachment: Attachment) -> None:
        """What the time of a call says of calls like it and of the replica."""
        seconds = time.monotonic() - pending.sent
        attachment.slowness.add(self.attachments.usual.add(pending.segment, pending.count, seconds))

    def _choose(self, pending: Pending) -> tuple[Lent, Seconds]:
        """A connection to whoever is to be called, and how long to wait for the answer."""
        if self.attachments.map is not self._map:
            self._reread()
        if not pending.wrong and (only := self._only.get(pending.segment)):
            return only, self.deadline
        while True:
            seen = self.attachments.map
            url = seen.choose(pending.segment, self.attachments.burden, pending.tried)
            if url is None:
                self._wait(pending, seen)
                continue
            if seen.spare(pending.segment, url, pending.tried):
                patience = self.attachments.usual.patience(pending.segment, pending.count)
            else:
                patience = self._last_hope(pending)
            lent = self._connection(pending, url, patience)
            if lent is not None:
                if seen is self._map and len(seen.holders[pending.segment]) == 1:
                    self._only[pending.segment] = lent
                    self._ports = None
                return lent, patience

    def _forget_only(self) -> None:
        """Nothing is known of who is the only one any more."""
        self._only.clear()
        self._ports = None

    def _reread(self) -> None:
        """The map has changed: so may have who holds what, and which connections are alive."""
        self._map = self.attachments.map
        self._forget_only()
        for url, lent in list(self._own.items()):
            if not lent.current:
                del self._own[url]
                lent.attachment.drop(lent)

    def _connection(self, pending: Pending, url: str, patience: Seconds) -> Lent | None:
        """This lane's connection to the replica; None if there is none and none can be made."""
        lent = self._own.get(url)
        if lent is not None and lent.current:
            return lent
        attachment = self.attachments.attachment(url)
        if attachment is None:  # taken off the list since
            pending.tried |= {url}
            return None
        try:
            self._own[url] = attachment.take(Seconds(min(patience, HANDSHAKE_SECONDS)))
        except TwofoldError as error:
            self._blame(pending, attachment, error)
            return None
        return self._own[url]

    def _last_hope(self, pending: Pending) -> Seconds:
        """How long to wait for an answer if there is nobody else to ask."""
        if pending.expiry is None:
            return self.deadline
        return Seconds(min(self.deadline, max(pending.expiry - time.monotonic(), 0.05)))

    def _wait(self, pending: Pending, seen: MemoryMap) -> None:
        """Nobody of `seen` is left: wait for a change, or a moment if all that is known is that calls fail."""
        now = time.monotonic()
        if pending.expiry is None:
            pending.expiry = now + self.wait
        left = Seconds(pending.expiry - now)
        if left <= 0:
            raise self._unreachable(pending, seen)
        if pending.segment in seen.holders:
            self.attachments.rest(Seconds(min(left, pause(pending.rounds, random.random()))))
        else:
            self.attachments.wait_change(seen, left)
        pending.tried = frozenset()
        pending.rounds += 1

    def _unreachable(self, pending: Pending, seen: MemoryMap) -> Unreachable:
        waited = f" within {self.wait:g} s" if self.wait else ""
        known = {replica.url: f"{replica.url}: {replica.why}" for replica in seen.replicas if replica.why}
        told = "; ".join(dict(pending.wrong).values() or known.values()) or "nobody holds it"
        name = one_line(self.attachments.manifest.name)
        return Unreachable(f"segment {pending.segment} of {name} was not answered{waited}: {told}")
