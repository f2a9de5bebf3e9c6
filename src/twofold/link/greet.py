"""The messages of the calling side: the handshake, and questions after it."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from twofold.errors import FrameError, ProcessorLost, Refused
from twofold.link.base import bounded
from twofold.link.stream import FrameStream
from twofold.units import Seconds
from twofold.wire.handshake import refusal
from twofold.wire.message import Failed, Hello, Message, Welcome, error_of


def greet(stream: FrameStream, hello: Hello, expiry: float) -> Welcome:
    """Say `hello`; the Welcome, or the reason why not as Refused (or whatever error the other side names)."""
    with contextlib.suppress(ProcessorLost):  # if it answered and closed already, the answer is there
        stream.send_message(hello, expiry)
    answer = stream.receive_message(expiry)
    if isinstance(answer, Failed):
        error = error_of(answer)
        raise type(error)(f"{stream.peer}: {error}")
    if not isinstance(answer, Welcome):
        raise FrameError(f"{stream.peer} answered the handshake with {type(answer).__name__}")
    why = refusal(hello, answer)
    if why:
        raise Refused(f"{stream.peer}: {why}")
    return answer


@contextlib.contextmanager
def greeted(sock: socket.socket, url: str, hello: Hello, expiry: float) -> Iterator[tuple[FrameStream, Welcome]]:
    """The stream over `sock` after the handshake, and the Welcome; closed if the greeting or the block fails."""
    stream = FrameStream(sock, f"weight processor at {url}")
    try:
        welcome = greet(stream, hello, expiry)
        stream.peer = f"weight processor {welcome.pid} at {url}"
        yield stream, welcome
    except BaseException:
        stream.close()
        raise


def ask(stream: FrameStream, message: Message, deadline: Seconds, *, sent: Callable[[], None] | None = None) -> Message:
    """The answer to `message`, a Failed included; `stream` is closed if none comes. `sent` runs between."""
    stream.check_open()
    expiry = time.monotonic() + bounded(deadline)
    try:
        stream.send_message(message, expiry)
        if sent:
            sent()
        return stream.receive_message(expiry)
    except BaseException:
        stream.close()  # an answer under way would be taken for that of the next question
        raise


def checked(answer: Message) -> Message:
    """`answer`, or the error that it tells of raised."""
    if isinstance(answer, Failed):
        raise error_of(answer)
    return answer
