"""Models of a single operation, so that each entry of the closed list can be tested by itself."""

from dataclasses import dataclass

import numpy as np
from random_blocks import stored

from twofold.model.checkpoint import Tensor, Tensors
from twofold.model.format import FORMATS, Format
from twofold.model.manifest import NUMERICS, Manifest, Model
from twofold.model.operations import (
    Add,
    Bias,
    ClampedSwiGLU,
    Embed,
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
from twofold.model.segment import Cut, Plane, Segment

WIDTH, OUT, VOCABULARY = 256, 50, 70  # 50 and 70: not whole panels of 16


@dataclass(frozen=True)
class Case:
    """One operation with a weight of one format."""

    name: str
    operation: WeightOperation
    takes: tuple[Plane, ...]
    gives: Plane
    shape: tuple[int, int] | None = None
    format: Format = FORMATS[0]

    @property
    def segment(self) -> int:
        """Token ids enter in segment 0, everything else in segment 1."""
        return 0 if isinstance(self.operation, Embed) else 1


def _cases() -> list[Case]:
    x, y = Plane("x", WIDTH, "f32"), Plane("y", WIDTH, "f32")
    cases = [
        Case("rms_norm", RMSNorm("x", "w", 1e-5, "out"), (x,), Plane("out", WIDTH, "f32"), (1, WIDTH)),
        Case("rms_norm, heads", RMSNorm("x", "w", 1e-5, "out"), (x,), Plane("out", WIDTH, "f32"), (1, 32)),
        Case("scale", Scale("x", 0.3, "out"), (x,), Plane("out", WIDTH, "f32")),
        Case("swiglu", SwiGLU("x", "y", "out"), (x, y), Plane("out", WIDTH, "f32")),
        Case("layer_norm", LayerNorm("x", "w", 1e-5, "out"), (x,), Plane("out", WIDTH, "f32"), (1, WIDTH)),
        Case("bias", Bias("x", "w", "out"), (x,), Plane("out", WIDTH, "f32"), (1, WIDTH)),
        Case("geglu", GeGLU("x", "y", "out"), (x, y), Plane("out", WIDTH, "f32")),
        Case("clamped_swiglu", ClampedSwiGLU("x", "y", "out", 7.0, 1.75), (x, y), Plane("out", WIDTH, "f32")),
        Case("add", Add("x", "y", "out"), (x, y), Plane("out", WIDTH, "f32")),
        Case(
            "add, f16 in and out",
            Add("h", "x", "out"),
            (Plane("h", WIDTH, "f16"), x),
            Plane("out", WIDTH, "f16"),
        ),
    ]
    wide = Plane("wide", 1000, "f32")  # neither whole panels nor a power of two
    cases += [
        Case("top", Top("wide", 300, "out"), (wide,), Plane("out", 300, "i32")),
        Case("top of all", Top("x", WIDTH, "out"), (x,), Plane("out", WIDTH, "i32")),
        Case("gather", Gather("x", "ids", "out"), (x, Plane("ids", 40, "i32")), Plane("out", 40, "f32")),
        Case("log_sum_exp", LogSumExp("wide", "out"), (wide,), Plane("out", 1, "f32")),
    ]
    scores, chosen, best = Plane("x", 60, "f32"), Plane("ids", 5, "i32"), Plane("out", 5, "i32")
    cases += [
        Case("route", Route("x", 5, "out"), (scores,), best),
        Case("route, bias", Route("x", 5, "out", True, "w"), (scores,), best, (1, 60)),
        Case("route, groups", Route("x", 5, "out", True, "w", 6, 2), (scores,), best, (1, 60)),
    ]
    cases += [
        Case(f"shares {way}", Shares("x", "ids", "out", *way), (scores, chosen), Plane("out", 5, "f32"))
        for way in ((False, True, 1.0), (False, False, 2.5), (True, True, 2.5), (True, False, 1.0))
    ]
    for f in FORMATS:
        ids = (Plane("ids", 1, "i32"),)
        out = Plane("out", WIDTH, "f32")
        cases.append(Case(f"embed {f.name}", Embed("ids", "w", "out"), ids, out, (VOCABULARY, WIDTH), f))
        for bits in (8, 16):
            operation = Linear("x", "w", "out", bits)
            cases.append(
                Case(f"linear {f.name}, {bits} bit", operation, (x,), Plane("out", OUT, "f32"), (OUT, WIDTH), f)
            )
    return cases


CASES = _cases()


def one_operation(case: Case) -> tuple[Model, Tensors]:
    """A model whose segment `case.segment` is the one operation, and its random weights."""
    segment = Segment(Cut(case.takes, (case.gives,)), (case.operation,))
    empty = Segment(Cut((), ()), ())
    segments = (segment, empty, empty) if case.segment == 0 else (empty, segment, empty)
    cuts = tuple(s.cut for s in segments)
    manifest = Manifest("0" * 64, case.name, "test", NUMERICS, VOCABULARY, 64, cuts, ())

    def tensor(name: str) -> Tensor:
        assert case.shape is not None, f"{case.name} holds no tensor {name}"
        values = np.random.default_rng(5).standard_normal(case.shape).astype(np.float32)
        return Tensor(*case.shape, case.format, memoryview(stored(values, case.format)).cast("B"))

    return Model(manifest, segments), tensor
