"""A look at the replicas of a list, once: who is there, with what, how far away."""

import time
from collections.abc import Sequence

from twofold.engine.attachment import SILENCE, Connect
from twofold.errors import FrameError, TwofoldError
from twofold.link.base import HANDSHAKE_SECONDS
from twofold.memory.map import Entry, MemoryMap
from twofold.units import Seconds
from twofold.wire.message import Drain, Message, Ping, Pong


def survey(entries: Sequence[Entry], connect: Connect) -> tuple[MemoryMap, dict[str, Seconds]]:
    """Greet and ping each replica: the map of what was found, and the round trip of a ping by address."""
    found = MemoryMap().listed(entries, Seconds(0))
    trips: dict[str, Seconds] = {}
    for entry in entries:
        try:
            connection = connect(entry.url, HANDSHAKE_SECONDS)
            try:
                start = time.monotonic()
                leaving = _ponged(connection.ask(Ping(), SILENCE)).draining
                trips[entry.url] = Seconds(time.monotonic() - start)
            finally:
                connection.close()
            found = found.joined(entry.url, connection.manifest, connection.held, leaving, Seconds(0))
        except TwofoldError as error:
            found = found.lost(entry.url, str(error), Seconds(0))
    return found, trips


def drain(url: str, connect: Connect) -> None:
    """Tell the processor at `url` to say that it is draining; LinkError if it cannot be told, Refused if it may not."""
    connection = connect(url, HANDSHAKE_SECONDS)
    try:
        _ponged(connection.ask(Drain(), SILENCE))
    finally:
        connection.close()


def _ponged(answer: Message) -> Pong:
    if not isinstance(answer, Pong):
        raise FrameError(f"a weight processor answered a ping with {type(answer).__name__}")
    return answer
