"""The list of replicas as a file, for people and programs to edit while engines run.

    {"version": 3, "replicas": [
      {"url": "tls://a:7070", "segments": "0-15"},
      {"url": "tls://b:7070", "segments": "0-15", "drain": true},
      {"url": "tls://c:7070"}
    ]}

`segments` restricts which of its segments a replica is called for; without it, all that it holds. What is drained is
called only if nobody else is there. The version goes up with every edit of ours. A file is written whole or not at
all, and edits of several programs wait for each other.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from twofold.errors import ConfigurationError, DeviceError, one_line
from twofold.link.base import parse
from twofold.memory.map import Entry
from twofold.model.ranges import parse_ranges
from twofold.store.lock import exclusive
from twofold.store.place import replacing
from twofold.units import MIB, bytes_text

FILE_BYTES = 1 * MIB


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One replica in the file."""

    url: str
    segments: str | None = None
    drain: bool = False


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The replicas of one model, as the file has them."""

    replicas: tuple[Line, ...] = ()
    version: int = 0

    def entries(self) -> list[Entry]:
        """For the map."""
        return [
            Entry(line.url, None if line.segments is None else parse_ranges(line.segments), line.drain)
            for line in self.replicas
        ]

    def added(self, url: str, segments: str | None) -> "Listing":
        """With `url` at the end, or in its place to be used again if it is there."""
        line = checked(Line(url, segments))
        if not any(other.url == url for other in self.replicas):
            return self._next((*self.replicas, line))
        return self._next(tuple(line if other.url == url else other for other in self.replicas))

    def removed(self, url: str) -> "Listing":
        """Without `url`; ConfigurationError if it is not listed."""
        self._place(url)
        return self._next(tuple(line for line in self.replicas if line.url != url))

    def drained(self, url: str) -> "Listing":
        """With `url` called only if nobody else is there; ConfigurationError if it is not listed."""
        place = self._place(url)
        old = self.replicas[place]
        return self._next((*self.replicas[:place], Line(url, old.segments, drain=True), *self.replicas[place + 1 :]))

    def moved(self, url: str, to: str) -> "Listing":
        """`to` takes over what `url` is used for, and `url` is drained; ConfigurationError if it is not listed."""
        return self.added(to, self.replicas[self._place(url)].segments).drained(url)

    def _place(self, url: str) -> int:
        for place, line in enumerate(self.replicas):
            if line.url == url:
                return place
        listed = ", ".join(line.url for line in self.replicas) or "nothing"
        raise ConfigurationError(f"{url} is not in the memory map; listed: {listed}")

    def _next(self, replicas: tuple[Line, ...]) -> "Listing":
        return self if replicas == self.replicas else Listing(replicas, self.version + 1)


def checked(line: Line) -> Line:
    """`line`, if it can be a replica; else ConfigurationError."""
    parse(line.url)
    if line.segments is not None:
        parse_ranges(line.segments)
    return line


def listing_of(urls: str) -> Listing:
    """The replicas of `URL,URL,…`; ConfigurationError for what is no address, or twice the same."""
    return _checked(Listing(tuple(Line(url.strip()) for url in urls.split(","))))


def decode(data: bytes, source: str) -> Listing:
    """The listing in the bytes of a file; ConfigurationError naming `source` and what is wrong."""
    try:
        return _checked(msgspec.json.decode(data, type=Listing))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ConfigurationError) as error:
        raise ConfigurationError(f"the memory map {source} cannot be used: {one_line(str(error))}") from error


def encode(listing: Listing) -> bytes:
    """The bytes of a file."""
    return msgspec.json.format(msgspec.json.encode(listing), indent=2) + b"\n"


def read(path: Path) -> Listing:
    """The listing in the file at `path`; ConfigurationError if there is none or it cannot be used."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no memory map {path}; make one with: twofold map add {path} URL") from error
    except OSError as error:
        raise ConfigurationError(f"the memory map {path} cannot be read ({error.strerror})") from error
    if len(data) > FILE_BYTES:
        raise ConfigurationError(f"the memory map {path} is longer than {bytes_text(FILE_BYTES)}; that is none")
    return decode(data, str(path))


def edit(path: Path, change: Callable[[Listing], Listing], *, make: bool = False) -> Listing:
    """Put `change` of the listing at `path` in its place, and return it; a missing file counts as empty if `make`.

    ConfigurationError as for `read` and from `change`; DeviceError if it cannot be written.
    """
    try:
        with exclusive(path.with_name(f".{path.name}.lock"), lambda: None):
            old = Listing() if make and not path.exists() else read(path)
            new = change(old)
            if new is not old:
                with replacing(path) as file:
                    file.write(encode(new))
                    with contextlib.suppress(FileNotFoundError):
                        os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            return new
    except OSError as error:
        raise DeviceError(f"the memory map {path} cannot be written: {error.strerror or error}") from error


def _checked(listing: Listing) -> Listing:
    urls = [checked(line).url for line in listing.replicas]
    twice = next((url for url in urls if urls.count(url) > 1), None)
    if twice:
        raise ConfigurationError(f"{twice} is listed twice; name each address once")
    return listing
