"""Neither the number of threads nor the vector level changes a bit; golden digests hold across machines."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from engines import LEVELS, all_logits, engine, native, some_tokens
from tiny_gguf import TinyLlama, write_tiny_llama

# SHA-256 of the logits (f32, little endian) of 80 tokens through SmolLM2: numerics version 1, on any processor.
# They change only together with NUMERICS in model/manifest.py.
GOLDEN = "7cdb72dca3c67db660b066364353d64e8a3de8198e2e5e7006d7cc53811a507c"
TOKENS = 80


def digest_of(path: Path, threads: int, level: str | None) -> str:
    with native(threads, level) as backend, engine(path, backend) as fast:
        tokens = some_tokens(TOKENS, fast.manifest.vocabulary, seed=7)
        return hashlib.sha256(all_logits(fast, tokens).astype("<u4").tobytes()).hexdigest()


@pytest.mark.parametrize("level", LEVELS)
def test_every_vector_level_gives_the_golden_digest(smollm2_path: Path, level: str) -> None:
    assert digest_of(smollm2_path, 2, level) == GOLDEN


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_number_of_threads_gives_the_golden_digest(smollm2_path: Path, threads: int) -> None:
    assert digest_of(smollm2_path, threads, None) == GOLDEN


@pytest.mark.parametrize("experts", [0, 5])
@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_threads_change_no_bit_of_a_tiny_model(threads: int, experts: int, tmp_path: Path) -> None:
    tiny_path = write_tiny_llama(tmp_path / "m.gguf", TinyLlama(experts=experts))
    with native(1) as one, engine(tiny_path, one) as alone:
        tokens = some_tokens(130, alone.manifest.vocabulary)
        expected = all_logits(alone, tokens)
    with native(threads) as many, engine(tiny_path, many) as shared:
        assert np.array_equal(all_logits(shared, tokens), expected)


def test_threads_that_fight_for_one_processor_change_no_bit(smollm2_path: Path) -> None:
    """Interrupted threads make the pool's team smaller and larger again in the middle of the work."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert digest_of(smollm2_path, 3, None) == GOLDEN
    finally:
        os.sched_setaffinity(0, allowed)
