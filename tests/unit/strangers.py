"""Raw sockets to a weight processor, for tests that say what no client of ours would."""

import contextlib
import socket
import struct
from collections.abc import Iterator

from toy_processor import DIGEST, Asker, connect

from twofold.units import Seconds
from twofold.wire.frame import CONTROL, HEADER_BYTES, Header, check_sum, pack, unpack
from twofold.wire.message import Failed, Hello, Message, decode, encode

SOON = Seconds(5.0)
PREFIX = bytes.fromhex(DIGEST)[:16]
IDS = struct.pack("<i", 21)


def raw(url: str) -> socket.socket:
    scheme, _, place = url.partition("://")
    sock = socket.socket(socket.AF_UNIX if scheme == "shm" else socket.AF_INET)
    sock.settimeout(5)
    sock.connect(place if scheme == "shm" else ("127.0.0.1", int(place.rpartition(":")[2])))
    return sock


def control(message: Message) -> bytes:
    payload = encode(message)
    return pack(Header(CONTROL, length=len(payload)), [payload]) + payload


def hello(url: str) -> bytes:
    return control(Hello(shared_memory=url.startswith("shm")))


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def message_from(sock: socket.socket) -> Message:
    header = unpack(exactly(sock, HEADER_BYTES))
    payload = exactly(sock, header.length)
    check_sum(header, [payload])
    return decode(payload)


def no_more(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed on us already
        sock.shutdown(socket.SHUT_WR)


def last_word(sock: socket.socket) -> Failed | None:
    """The Failed before the end of the link, if any; anything else but an end fails the test."""
    try:
        message = message_from(sock)
    except (EOFError, ConnectionError):
        return None
    with contextlib.suppress(ConnectionError):
        assert sock.recv(1) == b""
    assert isinstance(message, Failed)
    return message


@contextlib.contextmanager
def connected(url: str) -> Iterator[Asker]:
    connection = connect(url)
    try:
        yield connection
    finally:
        connection.close()


def still_serves(connection: Asker) -> bool:
    connection.rows["ids"][0] = 21
    connection.call(0, 1, SOON)
    return bool((connection.rows["carry"][0] == 42).all())
