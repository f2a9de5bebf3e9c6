"""The memory map: where a weight address lives. A table, like a page table: segment → replicas.

The engine asks the map and nothing else; scaling, failover and migration are edits of it. Every edit makes a
new version. Pure: a replica is whatever answers `call`, and the map never calls it.
"""

from dataclasses import dataclass, field
from typing import Protocol

from twofold.errors import ConfigurationError, Refused, Unreachable
from twofold.model.manifest import Manifest
from twofold.units import Nanoseconds, Seconds
from twofold.wire.rows import Layout, Rows


class Replica(Protocol):
    """One weight memory as the map knows it, near or far (a `link.base.Connection`)."""

    manifest: Manifest
    held: frozenset[int]
    layout: Layout
    peer: str

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """Run `segment` on the first `count` rows of `rows`; returns the time the memory worked."""


@dataclass
class MemoryMap:
    """Address (segment of one model) → replicas, in the order they were added."""

    manifest: Manifest
    version: int = 0
    _replicas: dict[int, list[Replica]] = field(default_factory=dict)

    def add(self, replica: Replica) -> None:
        """Enter all that a replica holds; Refused if it holds another model or computes by another arithmetic."""
        ours, theirs = self.manifest, replica.manifest
        if theirs.digest != ours.digest:
            raise Refused(f"{replica.peer} holds model {theirs.digest[:12]}, this map is of {ours.digest[:12]}")
        if theirs.numerics != ours.numerics:
            raise Refused(f"{replica.peer} computes by numerics {theirs.numerics}, this map by {ours.numerics}")
        for segment in sorted(replica.held):
            self._replicas.setdefault(segment, []).append(replica)
        self.version += 1

    def remove(self, replica: Replica) -> None:
        """Strike a replica from every address."""
        for replicas in self._replicas.values():
            replicas[:] = [other for other in replicas if other is not replica]
        self.version += 1

    def replicas(self, segment: int) -> list[Replica]:
        """Who holds `segment`; Unreachable if nobody does."""
        found = self._replicas.get(segment, [])
        if not found:
            raise Unreachable(
                f"no weight processor holds segment {segment} of {self.manifest.name}; start one that does"
            )
        return found

    def check(self) -> None:
        """Raise ConfigurationError unless every segment that a step to all logits calls is held by somebody."""
        missing = [segment for segment in range(len(self.manifest.layers) + 1) if not self._replicas.get(segment)]
        if missing:
            raise ConfigurationError(f"nobody holds segments {missing} of {self.manifest.name}")
