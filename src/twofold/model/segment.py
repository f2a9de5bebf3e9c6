"""Segments and the planes that cross the cut between the two memories.

    segment 0 ──planes──▶ context layer 0 ──planes──▶ segment 1 ─ … ─▶ context layer L-1 ──▶ segment L ──▶ logits

A model of L layers is L + 1 segments with L context layers between them. Segments from L on are ends of the step:
they take the same planes, and a step calls one of them. Segment L gives all logits; segment L + 1 gives the largest
of them, for networks that should not carry a vocabulary per token.

A segment with a mixture of experts can be called whole, or in parts, which come after the ends:

    front ──expert in, ids, shares──▶ the experts chosen, each a segment ──expert out──▶ summed ──▶ back

The parts are derived: `front` is the segment up to its experts, `back` what follows them.

A plane is a matrix with one row a token; its dtype is part of the numerics: a value is rounded to it at the cut,
whether the cut is crossed inside one process or between two hosts (R5).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from twofold.errors import InternalError
from twofold.model.operations import Embed, Experts, Gather, LogSumExp, Route, Top, WeightOperation, inputs_of

Dtype = Literal["f32", "f16", "i32"]
NUMPY: dict[str, np.dtype[np.generic]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "i32": np.dtype("<i4"),
}


ENDS = 2  # of a step: all logits, or the largest
EXPERT_IN, EXPERT_OUT = "expert in", "expert out"  # planes of an expert
TOP_WIDTH = 256  # logits that segment L + 1 gives of each row, or all if the vocabulary is smaller


class Plane(msgspec.Struct, frozen=True):
    """One matrix that crosses the cut: `width` values of `dtype` a row."""

    name: str
    width: int
    dtype: Dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * NUMPY[self.dtype].itemsize


class Cut(msgspec.Struct, frozen=True):
    """What one segment takes and gives."""

    takes: tuple[Plane, ...]
    gives: tuple[Plane, ...]

    def bytes_per_row(self) -> tuple[int, int]:
        """Bytes a row carries into the segment and out of it."""
        return sum(p.row_bytes for p in self.takes), sum(p.row_bytes for p in self.gives)


class Segment(msgspec.Struct, frozen=True):
    """A straight line of context-free operations from the planes it takes to the planes it gives."""

    cut: Cut
    operations: tuple[WeightOperation, ...]


def top_of(head: Segment) -> Segment:
    """The end of a step that gives, instead of the plane logits of `head`, its largest values.

    Planes: top_ids i32[k] and top_values f32[k], by falling value, and log_sum_exp f32[1] of all logits.
    """
    logits = head.cut.gives[0]
    width = min(TOP_WIDTH, logits.width)
    gives = (Plane("top_ids", width, "i32"), Plane("top_values", width, "f32"), Plane("log_sum_exp", 1, "f32"))
    largest = (
        Top(logits.name, width, "top_ids"),
        Gather(logits.name, "top_ids", "top_values"),
        LogSumExp(logits.name, "log_sum_exp"),
    )
    return Segment(Cut(head.cut.takes, gives), (*head.operations, *largest))


class Mixture(msgspec.Struct, frozen=True):
    """The parts of a segment with experts, by number; its experts are segments first .. first + count - 1.

    `ids`, `shares` and `routed` are planes: what the front gives beside "expert in", and the sum that the back takes.
    """

    segment: int
    front: int
    back: int
    first: int
    count: int
    ids: str
    shares: str
    routed: str

    @property
    def experts(self) -> range:
        """The segments of the experts."""
        return range(self.first, self.first + self.count)


def with_parts(steps: Sequence[Segment], experts: Sequence[Segment]) -> tuple[tuple[Segment, ...], tuple[Mixture, ...]]:
    """All segments of a model: those of a step and its ends, their experts, and parts of those that have experts."""
    numbers: dict[Segment, int] = {}
    mixtures = []
    for index, segment in enumerate(steps):
        for at, operation in enumerate(segment.operations):
            if isinstance(operation, Experts):
                planes = experts[operation.first - len(steps)].cut.takes
                front, back = (
                    numbers.setdefault(part, len(steps) + len(experts) + len(numbers))
                    for part in _parts_of(segment, at, operation, planes[0])
                )
                names = operation.ids, operation.shares, operation.out
                mixtures.append(Mixture(index, front, back, operation.first, operation.count, *names))
    return (*steps, *experts, *numbers), tuple(mixtures)


def _parts_of(segment: Segment, at: int, experts: Experts, into: Plane) -> tuple[Segment, Segment]:
    """(front, back) of a segment whose operation `at` is `experts`; what passes it by is as wide as what goes in."""
    before, after = segment.operations[:at], segment.operations[at + 1 :]
    chosen = next(op.k for op in before if isinstance(op, Route) and op.out == experts.ids)
    planes = {plane.name: plane for plane in segment.cut.takes}
    planes |= {experts.ids: Plane(experts.ids, chosen, "i32"), experts.shares: Plane(experts.shares, chosen, "f32")}
    needed, made = [experts.out], {experts.out}
    for operation in after:
        needed += [name for name in inputs_of(operation) if name not in made and name not in needed]
        made.add(operation.out)
    takes = tuple(planes.get(name, Plane(name, into.width, "f32")) for name in needed)
    ready = {operation.out for operation in before}
    others = tuple(plane for plane in takes if plane.name in ready and plane.name != experts.x)
    gives = (into, planes[experts.ids], planes[experts.shares], *others)
    return Segment(Cut(segment.cut.takes, gives), before), Segment(Cut(takes, segment.cut.gives), after)


def check_segment(index: int, segment: Segment) -> None:
    """Raise InternalError unless every value is made before it is read and every plane given is made."""
    known = {plane.name for plane in segment.cut.takes}
    for operation in segment.operations:
        for name in inputs_of(operation):
            if name not in known:
                raise InternalError(f"segment {index}: {type(operation).__name__} reads '{name}' before it is made")
        known.add(operation.out)
    for plane in segment.cut.gives:
        if plane.name not in known:
            raise InternalError(f"segment {index}: gives plane '{plane.name}' that no operation makes")
    if any(isinstance(op, Embed) for op in segment.operations) != (index == 0):
        raise InternalError(f"segment {index}: token ids enter in segment 0 and nowhere else")
