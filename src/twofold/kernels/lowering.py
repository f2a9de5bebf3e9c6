"""From a segment's operations to the native library's steps. Pure: names and shapes in, records out.

A quantised linear needs its input rounded to int8 first; an f16 plane is widened on the way in and rounded on
the way out.

Threads share a step out by columns of what it makes; those that need whole rows (`WHOLE_ROWS`), and what
follows them, by rows. A step `waits` (all threads meet) when it needs what another thread may have made or may
still be reading: so a linear, which reads all columns of all rows, waits for its input, while the steps after a
linear go on with the columns that their own thread has just made.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from twofold.errors import InternalError
from twofold.kernels.binding import Step
from twofold.model.format import Format
from twofold.model.operations import (
    Add,
    Bias,
    Embed,
    Gather,
    GeGLU,
    LayerNorm,
    Linear,
    LogSumExp,
    RMSNorm,
    SwiGLU,
    Top,
    WeightOperation,
)
from twofold.model.segment import Segment

WHOLE_ROWS = (Step.EMBED, Step.RMS_NORM, Step.LAYER_NORM, Step.TOP, Step.GATHER, Step.LOG_SUM_EXP)
_VECTORS: dict[type, Step] = {RMSNorm: Step.RMS_NORM, LayerNorm: Step.LAYER_NORM, Bias: Step.BIAS}


class Share(Enum):
    """Which part of a value one thread makes or reads."""

    ROWS = "some rows"
    COLUMNS = "some columns of all rows"
    ALL = "all of it"


@dataclass(frozen=True)
class Buffer:
    """A value: a plane of the rows (`plane` set), or scratch: `width` f32 a row, or integers of `bits`.

    Integers carry what a product with weights of this zero point starts at.
    """

    name: str
    width: int
    plane: str | None = None
    bits: int = 0
    zero_point: int = 0


@dataclass(frozen=True)
class LoweredStep:
    """One step: `kind` from `a` (and `b`) into `out`, with the tensor `weight`."""

    kind: Step
    a: Buffer
    out: Buffer
    b: Buffer | None = None
    weight: str | None = None
    epsilon: float = 0.0
    columns: bool = False
    waits: bool = False

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
    _written: dict[str, Share] = field(default_factory=dict)  # since the last meeting: buffer → how it was shared out
    _read: dict[str, set[Share]] = field(default_factory=dict)

    def run(self) -> list[LoweredStep]:
        """The steps of the segment."""
        for plane in self.segment.cut.takes:
            buffer = Buffer(plane.name, plane.width, plane=plane.name)
            if plane.dtype == "f16":
                wide = Buffer(f"{plane.name} wide", plane.width)
                self._emit(LoweredStep(Step.WIDEN, buffer, wide))
                buffer = wide
            self._values[plane.name] = buffer
        direct = {plane.name for plane in self.segment.cut.gives if plane.dtype != "f16"}
        for index, operation in enumerate(self.segment.operations):
            last = all(later.out != operation.out for later in self.segment.operations[index + 1 :])
            self._lower(operation, plane=operation.out if last and operation.out in direct else None)
        for plane in self.segment.cut.gives:
            if plane.dtype == "f16":
                self._emit(
                    LoweredStep(
                        Step.NARROW,
                        self._values[plane.name],
                        Buffer(plane.name, plane.width, plane=plane.name),
                    )
                )
        return self.steps

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
                    epsilon=0.0 if isinstance(operation, Bias) else operation.epsilon,
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
            case SwiGLU() | GeGLU():
                gate, up = self._values[operation.gate], self._values[operation.up]
                step = LoweredStep(
                    Step.SWIGLU if isinstance(operation, SwiGLU) else Step.GEGLU,
                    gate,
                    Buffer(operation.out, gate.width, plane),
                    b=up,
                )
            case Add():
                a, b = self._values[operation.a], self._values[operation.b]
                step = LoweredStep(Step.ADD, a, Buffer(operation.out, a.width, plane), b=b)
            case Top() | Gather() | LogSumExp():
                step = self._head(operation, plane)
        self._emit(step)
        self._values[operation.out] = step.out
        self._rounded = {key: buffer for key, buffer in self._rounded.items() if key[0] != operation.out}

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

    def _round(self, name: str, bits: int, zero_point: int) -> Buffer:
        """The value as integers, rounded once for all whose weights have this zero point."""
        key = (name, bits, zero_point)
        if key not in self._rounded:
            x = self._values[name]
            self._rounded[key] = Buffer(f"{name} int{bits} {zero_point}", x.width, bits=bits, zero_point=zero_point)
            self._emit(LoweredStep(Step.QUANTISE, x, self._rounded[key]))
        return self._rounded[key]

    def _emit(self, step: LoweredStep) -> None:
        reads = [buffer.name for buffer in (step.a, step.b) if buffer]
        share = self._share(step.kind, reads)
        reading = Share.ALL if step.kind is Step.LINEAR else share
        out = step.out.name
        waits = (
            any(self._written.get(name, reading) is not reading for name in reads)
            or self._written.get(out, share) is not share
            or bool(self._read.get(out, set()) - {share})
        )
        if waits:
            self._written.clear()
            self._read.clear()
        self._written[out] = share
        for name in reads:
            self._read.setdefault(name, set()).add(reading)
        self.steps.append(replace(step, columns=share is Share.COLUMNS, waits=waits))

    def _share(self, kind: Step, reads: list[str]) -> Share:
        """How a step is shared out: as what it reads was, where both ways are possible."""
        if kind in WHOLE_ROWS:
            return Share.ROWS
        made = {self._written[name] for name in reads if name in self._written}
        return Share.ROWS if kind is not Step.LINEAR and made == {Share.ROWS} else Share.COLUMNS
