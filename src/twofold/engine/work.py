"""Where the time of an engine goes: which memory worked how long, segment by segment and layer by layer."""

import msgspec

from twofold.memory.map import Replica
from twofold.model.ranges import ranges_text


class Processor(msgspec.Struct, frozen=True):
    """A replica of the memory map without its address, which is nobody's business who only asks for answers."""

    link: str  # the scheme of its address
    state: str
    draining: bool
    segments: str  # that it may be called for, as ranges


class Work(msgspec.Struct, frozen=True):
    """Since the start. Times are sums over calls, so those of lanes that are under way at once both count."""

    calls: int
    failovers: int
    weights_ns: int  # that weight memory says it worked
    context_ns: int
    link_ns: int  # the rest of the time that calls took
    segments_ns: list[int]  # `weights_ns` by segment; all ends of the step are the last
    layers_ns: list[int]  # `context_ns` by layer
    processors: list[Processor]


def at_work(replica: Replica) -> Processor:
    """What may be told of a replica."""
    segments = ranges_text(replica.segments)
    return Processor(replica.url.partition(":")[0], replica.state.value, replica.draining, segments)
