"""What a weight processor says when it is asked: how it does, its tokenizer, and that it will end."""

import time
from collections.abc import Mapping

from twofold.errors import FrameError, Refused, TwofoldError
from twofold.link.base import Service
from twofold.processor.guest import Guest
from twofold.processor.status import status_of
from twofold.processor.tally import Tally
from twofold.schedule.calls import CallQueue
from twofold.units import Nanoseconds
from twofold.wire.message import (
    AskStatus,
    AskTokenizer,
    Drain,
    Failed,
    Message,
    Ping,
    Pong,
    TokenizerReply,
    Welcome,
    failed,
)
from twofold.wire.status import Status


class Answers:
    """The answers of the processor of `service`, whose `guests`, `queue` and `tally` it reads."""

    def __init__(
        self,
        service: Service,
        welcome: Welcome,
        guests: Mapping[int, Guest],
        queue: CallQueue,
        tally: Tally,
    ) -> None:
        self.draining = False  # it says so, and ends when nobody calls it any more
        self._service, self._welcome, self._guests, self._tally = service, welcome, guests, tally
        self._queue = queue
        self._started = time.monotonic_ns()

    def status(self, *, names: bool) -> Status:
        """How it does, with the `names` of the tokens only for those who may know them; from any thread."""
        uptime = Nanoseconds(time.monotonic_ns() - self._started)
        guests, counts = list(self._guests.values()), self._tally.counts()
        waiting = sum([guest.is_calling(self._queue) for guest in guests])
        return status_of(
            self._welcome, guests, counts, waiting,
            uptime=uptime, draining=self.draining, names=names, expert_rows=self._service.expert_rows(),
        )  # fmt: skip

    def reply_to(self, guest: Guest, message: Message) -> Message:
        """The answer to a message of `guest`; FrameError if it is no question."""
        match message:
            case Ping():
                return Pong(self.draining, bytes(message.answer))
            case AskStatus():
                return self.status(names=guest.grant is None or guest.grant.scope.admin)
            case Drain():
                return self._drain(guest)
            case AskTokenizer():
                return self._tokenizer()
            case _:
                raise FrameError(f"a {type(message).__name__} is not a question")

    def _drain(self, guest: Guest) -> Pong | Failed:
        """Say from now on that the processor will end, if `guest` may ask for that."""
        if guest.grant is not None and not guest.grant.scope.admin:
            return failed(Refused("this token may not drain the processor; one that is granted with --admin may"))
        self.draining = True
        return Pong(self.draining)

    def _tokenizer(self) -> TokenizerReply | Failed:
        try:
            return TokenizerReply(self._service.tokenizer())
        except TwofoldError as error:
            return failed(error)
