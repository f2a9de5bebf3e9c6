"""The `twofold` command as a user's shell runs it: to its end, or held while it runs."""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

COMMAND = (sys.executable, "-m", "twofold")
WORK_SECONDS = 2.0  # of processor time: a command that used so much is past its start and at work
GLANCE_MILLISECONDS = 5
PATIENCE_SECONDS = 60.0  # how long a test waits before it says that a command hangs; nothing should take this
REFUSAL_SECONDS = 5.0  # what bad input may take
REFUSAL_BYTES = 150 << 20  # resident memory that bad input may take; NumPy and the tokenizer alone are 60 MiB


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int  # negative: the signal that killed it
    output: bytes
    errors: str
    seconds: float
    resident_bytes: int  # at its peak, without its children

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.output.decode()

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value that it must be."""
        return json.loads(self.output)

    @property
    def complaint(self) -> str:
        """The one line that a failing command says: checked to be one, and to be ours."""
        lines = self.errors.strip("\n").split("\n")
        assert len(lines) == 1, self.errors
        assert lines[0].startswith("twofold: "), self.errors
        assert lines[0].isprintable(), self.errors
        return lines[0].removeprefix("twofold: ")


class Running:
    """A command under way; `Running` as a context manager leaves nothing behind."""

    def __init__(self, process: subprocess.Popen[bytes], errors: int) -> None:
        self.process, self._errors = process, errors
        self.pid = process.pid
        self.output = b""  # what was read of standard output so far
        self._since = time.monotonic()
        self._ended = os.pidfd_open(process.pid)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        os.close(self._ended)
        os.close(self._errors)

    def say(self, data: bytes) -> None:
        """Write to its standard input, at once."""
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait_output(self, text: bytes = b"", *, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Read standard output until it has `text` (default: anything); what came with it."""
        assert self.process.stdout
        before = len(self.output)
        expiry = time.monotonic() + seconds
        while len(self.output) == before or text not in self.output[before:]:
            ready = select.select([self.process.stdout], [], [], max(expiry - time.monotonic(), 0))[0]
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert piece, f"{text!r} did not come; output {self.output[-500:]!r}, errors {self.errors()[-2000:]}"
            self.output += piece
        return self.output[before:]

    def errors(self) -> str:
        """Standard error so far."""
        return os.pread(self._errors, 1 << 20, 0).decode()

    def wait_errors(self, text: str, *, times: int = 1) -> None:
        """Until standard error has `text` so many times."""
        self._wait(lambda: self.errors().count(text) >= times, f"{text!r} on standard error")

    def wait_computing(self) -> None:
        """Until it has used WORK_SECONDS of processor time."""
        ticks = os.sysconf("SC_CLK_TCK")
        self._wait(lambda: _processor_ticks(self.pid) > WORK_SECONDS * ticks, "it computes")

    def wait_children(self) -> list[int]:
        """The process ids of its children, once it has one."""
        self._wait(lambda: bool(self.children), "a child")
        return self.children

    @property
    def children(self) -> list[int]:
        """The process ids of its children."""
        return children_of(self.pid)

    def _wait(self, arrived: Callable[[], bool], what: str) -> None:
        """Until `arrived`, looked at every few milliseconds; AssertionError if the command ends or hangs."""
        expiry = time.monotonic() + PATIENCE_SECONDS
        poll = self._ending()
        while not arrived():
            assert not poll.poll(GLANCE_MILLISECONDS), f"{what} did not come: {self.errors()}"
            assert time.monotonic() < expiry, f"{what} did not come: {self.errors()}"

    def finish(self, *, seconds: float = PATIENCE_SECONDS) -> Finished:
        """Its end, which has to come within `seconds`; standard output is read meanwhile."""
        start = time.monotonic()
        self._drain(start + seconds)
        assert self._ending().poll(max(start + seconds - time.monotonic(), 0) * 1000), f"it hangs: {self.errors()}"
        _, status, usage = os.wait4(self.pid, 0)
        now = time.monotonic()
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        return Finished(code, self.output, self.errors(), now - self._since, usage.ru_maxrss * 1024)

    def _drain(self, expiry: float) -> None:
        output = self.process.stdout
        while output and not output.closed:
            descriptor = output.fileno()
            ready = select.select([descriptor, self._ended], [], [], max(expiry - time.monotonic(), 0))[0]
            if descriptor not in ready:
                return
            piece = os.read(descriptor, 65536)
            self.output += piece
            if not piece:
                return

    def _ending(self) -> "select.poll":
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        return poll


def start(
    *arguments: str | bytes | Path,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.PIPE,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    command: Sequence[str] = COMMAND,
) -> Running:
    """Start `twofold ARGUMENTS` in a process group of its own, as a shell does; `environment` is added to ours."""
    errors = os.memfd_create("standard error")
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=errors,
        env={**clean_environment(), **(environment or {})},
        process_group=0,
    )
    return Running(process, errors)


def twofold(
    *arguments: str | bytes | Path,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> Finished:
    """Run `twofold ARGUMENTS` to its end."""
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        with start(*arguments, environment=environment, stdin=source) as running:
            return running.finish(seconds=seconds)


def all_of(cases: Mapping[str, Sequence[str | bytes | Path]]) -> dict[str, Finished]:
    """Run several commands to their ends, two at a time, and return them under their names."""
    with ThreadPoolExecutor(2) as two:
        return dict(zip(cases, two.map(lambda arguments: twofold(*arguments), cases.values()), strict=True))


def _own_resident_bytes() -> int:
    """Our own peak: the system counts it for every child too, from before the child becomes another program."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def refused(finished: Finished, code: int, *words: str, resident_bytes: int = REFUSAL_BYTES) -> str:
    """The complaint of a command that was to be refused: quickly, in one line with `words`, and with no output."""
    said = finished.complaint
    assert finished.code == code, (finished.code, finished.errors)
    assert finished.output == b""
    assert finished.seconds < REFUSAL_SECONDS
    assert finished.resident_bytes <= max(resident_bytes, _own_resident_bytes())
    for word in words:
        assert word in said, (word, said)
    return said


def clean_environment() -> dict[str, str]:
    """Ours, without any setting of Twofold's, in UTF-8 and without the threads of a BLAS that nothing uses."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWOFOLD_", "LC_"))}
    return {**kept, "LC_ALL": "C.UTF-8", "COLUMNS": "200", "OPENBLAS_NUM_THREADS": "1"}


def _processor_ticks(pid: int) -> int:
    """Ticks of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def children_of(pid: int) -> list[int]:
    """The process ids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found
