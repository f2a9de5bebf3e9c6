"""What the verbs show while they work: progress on standard error, answers on standard output.

What is drawn is in `drawn.py`, imported with the first bar or by the verbs that show tables.
"""

import contextlib
import importlib
import sys
from time import monotonic as _now
from types import TracebackType
from typing import Any, Self

import msgspec

from twofold.errors import DeviceError

STAGES = {
    "check": "checking the file",
    "damaged": "the cached file is damaged; fetching it again",
    "wait": "waiting for another fetch of this model",
    "download": "downloading",
    "verify": "verifying",
    "unpack": "unpacking",
    "load": "loading the weights",
    "stale": "the packed weights in the cache are damaged or of another version; packing them again",
    "start": "starting the weight processor",
}
ALWAYS = frozenset({"download", "damaged", "wait", "stale"})  # told even where no bar can be drawn
PATIENCE_SECONDS = 1.0  # what is over sooner needs no bar


class OutputClosed(Exception):  # noqa: N818
    """Whoever read standard output has gone: an end like any other, with nothing to say about it."""


class ShownProgress:
    """A progress callback: a bar on a terminal once something takes a while, a line a stage elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None  # a drawn.Bar
        self._stage = ""
        self._since = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a stage."""
        if self._quiet:
            return
        if stage != self._stage:
            self._stage, self._since = stage, _now()
            self._stop()
            if not self._terminal and stage in ALWAYS:
                note(f"{STAGES.get(stage, stage)} …")
        if self._terminal:
            self._draw(stage, done, total)

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            if stage not in ALWAYS and _now() - self._since < PATIENCE_SECONDS:
                return
            self._bar = importlib.import_module("twofold.cli.drawn").Bar(STAGES.get(stage, stage))
        self._bar.update(done, total)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def finish(self) -> None:
        """Take the bar away; text follows."""
        self._stop()


def write(text: str) -> None:
    """Text to standard output, at once; OutputClosed if its reader has gone, DeviceError if there never was one."""
    if sys.stdout is None:
        raise DeviceError("standard output is closed; give it somewhere to go, like > /dev/null")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosed from None


QUANTITIES = {  # unit of a figure: (what people read, how many of it)
    "bytes_per_second": ("GB/s", 1e9),
    "multiplications_per_second": ("GMAC/s", 1e9),
    "tokens_per_second": ("tok/s", 1.0),
    "seconds": ("s", 1.0),
}


def quantity(value: float, unit: str) -> str:
    """A measured value for people: `41.3 GB/s`."""
    name, size = QUANTITIES[unit]
    shown = value / size
    return f"{shown:,.0f} {name}" if shown >= 1000 else f"{shown:.3g} {name}"


def note(text: str) -> None:
    """A line to standard error, if anybody is there to read it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def write_json(value: object) -> None:
    """One object, for programs."""
    write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
