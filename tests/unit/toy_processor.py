"""A toy model served over any link, in this process or (as a program: `toy_processor.py URL`) in a child.

Segment 0 doubles: carry = 2 · ids. Segment 1 sums: logits = sum(carry) + attended. A negative id asks for
trouble.
"""

import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from twofold import link
from twofold.errors import ModelError
from twofold.link import listen
from twofold.link.base import Connection
from twofold.link.exposure import Tokens
from twofold.model.manifest import NUMERICS, Manifest
from twofold.model.operations import Attention, Rotary
from twofold.model.segment import Cut, Plane
from twofold.processor.weight import WeightProcessor
from twofold.store import keys
from twofold.store.certificate import self_signed
from twofold.store.grant import Grant, Invitation, Scope, Token, UnixSeconds, verifier_of
from twofold.units import Nanoseconds, Seconds
from twofold.wire.rows import Layout, Rows

FAIL, DIE, BLOCK, BUG = -1, -2, -3, -4
DIGEST = "0123456789abcdef" * 4
WORKED = Nanoseconds(12345)

_CARRY, _ATTENDED = Plane("carry", 1024, "f32"), Plane("attended", 64, "f16")
MANIFEST = Manifest(
    digest=DIGEST,
    name="toy",
    family="toy",
    numerics=NUMERICS,
    vocabulary=4096,
    context_length=64,
    cuts=(
        Cut(takes=(Plane("ids", 1, "i32"),), gives=(_CARRY, _ATTENDED)),
        Cut(takes=(_CARRY, _ATTENDED), gives=(Plane("logits", 4096, "f32"),)),
    ),
    layers=(Attention(1, 1, 64, 0.125, Rotary((1.0,), False)),),
)


class ToyService:
    """What a weight processor serves; `release` ends a BLOCK, `entered` says that it began."""

    manifest = MANIFEST

    def __init__(self, held: frozenset[int] = frozenset({0, 1})) -> None:
        self.held = held
        self.layout = Layout(MANIFEST)
        self.entered, self.release = threading.Event(), threading.Event()
        self.block_seconds = 5.0
        self.rows: Rows | None = None
        self.calls = 0
        self.batches: list[int] = []  # rows of each

    def native_segments(self) -> None:
        return None

    def expert_rows(self) -> dict[int, tuple[int, ...]]:
        return {}

    def work(self, segment: int, rows: Rows, count: int) -> Nanoseconds:
        """Run a segment, or the trouble that an id asks for."""
        self.rows, self.calls = rows, self.calls + 1
        self.batches.append(count)
        if segment == 0:
            self._trouble(int(rows["ids"][:count].min()))
            rows["carry"][:count] = 2 * rows["ids"][:count]
            rows["attended"][:count] = 1
        else:
            total = rows["carry"][:count].sum(axis=1, keepdims=True) + rows["attended"][:count, :1]
            rows["logits"][:count] = total
        return WORKED

    def _trouble(self, kind: int) -> None:
        if kind == FAIL:
            raise ModelError("the toy is broken; buy another")
        if kind == BUG:
            raise ZeroDivisionError("a bug of the toy")
        if kind == DIE:
            os._exit(9)
        if kind == BLOCK:
            self.entered.set()
            self.release.wait(self.block_seconds)

    def forget(self) -> None:
        """Nothing is kept."""

    def tokenizer(self) -> bytes:
        """Bytes that the link does not look into."""
        return b"tokens" * 50_000


class Asker:
    """A connection with rows of its own, for tests that make one call after the other on them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rows = Rows(connection.layout)
        self.manifest, self.held, self.peer = connection.manifest, connection.held, connection.peer
        self.ask, self.close = connection.ask, connection.close

    def call(self, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """A call on the first `count` of `rows`."""
        return self.connection.call(self.rows, segment, count, deadline)


def connect(url: str, **options: Any) -> Asker:
    """`link.connect`, with rows."""
    return Asker(link.connect(url, **options))


def join(url: str) -> str:
    """A token granted by this host's processors and joined by this host itself, in its one keys folder; gives `url`."""
    folder = keys.keys_folder()
    own = keys.ensure_identity(folder, lambda: self_signed(time.time()))
    token = Token(secrets.token_hex(8), secrets.token_bytes(32))
    now = UnixSeconds(int(time.time()))
    keys.add_grant(folder, Grant(token.id, token.id, verifier_of(token.secret), Scope(), now))
    keys.join(folder, Invitation(url.partition("://")[2], own.fingerprint, token))
    return url


@contextlib.contextmanager
def serving(
    url: str, service: ToyService, *, connections: int = 64, handshake: float = 5.0
) -> Iterator[WeightProcessor]:
    """A weight processor of `service` in a thread of this process."""
    listener = listen(url, Tokens(in_force=1))
    processor = WeightProcessor(service, [listener], connections=connections, handshake=Seconds(handshake))
    thread = threading.Thread(target=processor.serve_forever, name="toy processor")
    thread.start()
    try:
        yield processor
    finally:
        service.release.set()
        processor.stop()
        thread.join(10)
        assert not thread.is_alive()


def main() -> None:
    """Serve at the address on the command line until killed."""
    processor = WeightProcessor(ToyService(), [listen(sys.argv[1])])
    os.write(1, f"ready {processor.urls[0]}\n".encode())
    processor.serve_forever()


if __name__ == "__main__":
    main()
