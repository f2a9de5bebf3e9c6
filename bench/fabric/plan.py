"""What is to go wrong, when, and with whom: decided beforehand from a seed. Pure."""

import random
from collections.abc import Sequence
from typing import NamedTuple

LOOPBACK = ("kill", "kill", "restart", "stop", "hold", "corrupt", "duplicate", "drop", "slow")
NETWORK = ("kill", "kill", "restart", "stop", "partition", "cut out", "cut in", "slow", "loss")
QUIET_SECONDS = 2.0  # before the first event
SLOW_MS, LOSS = 20.0, 0.05  # what `slow` adds each way, and the share that `loss` loses
REST_SECONDS = (2.0, 4.0)  # from the end of an event to the next: lost connections are made again in it
LASTING = {  # seconds; what is not here is over at once
    "kill": (0.5, 1.5),  # until it is started again
    "stop": (0.2, 3.0),
    "hold": (0.2, 3.0),
    "partition": (0.2, 3.0),
    "cut out": (0.2, 3.0),
    "cut in": (0.2, 3.0),
    "slow": (0.5, 3.0),
    "loss": (0.5, 3.0),
}


class Event(NamedTuple):
    """From `at`, for `seconds`, replica `target` suffers `kind`; seconds from the start of the load."""

    at: float
    kind: str
    target: int
    seconds: float

    @property
    def end(self) -> float:
        """When it is over."""
        return self.at + self.seconds


def plan(seed: int, seconds: float, targets: int, kinds: Sequence[str]) -> list[Event]:
    """Events one after the other over so many seconds, all of them over before the end; each kind as often as any."""
    chance = random.Random(seed)
    events: list[Event] = []
    deck: list[str] = []
    at = QUIET_SECONDS
    while True:
        if not deck:
            deck = chance.sample(kinds, len(kinds))
        kind = deck.pop()
        event = Event(at, kind, chance.randrange(targets), round(chance.uniform(*LASTING.get(kind, (0.0, 0.0))), 3))
        if event.end + REST_SECONDS[1] > seconds:
            return events
        events.append(event)
        at = round(event.end + chance.uniform(*REST_SECONDS), 3)
