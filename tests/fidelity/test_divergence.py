"""How far our arithmetic is from float32: beside Transformers on the same dequantised weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from engines import all_logits, engine, native
from mixed_text import TEXT
from tiny_gguf import TinyLlama, write_tiny_llama
from transformers import AutoModelForCausalLM

from twofold.model.checkpoint import Checkpoint
from twofold.model.format import F32, FORMATS
from twofold.model.tokenizer import Tokenizer

Logits = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def log_softmax(logits: np.ndarray) -> Logits:  # type: ignore[type-arg]
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


def both(path: Path, tokens: list[int]) -> tuple[Logits, Logits]:
    """(Transformers in float32, ours) as log-probabilities of every position."""
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = model(torch.tensor([tokens])).logits[0].numpy()
    with native(threads=2) as backend, engine(path, backend) as fast:
        ours = all_logits(fast, tokens).view(np.float32)
    return log_softmax(theirs), log_softmax(ours)


def mean_divergence(reference: Logits, other: Logits) -> float:
    """Mean KL divergence, nats, of `other` from `reference`."""
    return float((np.exp(reference) * (reference - other)).sum(1).mean())


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> tuple[Logits, Logits, list[int]]:
    with Checkpoint.open(smollm2_path) as checkpoint:
        tokens = Tokenizer(checkpoint.tokenizer).encode(TEXT)
    assert len(tokens) >= 200
    return (*both(smollm2_path, tokens), tokens)


def test_divergence_from_float32_is_within_llama_cpps_own(
    smollm2: tuple[Logits, Logits, list[int]], record_property: Callable[[str, object], None]
) -> None:
    reference, ours, _ = smollm2
    divergence = mean_divergence(reference, ours)
    record_property("mean KL divergence, nats", divergence)
    assert 0 < divergence <= 0.0025  # llama.cpp: 0.0035 on such a text and these weights


def test_perplexity_is_within_half_a_percent(smollm2: tuple[Logits, Logits, list[int]]) -> None:
    reference, ours, tokens = smollm2
    following = np.array(tokens[1:])
    perplexity = [np.exp(-x[np.arange(len(following)), following].mean()) for x in (reference, ours)]
    assert abs(perplexity[1] / perplexity[0] - 1) <= 0.005


@pytest.mark.parametrize("kind", FORMATS, ids=[f.name for f in FORMATS])
def test_every_weight_format_computes_the_same_model_as_transformers(kind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = write_tiny_llama(
        tmp_path / "m.gguf", TinyLlama(hidden=256, ffn=256, matrices=kind, formats={"token_embd": kind})
    )
    with Checkpoint.open(path) as checkpoint:
        vocabulary = checkpoint.model.manifest.vocabulary
    tokens = np.random.default_rng(3).integers(0, vocabulary, 100).tolist()
    # Float weights differ by f16 planes and the KV cache alone; block formats by 8-bit activations too.
    bound = 2e-6 if kind.block == 1 else 2e-3
    reference, ours = both(path, tokens)
    assert mean_divergence(reference, ours) <= bound
    assert kind is not F32 or (reference.argmax(1) == ours.argmax(1)).mean() > 0.95
