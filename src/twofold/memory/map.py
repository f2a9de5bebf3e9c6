"""The memory map: where a weight address lives. A table, like a page table: segment → replicas.

Scaling, failover and migration are edits of it. A map never changes: every edit is a method that returns the next
version, so whoever reads one sees a whole one without a lock. Pure: time is an argument, and nothing here calls.

                  joined                suspected
     JOINING ───────────────▶ UP ◀───────────────────▶ SUSPECT
        │                     │ ▲       answered          │
        │ lost           lost │ │ joined                  │ lost
        └──────────────────▶ DOWN ◀───────────────────────┘

Whether a replica is draining is another matter than whether it lives: it says so itself, or the list of replicas does.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from twofold.errors import ConfigurationError, Refused
from twofold.model.manifest import Manifest
from twofold.model.ranges import ranges_text
from twofold.units import Seconds

Burden = tuple[int, int]  # calls in flight, slowness (0: as fast as any)


class State(StrEnum):
    """What is known of a replica's life."""

    JOINING = "joining"  # not greeted yet
    UP = "up"  # it answered last time
    SUSPECT = "suspect"  # a call of it failed since
    DOWN = "down"  # nobody answers there, or not what is wanted


@dataclass(frozen=True, slots=True)
class Entry:
    """A replica as it is listed: where it is, which of its segments to use (None: all), whether it is to be left."""

    url: str
    only: frozenset[int] | None = None
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as it is known."""

    entry: Entry
    state: State
    since: Seconds  # when it came to be in this state, on the clock of whoever edits
    held: frozenset[int] = frozenset()  # as it announced
    leaving: bool = False  # it announced that it will end
    why: str = ""  # what was wrong when it came to be suspect or down

    @property
    def url(self) -> str:
        """Its address: what it is known by."""
        return self.entry.url

    @property
    def segments(self) -> frozenset[int]:
        """What it may be called for."""
        return self.held if self.entry.only is None else self.held & self.entry.only

    @property
    def draining(self) -> bool:
        """Whether it is to be called only if nobody else is there."""
        return self.leaving or self.entry.drain

    @property
    def rank(self) -> int | None:
        """Which replicas are called first, 0 before all; None for those that are not called."""
        match self.state:
            case State.UP:
                return 1 if self.draining else 0
            case State.SUSPECT:
                return 2
            case _:
                return None


@dataclass(frozen=True)
class MemoryMap:
    """The replicas of one model, in the order they are listed; `manifest` is that of the first that joined."""

    replicas: tuple[Replica, ...] = ()
    manifest: Manifest | None = None
    version: int = 0
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {replica.url: i for i, replica in enumerate(self.replicas)})

    def __contains__(self, url: str) -> bool:
        return url in self._places

    def __getitem__(self, url: str) -> Replica:
        return self.replicas[self._places[url]]

    # edits

    def listed(self, entries: Sequence[Entry], now: Seconds) -> "MemoryMap":
        """With these replicas, each named once, and no others."""
        replicas = tuple(
            replace(self[entry.url], entry=entry) if entry.url in self else Replica(entry, State.JOINING, now)
            for entry in entries
        )
        return self._next(replicas)

    def joined(self, url: str, manifest: Manifest, held: frozenset[int], leaving: bool, now: Seconds) -> "MemoryMap":
        """It was greeted; Refused if it holds another model than the others or computes by another arithmetic."""
        ours = self.manifest or manifest
        if manifest.digest != ours.digest:
            raise Refused(f"{url} holds model {manifest.digest[:12]}, this map is of {ours.digest[:12]}")
        if manifest.numerics != ours.numerics:
            raise Refused(f"{url} computes by numerics {manifest.numerics}, this map by {ours.numerics}")
        known = replace(self, manifest=ours)
        return known._changed(url, now, State.UP, held=held, leaving=leaving, why="")

    def answered(self, url: str, leaving: bool, now: Seconds) -> "MemoryMap":
        """It lives, and said whether it will end."""
        return self._changed(url, now, State.UP, leaving=leaving, why="")

    def suspected(self, url: str, why: str, now: Seconds) -> "MemoryMap":
        """A call of it failed."""
        if url in self and self[url].state is State.UP:
            return self._changed(url, now, State.SUSPECT, why=why)
        return self

    def lost(self, url: str, why: str, now: Seconds) -> "MemoryMap":
        """It does not answer."""
        return self._changed(url, now, State.DOWN, why=why)

    def _changed(self, url: str, now: Seconds, state: State, **known: Any) -> "MemoryMap":
        """With the replica at `url`, if it is still listed, in this state, and this known of it."""
        if url not in self:
            return self
        old, place = self[url], self._places[url]
        new = replace(old, state=state, since=old.since if state is old.state else now, **known)
        return self._next((*self.replicas[:place], new, *self.replicas[place + 1 :]))

    def _next(self, replicas: tuple[Replica, ...]) -> "MemoryMap":
        """The next version; this one if nothing changes."""
        return self if replicas == self.replicas else replace(self, replicas=replicas, version=self.version + 1)

    # what it says

    def choose(self, segment: int, burden: Callable[[str], Burden], tried: Container[str] = ()) -> str | None:
        """The address to call for `segment`: none of `tried`; None if nobody is left.

        Those up before those that drain before those suspected; then the fewest calls in flight, the fastest, the
        first listed.
        """
        best: tuple[int, int, int] | None = None
        chosen = None
        for rank, url in self.holders.get(segment, ()):
            if url not in tried:
                value = (rank, *burden(url))
                if best is None or value < best:
                    best, chosen = value, url
        return chosen

    def spare(self, segment: int, url: str, tried: Container[str] = ()) -> bool:
        """Whether somebody else, alive and not of `tried`, holds `segment` too."""
        return any(rank < 2 and other != url and other not in tried for rank, other in self.holders.get(segment, ()))

    @cached_property
    def holders(self) -> dict[int, tuple[tuple[int, str], ...]]:
        """Segment → (rank, address) of those that can be called, in the order listed."""
        found: dict[int, tuple[tuple[int, str], ...]] = {}
        for replica in self.replicas:
            if replica.rank is not None:
                for segment in replica.segments:
                    found[segment] = (*found.get(segment, ()), (replica.rank, replica.url))
        return found

    @property
    def missing(self) -> tuple[int, ...]:
        """The segments that a step to all logits calls and nobody can be called for, or their parts."""
        if self.manifest is None:
            return ()
        found = {s for s in range(len(self.manifest.layers) + 1) if s not in self.holders}
        for mixture in self.manifest.mixtures:
            if mixture.segment in found:
                parts = {mixture.front, mixture.back, *mixture.experts}
                missing = parts.difference(self.holders)
                found = found - {mixture.segment} | missing if missing != parts else found
        return tuple(sorted(found))

    def check(self) -> None:
        """Raise ConfigurationError unless every segment that a step to all logits calls can be called."""
        if self.manifest is None or self.missing:
            raise ConfigurationError(f"nobody holds {self.gap()}")

    def gap(self) -> str:
        """What is missing, for the middle of a sentence, with what is wrong at each replica that does not answer."""
        what = "the model" if self.manifest is None else f"segments {ranges_text(self.missing)} of {self.manifest.name}"
        wrong = "; ".join(f"{replica.url}: {replica.why}" for replica in self.replicas if replica.why)
        return f"{what} ({wrong})" if wrong else f"{what}; start a weight processor that does"
