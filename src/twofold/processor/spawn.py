"""A weight processor as a child of this process: started, waited for, and never left behind."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from twofold.errors import (
    ConfigurationError,
    DeviceError,
    LinkError,
    ModelError,
    ProcessorLost,
    TwofoldError,
    Unreachable,
    one_line,
)
from twofold.units import KIB, Seconds

READY_SECONDS = Seconds(120.0)  # a model of many gigabytes is read and repacked in it
TERMINATE_SECONDS = 2.0
LINE_BYTES = 4 * KIB
_BY_EXIT_CODE: dict[int, type[TwofoldError]] = {
    cls.exit_code: cls for cls in (ConfigurationError, ModelError, LinkError, DeviceError)
}


def weights_command(
    model: Path, *, listen: str | None = None, threads: int | None = None, packed_cache: bool = False
) -> list[str]:
    """The command line of a weight processor that ends with its parent; `listen` None: a free shm:// name."""
    url = listen or f"shm://weights-{os.getpid()}-{os.urandom(4).hex()}"
    command = [sys.executable, "-m", "twofold", "weights", str(model), "--listen", url, "--with-parent"]
    if threads is not None:
        command += ["--threads", str(threads)]
    return [*command, "--packed-cache" if packed_cache else "--no-packed-cache"]


class SpawnedWeights:
    """A context manager: the child serves at `url` inside the block and is gone after it.

    Entering waits for the line `ready URL` on the child's standard output. If the child ends before, it
    raises the error class of its exit code with the last line of its standard error; if it takes longer than
    `ready`, Unreachable. The child is to end when its standard input does, so it does not outlive a killed
    parent.
    """

    url: str

    def __init__(self, command: Sequence[str], *, ready: Seconds = READY_SECONDS) -> None:
        self._command = list(command)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._errors = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                process_group=0,  # Ctrl-C is for the parent, which ends the child in order
            )
            self.url = self._wait_ready()
        except OSError as error:
            self.close()
            raise DeviceError(f"the weight processor cannot be started: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._started().pid

    def died(self) -> str | None:
        """How the child ended, like "killed by signal 9 (SIGKILL)"; None while it runs."""
        code = self._started().poll()
        if code is None:
            return None
        if code >= 0:
            return f"exited with code {code}"
        names = {int(known): known.name for known in signal.Signals}
        return f"killed by signal {-code} ({names.get(-code, 'unknown')})"

    def last_words(self) -> str:
        """The last line of the child's standard error; empty if there is none."""
        if self._errors is None or self._errors.closed:
            return ""
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), LINE_BYTES, max(size - LINE_BYTES, 0))
        lines = tail.decode("utf-8", "replace").strip().splitlines()
        return one_line(lines[-1]) if lines else ""

    def close(self) -> None:
        """End the child (SIGTERM, after two seconds SIGKILL) and reap it; a second time is nothing."""
        process, errors = self._process, self._errors
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.terminate()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(TERMINATE_SECONDS)
            finally:
                process.kill()  # nothing if it has ended
                process.wait()
        if errors is not None:
            errors.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessorLost("the weight processor was not started; enter the block first")
        return self._process

    def _wait_ready(self) -> str:
        line = self._first_line(time.monotonic() + self._ready)
        word, _, url = line.partition(" ")
        if word != "ready" or not url:
            raise Unreachable(
                f"the weight processor said '{one_line(line)}' instead of 'ready URL'; "
                "is another program of that name installed?"
            )
        return url

    def _first_line(self, expiry: float) -> str:
        """The first line of standard output."""
        output = self._started().stdout
        if output is None:
            raise ProcessorLost("the weight processor has no output")
        poll = select.poll()
        poll.register(output, select.POLLIN)
        line = b""
        while not line.endswith(b"\n") and len(line) < LINE_BYTES:
            if not poll.poll(max(expiry - time.monotonic(), 0) * 1000):
                raise Unreachable(
                    f"the weight processor was not ready within {self._ready:g} s; "
                    f"its last words: {self.last_words() or 'none'}"
                )
            byte = os.read(output.fileno(), 1)  # one, so that nothing behind the line is taken
            if not byte:
                raise self._stillborn(expiry)
            line += byte
        return line.decode("utf-8", "replace").strip()

    def _stillborn(self, expiry: float) -> TwofoldError:
        process = self._started()
        try:
            code = process.wait(max(expiry - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return Unreachable("the weight processor closed its output without being ready")
        why = self.last_words().removeprefix("error: ") or "it said nothing"
        return _BY_EXIT_CODE.get(code, ProcessorLost)(f"the weight processor did not start, {self.died()}: {why}")
