"""An attacker: one kind of attack on a weight processor at a TCP address; at the end a line of JSON says what it did.

cd bench; python -m fabric.assault fuzz HOST:PORT SEED CASES
cd bench; python -m fabric.assault loris|crowd|half|unread|wrong HOST:PORT SEED SECONDS CONNECTIONS

fuzz     frames that are nearly right (`mutations`), before and after the handshake; one connection each
loris    connections that send a byte of their Hello now and then, and come again when they are closed
crowd    connections that say Hello and then nothing
half     connections that send half a call, as large as may be, and stall
unread   connections that ask for the tokenizer again and again and never read it
wrong    one Hello after the other for a model that is not there
"""

import contextlib
import json
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable

from fabric.mutations import Mutations, call_frame, message_frame
from fabric.proxy import Place, place_of
from twofold import link
from twofold.wire import frame
from twofold.wire.frame import HEADER_BYTES
from twofold.wire.message import AskTokenizer, Hello, decode

TOGETHER = 32  # cases under way at once
PATIENCE_SECONDS = 10.0  # for the other side to end a connection
PAUSE_SECONDS = 0.1
Counts = Counter[str]


class Target:
    """What is attacked, and a valid call of its model."""

    def __init__(self, place: Place) -> None:
        self.place = place
        connection = link.connect("tcp://{}:{}".format(*place))
        self.digest = connection.manifest.digest
        layout = connection.layout
        connection.close()
        self.call = call_frame(self.digest, 0, 1, bytes(layout.payload_bytes(layout.cuts[0].takes, 1)))
        rows = layout.limit(1)
        self.large = call_frame(self.digest, 1, rows, bytes(layout.payload_bytes(layout.cuts[1].takes, rows)))

    def connect(self) -> socket.socket:
        """A connection that has said nothing."""
        sock = socket.create_connection(self.place, PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def greeted(self) -> socket.socket:
        """A connection after a valid handshake; OSError if it was refused."""
        sock = self.connect()
        sock.sendall(message_frame(Hello(digest=self.digest)))
        if answer_kind(sock) != "Welcome":
            sock.close()
            raise ConnectionRefusedError
        return sock


def answer_kind(sock: socket.socket) -> str:
    """The name of the message or frame that comes next; "end" if none does."""
    head = _exactly(sock, HEADER_BYTES)
    if not head:
        return "end"
    header = frame.unpack(head)
    payload = _exactly(sock, header.length)
    return type(decode(payload)).__name__ if header.kind == frame.CONTROL else header.kind_name


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := sock.recv(count - len(data))):
        data += piece
    return data if len(data) == count else b""


def fuzz(target: Target, chance: random.Random, cases: float, connections: int) -> Counts:
    """Every case sent whole and read to the end of the connection; `unended` counts those that were left open."""
    del connections
    counts: Counts = Counter()
    mutations = Mutations(chance.getrandbits(32), target.digest, target.call)
    for _ in range(0, int(cases), TOGETHER):
        under_way: list[socket.socket] = []
        for _ in range(TOGETHER):
            case = mutations.next()
            counts[case.kind] += 1
            with contextlib.suppress(OSError):  # it closed before all was sent
                sock = target.greeted() if case.greeted else target.connect()
                under_way.append(sock)
                sock.sendall(case.data)
                sock.shutdown(socket.SHUT_WR)
        for sock in under_way:
            counts[_ended(sock)] += 1
    return counts


def _ended(sock: socket.socket) -> str:
    """How a connection ended after all was sent."""
    with sock:
        try:
            while sock.recv(1 << 16):
                pass
        except TimeoutError:
            return "unended"
        except OSError:
            return "reset"
    return "ended"


def loris(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """A byte of a Hello now and then."""
    hello = message_frame(Hello(digest=target.digest))
    return _keep(target.connect, lambda sock, turn: sock.sendall(hello[turn : turn + 1]), chance, seconds, connections)


def crowd(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """Nothing after the Hello."""
    return _keep(target.greeted, lambda sock, turn: None, chance, seconds, connections)


def half(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """Half a large call, and then nothing."""

    def send(sock: socket.socket, turn: int) -> None:
        if turn == 0:
            sock.sendall(target.large[: len(target.large) // 2])

    return _keep(target.greeted, send, chance, seconds, connections)


def unread(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """Questions whose answers are never read."""
    question = message_frame(AskTokenizer())
    return _keep(target.greeted, lambda sock, turn: sock.sendall(question), chance, seconds, connections)


def wrong(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """Hello for another model, refused every time."""
    del connections
    counts: Counts = Counter()
    expiry = time.monotonic() + seconds
    while time.monotonic() < expiry:
        with contextlib.suppress(OSError), target.connect() as sock:
            sock.sendall(message_frame(Hello(digest=chance.randbytes(32).hex())))
            counts[answer_kind(sock)] += 1
    return counts


def _keep(
    make: Callable[[], socket.socket],
    act: Callable[[socket.socket, int], None],
    chance: random.Random,
    seconds: float,
    connections: int,
) -> Counts:
    """So many connections, made again when they end, each acted on about every PAUSE_SECONDS."""
    counts: Counts = Counter()
    held: list[tuple[socket.socket, int]] = []
    expiry = time.monotonic() + seconds
    while time.monotonic() < expiry:
        while len(held) < connections and time.monotonic() < expiry:
            try:
                held.append((make(), 0))
                counts["made"] += 1
            except OSError:
                counts["refused"] += 1
                break
        held = [(sock, turn + 1) for sock, turn in held if _acted(act, sock, turn, counts)]
        counts["most at once"] = max(counts["most at once"], len(held))
        time.sleep(chance.uniform(0.5, 1.5) * PAUSE_SECONDS)
    for sock, _ in held:
        sock.close()
    return counts


def _acted(act: Callable[[socket.socket, int], None], sock: socket.socket, turn: int, counts: Counts) -> bool:
    """Whether the connection is still there after the act."""
    sock.setblocking(False)
    try:
        act(sock, turn)
    except BlockingIOError:
        counts["full"] += 1
    except OSError:
        counts["closed on us"] += 1
        sock.close()
        return False
    return True


ATTACKS = {attack.__name__: attack for attack in (fuzz, loris, crowd, half, unread, wrong)}


def main() -> None:
    """Attack, and say what happened."""
    kind, place, seed, amount, *connections = sys.argv[1:]
    target = Target(place_of(place))
    counts = ATTACKS[kind](target, random.Random(int(seed)), float(amount), int(connections[0]) if connections else 1)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
