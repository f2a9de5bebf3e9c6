"""Weight processors as children that can be killed, stopped and started again at the same address."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Self

from fabric.hosts import BENCH
from twofold.errors import ProcessorLost, Unreachable, one_line

READY_SECONDS = 60.0
END_SECONDS = 10.0
Start = Callable[..., "subprocess.Popen[Any]"]  # subprocess.Popen, or Host.popen


class Child:
    """A context manager: a program of ours that says a first line, and is gone after the block."""

    def __init__(
        self, command: Sequence[str], *, start: Start = subprocess.Popen, environment: Mapping[str, str] | None = None
    ) -> None:
        """`command`: arguments of our Python. `start`: what makes the process, here or in a host."""
        self._command = [sys.executable, *command]
        self._start = start
        self._environment = {**os.environ, "PYTHONPATH": str(BENCH), **(environment or {})}
        self._process: subprocess.Popen[Any] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the block

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        self._errors.close()

    @property
    def process(self) -> "subprocess.Popen[Any]":
        """The running process."""
        if self._process is None:
            raise ProcessorLost(f"{' '.join(self._command)} was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; after `kill` or `end`, again."""
        self._process = self._start(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=self._environment
        )

    def first_line(self) -> str:
        """What it says once it is ready; Unreachable with its last words if it ends or says nothing."""
        output = self.process.stdout
        assert output
        expiry = time.monotonic() + READY_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            ready = select.select([output], [], [], max(expiry - time.monotonic(), 0))[0]
            byte = os.read(output.fileno(), 1) if ready else b""  # one, so that nothing behind the line is taken
            if not byte:
                raise Unreachable(f"{' '.join(self._command)} did not begin: {self.last_words()}")
            line += byte
        return line.decode().strip()

    def say(self, line: str) -> None:
        """A line to its standard input."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.running:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once; a second time is nothing."""
        self.signal(signal.SIGKILL)
        self._reap()

    def end(self) -> None:
        """Ask it to end, and wait for it."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(END_SECONDS)
        self.kill()

    def last_words(self) -> str:
        """The end of its standard error."""
        text = os.pread(self._errors.fileno(), 1 << 20, 0).decode("utf-8", "replace").strip()
        return one_line(text[-500:]) or "it said nothing"

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()


class Processor(Child):
    """A weight processor: `url` once ready, the same one after every start; `urls` are all, that one last."""

    url: str
    urls: list[str]

    def __init__(
        self,
        model: str,
        listen: str,
        *options: str,
        start: Start = subprocess.Popen,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`options`: more words for `twofold weights`."""
        words = ("-m", "twofold", "weights", model, "--with-parent", "--threads", "1", *options, "--listen", listen)
        super().__init__(words, start=start, environment=environment)

    def ready(self) -> None:
        """Wait until it serves."""
        self.urls = [self.first_line().split()[1] for word in self._command if word == "--listen"]
        self.url = self.urls[-1]
        self._command[-1] = self.url

    @property
    def place(self) -> str:
        """HOST:PORT."""
        return self.url.partition("://")[2]
