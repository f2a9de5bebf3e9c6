"""The cut of a model as plain records: what `twofold inspect` prints, and what a planner may count with."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from twofold.model.format import Format
from twofold.model.manifest import Model
from twofold.model.operations import (
    BY_NAME,
    CONTEXT_KINDS,
    KINDS,
    ContextLayer,
    Embed,
    Experts,
    Kind,
    Linear,
    Route,
    Side,
    WeightOperation,
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


class LayerRow(msgspec.Struct, frozen=True):
    """One layer of the model: what its tensors cost weight memory, and its context layer context memory.

    It lies across the cut: its first half is in the segment before its context layer, its second in the one after.
    """

    layer: int
    parameters: int
    active_parameters: int  # that a token meets
    weight_bytes: int
    flops_per_token: int  # of the linears
    flops_per_position: int  # of the context layer, for each position that a token sees
    context_bytes_per_token: int
    window: int  # positions that a token sees at most; 0: all


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
    active_parameters: int  # that a token meets; of the embedding one row
    weight_bytes: int
    context_bytes_per_token: int
    link_bytes_per_token: int  # planes in and out of all segments, logits included
    flops_per_token: int  # of the linears, 2 a multiplication
    flops_per_position: int  # of the context layers, for each position that a token sees
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
    layers: tuple[LayerRow, ...]
    operations: tuple[OperationRow, ...]


class Sized(Protocol):
    """A weight's size: a `Matrix`, or the tensor itself."""

    @property
    def rows(self) -> int:
        """Of a vector 1."""

    @property
    def width(self) -> int:
        """Elements of a row."""

    @property
    def format(self) -> Format:
        """How they are stored."""


def anatomy(model: Model, tensor: Callable[[str], Sized]) -> Anatomy:
    """Take `model` apart; `tensor` gives a weight's size."""
    manifest = model.manifest
    used = {name: tensor(name) for name in _weights(op for segment in model.segments for op in segment.operations)}
    taken = _taken(model)
    segments = tuple(_segment(model, index, used) for index in range(len(model.segments)))
    layers = _layers(manifest.layers, taken, used)
    totals = Totals(
        parameters=sum(map(_elements, used.values())),
        active_parameters=_active(taken, used),
        weight_bytes=sum(map(_bytes, used.values())),
        context_bytes_per_token=manifest.context_bytes_per_token(),
        link_bytes_per_token=sum(sum(cut.bytes_per_row()) for cut in manifest.cuts[: _steps(model)]),
        flops_per_token=2 * _multiplied(taken, used),
        flops_per_position=sum(layer.flops_per_position for layer in layers),
        multiplications_per_token=_multiplied(taken, used),
        read_bytes_per_token=sum(_bytes(used[op.weight]) for op in taken if isinstance(op, Linear)),
    )
    return Anatomy(
        manifest.name, manifest.digest, manifest.family, manifest.numerics, manifest.vocabulary,
        manifest.context_length, totals, segments, layers, _operations(segments[: _steps(model)]),
    )  # fmt: skip


def _segment(model: Model, index: int, used: Mapping[str, Sized]) -> SegmentRow:
    segment, layers = model.segments[index], model.manifest.layers
    weights = [used[name] for name in _weights(segment.operations)]
    layer = layers[index] if index < len(layers) else None
    return SegmentRow(
        segment=index,
        takes=segment.cut.takes,
        gives=segment.cut.gives,
        operations=tuple(kind_of(operation).name for operation in segment.operations),
        weight_bytes=sum(map(_bytes, weights)),
        parameters=sum(map(_elements, weights)),
        multiplications=_multiplied(_met(model, segment), used),
        then=CONTEXT_KINDS[type(layer)] if layer else ("sample",) if index in model.manifest.ends else (),
        context_bytes_per_token=layer.context_bytes if layer else 0,
    )


def _steps(model: Model) -> int:
    """Segments of one pass; the others are ends that it does not take."""
    return len(model.manifest.layers) + 1


def _taken(model: Model) -> list[WeightOperation]:
    """The operations that a token meets in one pass."""
    return [operation for segment in model.segments[: _steps(model)] for operation in _met(model, segment)]


def _met(model: Model, segment: Segment) -> Iterator[WeightOperation]:
    """The operations of a segment; of its experts, which are all of a size, those of as many as a row goes to."""
    chosen = 0
    for operation in segment.operations:
        yield operation
        if isinstance(operation, Route):
            chosen = operation.k
        elif isinstance(operation, Experts):
            for expert in model.segments[operation.first : operation.first + chosen]:
                yield from expert.operations


_OF_LAYER = re.compile(r"blk\.(\d+)\.")


def _layers(
    contexts: tuple[ContextLayer, ...], taken: list[WeightOperation], used: Mapping[str, Sized]
) -> tuple[LayerRow, ...]:
    """A layer's tensors are those named after it, in whichever segments they are."""
    held: defaultdict[str, list[Sized]] = defaultdict(list)
    met: defaultdict[str, list[WeightOperation]] = defaultdict(list)
    for name, weight in used.items():
        held[_layer_of(name)].append(weight)
    for operation in taken:
        met[_layer_of(weight_of(operation) or "")].append(operation)
    return tuple(
        LayerRow(
            layer=i,
            parameters=sum(map(_elements, held[f"{i}"])),
            active_parameters=_active(met[f"{i}"], used),
            weight_bytes=sum(map(_bytes, held[f"{i}"])),
            flops_per_token=2 * _multiplied(met[f"{i}"], used),
            flops_per_position=context.flops_per_position,
            context_bytes_per_token=context.context_bytes,
            window=context.window,
        )
        for i, context in enumerate(contexts)
    )


def _layer_of(name: str) -> str:
    """The number in a tensor's name; empty for one of no layer."""
    found = _OF_LAYER.match(name)
    return found[1] if found else ""


def _weights(operations: Iterable[WeightOperation]) -> list[str]:
    return list(dict.fromkeys(name for name in map(weight_of, operations) if name))


def _elements(weight: Sized) -> int:
    return weight.rows * weight.width


def _bytes(weight: Sized) -> int:
    return weight.rows * weight.format.size_bytes(weight.width)


def _multiplied(operations: Iterable[WeightOperation], used: Mapping[str, Sized]) -> int:
    """Multiplications of a row in the linears."""
    return sum(_elements(used[op.weight]) for op in operations if isinstance(op, Linear))


def _active(operations: Iterable[WeightOperation], used: Mapping[str, Sized]) -> int:
    """Parameters that a row meets, each once: all of an operation's, but one row of a table's."""
    met: dict[str, int] = {}
    for op in operations:
        name = weight_of(op)
        if name:
            met[name] = max(met.get(name, 0), used[name].width if isinstance(op, Embed) else _elements(used[name]))
    return sum(met.values())


def _operations(rows: tuple[SegmentRow, ...]) -> tuple[OperationRow, ...]:
    counts: dict[str, int] = {}
    for row in rows:
        for name in (*row.operations, *row.then):
            counts[name] = counts.get(name, 0) + 1
    counts["tokenise"] = 1
    kinds: list[Kind] = [kind for kind in KINDS if kind.name in counts]
    assert set(counts) <= set(BY_NAME), "an operation outside the closed list"
    return tuple(OperationRow(k.name, k.side, k.shapes, k.rule, counts[k.name]) for k in kinds)
