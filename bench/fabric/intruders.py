"""Attacks on who may come in, and on what is wrapped around frames; started by `assault`.

tokens    handshakes that must fail: no token, bad ones (`keyring`), a wrong clock, guessed and replayed proofs
foreign   what is no frame yet: to tls:// and ws://, before, in and inside their own handshakes
"""

import contextlib
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from fabric import keyring
from fabric.mutations import Mutations, message_frame
from fabric.target import Target, answer, ended, said, told
from twofold.errors import InternalError
from twofold.link.certificate import calling_context
from twofold.link.upgrade import PATH
from twofold.wire.message import Challenge, Hello, Message, Welcome

REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()
Attempt = Callable[[socket.socket], Message | None]


def tokens(target: Target, chance: random.Random, seconds: float, connections: int) -> Counter[str]:
    """One handshake after the other; counts what each was answered, and as `let in` those that must not have been."""
    del connections
    attempts = _attempts(target, chance)
    counts: Counter[str] = Counter()
    expiry = time.monotonic() + seconds
    while time.monotonic() < expiry:
        for name, attempt in attempts.items():
            with contextlib.suppress(TimeoutError), target.connect() as sock:
                said_back = attempt(sock)
                counts[f"{name}: {told(said_back)}"] += 1
                counts["let in"] += isinstance(said_back, Welcome)
        target.greeted().close()  # a good one in between: it is still the token that counts
    return counts


def _attempts(target: Target, chance: random.Random) -> dict[str, Attempt]:
    recorded = _recorded(target)
    bad = {
        name: lambda sock, token=token: target.introduced(sock, token) for name, token in keyring.bad_tokens().items()
    }

    def guessed(sock: socket.socket) -> Message | None:
        return _answered(sock, target, lambda _: msgspec.structs.replace(recorded, proof=chance.randbytes(32)))

    def replayed(sock: socket.socket) -> Message | None:
        return _answered(sock, target, lambda _: recorded)

    def replayed_at_once(sock: socket.socket) -> Message | None:
        with contextlib.suppress(OSError):
            sock.sendall(message_frame(target.hello) + message_frame(recorded))
        first = answer(sock)
        return answer(sock) if isinstance(first, Challenge) else first

    return {
        **bad,
        "none": lambda sock: said(sock, Hello(digest=target.digest)),
        "slow clock": lambda sock: target.introduced(sock, target.token, 0),
        "fast clock": lambda sock: target.introduced(sock, target.token, 1 << 62),
        "guessed": guessed,
        "replayed": replayed,
        "replayed at once": replayed_at_once,
    }  # fmt: skip


def _answered(sock: socket.socket, target: Target, proof: Callable[[Challenge], Hello]) -> Message | None:
    challenge = said(sock, target.hello)
    return said(sock, proof(challenge)) if isinstance(challenge, Challenge) else challenge


def _recorded(target: Target) -> Hello:
    """The second Hello of a handshake that was welcomed a moment ago."""
    with target.connect() as sock:
        challenge = said(sock, target.hello)
        proof = target.proof(target.token, challenge) if isinstance(challenge, Challenge) else None
        if proof is None or not isinstance(said(sock, proof), Welcome):
            raise InternalError("the attacker's own token is not good, so nothing can be recorded")
        return proof


def foreign(target: Target, chance: random.Random, seconds: float, connections: int) -> Counter[str]:
    """One connection after the other, each read to its end; `unended` counts those that were left open."""
    del connections
    mutations = Mutations(chance.getrandbits(32), target.digest, target.call)
    client = _client_hello()
    forms: dict[str, Callable[[], socket.socket]] = {
        "noise for TLS": lambda: _sent(target.connect(target.tls), mutations.next().data),
        "damaged TLS": lambda: _sent(target.connect(target.tls), flipped(client, chance)),
        "inside TLS": lambda: _sent(_secured(target), mutations.next().data),
        "noise for HTTP": lambda: _sent(target.connect(target.ws), mutations.next().data),
        "damaged request": lambda: _sent(target.connect(target.ws), flipped(REQUEST, chance)),
        "inside a WebSocket": lambda: _sent(_upgraded(target), message_of(mutations.next().data)),
        "damaged WebSocket": lambda: _sent(_upgraded(target), flipped(message_of(mutations.next().data), chance)),
    }
    counts: Counter[str] = Counter()
    expiry = time.monotonic() + seconds
    while time.monotonic() < expiry:
        for name, make in forms.items():
            counts[name] += 1
            try:
                sock = make()
            except OSError:
                counts["refused"] += 1
            else:
                counts[ended(sock)] += 1
    return counts


def flipped(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to four bits changed, mostly near its beginning; now and then without its end."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        changed[min(int(chance.expovariate(0.05)), len(changed) - 1)] ^= 1 << chance.randrange(8)
    return bytes(changed[: chance.randrange(1, len(changed) + 1)] if chance.random() < 0.2 else changed)


def message_of(data: bytes) -> bytes:
    """A binary WebSocket message of a client, masked with zeros (RFC 6455, section 5.2)."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return b"\x82" + length + bytes(4) + data


def _sent(sock: socket.socket, data: bytes) -> socket.socket:
    """`sock` after all was sent that the other side took."""
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    return sock


def _client_hello() -> bytes:
    """What a TLS client begins with."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        calling_context().wrap_bio(inward, outward).do_handshake()
    return outward.read()


def _secured(target: Target) -> socket.socket:
    return calling_context().wrap_socket(target.connect(target.tls))


def _upgraded(target: Target) -> socket.socket:
    sock = target.connect(target.ws)
    sock.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
        head += byte
    return sock
