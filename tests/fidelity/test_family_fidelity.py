"""Every family beside Transformers on a tiny random checkpoint of its own classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engines import all_logits, engine, native
from random_blocks import stored
from test_divergence import log_softmax, mean_divergence
from tiny_hub import IDS, TINY, VOCABULARY, Tiny
from tiny_transformers import write_tiny
from transformers import AutoModelForCausalLM

from twofold.model.format import F32, Q4_0, Q4_1, Q8_0, Format
from twofold.model.hub.directory import HubDirectory
from twofold.model.source import Shape, rows_of

TOKENS = np.random.default_rng(7).integers(1, VOCABULARY - 60, 200).tolist()  # past every window and three chunks
STEPS = 64  # past another chunk
TIE = 4e-3  # two logits that q, k and v of 16 bits may put in another order; once in hundreds of tokens

# Where experts nearly tie, rounded activations send a row to another one, which no mean divergence bounds.
DENSE = [tiny for tiny in TINY if not any("expert" in key for key in tiny.config)]


class Quantised:
    """A checkpoint directory whose matrices are kept in blocks; a `Source`."""

    def __init__(self, path: Path, matrices: Format) -> None:
        self._plain = HubDirectory(path)
        self.path, self.metadata = path, self._plain.metadata
        self.tensors = {
            name: Shape(each.shape, F32 if len(each.shape) == 1 or name.endswith(".bias") else matrices)
            for name, each in self._plain.tensors.items()
        }

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> memoryview:
        data, each = self._plain.raw(name), self.tensors[name]
        if each.format is not F32:
            data = memoryview(stored(np.frombuffer(data, "<f4").reshape(-1, each.shape[-1]), each.format).tobytes())
        return rows_of(data, each, rows)

    def give_back(self, raw: memoryview) -> None:
        self._plain.give_back(raw)

    def close(self) -> None:
        self._plain.close()


def theirs(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def their_logits(model: Any, tokens: list[int]) -> np.ndarray[Any, Any]:
    logits: np.ndarray[Any, Any] = model(torch.tensor([tokens])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("tiny", TINY, ids=IDS)
def test_float_weights_give_the_distribution_and_the_greedy_tokens_of_transformers(tiny: Tiny, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, tiny)
    chosen: list[int] = []
    with native(threads=2) as backend, engine(folder, backend) as ours:
        found = log_softmax(all_logits(ours, TOKENS).view(np.float32))
        session = ours.open()
        logits = ours.feed(session, TOKENS)[0]
        while len(chosen) < STEPS:
            chosen.append(int(logits.argmax()))
            logits = ours.feed(session, chosen[-1:])[0]
        ours.close(session)
    expected = their_logits(theirs(folder), TOKENS + chosen[:-1])
    assert 0 < mean_divergence(log_softmax(expected[: len(TOKENS)]), found) <= 1e-6
    short = expected[-STEPS:].max(1) - expected[-STEPS:][np.arange(STEPS), chosen]
    assert np.count_nonzero(short) <= 1  # by induction, theirs are the same tokens
    assert short.max() <= TIE


@pytest.mark.parametrize("form", [Q8_0, Q4_0, Q4_1], ids=lambda form: form.name)
@pytest.mark.parametrize("tiny", DENSE, ids=lambda tiny: tiny.name or tiny.model_type)
def test_quantised_weights_give_the_distribution_of_transformers_on_the_same_weights(
    tiny: Tiny, form: Format, tmp_path: Path
) -> None:
    folder = write_tiny(tmp_path, tiny, grid=form)
    expected = log_softmax(their_logits(theirs(folder), TOKENS))
    with native(threads=2) as backend, engine(Quantised(folder, form), backend) as ours:
        found = log_softmax(all_logits(ours, TOKENS).view(np.float32))
    assert 0 < mean_divergence(expected, found) <= 5e-4  # activations of 8 bits; measured 1.6e-4 to 2.7e-4
