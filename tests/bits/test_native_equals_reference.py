"""The native backend equals the NumPy reference, bit for bit, at every vector level of this machine."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from engines import LEVELS, all_logits, engine, native, some_tokens
from one_operation import CASES, Case, one_operation
from segment_runner import Runner
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.kernels import arithmetic
from twofold.kernels.binding import Functions, RotaryStruct
from twofold.kernels.reference import Reference
from twofold.model.format import BF16, F16, F32, FORMATS, Q4_0, Q4_1, Q8_0
from twofold.wire.rows import Layout

SHAPES = {
    **{f.name: TinyLlama(hidden=256, ffn=256, matrices=f, formats={"token_embd": f}) for f in FORMATS},
    "mixed formats, untied head": TinyLlama(
        tied=False,
        formats={
            "attn_q": F16,
            "attn_k": BF16,
            "attn_v": Q8_0,
            "ffn_up": F32,
            "ffn_down": Q4_0,
            "output": Q4_1,
        },
    ),
    "six heads share one KV head": TinyLlama(hidden=96, heads=6, kv_heads=1, ffn=64, matrices=Q8_0),
    "wide heads, no sharing": TinyLlama(hidden=128, heads=2, kv_heads=2, ffn=160, layers=3),
    "one layer": TinyLlama(layers=1),
    "experts": TinyLlama(experts=7),
    "experts of float weights": TinyLlama(experts=4, matrices=BF16, formats={"ffn_gate_inp": F32}),
}
TOKENS = 70  # past the first chunk of 64 positions


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_the_reference_at_every_level(name: str, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", SHAPES[name])
    with engine(path) as reference:
        tokens = some_tokens(TOKENS, reference.manifest.vocabulary)
        expected = all_logits(reference, tokens)
    assert np.isfinite(expected.view(np.float32)).all()
    for level in LEVELS:
        with native(threads=2, level=level) as backend, engine(path, backend) as fast:
            assert np.array_equal(all_logits(fast, tokens), expected), level


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_context_free_operation_equals_the_reference_at_every_level(case: Case) -> None:
    model, tensors = one_operation(case)
    layout = Layout(model.manifest)
    slow = Runner(model, Reference().weights(model, tensors, [case.segment], layout), layout)
    rows = slow.random_rows(case.segment, 17, seed=2)
    expected = slow.run(case.segment, rows)
    for level in LEVELS:
        with native(threads=2, level=level) as backend:
            kernels = backend.weights(model, tensors, [case.segment], layout)
            assert Runner(model, kernels, layout).run(case.segment, rows) == expected, level
            kernels.close()


@pytest.mark.parametrize("level", LEVELS)
def test_the_log_sum_exp_of_a_row_with_a_nan_anywhere_is_nan(level: str) -> None:
    case = next(case for case in CASES if case.name == "log_sum_exp")
    model, tensors = one_operation(case)
    layout = Layout(model.manifest)
    with native(level=level) as backend:
        kernels = backend.weights(model, tensors, [case.segment], layout)
        runner = Runner(model, kernels, layout)
        for place in (None, 0, 17, 983, 992, 999):
            rows = runner.random_rows(case.segment, 1, seed=3)
            if place is not None:
                rows[0]["wide"][place] = np.nan
            found = np.frombuffer(runner.run(case.segment, rows)[0], np.float32)[0]
            assert np.isnan(found) == (place is not None), place
        kernels.close()


@pytest.mark.parametrize("level", LEVELS)
def test_exponential_equals_the_reference_for_every_kind_of_float(level: str) -> None:
    edges = [
        0.0,
        -0.0,
        88.0,
        88.1,
        -86.0,
        -86.1,
        -87.5,
        1e-45,
        -1e-45,
        3e38,
        -3e38,
        np.inf,
        -np.inf,
        0.5,
        -0.5,
        1.0,
    ]
    rng = np.random.default_rng(1)
    spread = rng.uniform(-90, 90, 1 << 16)
    any_bits = rng.integers(0, 1 << 32, 1 << 16, np.uint32).view(np.float32)
    x = np.concatenate([np.array(edges), spread, any_bits[~np.isnan(any_bits)]]).astype(np.float32)
    x = x[: len(x) // 16 * 16].copy()
    out = np.empty_like(x)
    functions = Functions()
    functions.exponential(functions.level(level.encode()), x.ctypes.data, len(x), out.ctypes.data)
    assert np.array_equal(out.view(np.uint32), arithmetic.exp(x).view(np.uint32))


def test_rotary_tables_equal_the_reference() -> None:
    positions = np.array([0, 1, 2, 63, 64, 1000, 8191, 131071, 1 << 20], np.int64)
    frequencies = (1e5 ** (-np.arange(32) / 32)).astype(np.float32)
    cosine, sine = np.empty((9, 64), np.float32), np.empty((9, 64), np.float32)
    for interleaved, magnitude in ((True, 1.0), (False, 1.25)):
        rotary = RotaryStruct(frequencies.ctypes.data, 32, magnitude, interleaved)
        Functions().rotary(ctypes.addressof(rotary), positions.ctypes.data, 9, cosine.ctypes.data, sine.ctypes.data)
        expected = arithmetic.rotary_angles(positions, frequencies, magnitude)
        first, second = (slice(0, 64, 2), slice(1, 64, 2)) if interleaved else (slice(0, 32), slice(32, 64))
        for place, sign in ((first, -1), (second, 1)):
            assert np.array_equal(cosine[:, place].view(np.uint32), expected[0].view(np.uint32))
            assert np.array_equal(sine[:, place].view(np.uint32), (sign * expected[1]).view(np.uint32))


def test_smollm2_equals_the_reference(smollm2_path: Path) -> None:
    with engine(smollm2_path) as reference:
        tokens = some_tokens(3, reference.manifest.vocabulary)
        expected = all_logits(reference, tokens)
    with native() as backend, engine(smollm2_path, backend) as fast:
        assert np.array_equal(all_logits(fast, tokens), expected)
