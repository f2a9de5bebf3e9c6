"""`twofold map …`: the list of replicas that engines follow, and who of them is there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from twofold import link
from twofold.cli import drawn, options, show
from twofold.engine import survey
from twofold.errors import ConfigurationError, one_line
from twofold.link.base import Connection
from twofold.memory import map_file
from twofold.memory.map import MemoryMap, Replica
from twofold.memory.map_file import Listing
from twofold.model.ranges import ranges_text
from twofold.units import Seconds

File = Annotated[Path, typer.Argument(metavar="FILE", help="The memory map, as --map names it.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="The address of a weight processor.")]


def show_(
    where: Annotated[str, typer.Argument(metavar="FILE|URL[,URL…]", help="The memory map, or the processors.")],
    json: options.Json = False,
) -> None:
    """Show the replicas of a memory map: who answers, with which segments, how fast; and what nobody holds."""
    listing = map_file.listing_of(where) if "://" in where else map_file.read(Path(where))
    found, trips = survey.survey(listing.entries(), _connect)
    if json:
        show.write_json(
            {
                "version": listing.version,
                "model": found.manifest and {"name": found.manifest.name, "digest": found.manifest.digest},
                "replicas": [_record(replica, trips.get(replica.url)) for replica in found.replicas],
                "missing": found.missing,
            }
        )
        return
    table = Table("replica", "state", "segments", "ping", "", box=None)
    for replica in found.replicas:
        trip = trips.get(replica.url)
        ping = f"{1e3 * trip:.2f} ms" if trip is not None else ""
        table.add_row(
            escape(replica.url), _state(replica), ranges_text(replica.segments), ping, escape(one_line(replica.why))
        )
    drawn.render(table, _summary(listing, found))


def add(
    file: File,
    url: Url,
    segments: Annotated[
        str | None,
        typer.Option(metavar="RANGES", help="Call it for these segments alone, like 0-15 [all that it holds]."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List a replica, in a file that is made if there is none; one that was drained is used again."""
    _told(map_file.edit(file, lambda old: old.added(url, segments), make=True), json)


def remove(file: File, url: Url, json: options.Json = False) -> None:
    """Take a replica off the list; calls in flight there are made again elsewhere."""
    _told(map_file.edit(file, lambda old: old.removed(url)), json)


def drain(
    where: Annotated[str, typer.Argument(metavar="FILE|URL", help="The memory map, or a processor to tell itself.")],
    url: Annotated[str | None, typer.Argument(metavar="[URL]", show_default=False, help="Which replica.")] = None,
    json: options.Json = False,
) -> None:
    """Call a replica only if nobody else is there: in one memory map, or told to the processor, by everybody."""
    if url is not None:
        _told(map_file.edit(Path(where), lambda old: old.drained(url)), json)
    elif "://" in where:
        survey.drain(where, _connect)
        _told(map_file.listing_of(where).drained(where), json)
    else:
        raise ConfigurationError(f"which replica of {where}? give its address: twofold map drain {where} URL")


def move(
    file: File,
    url: Url,
    to: Annotated[str, typer.Argument(metavar="TO", help="The address of the processor that takes over.")],
    json: options.Json = False,
) -> None:
    """Let one replica take over from another, which is drained; remove it once nobody calls it."""
    _told(map_file.edit(file, lambda old: old.moved(url, to)), json)


def _connect(url: str, deadline: Seconds) -> Connection:
    return link.connect(url, deadline=deadline)


def _state(replica: Replica) -> str:
    return "draining" if replica.rank is not None and replica.draining else replica.state


def _record(replica: Replica, trip: Seconds | None) -> dict[str, object]:
    return {
        "url": replica.url, "state": _state(replica), "segments": sorted(replica.segments),
        "held": sorted(replica.held), "ping_seconds": trip, "why": replica.why or None,
    }  # fmt: skip


def _summary(listing: Listing, found: MemoryMap) -> str:
    if found.manifest is None:
        return f"version {listing.version}: nobody answers"
    name = escape(one_line(found.manifest.name))
    rest = f"nobody holds segments {ranges_text(found.missing)}" if found.missing else "every segment is held"
    return f"version {listing.version}, {name}: {rest}"


def _told(listing: Listing, json: bool) -> None:
    """What the list is now."""
    if json:
        show.write_json(listing)
        return
    for line in listing.replicas:
        what = f" segments {line.segments}" if line.segments else ""
        show.write(f"{line.url}{what}{' draining' if line.drain else ''}\n")
