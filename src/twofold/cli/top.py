"""`twofold top`: weight processors while they work."""

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from twofold import link
from twofold.cli import drawn, options, show
from twofold.engine.top import Look, Observatory
from twofold.errors import ConfigurationError, one_line
from twofold.link.base import Connection
from twofold.link.joined import shown
from twofold.memory import map_file
from twofold.model.ranges import ranges_text
from twofold.units import Seconds

INTERVAL = Seconds(1.0)
COLUMNS = (
    "replica", "state", "segments", "links", "owners", "waiting", "rows/s", "a batch", "busy",
    "wait p50 p99, ms", "work p50 p99, ms", "in out, MB/s", "ping, ms",
)  # fmt: skip


def top(
    urls: Annotated[
        str | None, typer.Argument(metavar="[URL[,URL…]]", show_default=False, help="The weight processors.")
    ] = None,
    map_: options.Map = None,
    once: Annotated[bool, typer.Option("--once", help="Look once: figures since each processor started.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array for programs; with --once one, else one a line a second.")
    ] = False,
) -> None:
    """Watch weight processors: clients, queue, rows, times and bytes of each, a second at a time; q ends it."""
    with Observatory(_replicas(urls, map_), _connect) as observatory:
        if not once and not json and sys.stdout.isatty():
            _live(observatory)
            return
        while True:
            looks = observatory.look()
            if not json:
                drawn.render(table_of(looks))
            elif once:
                show.write_json(looks)
            else:
                show.write(msgspec.json.encode(looks).decode() + "\n")
            if once:
                return
            time.sleep(INTERVAL)


def _replicas(urls: str | None, map_: str | None) -> list[str]:
    if (urls is None) == (map_ is None):
        raise ConfigurationError("which processors? give their addresses, or a memory map with --map FILE")
    listing = map_file.listing_of(urls) if urls is not None else map_file.read(Path(str(map_)))
    return [entry.url for entry in listing.entries()]


def _connect(url: str, deadline: Seconds) -> Connection:
    return link.connect(url, deadline=deadline)


def _live(observatory: Observatory) -> None:
    """The table, drawn anew every second until q."""
    with _keys() as quits, Live(console=Console(highlight=False), auto_refresh=False, screen=True) as live:
        while True:
            live.update(table_of(observatory.look()), refresh=True)
            if quits(INTERVAL):
                return


class _Keys:
    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self, seconds: Seconds) -> bool:
        """Whether q was typed, or the terminal ended, within `seconds`; else that time has passed."""
        if self._descriptor is None:
            time.sleep(seconds)
            return False
        expiry = time.monotonic() + seconds
        while select.select([self._descriptor], [], [], max(0.0, expiry - time.monotonic()))[0]:
            if sys.stdin.read(1) in ("q", "Q", ""):
                return True
        return False


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    """What is typed, a key at a time and not shown, while the block runs."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield _Keys(None)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def table_of(looks: Sequence[Look]) -> Group:
    """A row for each, and below them what is wrong with those that are down."""
    table = Table(*(Column(name, no_wrap=True) for name in COLUMNS), box=None)
    for look in looks:
        start = escape(shown(look.url)), look.state
        if look.why is not None:
            table.add_row(*start)
            continue
        table.add_row(
            *start, ranges_text(look.segments), f"{look.connections}", f"{look.owners}",
            f"{look.waiting}", f"{look.rows_per_second:,.0f}", _figure(look.batch_rows), f"{look.busy:.0%}",
            _pair(_milliseconds(look.wait_p50_seconds), _milliseconds(look.wait_p99_seconds)),
            _pair(_milliseconds(look.work_p50_seconds), _milliseconds(look.work_p99_seconds)),
            _pair(_figure(look.received_bytes_per_second / 1e6), _figure(look.sent_bytes_per_second / 1e6)),
            _milliseconds(look.trip_seconds),
        )  # fmt: skip
    return Group(table, *(escape(one_line(look.why)) for look in looks if look.why is not None))


def _pair(one: str, other: str) -> str:
    return f"{one} {other}" if one else ""


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.2f}"
