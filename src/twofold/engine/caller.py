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
from dataclasses import dataclass

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
class Pending:
    """A call that was begun and is not answered."""

    rows: Rows
    segment: int
    count: int
    sent: float = 0.0  # when it was sent last
    tried: frozenset[str] = frozenset()  # who failed in this round
    wrong: tuple[tuple[str, str], ...] = ()  # (address, how it failed), in order
    rounds: int = 0  # how often nobody was left
    expiry: float | None = None  # when to give up, once nobody was left


class Caller:
    """One lane: a call at a time, over a connection of its own to each replica; adds up where the time went."""

    def __init__(
        self, attachments: Attachments, *, deadline: Seconds = CALL_DEADLINE, wait: Seconds = WAIT_SECONDS
    ) -> None:
        """`deadline`: the longest one call may take. `wait`: how long to wait for a replica if nobody is left."""
        self.attachments = attachments
        self.rows = Rows(attachments.layout)
        self.deadline, self.wait = deadline, wait
        self.weights_ns = 0  # time the weight memories say they worked
        self.link_ns = 0  # the rest of the time that was spent in calls
        self.calls = 0
        self.failovers = 0  # times that a call was given up at one replica
        self._map: MemoryMap = attachments.map
        self._own: dict[str, Lent] = {}  # a connection to each replica
        self._only: dict[int, Lent] = {}  # of segments that no second replica can be called for
        self._ports: ctypes.Array[ctypes.c_void_p] | None = None  # of those, in order
        self._pending: Pending | None = None
        self._lent: Lent | None = None
        self._spent_ns = 0
        attachments.enter_lane()

    def __call__(self, segment: int, count: int) -> None:
        """Run `segment` on the first `count` of the lane's rows."""
        lent = self._only.get(segment) if self.attachments.map is self._map else None
        if lent is None or self._pending is not None:
            self.begin(self.rows, segment, count)
            self.finish()
            return
        start = time.perf_counter_ns()
        try:
            worked = lent.connection.call(self.rows, segment, count, self.deadline)
        except TwofoldError as error:
            self._again(Pending(self.rows, segment, count, time.monotonic()), lent, error)
            return
        self.account(1, worked, time.perf_counter_ns() - start)

    def begin(self, rows: Rows, segment: int, count: int) -> None:
        """Begin a call; the rows are to be left alone until `finish`. Errors as there."""
        start = time.perf_counter_ns()
        if self._pending is not None:
            raise InternalError("a lane makes one call at a time")
        pending = self._pending = Pending(rows, segment, count)
        try:
            self._send(pending)
        except BaseException:
            self._abandon()
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
            self._abandon()
            raise
        self._pending = None
        self.account(1, worked, self._spent_ns + time.perf_counter_ns() - start)

    def ports(self, segments: int) -> int | None:
        """Address of the ports that calls of the first so many segments go to; None if they are not known, or many."""
        if self.attachments.map is not self._map:
            self._reread()
        if self._ports is None and len(self._only) >= segments:
            found = [self._only[s].connection.port(self.rows) if s in self._only else None for s in range(segments)]
            if None not in found:
                self._ports = (ctypes.c_void_p * segments)(*found)
        return ctypes.addressof(self._ports) if self._ports is not None else None

    def resume(self, segment: int, count: int, what: int) -> None:
        """A call begun through `ports` came to `what`: wait for its answer, or make it again elsewhere."""
        lent, start = self._only[segment], time.perf_counter_ns()
        try:
            worked = lent.connection.resume(segment, count, self.deadline, what)
        except TwofoldError as error:
            self._again(Pending(self.rows, segment, count, time.monotonic()), lent, error)
            return
        self.account(1, worked, time.perf_counter_ns() - start)

    def account(self, calls: int, worked_ns: int, spent_ns: int) -> None:
        """So many calls took `spent_ns`, of which weight memory worked `worked_ns`."""
        self.weights_ns += worked_ns
        self.link_ns += max(0, spent_ns - worked_ns)
        self.calls += calls

    def _again(self, pending: Pending, lent: Lent, error: TwofoldError) -> None:
        """The only replica failed: go on as for any call."""
        self._pending, self._lent, self._spent_ns = pending, lent, 0
        try:
            self._failed(pending, lent, error)
            self._send(pending)
        except BaseException:
            self._abandon()
            raise
        self.finish()

    def close(self) -> None:
        """Close this lane's connections; a second time is nothing."""
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
                lent.connection.begin(pending.rows, pending.segment, pending.count, patience)
            except TwofoldError as error:
                self._failed(pending, lent, error)
            else:
                return

    def _answer(self, pending: Pending) -> Nanoseconds | None:
        """How long weight memory worked; None if the call is to be made again."""
        lent = self._lent
        if lent is None:
            raise InternalError("a call is pending and nobody was called")
        try:
            worked = lent.connection.finish()
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
        self.failovers += 1
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

    def _abandon(self) -> None:
        """Forget the call; a connection that still owes the answer is of no use."""
        self._pending = None
        if self._lent is not None:
            lent, self._lent = self._lent, None
            self._own.pop(lent.attachment.url, None)
            self._forget_only()
            lent.attachment.drop(lent)

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
