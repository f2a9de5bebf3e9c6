"""A connection as the weight processor sees it."""

import itertools

from twofold.link.base import Channel, Listener
from twofold.link.desk import Place
from twofold.link.port import Kind, Port
from twofold.schedule.calls import CallQueue
from twofold.store.grant import Grant

_NUMBERS = itertools.count()


class Guest:
    """Who is at the other end of `channel`."""

    def __init__(self, channel: Channel, now: int, listener: Listener) -> None:
        self.channel = channel
        self.listener = listener  # where it came
        self.number = next(_NUMBERS)
        self.nonce = b""  # that it was challenged with, if it was
        self.owner = ""  # whose share of the memory it has
        self.grant: Grant | None = None  # the token it came in with
        self.limited = False  # its calls pass the gate
        self.greeted = False
        self.share: int | None = None  # the owner's number in the queue, once greeted
        self.calling = False  # a call of its that did not go straight to the queue has no answer yet
        self.behind = False  # something for it has not left
        self.since = now  # when it became behind, or began what has not arrived whole
        self.places: list[Place] = []  # at the desk: of messages, and of calls if that is another
        self.calls_at = 0  # the index of that
        self._begun = False

    def watch(self, place: Place) -> None:
        """It has another place at the desk."""
        self.places.append(place)
        self.calls_at = place.index

    def is_calling(self, queue: CallQueue) -> bool:
        """Whether a call of its has no answer yet; `queue`: where calls go straight to."""
        return self.calling or queue.open(self.calls_at)

    @property
    def watched_port(self) -> Port | None:
        """The port that the desk reads by itself; None if the channel must `read`."""
        return self.channel.port if self.channel.port.kind == Kind.SOCKET else None

    def late(self, now: int) -> int:
        """Nanoseconds that the other side has been late: with its Hello, with the rest of a frame, or in reading."""
        begun = self.channel.port.begun
        if begun and not self._begun:
            self.since = now
        self._begun = begun
        return now - self.since if begun or self.behind or not self.greeted else 0
