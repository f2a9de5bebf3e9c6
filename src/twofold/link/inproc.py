"""inproc:// — no socket: the service runs in the thread that calls, natively if it can."""

from twofold.errors import InternalError, ProcessorLost, Refused
from twofold.link.base import Service, check_call, time_left, welcome_of
from twofold.link.port import PortHere
from twofold.units import Nanoseconds, Seconds
from twofold.wire.handshake import refusal
from twofold.wire.message import AskTokenizer, Hello, Message, Ping, Pong, TokenizerReply
from twofold.wire.rows import Rows


class InprocConnection:
    """A connection over a service in this process; whoever makes two of them serialises their calls.

    The work is done in `finish` and cannot be cut short, so a deadline that passes meanwhile changes nothing.
    """

    def __init__(self, service: Service) -> None:
        self.manifest = service.manifest
        self.held = frozenset(service.held)
        self.layout = service.layout
        self.peer = "weight processor in this process"
        self._service: Service | None = service
        self._begun: tuple[Rows, int, int] | None = None
        self._rows: Rows | None = None  # of calls at the port
        native = service.native_segments()
        self._port = None if native is None else PortHere(native, service.manifest.vocabulary)

    def begin(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> None:
        """Take note of a call (`Connection.begin`)."""
        self._open()
        check_call(segment, count, self.layout, self.held, self.peer)
        time_left(deadline, self.peer)
        self._begun = (rows, segment, count)

    def finish(self) -> Nanoseconds:
        """Run it (`Connection.finish`)."""
        if self._begun is None:
            raise InternalError("no call was begun")
        rows, segment, count = self._begun
        self._begun = None
        return self._open().work(segment, rows, count)

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """`begin` and `finish`."""
        self.begin(rows, segment, count, deadline)
        return self.finish()

    def port(self, rows: Rows) -> int | None:
        """Where calls of `rows` can be made natively (`Connection.port`)."""
        if self._service is None or self._port is None:
            return None
        self._rows = rows
        return self._port.address

    def resume(self, segment: int, count: int, deadline: Seconds, what: int) -> Nanoseconds:
        """Work for a call that was begun at `port`: its work was not begun (`Connection.resume`)."""
        if self._rows is None:
            raise InternalError("no call was begun")
        self.begin(self._rows, segment, count, deadline)
        return self.finish()

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message (`Connection.ask`)."""
        service = self._open()
        match message:
            case Ping():
                return Pong(data=bytes(message.answer))
            case AskTokenizer():
                return TokenizerReply(service.tokenizer())
            case _:
                raise InternalError(f"a {type(message).__name__} is not a question")

    def interrupt(self) -> None:
        """Nothing: nobody waits here (`Connection.interrupt`)."""

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
