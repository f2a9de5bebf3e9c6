"""What `twofold inspect` counts from a config alone is what Transformers' own model has and does."""

import json
from itertools import chain
from pathlib import Path

import pytest
import torch
from tiny_hub import IDS, TINY, Tiny, config_of
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from twofold.model.anatomy import anatomy
from twofold.model.hub.bare import BareConfig

SEEN = 20  # within every window


@pytest.mark.parametrize("tiny", TINY, ids=IDS)
def test_a_config_comes_to_the_parameters_and_operations_of_transformers(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(tiny)))
    described = BareConfig(tmp_path / "config.json")
    totals = anatomy(described.model(), described.matrix).totals
    config = AutoConfig.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, SEEN, dtype=torch.long), use_cache=False)
    corrections = (each for name, each in model.named_buffers() if name.endswith("correction_bias"))
    weights = (each for name, each in model.named_parameters() if not name.endswith("sinks"))  # those are context's
    assert totals.parameters == sum(weight.numel() for weight in chain(weights, corrections))
    # Eager attention multiplies with the positions behind a row too, and masks them.
    assert counter.get_total_flops() == SEEN * totals.flops_per_token + SEEN * SEEN * totals.flops_per_position
