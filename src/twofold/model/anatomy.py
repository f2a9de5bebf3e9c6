"""The cut of a model as plain records: what `twofold inspect` prints, and what a planner may count with."""

from collections.abc import Callable

import msgspec

from twofold.model.checkpoint import Tensor
from twofold.model.manifest import Model
from twofold.model.operations import (
    BY_NAME,
    CONTEXT_KINDS,
    KINDS,
    Experts,
    Kind,
    Linear,
    Route,
    Side,
    kind_of,
    weight_of,
)
from twofold.model.segment import Plane, Segment


class SegmentRow(msgspec.Struct, frozen=True):
    """One segment and the context layer that follows it."""

    segment: int
    takes: tuple[Plane, ...]
    gives: tuple[Plane, ...]
    operations: tuple[str, ...]
    weight_bytes: int
    parameters: int
    multiplications: int  # of the linears, a row
    then: tuple[str, ...]  # context-aware operations of the layer after it
    context_bytes_per_token: int


class OperationRow(msgspec.Struct, frozen=True):
    """One operation of the closed list, as this model uses it."""

    name: str
    side: Side
    shapes: str
    rule: str
    count: int  # in one pass of a token


class Totals(msgspec.Struct, frozen=True):
    """Sums over the model; a tensor used twice (tied embeddings) counts once."""

    parameters: int
    weight_bytes: int
    context_bytes_per_token: int
    link_bytes_per_token: int  # planes in and out of all segments, logits included
    multiplications_per_token: int  # of the linears; attention's grow with the context
    read_bytes_per_token: int  # weights that a token by itself makes weight memory read


class Anatomy(msgspec.Struct, frozen=True):
    """All of it."""

    name: str
    digest: str
    family: str
    numerics: int
    vocabulary: int
    context_length: int
    totals: Totals
    segments: tuple[SegmentRow, ...]
    operations: tuple[OperationRow, ...]


def anatomy(model: Model, tensor: Callable[[str], Tensor]) -> Anatomy:
    """Take `model` apart; `tensor` gives a weight's shape and bytes."""
    manifest = model.manifest
    used: dict[str, Tensor] = {}
    rows = []
    for index, segment in enumerate(model.segments):
        names = _weights(segment)
        used |= {name: tensor(name) for name in names}
        layer = manifest.layers[index] if index < len(manifest.layers) else None
        rows.append(
            SegmentRow(
                segment=index,
                takes=segment.cut.takes,
                gives=segment.cut.gives,
                operations=tuple(kind_of(operation).name for operation in segment.operations),
                weight_bytes=sum(len(used[name].raw) for name in names),
                parameters=sum(_size(used[name]) for name in names),
                multiplications=sum(map(_size, map(tensor, _linears(model, segment)))),
                then=CONTEXT_KINDS[type(layer)] if layer else ("sample",) if index in manifest.ends else (),
                context_bytes_per_token=layer.context_bytes if layer else 0,
            )
        )
    steps = len(manifest.layers) + 1  # segments of one pass; the others are ends that it does not take
    totals = Totals(
        parameters=sum(map(_size, used.values())),
        weight_bytes=sum(len(t.raw) for t in used.values()),
        context_bytes_per_token=manifest.context_bytes_per_token(),
        link_bytes_per_token=sum(sum(cut.bytes_per_row()) for cut in manifest.cuts[:steps]),
        multiplications_per_token=sum(row.multiplications for row in rows[:steps]),
        read_bytes_per_token=sum(
            len(used[name].raw) for segment in model.segments[:steps] for name in _linears(model, segment)
        ),
    )
    return Anatomy(
        manifest.name, manifest.digest, manifest.family, manifest.numerics, manifest.vocabulary,
        manifest.context_length, totals, tuple(rows), _operations(rows[:steps]),
    )  # fmt: skip


def _weights(segment: Segment) -> list[str]:
    return list(dict.fromkeys(name for name in map(weight_of, segment.operations) if name))


def _size(tensor: Tensor) -> int:
    return tensor.rows * tensor.width


def _linears(model: Model, segment: Segment) -> list[str]:
    """The matrices that a row meets: of experts those of as many as it goes to."""
    found: list[str] = []
    chosen = 0
    for operation in segment.operations:
        if isinstance(operation, Linear):
            found.append(operation.weight)
        elif isinstance(operation, Route):
            chosen = operation.k
        elif isinstance(operation, Experts):
            for number in range(operation.first, operation.first + chosen):
                found += _linears(model, model.segments[number])
    return found


def _operations(rows: list[SegmentRow]) -> tuple[OperationRow, ...]:
    counts: dict[str, int] = {}
    for row in rows:
        for name in (*row.operations, *row.then):
            counts[name] = counts.get(name, 0) + 1
    counts["tokenise"] = 1
    kinds: list[Kind] = [kind for kind in KINDS if kind.name in counts]
    assert set(counts) <= set(BY_NAME), "an operation outside the closed list"
    return tuple(OperationRow(k.name, k.side, k.shapes, k.rule, counts[k.name]) for k in kinds)
