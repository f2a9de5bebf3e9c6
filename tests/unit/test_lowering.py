"""Lowering: integers are made once for all who read them, and threads meet exactly where they must."""

from collections.abc import Mapping

from twofold.kernels.binding import Step
from twofold.kernels.lowering import LoweredStep, Lowering
from twofold.model.format import F32, Q4_1, Q8_0, Format
from twofold.model.operations import Add, Linear, RMSNorm, SwiGLU
from twofold.model.segment import Cut, Plane, Segment


def lower(*operations: object, formats: Mapping[str, Format] | None = None, other: Format = Q4_1) -> list[LoweredStep]:
    takes = (Plane("attended", 64, "f16"), Plane("carry", 64, "f32"))
    gives = (Plane("carry", 64, "f32"), Plane("q", 64, "f16"))
    segment = Segment(Cut(takes, gives), operations)  # type: ignore[arg-type]
    known = formats or {}
    return Lowering(segment, lambda name: (64, 64, known.get(name, other))).run()


LAYER = (
    Linear("attended", "o", "mixed"),
    Add("carry", "mixed", "middle"),
    RMSNorm("middle", "n", 1e-5, "normed"),
    Linear("normed", "g", "gate"),
    Linear("normed", "u", "up"),
    SwiGLU("gate", "up", "product"),
    Linear("product", "d", "down"),
    Add("middle", "down", "carry"),
    RMSNorm("carry", "n2", 1e-5, "next"),
    Linear("next", "wq", "q"),
)


def test_a_layer_lowers_to_these_steps_and_meets_five_times() -> None:
    steps = lower(*LAYER)
    assert [(step.kind.name, "columns" if step.columns else "rows", step.waits) for step in steps] == [
        ("WIDEN", "columns", False), ("QUANTISE", "columns", False),
        ("LINEAR", "columns", True), ("ADD", "columns", False),
        ("RMS_NORM", "rows", True), ("QUANTISE", "rows", False),
        ("LINEAR", "columns", True), ("LINEAR", "columns", False),
        ("SWIGLU", "columns", False), ("QUANTISE", "columns", False),
        ("LINEAR", "columns", True), ("ADD", "columns", False),
        ("RMS_NORM", "rows", True), ("QUANTISE", "rows", False),
        ("LINEAR", "columns", True), ("NARROW", "columns", False),
    ]  # fmt: skip


def test_a_value_passes_if_nobody_needs_it_after_its_group() -> None:
    values = {buffer for step in lower(*LAYER) for buffer in (step.a, step.b, step.out) if buffer}
    names = {"attended wide", "mixed", "gate", "up", "product", "down", "q"}
    assert {buffer.name for buffer in values if buffer.passes} == names


def test_what_a_product_or_another_group_reads_does_not_pass() -> None:
    operations = (Linear("carry", "a", "x"), Linear("x", "b", "y"), RMSNorm("y", "n", 1e-5, "z"), Add("z", "y", "q"))
    assert not any(b.passes for s in lower(*operations, other=F32) for b in (s.a, s.out) if b.name in ("x", "y", "z"))


def test_what_was_shared_out_in_both_ways_is_waited_for() -> None:
    operations = (Linear("carry", "w", "x"), RMSNorm("carry", "n", 1e-5, "y"), Add("x", "y", "q"))
    steps = [step for step in lower(*operations, other=F32) if step.kind in (Step.LINEAR, Step.RMS_NORM, Step.ADD)]
    assert [(step.columns, step.waits) for step in steps] == [(True, False), (False, False), (True, True)]


def test_float_weights_read_the_activations_as_they_are() -> None:
    assert Step.QUANTISE not in [step.kind for step in lower(*LAYER, other=F32)]


def test_two_roundings_of_one_value_are_kept_apart() -> None:
    steps = lower(Linear("carry", "a", "x", 8), Linear("carry", "b", "q", 16), Linear("carry", "c", "y", 8))
    made = [step for step in steps if step.kind in (Step.QUANTISE, Step.LINEAR)]
    assert [(step.kind.name, step.fine) for step in made] == [
        ("QUANTISE", False), ("LINEAR", False), ("QUANTISE", True), ("LINEAR", True), ("LINEAR", False),
    ]  # fmt: skip


def test_a_value_made_anew_is_rounded_anew() -> None:
    steps = lower(Linear("carry", "a", "x"), Add("carry", "x", "carry"), Linear("carry", "b", "q"))
    assert [step.kind.name for step in steps].count("QUANTISE") == 2


def test_a_buffer_that_others_may_still_read_is_not_overwritten_before_they_are_done() -> None:
    steps = lower(
        RMSNorm("carry", "n", 1e-5, "t"), Linear("t", "a", "x"),
        RMSNorm("carry", "n", 1e-5, "t"), Linear("t", "b", "q"),
        other=F32,
    )  # fmt: skip
    assert [(step.kind.name, step.waits) for step in steps[1:4]] == [
        ("RMS_NORM", False),
        ("LINEAR", True),
        ("RMS_NORM", True),
    ]


def test_an_f32_plane_is_written_in_place_and_an_f16_plane_is_rounded_last() -> None:
    steps = lower(*LAYER)
    assert [step.out.plane for step in steps if step.out.plane] == ["carry", "q"]
    assert steps[-1].kind is Step.NARROW


def test_weights_of_different_zero_points_read_integers_of_their_own() -> None:
    formats = {"a": Q4_1, "b": Q8_0}
    steps = lower(Linear("carry", "a", "x"), Linear("carry", "b", "y"), Linear("carry", "c", "q"), formats=formats)
    made = {step.out.name: step.out.zero_point for step in steps if step.kind is Step.QUANTISE}
    read = [made[step.a.name] for step in steps if step.kind is Step.LINEAR]
    assert read == [0, 128, 0]
    assert len(made) == 2


def test_columns_of_another_group_may_be_another_threads() -> None:
    sizes = {"wide": 96}
    segment = Segment(
        Cut((Plane("carry", 64, "f32"),), (Plane("carry", 64, "f32"), Plane("y", 96, "f32"))),
        (Linear("carry", "a", "x"), Linear("carry", "wide", "y"), Add("x", "x", "z"), Add("z", "x", "carry")),
    )
    steps = Lowering(segment, lambda name: (sizes.get(name, 64), 64, F32)).run()
    assert [(step.out.name, step.waits) for step in steps] == [
        ("x", False), ("y", False), ("z", True), ("carry", False),
    ]  # fmt: skip


def test_a_plane_of_halves_is_made_by_whoever_made_the_value() -> None:
    steps = lower(Linear("carry", "w", "q"), Linear("carry", "v", "x"), Add("carry", "x", "carry"))
    assert [(step.kind.name, step.out.plane, step.waits) for step in steps][2:4] == [
        ("LINEAR", None, True), ("NARROW", "q", False),
    ]  # fmt: skip
