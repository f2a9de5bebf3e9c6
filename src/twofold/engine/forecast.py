"""What a link allows: from a few figures of it to the time that a token takes on it, before anything is computed.

    time of a step  =  round trips × latency  +  bytes to the weights / rate there  +  bytes back / rate back

Pure. Bytes are those of the frames of one step (`wire.md`), rates in bytes a second.
"""

import msgspec

from twofold.model.manifest import Manifest
from twofold.model.segment import Cut
from twofold.units import Bytes, Seconds
from twofold.wire.frame import HEADER_BYTES


class Link(msgspec.Struct, frozen=True):
    """A link as it was measured; a rate of None is too high to tell from the noise."""

    latency_seconds: float  # of the round trip of an empty call
    up_bytes_per_second: float | None  # towards the weights
    down_bytes_per_second: float | None

    def seconds(self, trips: int, up: int, down: int) -> Seconds:
        """How long so many round trips with so many bytes take."""
        loads = ((up, self.up_bytes_per_second), (down, self.down_bytes_per_second))
        return Seconds(trips * self.latency_seconds + sum(count / rate for count, rate in loads if rate))


class Step(msgspec.Struct, frozen=True):
    """What one step of `rows` rows costs on the link."""

    rows: int
    wanted: int  # of them that logits are wanted of
    trips: int
    up: Bytes
    down: Bytes
    seconds: float

    @property
    def rows_per_second(self) -> float | None:
        """At most, if nothing had to be computed."""
        return self.rows / self.seconds if self.seconds else None


def forecast(manifest: Manifest, link: Link, rows: int, wanted: int) -> Step:
    """A step of `rows` rows in one call a segment, the last of them for `wanted` rows (0: it is not called)."""
    calls = [(cut, rows) for cut in manifest.cuts[: len(manifest.layers)]]
    if wanted:
        calls.append((manifest.cuts[len(manifest.layers)], wanted))
    sizes = [frame_bytes(cut, count) for cut, count in calls]
    up, down = sum(size[0] for size in sizes), sum(size[1] for size in sizes)
    return Step(rows, wanted, len(calls), Bytes(up), Bytes(down), link.seconds(len(calls), up, down))


def frame_bytes(cut: Cut, rows: int) -> tuple[int, int]:
    """Bytes of the frames of a call and of its reply."""
    takes, gives = cut.bytes_per_row()
    return HEADER_BYTES + takes * rows, HEADER_BYTES + gives * rows
