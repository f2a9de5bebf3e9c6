"""Rotary scaling: what a checkpoint names becomes the frequencies its papers define, or is refused."""

import math

import pytest

from twofold.errors import ModelError
from twofold.model import rotary
from twofold.model.family.base import FACTORS, LONG, SHORT, Facts, rotary_of, rotary_shapes
from twofold.model.operations import Rotary

BASE = {"rope.freq_base": 10000.0, "rope.scaling.original_context_length": 64, "context_length": 256}
FACTOR_VALUES = {
    FACTORS: tuple(1.0 + i for i in range(8)),
    SHORT: tuple(1.0 + i / 8 for i in range(8)),
    LONG: tuple(2.0 + i for i in range(8)),
}


def facts(*tensors: str, **metadata: object) -> Facts:
    known = {f"llama.{key}": value for key, value in BASE.items()}
    known |= {f"llama.{key.replace('__', '.')}": value for key, value in metadata.items()}
    return Facts("llama", known, frozenset(tensors), FACTOR_VALUES.__getitem__)


def of(*tensors: str, **metadata: object) -> Rotary:
    return rotary_of(facts(*tensors, **metadata), 16, interleaved=True)


def close(found: Rotary, expected: list[float]) -> None:
    assert found.frequencies == pytest.approx(expected, rel=1e-7)


PLAIN = [10000 ** (-i / 8) for i in range(8)]


def test_without_scaling_the_frequencies_are_powers_of_the_base() -> None:
    assert of() == of(rope__scaling__type="none") == rotary.rotary(tuple(PLAIN), interleaved=True)
    assert (of().dimensions, of().magnitude) == (16, 1.0)


def test_a_part_of_the_head_has_powers_of_its_own_width() -> None:
    found = of(rope__dimension_count=8)
    assert found.dimensions == 8
    close(found, [10000 ** (-i / 4) for i in range(4)])


def test_linear_scaling_divides_every_frequency() -> None:
    close(of(rope__scaling__type="linear", rope__scaling__factor=4.0), [f / 4 for f in PLAIN])


def test_factors_of_the_file_divide_each_frequency() -> None:
    close(of(FACTORS), [f / factor for f, factor in zip(PLAIN, FACTOR_VALUES[FACTORS], strict=True)])


def test_yarn_keeps_what_turns_often_and_squeezes_what_turns_seldom() -> None:
    found = of(rope__scaling__type="yarn", rope__scaling__factor=4.0, rope__scaling__attn_factor=0.5)
    assert found.frequencies[0] == 1.0
    assert found.frequencies[3:] == pytest.approx([f / 4 for f in PLAIN[3:]], rel=1e-7)
    assert all(f / 4 < g < f for f, g in zip(PLAIN[1:3], found.frequencies[1:3], strict=True))
    assert found.magnitude == pytest.approx(0.5 * (0.1 * math.log(4) + 1))


@pytest.mark.parametrize(("length", "chosen", "magnitude"), [(256, LONG, math.sqrt(4 / 3)), (64, SHORT, 1.0)])
def test_longrope_takes_the_factors_of_the_context_it_is_opened_for(length: int, chosen: str, magnitude: float) -> None:
    found = of(SHORT, LONG, context_length=length)
    close(found, [f / factor for f, factor in zip(PLAIN, FACTOR_VALUES[chosen], strict=True)])
    assert found.magnitude == pytest.approx(magnitude)
    assert of(SHORT, LONG, rope__scaling__attn_factor=1.5).magnitude == 1.5


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ((), {"rope__scaling__type": "dynamic"}, "this rotary scaling.*dynamic"),
        ((), {"rope__scaling__type": "linear"}, "rope.scaling.factor"),
        ((), {"rope__scaling__type": "longrope"}, "rope_factors_long.weight: 8 positive"),
        ((), {"rope__freq_base": 1.0}, "freq_base is 1.0"),
        ((), {"rope__freq_base": 1e-300}, "freq_base"),
        ((), {"rope__scaling__type": "linear", "rope__scaling__factor": 1e-300}, "out of range"),
        ((FACTORS,), {"rope__scaling__type": "linear", "rope__scaling__factor": 0.01}, "out of range"),
        (
            (),
            {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__yarn_beta_fast": 1e-308},
            "no ramp leads from 1e-308",
        ),
        ((LONG,), {"context_length": 64}, "rope_factors_short.weight: 8 positive"),
        ((FACTORS,), {"rope__dimension_count": 8}, "rope_freqs.weight: 4 positive"),
        ((), {"rope__scaling__yarn_log_multiplier": 0.1}, "multiplier"),
    ],
)
def test_what_cannot_be_computed_is_refused(tensors: tuple[str, ...], metadata: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        of(*tensors, **metadata)


def test_the_factors_are_part_of_the_file() -> None:
    assert rotary_shapes(facts(LONG, SHORT), of()) == {SHORT: (1, 8), LONG: (1, 8)}
