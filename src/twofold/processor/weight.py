"""A weight processor: a service, served to any number of connections by one thread.

    ┌─▶ serve calls (native/serve.c) ──▶ accept, greet, answer questions, queue what came another way ─┐
    └──────────────────────────────────────────────────────────────────────────────────────────────────┘

Nothing in the loop waits for one peer: a frame that has not arrived whole, or an answer that a socket does not take,
is left for later. Calls for the same segment run as one batch whoever they belong to (`schedule/calls.py`). Calls go
straight to the queue, unless Python moves the bytes of their link or their token has an allowance. It keeps nothing of
a call once it is answered (R2): the rows are wiped, and at every sweep what the kernels wrote beside them.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from twofold.errors import (
    DeadlinePassed,
    DeviceError,
    FrameError,
    LinkError,
    ProcessorLost,
    Refused,
    TwofoldError,
)
from twofold.link.base import HANDSHAKE_SECONDS, Listener, Service, check_call, welcome_of
from twofold.link.channel import FRAME_SECONDS
from twofold.link.desk import Arrival, Desk, Place
from twofold.link.port import Batch, Kind, What
from twofold.log import logger
from twofold.processor.allowance import Gate
from twofold.processor.answers import Answers
from twofold.processor.door import Door
from twofold.processor.guest import Guest
from twofold.processor.loop import Loop
from twofold.processor.reception import Reception
from twofold.processor.tally import Tally
from twofold.schedule.calls import CallQueue, Waiting
from twofold.store.keys import keys_folder
from twofold.units import Seconds
from twofold.wire.handshake import layout_of, limited, refusal
from twofold.wire.message import (
    NONCE_BYTES,
    Challenge,
    Hello,
    Message,
    Welcome,
    failed,
)
from twofold.wire.status import Status

CONNECTIONS = 1024
STRANGERS = 128  # connections that have not said Hello
SWEEP_NS = 250_000_000  # between two looks for peers that are late
QUIET_NS = 1_500_000_000  # without a call, until nobody is thought to call any more: clients ping once a second
LEAVE_NS = 5_000_000_000  # for clients to go elsewhere, when told to leave


class WeightProcessor:
    """Serves `service` at `listeners`, which it owns, until `stop`."""

    def __init__(
        self,
        service: Service,
        listeners: Sequence[Listener],
        *,
        connections: int = CONNECTIONS,
        handshake: Seconds = HANDSHAKE_SECONDS,
        title: str = "weight processor",
        keys: Path | None = None,
    ) -> None:
        """`keys`: the folder of the tokens that a listener may require; default: this user's."""
        self._service = service
        self._listeners = list(listeners)
        self._connections = connections
        self._handshake_ns = int(handshake * 1e9)
        self._held = frozenset(service.held)
        self._welcome = welcome_of(service, title)
        self._layout = layout_of(self._welcome)
        self._one = Batch(self._layout)  # the rows of a call that is tried by itself
        self._queue = CallQueue(len(self._layout.cuts), self._layout.limit)
        self._gate = Gate()
        self._door = Door(keys or keys_folder())
        self._guests: dict[int, Guest] = {}  # by their number
        self._desk = Desk()
        self._tally = Tally(self._layout)
        self._loop = Loop(service, self._desk, self._queue, self._tally)
        self._reception = Reception(self._desk, self._listeners)
        self._stopping = False
        self._leave_by: int | None = None
        self._called = 0  # when the last call came that did not go straight to the queue
        self._swept = 0
        self._answers = Answers(service, self._welcome, self._guests, self._queue, self._tally)
        self._logger = logger("processor")

    @property
    def urls(self) -> list[str]:
        """Where it is reached."""
        return [listener.url for listener in self._listeners]

    def status(self, *, names: bool = False) -> Status:
        """How it does, with the `names` of the tokens only for those who may know them; from any thread."""
        return self._answers.status(names=names)

    def serve_forever(self) -> None:
        """Serve until `stop`; then every connection is closed."""
        self._desk.own()
        try:
            while not self._stopping and not self._may_leave(time.monotonic_ns()):
                self._turn()
        finally:
            self._stopping = True
            for guest in list(self._guests.values()):
                self._dismiss(guest)
            for listener in self._listeners:
                listener.close()
            self._desk.close()
            self._loop.close()

    def stop(self) -> None:
        """Make `serve_forever` return, after the work in hand; from any thread or a signal handler."""
        self._stopping = True
        self._desk.wake()

    def leave(self) -> None:
        """Say that we are draining, and `stop` once nobody calls any more, at most LEAVE_NS from now; as `stop`."""
        self._answers.draining = True
        self._leave_by = time.monotonic_ns() + LEAVE_NS
        self._desk.wake()

    def _may_leave(self, now: int) -> bool:
        """Whether we were told to leave and keep nobody waiting by it."""
        if self._leave_by is None:
            return False
        calling = any(guest.is_calling(self._queue) for guest in self._guests.values())
        quiet = now - self._last_call > QUIET_NS and not calling
        return quiet or not self._guests or now > self._leave_by

    @property
    def _last_call(self) -> int:
        """When it came; monotonic."""
        return max(self._called, self._loop.called_ns)

    def _turn(self) -> None:
        """Once round the loop."""
        now = time.monotonic_ns()
        if now - self._swept > SWEEP_NS:
            self._sweep(now)
        until = self._swept + SWEEP_NS
        opens = self._reception.look(now, self._last_call)
        if opens:
            until = min(until, opens)
        if len(self._gate):
            for call in self._gate.ready(now):
                self._queue.put(call)
            until = min(until, now + self._gate.pause(now))
        arrivals = self._loop.turn(until)
        if len(arrivals) == 1 and self._loop.failure is not None:
            self._failed(arrivals[0].place.what, self._loop.failure)
        else:
            for arrival in arrivals:
                self._arrived(arrival)

    # what arrives

    def _arrived(self, arrival: Arrival) -> None:
        """See to it; the time of who comes or goes is that of the reception."""
        start, guest = time.monotonic_ns(), arrival.place.what
        stays = isinstance(guest, Guest) and guest.greeted
        self._see(arrival)
        if not stays or guest.number not in self._guests:
            self._reception.spent(time.monotonic_ns() - start)

    def _see(self, arrival: Arrival) -> None:
        guest = arrival.place.what
        if isinstance(guest, Guest):
            if guest.number not in self._guests:
                return  # an earlier arrival ended it
            try:
                self._see_to(guest, arrival)
            except ProcessorLost as error:
                self._dismiss(guest, error)
            except TwofoldError as error:
                self._dismiss(guest, error, told=True)
        else:
            self._accept(arrival.place)

    def _see_to(self, guest: Guest, arrival: Arrival) -> None:
        match arrival.what:
            case What.CALL:
                self._call(guest, arrival.segment, arrival.rows, arrival.nanoseconds)
            case What.READY:
                if guest.behind:  # to read or to write, of a channel that has to `read` nobody knows which
                    self._left(guest, guest.channel.flush())
                self._read(guest, arrival.place)
                while guest.number in self._guests and guest.channel.pending() and self._read(guest, arrival.place):
                    pass
            case What.MESSAGE:
                self._message(guest, guest.channel.port.message())
            case What.ANSWERED:
                self._answered(guest)
                self._left(guest, guest.channel.flush())
            case What.WRITABLE:
                self._left(guest, guest.channel.flush())
            case What.FAILED:
                self._try(guest, arrival.segment, arrival.rows)
            case what:
                port = arrival.place.port or guest.channel.port
                raise port.error(what, guest.channel.peer)

    def _read(self, guest: Guest, place: Place) -> bool:
        """Take one frame of a channel that has to `read`, if it is there whole."""
        what = guest.channel.read()
        if what == What.CALL:
            call = guest.channel.calls.header()
            self._call(guest, call.segment, call.rows, call.nanoseconds)
        elif what != What.NOTHING:
            self._see_to(guest, Arrival(place, what, 0, 0, 0))
        return what != What.NOTHING

    def _accept(self, place: Place) -> None:
        listener: Listener = place.what
        try:
            channel = listener.accept()
        except DeviceError as error:  # until the next sweep somebody may have gone
            self._logger.warning("%s", error)
            self._reception.rest(self._swept + SWEEP_NS)
            return
        if channel is None:
            return
        strangers = [guest for guest in self._guests.values() if not guest.greeted]
        if strangers and (len(strangers) >= STRANGERS or len(self._guests) >= self._connections):
            self._dismiss(strangers[0], DeadlinePassed("others came before this client said Hello"), told=True)
        guest = Guest(channel, time.monotonic_ns(), listener)
        guest.watch(self._desk.add(guest, channel.fileno(), guest.watched_port))
        self._guests[guest.number] = guest
        if len(self._guests) > self._connections:
            why = f"all {self._connections} connections of the weight processor are taken"
            self._dismiss(guest, Refused(f"{why}; close one or start another processor"), told=True)

    def _message(self, guest: Guest, message: Message) -> None:
        if not guest.greeted:
            self._greet(guest, message)
        elif guest.is_calling(self._queue) or guest.behind:
            raise FrameError(f"a {type(message).__name__} came before the last answer was taken")
        else:
            self._left(guest, guest.channel.send(self._answers.reply_to(guest, message)))

    def _greet(self, guest: Guest, hello: Message) -> None:
        if not isinstance(hello, Hello):
            raise FrameError(f"the handshake begins with Hello, not with {type(hello).__name__}")
        why = refusal(hello, self._welcome)
        if why:
            raise Refused(why)
        if hello.shared_memory != guest.listener.shared_memory:
            raise Refused(f"this address {'needs' if guest.listener.shared_memory else 'has no'} shared memory")
        if guest.listener.token_required and hello.token and not guest.nonce:
            guest.nonce = os.urandom(NONCE_BYTES)
            self._left(guest, guest.channel.send(Challenge(guest.nonce)))
            return
        welcome = self._admitted(guest, hello)
        guest.channel.welcome(welcome, layout_of(welcome) if guest.limited else self._layout)
        guest.greeted = True
        if guest.channel.calls is not guest.channel.port:
            guest.watch(self._desk.add(guest, guest.channel.bell(), guest.channel.calls))
        guest.share = self._queue.enter(guest.owner)
        self._loop.greet(guest.places[-1], guest.channel.calls)
        self._go_straight(guest)
        self._left(guest, guest.channel.flush())

    def _go_straight(self, guest: Guest) -> None:
        """Let calls of `guest` go straight to the queue, if they may now."""
        straight = guest.greeted and not guest.behind and not guest.limited and guest.channel.calls.kind != Kind.FED
        self._loop.straight(guest.places[-1], guest.share if straight else None)

    def _admitted(self, guest: Guest, hello: Hello) -> Welcome:
        """What `guest` is welcomed with, under its token if it needs one: then all who have that token share alike."""
        if not guest.listener.token_required:
            guest.owner = f"owner {hello.owner or guest.number}"
            return self._welcome
        guest.grant = self._door.admit(
            hello, self._welcome.manifest, nonce=guest.nonce, fingerprint=guest.listener.fingerprint
        )
        guest.owner, scope = f"token {guest.grant.token}", guest.grant.scope
        guest.limited = self._gate.limit(guest.owner, scope, time.monotonic_ns())
        return limited(self._welcome, scope.rows)

    def _call(self, guest: Guest, segment: int, rows: int, left: int) -> None:
        """A call that did not go straight to the queue."""
        if guest.is_calling(self._queue) or guest.behind:
            raise FrameError("a call came before the last answer was taken")
        now = self._called = time.monotonic_ns()
        guest.calling = True
        try:
            check_call(segment, rows, self._layout, self._held, "this weight processor")
        except TwofoldError as error:
            self._failed(guest, error)
            return
        waits_at = self._gate if guest.limited else self._queue
        waits_at.put(Waiting(guest.calls_at, guest.owner, segment, rows, now, now + left))

    # what leaves

    def _try(self, guest: Guest, segment: int, rows: int) -> None:
        """Work for a call of `guest` by itself, after its batch failed."""
        start = time.monotonic_ns()
        self._one.take([guest.channel.calls])
        try:
            worked = self._loop.work(self._one.rows, segment, rows)
        except TwofoldError as error:
            self._failed(guest, error)
            return
        self._one.give(1, worked)
        self._tally.ran(segment, rows, [time.monotonic_ns() - start - worked], worked)
        self._queue.withdraw(guest.calls_at)
        self._answered(guest)
        self._left(guest, guest.channel.flush())

    def _failed(self, guest: Guest, error: TwofoldError) -> None:
        """The call of `guest` is answered with `error`."""
        self._queue.withdraw(guest.calls_at)
        self._answered(guest)
        self._tally.failed(type(error).__name__)
        try:
            self._left(guest, guest.channel.fail(failed(error)))
        except LinkError as lost:
            self._dismiss(guest, lost)

    def _answered(self, guest: Guest) -> None:
        guest.calling = False
        if guest.limited:
            self._gate.ended(guest.calls_at)

    def _left(self, guest: Guest, all_has: bool) -> None:
        """Watch for room in the socket of `guest` as long as something has not left."""
        if guest.behind == (not all_has):
            return
        guest.behind, guest.since = not all_has, time.monotonic_ns()
        self._go_straight(guest)
        self._desk.until_writable(guest.places[0], guest.behind)

    # who goes

    def _sweep(self, now: int) -> None:
        """Forget, and give up on peers that are late or no longer let in, and on calls whose deadline has passed."""
        self._swept = now
        self._service.forget()
        for port in [*self._queue.expired(now), *(call.port for call in self._gate.expired(now))]:
            busy = "the weight processor was busy with other calls until the deadline of this one"
            self._failed(self._desk.at(port), DeadlinePassed(busy))
        for guest in list(self._guests.values()):
            limit = int(FRAME_SECONDS * 1e9) if guest.greeted else self._handshake_ns
            if guest.late(now) > limit:
                self._dismiss(guest, DeadlinePassed(f"a {guest.channel.peer} was too slow"), told=True)
        guests = [(guest, guest.grant) for guest in self._guests.values() if guest.grant]
        if guests:
            self._door.look()
        for guest, grant in guests:
            why = self._door.ended(grant)
            if why:
                self._dismiss(guest, Refused(f"{why}; ask for a new join link"), told=True)

    def _dismiss(self, guest: Guest, why: TwofoldError | None = None, *, told: bool = False) -> None:
        """Close the connection of `guest`."""
        if self._guests.pop(guest.number, None) is None:
            return
        self._queue.withdraw(guest.calls_at)
        self._answered(guest)
        if guest.share is not None:
            self._queue.leave(guest.owner)
            self._loop.straight(guest.places[-1], None)
        while guest.places:
            self._desk.remove(guest.places.pop())
        if told and why is not None:
            self._logger.warning("closing the link to a %s: %s", guest.channel.peer, why)
            self._tally.failed(type(why).__name__)
            with contextlib.suppress(LinkError):
                guest.channel.send(failed(why))
        elif why is not None:
            self._logger.debug("%s", why)
        guest.channel.close()
