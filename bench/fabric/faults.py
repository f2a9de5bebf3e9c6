"""What can go wrong with frames on their way, by command. Pure: the time is an argument, chance has a seed.

corrupt             one bit of the next frame is flipped
duplicate           the next frame comes twice
drop                every connection ends
hold SECONDS        nothing passes for so long, then everything does: a partition that heals
slow SECONDS MS     for so long, every frame is so many milliseconds late
trickle SECONDS     for so long, frames come in pieces of 100 bytes, a millisecond apart
"""

import random
from typing import NamedTuple

from twofold.errors import ConfigurationError

TRICKLE_BYTES, TRICKLE_SECONDS = 100, 0.001
_ARGUMENTS = {"corrupt": 0, "duplicate": 0, "drop": 0, "hold": 1, "slow": 2, "trickle": 1}


class Fault(NamedTuple):
    """A command: what, for how many seconds, and for `slow` how many milliseconds a frame is late."""

    kind: str
    seconds: float = 0.0
    late_ms: float = 0.0

    @property
    def line(self) -> str:
        """As it is written to a proxy."""
        return " ".join([self.kind, *map(str, self[1 : 1 + _ARGUMENTS[self.kind]])])


def parse(line: str) -> Fault:
    """A command as a line; ConfigurationError if it is none."""
    kind, *words = line.split() or [""]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [-1.0]
    if _ARGUMENTS.get(kind) != len(words) or not all(0 <= number < 1e6 for number in numbers):
        raise ConfigurationError(f"'{line.strip()}' is not a fault; faults and their numbers: {_ARGUMENTS}")
    return Fault(kind, *numbers)


class Piece(NamedTuple):
    """Bytes to send, and how long to wait before."""

    wait: float
    data: bytes


class Faults:
    """The faults in force."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._next: list[str] = []  # corrupt or duplicate, for frames to come
        self._until = dict.fromkeys(("hold", "slow", "trickle"), 0.0)
        self._late_seconds = 0.0

    def order(self, fault: Fault, now: float) -> None:
        """Put a fault in force; `drop` is the proxy's own."""
        if fault.kind in self._until:
            self._until[fault.kind] = now + fault.seconds
            self._late_seconds = fault.late_ms / 1000 if fault.kind == "slow" else self._late_seconds
        else:
            self._next.append(fault.kind)

    def treat(self, frame: bytes, now: float) -> list[Piece]:
        """What becomes of a frame that passes now."""
        kind = self._next.pop(0) if self._next else None
        if kind == "corrupt":
            frame = self._flipped(frame)
        wait = max(self._until["hold"] - now, 0.0) + (self._late_seconds if now < self._until["slow"] else 0.0)
        if now < self._until["trickle"]:
            pieces = [frame[at : at + TRICKLE_BYTES] for at in range(0, len(frame), TRICKLE_BYTES)]
            return [Piece(wait if at == 0 else TRICKLE_SECONDS, piece) for at, piece in enumerate(pieces)]
        return [Piece(wait, frame), *([Piece(0.0, frame)] if kind == "duplicate" else [])]

    def _flipped(self, frame: bytes) -> bytes:
        changed = bytearray(frame)
        changed[self._chance.randrange(len(frame))] ^= 1 << self._chance.randrange(8)
        return bytes(changed)
