"""What a network does to packets: when each arrives, and whether at all. Pure: the time is an argument.

    host a ──cable──▶ ┌────────┐ ──cable──▶ host b        every host has one cable, alike in both directions;
           ◀──cable── │ switch │ ◀──cable──               a path can be cut one way or both
                      └────────┘

A packet enters the source's cable when it is sent and the target's when it leaves that, so delays add. A cable with
a rate carries one packet after the other. Packets of one direction never overtake each other, whatever the jitter:
real routes rarely let them, and TCP takes it for loss.
"""

import heapq
import itertools
import random
from typing import NamedTuple

import msgspec

QUEUE_BYTES = 1 << 20  # waiting for a cable with a rate; what comes on top is lost
IPV4_HEADER_BYTES = 20
_TARGET = slice(16, 20)  # of an IPv4 header


class Cable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one direction of a cable does. The jitter is uniform, up to so much more or less than the delay."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0  # share of packets, 0 to 1
    rate_mbit: float | None = None  # None: without limit


class Direction:
    """One direction of a cable in use."""

    def __init__(self, chance: random.Random) -> None:
        self.cable = Cable()
        self._chance = chance
        self._free = 0.0  # when the last bit of the latest packet has been sent
        self._latest = 0.0  # arrival

    def carry(self, now: float, size_bytes: int) -> float | None:
        """When a packet that enters now comes out at the other end, in seconds; None if it is lost."""
        cable = self.cable
        if cable.loss and self._chance.random() < cable.loss:
            return None
        sent = now
        if cable.rate_mbit is not None:
            bytes_a_second = cable.rate_mbit * 1e6 / 8
            start = max(now, self._free)
            if (start - now) * bytes_a_second > QUEUE_BYTES:
                return None
            sent = self._free = start + size_bytes / bytes_a_second
        jitter_ms = self._chance.uniform(-cable.jitter_ms, cable.jitter_ms) if cable.jitter_ms else 0.0
        self._latest = max(self._latest, sent + max(cable.delay_ms + jitter_ms, 0.0) / 1000)
        return self._latest


class Port(NamedTuple):
    """A host at the switch."""

    outward: Direction  # from the host
    inward: Direction  # to the host


class Arrival(NamedTuple):
    """A packet under way; sorts by time, then in order of sending."""

    time: float
    number: int
    host: str
    packet: bytes


class Cables:
    """All cables of a network and what is under way in them."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._ports: dict[str, Port] = {}
        self._hosts: dict[bytes, str] = {}  # by address
        self._cuts: set[tuple[str, str]] = set()
        self._under_way: list[Arrival] = []
        self._numbers = itertools.count()

    def add(self, host: str, *addresses: bytes) -> None:
        """Plug in a host with IPv4 addresses of 4 bytes."""
        self._ports[host] = Port(Direction(self._chance), Direction(self._chance))
        self._hosts.update(dict.fromkeys(addresses, host))

    def set(self, host: str, cable: Cable) -> None:
        """Both directions of a host's cable, from now on."""
        for direction in self._ports[host]:
            direction.cable = cable

    def cut(self, source: str, target: str) -> None:
        """Nothing that `source` sends reaches `target` from now on; the other way is as it was."""
        self._cuts.add((source, target))

    def heal(self) -> None:
        """No path is cut."""
        self._cuts.clear()

    def send(self, now: float, source: str, packet: bytes) -> None:
        """A host sends a packet. What is not for a host of this network goes nowhere."""
        target = self._hosts.get(packet[_TARGET]) if len(packet) >= IPV4_HEADER_BYTES and packet[0] >> 4 == 4 else None
        if target is None or (source, target) in self._cuts:
            return
        middle = self._ports[source].outward.carry(now, len(packet))
        end = None if middle is None else self._ports[target].inward.carry(middle, len(packet))
        if end is not None:
            heapq.heappush(self._under_way, Arrival(end, next(self._numbers), target, packet))

    def arrived(self, now: float) -> list[Arrival]:
        """What has arrived by now, in order; each packet once."""
        found: list[Arrival] = []
        while self._under_way and self._under_way[0].time <= now:
            found.append(heapq.heappop(self._under_way))
        return found

    def next_arrival(self) -> float | None:
        """When the next packet arrives; None if none is under way."""
        return self._under_way[0].time if self._under_way else None
