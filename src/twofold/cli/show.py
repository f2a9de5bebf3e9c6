"""What the verbs show while they work: progress on standard error, answers on standard output."""

import sys
from time import monotonic as _now
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

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
TABLE_WIDTH = 132  # columns
PATIENCE_SECONDS = 1.0  # what is over sooner needs no bar


class OutputClosed(Exception):  # noqa: N818
    """Whoever read standard output has gone: an end like any other, with nothing to say about it."""


class ShownProgress:
    """A progress callback: a bar on a terminal once something takes a while, a line a stage elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: Any = None
        self._stage = ""
        self._since = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a stage."""
        if self._quiet:
            return
        if stage != self._stage:
            self._stage, self._since = stage, _now()
            self._stop()
            if not self._console.is_terminal and stage in ALWAYS:
                self._console.print(f"{STAGES.get(stage, stage)} …", markup=False, highlight=False)
        if self._console.is_terminal:
            self._draw(stage, done, total)

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            if stage not in ALWAYS and _now() - self._since < PATIENCE_SECONDS:
                return
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(STAGES.get(stage, stage), total=total or None)
        self._bar.update(self._task, completed=done, total=total or None)

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


def render(*parts: RenderableType) -> None:
    """Tables and marked-up text to standard output, wide enough where no terminal sets the width."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, TABLE_WIDTH)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    write(captured.get())


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
    """A line to standard error."""
    Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


def write_json(value: object) -> None:
    """One object, for programs."""
    write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
