"""Rotary frequencies equal those of Transformers for every kind of scaling."""

import math

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from twofold.model import rotary

BASE, DIMENSIONS, ORIGINAL = 500_000.0, 64, 8192
FACTORS = [1.0 + i / 7 for i in range(DIMENSIONS // 2)]
# Transformers computes in float32, we in float64: a few units in the last place of it.
CLOSE = 2e-6


def theirs(kind: str, length: int = 4 * ORIGINAL, **parameters: object) -> tuple[np.ndarray, float]:  # type: ignore[type-arg]
    config = LlamaConfig(
        hidden_size=4 * DIMENSIONS,
        num_attention_heads=4,
        max_position_embeddings=length,
        rope_parameters={"rope_type": kind, "rope_theta": BASE, **parameters},
    )
    config.original_max_position_embeddings = ORIGINAL
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
    return frequencies.numpy(), magnitude


def test_linear_scaling() -> None:
    expected, magnitude = theirs("linear", factor=4.0)
    assert magnitude == 1
    assert rotary.linear(rotary.plain(BASE, DIMENSIONS), 4.0) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("factor", [2.0, 4.0, 40.0])
def test_yarn(factor: float) -> None:
    expected, magnitude = theirs("yarn", factor=factor, original_max_position_embeddings=ORIGINAL)
    ours = rotary.yarn(BASE, DIMENSIONS, factor=factor, original_length=ORIGINAL, fast=32.0, slow=1.0)
    assert ours == pytest.approx(expected, rel=CLOSE)
    assert rotary.yarn_magnitude(factor) == pytest.approx(magnitude)


def test_llama3_by_the_factors_that_a_file_ships() -> None:
    expected, _ = theirs(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=ORIGINAL
    )
    shipped = []
    for f in rotary.plain(BASE, DIMENSIONS):
        turns = ORIGINAL * f / (2 * math.pi)
        smooth = min(max((turns - 1.0) / (4.0 - 1.0), 0.0), 1.0)
        shipped.append(1 / ((1 - smooth) / 8.0 + smooth))
    assert rotary.divided(rotary.plain(BASE, DIMENSIONS), shipped) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("length", [ORIGINAL, 4 * ORIGINAL])
def test_longrope(length: int) -> None:
    long = [2 * factor for factor in FACTORS]
    expected, magnitude = theirs(
        "longrope", length, short_factor=FACTORS, long_factor=long, factor=length / ORIGINAL,
        original_max_position_embeddings=ORIGINAL,
    )  # fmt: skip
    chosen = long if length > ORIGINAL else FACTORS
    assert rotary.divided(rotary.plain(BASE, DIMENSIONS), chosen) == pytest.approx(expected, rel=CLOSE)
    assert rotary.long_magnitude(length, ORIGINAL) == pytest.approx(magnitude)
