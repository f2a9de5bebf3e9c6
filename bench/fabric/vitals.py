"""Memory and descriptors of processes over time, and whether they stay flat."""

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

from fabric.repeated import Repeated
from twofold.units import MIB

EVERY_SECONDS = 0.5
WARM_SHARE = 0.2  # of a process's life, in which it may grow: caches fill
SLACK_BYTES, SLACK_SHARE = 4 * MIB, 0.03
SLACK_DESCRIPTORS = 4
LEAST_SAMPLES = 20


class Vital(NamedTuple):
    """One process at one moment (seconds of the monotonic clock)."""

    at: float
    resident_bytes: int
    descriptors: int


def look(pid: int) -> Vital | None:
    """A process now; None if it is gone."""
    with contextlib.suppress(OSError, StopIteration, IndexError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
        return Vital(time.monotonic(), resident, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return None


def growth(samples: list[Vital]) -> Vital | None:
    """How much the greatest of the second half exceeds the greatest of the first, once warm; None if too short."""
    warm = samples[int(WARM_SHARE * len(samples)) :]
    if len(samples) < LEAST_SAMPLES:
        return None
    first, second = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    return Vital(
        second[-1].at - first[0].at,
        max(s.resident_bytes for s in second) - max(s.resident_bytes for s in first),
        max(s.descriptors for s in second) - max(s.descriptors for s in first),
    )


def flat(samples: list[Vital]) -> bool:
    """Whether a process has stopped growing; one that lived too shortly has."""
    grown = growth(samples)
    if grown is None:
        return True
    slack = max(SLACK_BYTES, SLACK_SHARE * samples[-1].resident_bytes)
    return grown.resident_bytes <= slack and grown.descriptors <= SLACK_DESCRIPTORS


class Watch(Repeated):
    """A context manager: looks at every process it was told of, by name and process id, while the block runs."""

    def __init__(self) -> None:
        super().__init__(EVERY_SECONDS)
        self.samples: dict[str, list[Vital]] = {}
        self._watched: dict[str, int] = {}

    def add(self, name: str, pid: int) -> None:
        """Look at a process from now on, until it is gone."""
        self._watched[f"{name} {pid}"] = pid

    def once(self) -> None:
        """Look at each."""
        for name, pid in list(self._watched.items()):
            seen = look(pid)
            if seen:
                self.samples.setdefault(name, []).append(seen)
            else:
                self._watched.pop(name, None)
