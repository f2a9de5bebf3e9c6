"""The messages of the calling side: the handshake, and questions after it."""

import contextlib
import time
from collections.abc import Iterator

from twofold.errors import FrameError, ProcessorLost, Refused
from twofold.link.base import bounded
from twofold.link.joined import Introduction
from twofold.link.stream import MessageStream
from twofold.units import Seconds
from twofold.wire.handshake import refusal
from twofold.wire.message import Challenge, Failed, Hello, Message, Welcome, error_of


def greet(stream: MessageStream, introduction: Introduction, expiry: float) -> Welcome:
    """Say who we are; the Welcome, or the reason why not as Refused (or whatever error the other side names)."""
    answer = _said(stream, introduction.first, expiry)
    proof = introduction.answer(answer.nonce) if isinstance(answer, Challenge) else None
    if proof:
        answer = _said(stream, proof, expiry)
    if isinstance(answer, Failed):
        error = error_of(answer)
        raise type(error)(f"{stream.peer}: {error}")
    if not isinstance(answer, Welcome):
        raise FrameError(f"{stream.peer} answered the handshake with {type(answer).__name__}")
    why = refusal(introduction.hello, answer)
    if why:
        raise Refused(f"{stream.peer}: {why}")
    return answer


def _said(stream: MessageStream, hello: Hello, expiry: float) -> Message:
    """What the other side answers to `hello`."""
    with contextlib.suppress(ProcessorLost):  # if it answered and closed already, the answer is there
        stream.send(hello, expiry)
    return stream.receive(expiry)


@contextlib.contextmanager
def greeted(stream: MessageStream, url: str, introduction: Introduction, expiry: float) -> Iterator[Welcome]:
    """The Welcome on `stream`, which is closed if the greeting or the block fails."""
    try:
        welcome = greet(stream, introduction, expiry)
        stream.peer = f"weight processor {welcome.pid} at {url}"
        yield welcome
    except BaseException:
        stream.close()
        raise


def ask(stream: MessageStream, message: Message, deadline: Seconds) -> Message:
    """The answer to `message`, a Failed included."""
    expiry = time.monotonic() + bounded(deadline)
    stream.send(message, expiry)
    return stream.receive(expiry)


def checked(answer: Message) -> Message:
    """`answer`, or the error that it tells of raised."""
    if isinstance(answer, Failed):
        raise error_of(answer)
    return answer
