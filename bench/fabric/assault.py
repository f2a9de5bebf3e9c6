"""An attacker: one kind of attack on a weight processor; at the end a line of JSON says what it did.

cd bench; python -m fabric.assault flood URL,URL,URL SEED CASES
cd bench; python -m fabric.assault KIND URL,URL,URL SEED SECONDS CONNECTIONS

The addresses are those of `target`; the keys folder is the attacker's (`keyring`).

flood    frames that are nearly right (`mutations`), before and after the handshake; one connection each
fuzz     the same for some seconds
loris    connections that send a byte of their Hello now and then, and come again when they are closed
crowd    connections that say Hello and then nothing
half     connections that send half a call, as large as may be, and stall
unread   connections that ask for the tokenizer again and again and never read it
wrong    one Hello after the other for a model that is not there
tokens, foreign: `intruders`
"""

import contextlib
import json
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable

from fabric.intruders import foreign, tokens
from fabric.mutations import Mutations, message_frame
from fabric.target import Target, answer, ended, told
from twofold.wire.message import AskTokenizer, Hello

TOGETHER = 32  # cases under way at once
PAUSE_SECONDS = 0.1
Counts = Counter[str]


def flood(target: Target, chance: random.Random, cases: float, connections: int) -> Counts:
    """Every case sent whole and read to the end of the connection; `unended` counts those that were left open."""
    del connections
    counts: Counts = Counter()
    mutations = Mutations(chance.getrandbits(32), target.digest, target.call)
    for _ in range(0, int(cases), TOGETHER):
        counts.update(_together(target, mutations, TOGETHER))
    return counts


def fuzz(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """The same, for so long."""
    del connections
    counts: Counts = Counter()
    mutations = Mutations(chance.getrandbits(32), target.digest, target.call)
    expiry = time.monotonic() + seconds
    while time.monotonic() < expiry:
        counts.update(_together(target, mutations, TOGETHER))
    return counts


def _together(target: Target, mutations: Mutations, count: int) -> Counts:
    """So many cases under way at once, to the end of each."""
    counts: Counts = Counter()
    under_way: list[socket.socket] = []
    for _ in range(count):
        case = mutations.next()
        counts[case.kind] += 1
        with contextlib.suppress(OSError):  # it closed before all was sent
            sock = target.greeted() if case.greeted else target.connect()
            under_way.append(sock)
            sock.sendall(case.data)
            sock.shutdown(socket.SHUT_WR)
    for sock in under_way:
        counts[ended(sock)] += 1
    return counts


def loris(target: Target, chance: random.Random, seconds: float, connections: int) -> Counts:
    """A byte of a Hello now and then."""
    hello = message_frame(target.hello)
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
            counts[told(answer(sock))] += 1
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


ATTACKS = {attack.__name__: attack for attack in (flood, fuzz, loris, crowd, half, unread, wrong, tokens, foreign)}


def main() -> None:
    """Attack, and say what happened."""
    kind, urls, seed, amount, *connections = sys.argv[1:]
    target = Target(urls.split(","))
    counts = ATTACKS[kind](target, random.Random(int(seed)), float(amount), int(connections[0]) if connections else 1)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
