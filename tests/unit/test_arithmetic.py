"""The arithmetic against float64: the definition is also accurate."""

import numpy as np
import pytest

from twofold.kernels import arithmetic
from twofold.kernels.arithmetic import F32


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_exponential_is_within_two_units_in_the_last_place() -> None:
    x = rng().uniform(-86, 88, 200_000).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    units = np.abs(arithmetic.exp(x) - exact) / np.spacing(exact.astype(np.float32))
    assert units.max() <= 2
    assert arithmetic.exp(np.array([0, -0.0], np.float32)).tolist() == [1, 1]
    assert arithmetic.exp(np.array([-86.01, -np.inf], np.float32)).tolist() == [0, 0]


def test_hyperbolic_tangent_is_odd_and_within_three_units_in_the_last_place() -> None:
    x = np.concatenate([rng().uniform(-12, 12, 100_000), 10.0 ** rng().uniform(-30, 30, 10_000)]).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    units = np.abs(arithmetic.tanh(x) - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert units.max() <= 3
    assert np.array_equal(arithmetic.tanh(-x).view(np.uint32), (-arithmetic.tanh(x)).view(np.uint32))
    assert arithmetic.tanh(np.array([0, -0.0, np.inf, -np.inf], np.float32)).tolist() == [0, 0, 1, -1]


def test_rotary_angles_are_right_to_half_a_unit_of_float32() -> None:
    positions = np.array([0, 1, 63, 8191, 131071, 1 << 20], np.int64)
    frequencies = (5e5 ** (-np.arange(64) / 64)).astype(np.float32)
    angle = (positions.astype(np.float32)[:, None] * frequencies).astype(np.float64)
    cosine, sine = arithmetic.rotary_angles(positions, frequencies)
    assert np.abs(cosine - np.cos(angle)).max() <= 2**-25
    assert np.abs(sine - np.sin(angle)).max() <= 2**-25


@pytest.mark.parametrize("bits", [8, 16])
def test_rounded_activations_are_within_half_a_step(bits: int) -> None:
    x = (rng().standard_normal((5, 96)) * 10.0 ** rng().integers(-20, 20, (5, 1))).astype(np.float32)
    q, d, q_sum = arithmetic.quantise(x, bits)
    error = np.abs(q * d[..., None].astype(np.float64) - x.reshape(5, 3, 32))
    assert (error <= d[..., None] * 0.5001).all()
    assert (np.abs(q) <= arithmetic.LEVELS[bits]).all()
    assert (q.sum(-1) == q_sum).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_block_of_almost_nothing_is_nothing(bits: int) -> None:
    x = np.full((1, 32), 2.0**-101, np.float32)
    q, d, q_sum = arithmetic.quantise(x, bits)
    assert not q.any()
    assert not d.any()
    assert not q_sum.any()


def test_rms_norm_is_close_to_float64() -> None:
    x, weight = rng().standard_normal((4, 160)).astype(np.float32), rng().standard_normal(160).astype(np.float32)
    wide = x.astype(np.float64)
    exact = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-5) * weight
    assert np.allclose(arithmetic.rms_norm(x, weight, 1e-5), exact, rtol=1e-6, atol=1e-6)


def test_swiglu_is_close_to_float64_and_survives_large_gates() -> None:
    gate = np.array([-1e30, -100, -87, -1, 0, 1, 87, 100, 1e30], np.float32)
    up = np.full(9, 2, np.float32)
    wide = gate.astype(np.float64)
    exact = wide / (1 + np.exp(np.minimum(-wide, 700))) * 2
    assert np.allclose(arithmetic.swiglu(gate, up)[3:], exact[3:], rtol=1e-6)
    assert (np.abs(arithmetic.swiglu(gate, up)[1:3]) < 1e-35).all()


@pytest.mark.parametrize("length", [1, 5, 63, 64, 65, 200])
def test_attention_is_close_to_float64(length: int) -> None:
    q = rng().standard_normal(32).astype(np.float32)
    k = rng().standard_normal((length, 32)).astype(np.float16)
    v = rng().standard_normal((length, 32)).astype(np.float16)
    scores = k.astype(np.float64) @ q
    weights = np.exp(scores - scores.max())
    exact = weights @ v.astype(np.float64) / weights.sum()
    assert np.allclose(arithmetic.attend(q, k, v), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_attention_with_window_soft_cap_and_sink_is_close_to_float64(length: int) -> None:
    q = rng().standard_normal(32).astype(np.float32)
    k = rng().standard_normal((length, 32)).astype(np.float16)
    v = rng().standard_normal((length, 32)).astype(np.float16)
    scores = 3 * np.tanh(k.astype(np.float64) @ q / 3)
    scores[: max(0, length - 70)] = -np.inf
    weights = np.exp(scores)
    exact = weights @ v.astype(np.float64) / (weights.sum() + np.exp(0.75))
    found = arithmetic.attend(q, k, v, window=70, soft_cap=3.0, sink=0.75)
    assert np.allclose(found, exact, rtol=1e-5, atol=1e-6)


def test_attention_is_defined_by_chunks_that_can_be_computed_apart() -> None:
    """What lies in a chunk gives the same partial result wherever the rest of the context is."""
    q: F32 = rng().standard_normal(16).astype(np.float32)
    k = rng().standard_normal((150, 16)).astype(np.float16)
    v = rng().standard_normal((150, 16)).astype(np.float16)
    top, total, value = np.float32(-np.inf), np.float32(0), np.zeros(16, np.float32)
    for part in (slice(0, 64), slice(64, 128), slice(128, 150)):
        chunk_top, chunk_sum, chunk_value = arithmetic.attend_chunk(q, k[part], v[part])
        before = (
            arithmetic.exp(np.array([min(top - chunk_top, 0)], np.float32))[0] if chunk_top > top else np.float32(1)
        )
        now = np.float32(1) if chunk_top > top else arithmetic.exp(np.array([chunk_top - top], np.float32))[0]
        top = max(top, chunk_top)
        total, value = total * before + chunk_sum * now, value * before + chunk_value * now
    assert np.array_equal((value / total).view(np.uint32), arithmetic.attend(q, k, v).view(np.uint32))


def test_top_is_the_head_of_the_row_sorted_by_value_then_id() -> None:
    x = rng().integers(-20, 20, (5, 300)).astype(np.float32)  # many equals
    expected = [sorted(range(300), key=lambda i: (-row[i], i))[:64] for row in x]
    assert arithmetic.top(x, 64).tolist() == expected
    assert arithmetic.gather(x, np.array(expected)).tolist() == [
        [row[i] for i in ids] for row, ids in zip(x, expected, strict=True)
    ]


def test_log_sum_exp_is_close_to_float64() -> None:
    x = (rng().standard_normal((6, 1001)) * np.array([[0], [1], [5], [20], [300], [1e-6]])).astype(np.float32)
    wide = x.astype(np.float64)
    exact = np.logaddexp.reduce(wide, axis=1, keepdims=True)
    assert np.allclose(arithmetic.log_sum_exp(x), exact, rtol=3e-7, atol=0)
    one = np.array([[3.5]], np.float32)
    assert arithmetic.log_sum_exp(one) == one


def test_logarithm_is_accurate_at_every_binade() -> None:
    x = np.concatenate([rng().uniform(1, 4, 10_000), 2.0 ** np.arange(40), 1 + 2.0 ** -np.arange(1, 30)])
    assert np.allclose(arithmetic.log(x), np.log(x), rtol=2**-48, atol=2**-50)


def test_layer_norm_is_close_to_float64() -> None:
    x, weight = 3 + rng().standard_normal((4, 160)).astype(np.float32), rng().standard_normal(160).astype(np.float32)
    wide = x.astype(np.float64)
    exact = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5) * weight
    assert np.allclose(arithmetic.layer_norm(x, weight, 1e-5), exact, rtol=2e-6, atol=2e-6)


def test_geglu_is_close_to_float64_and_survives_large_gates() -> None:
    gate = np.array([-1e30, -100, -4, -1, 0, 1, 4, 100, 1e30], np.float32)
    wide = gate.astype(np.float64)
    exact = wide * (1 + np.tanh(0.7978845608028654 * (wide + 0.044715 * wide**3)))
    found = arithmetic.geglu(gate, np.full(9, 2, np.float32))
    assert np.allclose(found, exact, rtol=1e-6, atol=1e-6)
