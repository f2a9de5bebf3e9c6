"""inproc:// — no socket: the service runs in the thread that calls."""

import time

from twofold.errors import DeadlinePassed, InternalError, ProcessorLost, Refused
from twofold.link.base import Service, check_call, time_left, welcome_of
from twofold.units import Nanoseconds, Seconds
from twofold.wire.handshake import refusal
from twofold.wire.message import AskTokenizer, Hello, Message, Ping, Pong, TokenizerReply
from twofold.wire.rows import Rows


class InprocConnection:
    """A connection over a service in this process; whoever makes two of them serialises their calls.

    The work cannot be cut short. A call that took longer than its deadline raises DeadlinePassed when it
    ends, as it would have on every other link; the connection is not closed.
    """

    def __init__(self, service: Service) -> None:
        self.manifest = service.manifest
        self.held = frozenset(service.held)
        self.rows = Rows(service.layout)
        self.peer = "weight processor in this process"
        self._service: Service | None = service

    def call(self, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """Run `segment` on the first `count` rows (`Connection.call`)."""
        service = self._open()
        check_call(segment, count, self.rows.layout, self.held, self.peer)
        expiry = time.monotonic() + time_left(deadline, self.peer)
        worked = service.work(segment, self.rows, count)
        if time.monotonic() > expiry:
            raise DeadlinePassed(f"{self.peer} took longer than the {deadline:g} s that the call had")
        return worked

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message (`Connection.ask`)."""
        service = self._open()
        match message:
            case Ping():
                return Pong()
            case AskTokenizer():
                return TokenizerReply(service.tokenizer())
            case _:
                raise InternalError(f"a {type(message).__name__} is not a question")

    def close(self) -> None:
        """Let go of the service."""
        self._service = None

    def _open(self) -> Service:
        if self._service is None:
            raise ProcessorLost(f"the link to the {self.peer} was closed")
        return self._service


def connect(service: Service, hello: Hello) -> InprocConnection:
    """A connection to `service`; Refused if it is not what `hello` wants, as on every other link."""
    connection = InprocConnection(service)
    why = refusal(hello, welcome_of(service, "in process"))
    if why:
        raise Refused(f"{connection.peer}: {why}")
    return connection
