"""Every family beside Transformers on a tiny random checkpoint of its own classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from engines import all_logits, engine, native
from test_divergence import log_softmax, mean_divergence
from tiny_hub import IDS, TINY, VOCABULARY, Tiny, write_tiny
from transformers import AutoModelForCausalLM

TOKENS = np.random.default_rng(7).integers(1, VOCABULARY - 60, 200).tolist()  # past every window and three chunks


@pytest.mark.parametrize("tiny", TINY, ids=IDS)
def test_float_weights_give_the_distribution_of_transformers(tiny: Tiny, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, tiny)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = log_softmax(model(torch.tensor([TOKENS])).logits[0].numpy())
    with native(threads=2) as backend, engine(folder, backend) as ours:
        mine = log_softmax(all_logits(ours, TOKENS).view(np.float32))
    assert 0 < mean_divergence(theirs, mine) <= 1e-6
