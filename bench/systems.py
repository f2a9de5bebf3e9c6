"""The systems that are compared: each a driver in an environment of its own, kept alive and frozen between turns.

A driver stays loaded over all rounds, so a turn costs only its work. While another one works it is stopped
(SIGSTOP to its whole process group): it can spin, poll or collect no garbage on the cores that are being measured.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twofold.errors import LinkError, ProcessorLost

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass
class System:
    """One driver. `command` starts it; `identity` is its first line."""

    command: Sequence[str]
    identity: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            self.identity = self._answer()
            self._signal(signal.SIGSTOP)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def name(self) -> str:
        """What it calls itself."""
        return str(self.identity["system"])

    def ask(self, work: str, **arguments: Any) -> dict[str, Any]:
        """Thaw, have the work done, freeze; raises ProcessorLost if the driver ended instead of answering."""
        self._signal(signal.SIGCONT)
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"work": work, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        return parsed(self._process.stdout.readline(), self.command)

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def _end(self) -> None:
        for number in (signal.SIGKILL, signal.SIGCONT):
            try:
                self._signal(number)
            except ProcessLookupError:
                break
        self._process.communicate()


def parsed(line: str, command: Sequence[str]) -> dict[str, Any]:
    """A driver's line; ProcessorLost if there is none, LinkError if it is not an object of JSON."""
    shown = " ".join(map(str, command))
    if not line:
        raise ProcessorLost(f"the driver ended without an answer; see why with: {shown}")
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise LinkError(f"the driver said {line.strip()[:80]!r} instead of JSON; try it alone: {shown}")
    return value


@dataclass(frozen=True)
class Peer:
    """How to start one: an interpreter, a driver's file and what it loads."""

    python: str
    driver: str
    model: str

    def system(self, threads: int) -> System:
        """The driver, not yet started."""
        return System((self.python, str(PEERS / self.driver), self.model, str(threads)))


class Neighbour:
    """A process that burns the first core while the block runs."""

    def __enter__(self) -> Self:
        core = min(os.sched_getaffinity(0))
        burn = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
        self._process = subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE)
        assert self._process.stdout
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def seconds_to_first_output(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """From the start of a process to the first byte it prints; ProcessorLost if it prints nothing."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.communicate()
    if not first:
        raise ProcessorLost(f"it ended without printing a token; see why with: {' '.join(command)}")
    return seconds
