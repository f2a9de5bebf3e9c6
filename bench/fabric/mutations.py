"""What an attacker sends: frames that are nearly right. Pure: a seed, and some valid frames to begin with.

noise      random bytes
flip       some bits of a valid frame are flipped
cut        a valid frame without its end
field      a field of a header holds an odd value; the checksum is right, so that deeper checks are reached
message    bytes of a message are changed, removed or added; length and checksum are right
other      a valid message that does not belong there, another model's digest, another version
"""

import random
import struct
from typing import NamedTuple

from twofold.wire import frame
from twofold.wire.frame import CALL, CONTROL, REPLY, Header, crc32c, pack
from twofold.wire.message import AskTokenizer, Failed, Hello, Message, Ping, Pong, TokenizerReply, encode

ODD = (
    *(0, 1, 2, 3, 31, 32, 255, 256, 257, 65535, 65536),
    *(1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1),
)
FIELDS = (  # offset, format: what a header holds after the magic (wire/frame.py)
    (4, "<H"), (6, "<H"), (8, "<Q"), (24, "<I"), (28, "<I"), (32, "<Q"), (40, "<Q"), (48, "<Q"), (56, "<H"), (58, "<H"),
)  # fmt: skip
CHECKSUM = slice(60, 64)


class Case(NamedTuple):
    """One attack: bytes to send, right away or after a valid handshake."""

    kind: str
    greeted: bool
    data: bytes


def message_frame(message: Message) -> bytes:
    """A valid CONTROL frame."""
    payload = encode(message)
    return pack(Header(CONTROL, length=len(payload)), [payload]) + payload


def call_frame(digest: str, segment: int, rows: int, payload: bytes) -> bytes:
    """A valid CALL."""
    header = Header(CALL, bytes.fromhex(digest)[:16], segment, rows, 1, 10**9, len(payload))
    return pack(header, [payload]) + payload


def sealed(data: bytes | bytearray, *, length: bool) -> bytes:
    """`data` as a frame with the right checksum and, if asked for, the right length."""
    made = bytearray(data)
    if length:
        struct.pack_into("<Q", made, 48, len(made) - frame.HEADER_BYTES)
    made[CHECKSUM] = bytes(4)
    struct.pack_into("<I", made, CHECKSUM.start, crc32c(made))
    return bytes(made)


class Mutations:
    """An endless source of cases."""

    def __init__(self, seed: int, digest: str, call: bytes) -> None:
        """`call`: a valid frame with a call of the model `digest`."""
        self._chance = random.Random(seed)
        self._call = call
        self._reply = sealed(call[:6] + struct.pack("<H", REPLY) + call[8:], length=False)
        self._hello = message_frame(Hello(digest=digest))
        strange = [Hello(digest="f" * 64), Hello(protocol=1 << 40), Hello(numerics=-1), Hello(shared_memory=True)]
        others: list[Message] = [
            *strange,
            Ping(),
            Pong(),
            AskTokenizer(),
            TokenizerReply(bytes(100)),
            Failed("x", "y" * 5000),
        ]
        self._others = [message_frame(message) for message in others]

    def next(self) -> Case:
        """The next case; one of five comes after a handshake."""
        kind = self._chance.choice(("noise", "flip", "cut", "field", "message", "other"))
        greeted = self._chance.random() < 0.2
        valid = self._chance.choice((self._hello, self._call, self._reply, *self._others))
        return Case(kind, greeted, getattr(self, f"_{kind}")(valid))

    def _noise(self, valid: bytes) -> bytes:
        start = valid[: self._chance.choice((0, 4, 8, 64))]
        return start + self._chance.randbytes(self._chance.randrange(1, 200))

    def _flip(self, valid: bytes) -> bytes:
        data = bytearray(valid)
        for _ in range(self._chance.randrange(1, 5)):
            data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        return bytes(data)

    def _cut(self, valid: bytes) -> bytes:
        return valid[: self._chance.randrange(1, len(valid))]

    def _field(self, valid: bytes) -> bytes:
        data = bytearray(valid)
        for _ in range(self._chance.randrange(1, 3)):
            offset, form = self._chance.choice(FIELDS)
            value = self._chance.choice((*ODD, self._chance.getrandbits(64)))
            struct.pack_into(form, data, offset, value & ((1 << 8 * struct.calcsize(form)) - 1))
        return sealed(data, length=False)

    def _message(self, valid: bytes) -> bytes:
        data = bytearray(valid)
        for _ in range(self._chance.randrange(1, 4)):
            at = self._chance.randrange(frame.HEADER_BYTES, len(data) + 1)
            data[at : at + self._chance.randrange(3)] = self._chance.randbytes(self._chance.randrange(3))
        return sealed(data, length=True)

    def _other(self, valid: bytes) -> bytes:
        return valid + (valid if self._chance.random() < 0.3 else b"")
