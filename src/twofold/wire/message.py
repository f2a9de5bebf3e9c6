"""Messages: what the two sides of a link say to each other besides calls.

A closed union of MessagePack maps, told apart by their `type`. `Failed` is its error member: an error is a
message, so nobody waits for a reply that will not come. It names a class of `twofold.errors`, and one table
turns it back into that class.
"""

import inspect
from typing import Annotated

import msgspec

from twofold import __version__, errors
from twofold.errors import FrameError, LinkError, TwofoldError, one_line
from twofold.model.manifest import NUMERICS, Manifest
from twofold.units import KIB, Nanoseconds, bytes_text
from twofold.wire.frame import CONTROL_BYTES
from twofold.wire.status import Status

PROTOCOL = 3
PROGRAM = f"twofold {__version__}"
PING_BYTES = 60 * KIB  # the most that a ping carries, each way
NONCE_BYTES = 16  # of a challenge


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message, from the side that connects."""

    protocol: int = PROTOCOL
    numerics: int = NUMERICS
    digest: str | None = None  # the model wanted; None: whichever is held
    program: str = PROGRAM
    shared_memory: bool = False  # the planes travel in a memory that both sides map
    owner: str = ""  # the context processor: its connections share what one owner gets
    token: str = ""  # id of the client's token; empty: it has none, and what follows is empty too (wire/token.py)
    time: Nanoseconds = Nanoseconds(0)  # the client's clock, since 1970
    proof: bytes = b""  # that the client has the token's secret; empty before the Challenge


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """The answer to the first Hello where a token is required; answered by a Hello with a proof made for it."""

    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]  # random, for this connection


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The answer to a Hello that is not refused."""

    manifest: Manifest
    segments: tuple[int, ...]  # held by this processor
    rows: int  # most rows of one call
    head_rows: int  # most rows of one call of a segment that ends a step
    pid: int
    title: str
    protocol: int = PROTOCOL
    numerics: int = NUMERICS
    program: str = PROGRAM


class AskTokenizer(msgspec.Struct, frozen=True, tag="ask-tokenizer"):
    """Answered by TokenizerReply."""


class TokenizerReply(msgspec.Struct, frozen=True, tag="tokenizer"):
    """The tokenizer, encoded; the link does not look into it."""

    data: bytes


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Answered by Pong. What it carries and asks for measures the link."""

    data: Annotated[bytes, msgspec.Meta(max_length=PING_BYTES)] = b""  # passed over
    answer: Annotated[int, msgspec.Meta(ge=0, le=PING_BYTES)] = 0  # bytes that the Pong is to carry


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The other side is alive and reads."""

    draining: bool = False  # it will end: call others, if there are others
    data: bytes = b""  # as many zeros as were asked for


class AskStatus(msgspec.Struct, frozen=True, tag="ask-status"):
    """Answered by Status (wire/status.py)."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Say from now on that you are draining. Answered by Pong; calls are answered as before."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """What was asked failed: `kind` is the name of a class of `twofold.errors`, `message` one line."""

    kind: str
    message: str


Message = (
    Hello | Challenge | Welcome | AskTokenizer | TokenizerReply | Ping | Pong | AskStatus | Status | Drain | Failed
)

ERRORS: dict[str, type[TwofoldError]] = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, TwofoldError)
}

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The payload of a CONTROL frame; FrameError if it is over the limit."""
    payload = _ENCODER.encode(message)
    if len(payload) > CONTROL_BYTES:
        raise FrameError(
            f"a message of {bytes_text(len(payload))} cannot be sent; the limit is {bytes_text(CONTROL_BYTES)}"
        )
    return payload


def decode(payload: bytes | bytearray | memoryview) -> Message:
    """The message in the payload of a CONTROL frame; FrameError if it is none of the union."""
    try:
        message: Message = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"a CONTROL frame holds no valid message ({one_line(str(error))})") from error
    return message


def failed(error: TwofoldError) -> Failed:
    """The message that tells the other side of `error`."""
    kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in ERRORS), LinkError.__name__)
    return Failed(kind, one_line(str(error)))


def error_of(message: Failed) -> TwofoldError:
    """The error that the other side told of; LinkError if its kind is not in the table."""
    text = one_line(message.message)
    kind = ERRORS.get(message.kind)
    return kind(text) if kind else LinkError(f"{one_line(message.kind)}: {text}")
