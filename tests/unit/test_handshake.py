from typing import Any

import msgspec
import pytest
from toy_processor import DIGEST, MANIFEST

from twofold.errors import FrameError
from twofold.model.manifest import Manifest
from twofold.model.segment import EXPERT_IN, EXPERT_OUT, Cut, Mixture, Plane
from twofold.wire.handshake import layout_of, refusal
from twofold.wire.message import Hello, Welcome
from twofold.wire.rows import Layout

WELCOME = Welcome(MANIFEST, (0, 1), 256, 32, 4711, "weight processor")
OTHER = "feedfacecafebeef" * 4


def with_manifest(**changes: Any) -> Welcome:
    return msgspec.structs.replace(WELCOME, manifest=msgspec.structs.replace(MANIFEST, **changes))


def parted(**changes: Any) -> Welcome:
    """Of a model whose segment 1, its end, has two experts."""
    carry = MANIFEST.cuts[1].takes
    into, out = Plane(EXPERT_IN, 32, "f32"), Plane(EXPERT_OUT, 32, "f32")
    chosen = (into, Plane("expert ids", 1, "i32"), Plane("expert shares", 1, "f32"))
    expert = Cut((into,), (out,))
    back = Cut((Plane("routed", 32, "f32"),), MANIFEST.cuts[1].gives)
    mixture = Mixture(1, 4, 5, 2, 2, "expert ids", "expert shares", "routed")
    cuts = (*MANIFEST.cuts, expert, expert, Cut(carry, chosen), back)
    return with_manifest(cuts=cuts, mixtures=(msgspec.structs.replace(mixture, **changes),))


def test_a_model_with_experts_fits() -> None:
    layout = layout_of(parted())
    assert [layout.limit(segment) for segment in range(6)] == [256, 32, 256, 256, 256, 32]


@pytest.mark.parametrize(
    "changes",
    [
        {"segment": -1}, {"segment": 2}, {"first": 1}, {"first": 5}, {"count": 0}, {"count": 1 << 40}, {"front": 3},
        {"front": 99}, {"back": 4}, {"back": -1}, {"ids": "ids"}, {"ids": "expert shares"}, {"routed": "carry"},
    ],
    ids=str,
)  # fmt: skip
def test_parts_that_are_not_those_of_a_mixture_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FrameError, match="mixtures of experts"):
        layout_of(parted(**changes))


def cuts_with(plane: Plane) -> tuple[Cut, ...]:
    return (Cut(MANIFEST.cuts[0].takes, (plane,)), MANIFEST.cuts[1])


def test_two_sides_of_one_version_and_model_fit() -> None:
    assert refusal(Hello(), WELCOME) is None
    assert refusal(Hello(digest=DIGEST), WELCOME) is None


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (Hello(protocol=7), ("protocol versions differ: client 7, weight processor 3", "same version")),
        (Hello(numerics=8), ("numerics versions differ: client 8, weight processor 1", "same version")),
        (Hello(digest=OTHER), (f"client wants {OTHER[:16]}", f"weight processor holds {DIGEST[:16]}", "toy")),
        (Hello(protocol=7, numerics=8, digest=OTHER), ("protocol versions differ",)),
    ],
)
def test_a_refusal_names_both_values(hello: Hello, words: tuple[str, ...]) -> None:
    why = refusal(hello, WELCOME)
    assert why is not None
    assert all(word in why for word in words)


def test_what_the_other_side_calls_itself_cannot_break_the_line() -> None:
    why = refusal(Hello(protocol=7, program="x\n\x1b[2J"), WELCOME)
    assert why is not None
    assert why.isprintable()


def test_the_layout_is_the_one_the_weight_processor_uses() -> None:
    here, there = layout_of(WELCOME), Layout(MANIFEST, rows=256, head_rows=32)
    assert (here.offsets, here.size_bytes) == (there.offsets, there.size_bytes)


@pytest.mark.parametrize(
    ("welcome", "words"),
    [
        (msgspec.structs.replace(WELCOME, rows=0), "rows is 0"),
        (msgspec.structs.replace(WELCOME, head_rows=2**40), "head_rows is"),
        (msgspec.structs.replace(WELCOME, segments=(0, 2)), "segments held"),
        (msgspec.structs.replace(WELCOME, segments=(0, 0)), "segments held"),
        (msgspec.structs.replace(WELCOME, segments=(-1,)), "segments held"),
        (with_manifest(digest="xyz"), "64 hexadecimal digits"),
        (with_manifest(digest="G" * 64), "64 hexadecimal digits"),
        (with_manifest(layers=()), "2 segments do not go with 0 layers"),
        (with_manifest(cuts=()), "0 segments|held"),
        (with_manifest(cuts=cuts_with(Plane("carry", 0, "f32"))), "plane carry is 0 wide"),
        (with_manifest(cuts=cuts_with(Plane("carry", -1, "f32"))), "plane carry is -1 wide"),
        (with_manifest(cuts=cuts_with(Plane("carry", 2**40, "f32"))), "wide, not 1 to"),
        (with_manifest(cuts=cuts_with(Plane("carry", 512, "f32"))), "plane carry differs"),
        (with_manifest(cuts=cuts_with(Plane("big", 2**24, "f32"))), "need 16.0 GiB a connection"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_before_memory_is_laid_out(welcome: Welcome, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        layout_of(welcome)


def test_a_manifest_survives_the_wire_unchanged() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(MANIFEST), type=Manifest) == MANIFEST
