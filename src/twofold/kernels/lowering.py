"""From a segment's operations to the native library's steps. Pure: names and shapes in, records out.

A quantised linear needs its input rounded to int8 first; an f16 plane is widened on the way in and rounded on
the way out.

Threads share a step out by columns of what it makes; those that need whole rows (`WHOLE_ROWS`), and what
follows them, by rows. Neighbouring steps by columns of one width are a group: whoever takes some columns does all
steps of the group on them. A step `waits` (all threads meet) when it needs what another thread may have made or may
still be reading: so a linear, which reads all columns of all rows, waits for its input, while the steps after it in
its group go on with the columns that their own thread has just made. What nobody needs after its group `passes`: it
is never there as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from twofold.errors import InternalError
from twofold.kernels.binding import Step
from twofold.model.format import Format
from twofold.model.operations import (
    Add,
    Bias,
    ClampedSwiGLU,
    Embed,
    Experts,
    Gather,
    GeGLU,
    LayerNorm,
    Linear,
    LogSumExp,
    RMSNorm,
    Route,
    Scale,
    Shares,
    SwiGLU,
    Top,
    WeightOperation,
)
from twofold.model.segment import Segment

WHOLE_ROWS = (
    Step.EMBED, Step.RMS_NORM, Step.LAYER_NORM, Step.TOP, Step.GATHER, Step.LOG_SUM_EXP, Step.ROUTE, Step.SHARES,
    Step.EXPERTS,
)  # fmt: skip
READ_ALL = (Step.LINEAR, Step.EXPERTS)  # all threads read all of what they take
_GATES: dict[type, Step] = {
    SwiGLU: Step.SWIGLU,
    GeGLU: Step.GEGLU,
    ClampedSwiGLU: Step.CLAMPED_SWIGLU,
}
_VECTORS: dict[type, Step] = {RMSNorm: Step.RMS_NORM, LayerNorm: Step.LAYER_NORM, Bias: Step.BIAS}


class Share(Enum):
    """Which part of a value one thread makes or reads."""

    ROWS = "some rows"
    COLUMNS = "some columns of all rows"
    ALL = "all of it"


class Part(NamedTuple):
    """A share, and of columns the group of steps: in another group the same columns may be another thread's."""

    share: Share
    group: int = 0


@dataclass(frozen=True)
class Buffer:
    """A value: a plane of the rows (`plane` set), or scratch: `width` f32 a row, or integers of `bits`.

    Scratch that `passes` is made and used by the steps of one group. Integers carry what a product with weights of this
    zero point starts at.
    """

    name: str
    width: int
    plane: str | None = None
    bits: int = 0
    zero_point: int = 0
    passes: bool = False


@dataclass(frozen=True)
class LoweredStep:
    """One step: `kind` from `a` (and `b`, `c`) into `out`, with the tensor `weight`."""

    kind: Step
    a: Buffer
    out: Buffer
    b: Buffer | None = None
    c: Buffer | None = None
    weight: str | None = None
    constant: float = 0.0  # the epsilon of a norm, the factor of a scale or of shares, a limit
    slope: float = 0.0
    columns: bool = False
    waits: bool = False
    choice: Route | Shares | None = None  # how experts are chosen and weighed
    experts: Experts | None = None

    @property
    def fine(self) -> bool:
        """Whether the activations are rounded to 16 bits."""
        return 16 in (self.a.bits, self.out.bits)


@dataclass
class Lowering:
    """Walks one segment; `shape(name)` tells a tensor's (rows, width) and format."""

    segment: Segment
    shape: Callable[[str], tuple[int, int, Format]]
    steps: list[LoweredStep] = field(default_factory=list)
    _values: dict[str, Buffer] = field(default_factory=dict)
    _rounded: dict[tuple[str, int, int], Buffer] = field(default_factory=dict)
    _written: dict[str, Part] = field(default_factory=dict)  # since the last meeting: buffer → how it was shared out
    _read: dict[str, set[Part]] = field(default_factory=dict)
    _group: int = 0

    def run(self) -> list[LoweredStep]:
        """The steps of the segment."""
        for plane in self.segment.cut.takes:
            buffer = Buffer(plane.name, plane.width, plane=plane.name)
            if plane.dtype == "f16":
                wide = Buffer(f"{plane.name} wide", plane.width)
                self._emit(LoweredStep(Step.WIDEN, buffer, wide))
                buffer = wide
            self._values[plane.name] = buffer
        halves = {plane.name for plane in self.segment.cut.gives if plane.dtype == "f16"}
        for index, operation in enumerate(self.segment.operations):
            last = all(later.out != operation.out for later in self.segment.operations[index + 1 :])
            given = last and any(operation.out == plane.name for plane in self.segment.cut.gives)
            self._lower(operation, plane=operation.out if given and operation.out not in halves else None)
            if given and operation.out in halves:
                wide = self._values[operation.out]
                self._emit(LoweredStep(Step.NARROW, wide, Buffer(operation.out, wide.width, plane=operation.out)))
        return _with_passing(self.steps)

    def _lower(self, operation: WeightOperation, plane: str | None) -> None:
        match operation:
            case Embed():
                _, width, _ = self.shape(operation.weight)
                step = LoweredStep(
                    Step.EMBED,
                    self._values[operation.ids],
                    Buffer(operation.out, width, plane),
                    weight=operation.weight,
                )
            case RMSNorm() | LayerNorm() | Bias():
                x = self._values[operation.x]
                step = LoweredStep(
                    _VECTORS[type(operation)],
                    x,
                    Buffer(operation.out, x.width, plane),
                    weight=operation.weight,
                    constant=0.0 if isinstance(operation, Bias) else operation.epsilon,
                )
            case Linear():
                rows, width, stored = self.shape(operation.weight)
                x = self._values[operation.x]
                if x.width != width:
                    raise InternalError(f"{operation.weight} takes {width} columns, {operation.x} has {x.width}")
                step = LoweredStep(
                    Step.LINEAR,
                    self._round(operation.x, operation.activation_bits, stored.zero_point) if stored.block > 1 else x,
                    Buffer(operation.out, rows, plane),
                    weight=operation.weight,
                )
            case SwiGLU() | GeGLU() | ClampedSwiGLU():
                step = self._gated(operation, plane)
            case Add():
                a, b = self._values[operation.a], self._values[operation.b]
                step = LoweredStep(Step.ADD, a, Buffer(operation.out, a.width, plane), b=b)
            case Scale():
                x = self._values[operation.x]
                step = LoweredStep(Step.SCALE, x, Buffer(operation.out, x.width, plane), constant=operation.factor)
            case Top() | Gather() | LogSumExp():
                step = self._head(operation, plane)
            case Route() | Shares() | Experts():
                step = self._mixture(operation, plane)
        self._emit(step)
        self._values[operation.out] = step.out
        stale = _stale(operation)
        self._rounded = {key: buffer for key, buffer in self._rounded.items() if key[0] not in stale}

    def _gated(self, operation: SwiGLU | GeGLU | ClampedSwiGLU, plane: str | None) -> LoweredStep:
        gate, up = self._values[operation.gate], self._values[operation.up]
        step = LoweredStep(_GATES[type(operation)], gate, Buffer(operation.out, gate.width, plane), b=up)
        if isinstance(operation, ClampedSwiGLU):
            return replace(step, constant=operation.limit, slope=operation.slope)
        return step

    def _head(self, operation: Top | Gather | LogSumExp, plane: str | None) -> LoweredStep:
        x = self._values[operation.x]
        match operation:
            case Top():
                return LoweredStep(Step.TOP, x, Buffer(operation.out, operation.k, plane))
            case Gather():
                ids = self._values[operation.ids]
                return LoweredStep(Step.GATHER, x, Buffer(operation.out, ids.width, plane), b=ids)
            case LogSumExp():
                return LoweredStep(Step.LOG_SUM_EXP, x, Buffer(operation.out, 1, plane))

    def _mixture(self, operation: Route | Shares | Experts, plane: str | None) -> LoweredStep:
        x = self._values[operation.x]
        if isinstance(operation, Route):
            out = Buffer(operation.out, operation.k, plane)
            return LoweredStep(Step.ROUTE, x, out, weight=operation.weight, choice=operation)
        ids = self._values[operation.ids]
        if isinstance(operation, Shares):
            out = Buffer(operation.out, ids.width, plane)
            return LoweredStep(Step.SHARES, x, out, b=ids, constant=operation.scale, choice=operation)
        shares, out = self._values[operation.shares], Buffer(operation.out, x.width, plane)
        return LoweredStep(Step.EXPERTS, x, out, b=ids, c=shares, experts=operation)

    def _round(self, name: str, bits: int, zero_point: int) -> Buffer:
        """The value as integers, rounded once for all whose weights have this zero point."""
        key = (name, bits, zero_point)
        if key not in self._rounded:
            x = self._values[name]
            self._rounded[key] = Buffer(f"{name} int{bits} {zero_point}", x.width, bits=bits, zero_point=zero_point)
            self._emit(LoweredStep(Step.QUANTISE, x, self._rounded[key]))
        return self._rounded[key]

    def _emit(self, step: LoweredStep) -> None:
        reads = [buffer.name for buffer in (step.a, step.b, step.c) if buffer]
        share = self._share(step.kind, reads)
        before = self.steps[-1] if self.steps else None
        joins = share is Share.COLUMNS and before is not None and before.columns and before.out.width == step.out.width
        waits = not self._goes_on(step, reads, self._part(share, new=not joins))
        if waits:
            self._written.clear()
            self._read.clear()
        part = self._part(share, new=waits or not joins)
        self._group = max(self._group, part.group)
        self._written[step.out.name] = part
        for name in reads:
            self._read.setdefault(name, set()).add(Part(Share.ALL) if step.kind in READ_ALL else part)
        self.steps.append(replace(step, columns=share is Share.COLUMNS, waits=waits))

    def _part(self, share: Share, *, new: bool) -> Part:
        """Columns belong to the group under way or to a new one."""
        return Part(share, self._group + new) if share is Share.COLUMNS else Part(share)

    def _goes_on(self, step: LoweredStep, reads: list[str], part: Part) -> bool:
        """Whether each thread made all that it needs and nobody still reads what it overwrites."""
        reading = Part(Share.ALL) if step.kind in READ_ALL else part
        out = step.out.name
        return (
            all(self._written.get(name, reading) == reading for name in reads)
            and self._written.get(out, part) == part
            and self._read.get(out, set()) <= {part}
        )

    def _share(self, kind: Step, reads: list[str]) -> Share:
        """How a step is shared out: as what it reads was, where both ways are possible."""
        if kind in WHOLE_ROWS:
            return Share.ROWS
        made = {self._written[name].share for name in reads if name in self._written}
        return Share.ROWS if kind is not Step.LINEAR and made == {Share.ROWS} else Share.COLUMNS


def _with_passing(steps: list[LoweredStep]) -> list[LoweredStep]:
    """The steps, with those values marked as passing that the steps of one group alone make and use, by columns."""
    groups: dict[Buffer, set[int]] = {}
    whole, group, width = set(), 0, 0
    for step in steps:
        group += step.waits or not step.columns or step.out.width != width
        width = step.out.width if step.columns else 0
        for buffer in (step.a, step.b, step.out):
            if buffer is None:
                continue
            groups.setdefault(buffer, set()).add(group)
            if buffer.plane or buffer.bits or not step.columns or (step.kind is Step.LINEAR and buffer is step.a):
                whole.add(buffer)

    def marked(buffer: Buffer) -> Buffer:
        return replace(buffer, passes=buffer not in whole and len(groups[buffer]) == 1)

    return [replace(s, a=marked(s.a), b=s.b and marked(s.b), out=marked(s.out)) for s in steps]


def _stale(operation: WeightOperation) -> tuple[str, ...]:
    """Values whose integers are those of other rows now: experts round what goes to each into the same scratch."""
    return (operation.out, operation.x) if isinstance(operation, Experts) else (operation.out,)
