"""A config.json alone says what a model costs: held against published numbers, and against a folder of real configs."""

import csv
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_hub import IDS, TINY, Tiny, config_of

from twofold.errors import ModelError
from twofold.model.anatomy import Anatomy, anatomy
from twofold.model.hub.bare import BareConfig, bare_config

# Numbers of published configs, and what they come to.
LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072, "rope_theta": 500000.0, "torch_dtype": "bfloat16",
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192},
}  # fmt: skip
QWEN3_600M = {
    "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 40960, "rope_theta": 1e6, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip
GEMMA3_270M = {
    "model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
    "head_dim": 256, "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 262144, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 512,
    "query_pre_attn_scalar": 256, "torch_dtype": "bfloat16",
}  # fmt: skip
PUBLISHED = {  # parameters, context bytes a token
    "Llama-3.1-8B": (LLAMA_8B, 8_030_261_248, 131_072),
    "Qwen3-0.6B": (QWEN3_600M, 596_049_920, 114_688),
    "Gemma-3-270M": (GEMMA3_270M, 268_098_176, 18_432),
}

KEYS = (
    *LLAMA_8B, "dtype", "head_dim", "tie_word_embeddings", "attention_bias", "mlp_bias", "text_config", "hidden_act",
    "rope_parameters", "rope_type", "factor", "original_max_position_embeddings", "partial_rotary_factor",
    "quantization_config", "quant_method", "sliding_window", "layer_types", "query_pre_attn_scalar",
    "no_rope_layers", "no_rope_layer_interval",
)  # fmt: skip


def counted(folder: Path, config: dict[str, Any]) -> Anatomy:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return taken_apart(path)


def taken_apart(path: Path) -> Anatomy:
    described = BareConfig(path)
    return anatomy(described.model(), described.matrix)


def outcome(path: Path) -> Anatomy | str:
    try:
        return taken_apart(path)
    except ModelError as refused:
        return str(refused)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_alone_comes_to_the_published_numbers(name: str, tmp_path: Path) -> None:
    config, parameters, context_bytes = PUBLISHED[name]
    totals = counted(tmp_path, config).totals
    assert totals.parameters == parameters
    assert totals.context_bytes_per_token == context_bytes
    assert totals.weight_bytes == pytest.approx(2 * parameters, rel=1e-3)  # a norm takes 4 bytes an element


@pytest.mark.parametrize("tiny", TINY, ids=IDS)
def test_the_layers_and_what_stands_around_them_add_up(tiny: Tiny, tmp_path: Path) -> None:
    found = counted(tmp_path, config_of(tiny))
    hidden, head = 64, 64 * found.vocabulary
    tied = tiny.model_type in ("gemma3_text", "smollm3")
    tables = head if tied else 2 * head
    met = head if tied else head + hidden  # of an embedding that is not the head as well, one row
    totals, layers = found.totals, found.layers
    assert len(layers) == config_of(tiny)["num_hidden_layers"]
    assert sum(layer.parameters for layer in layers) + tables + hidden == totals.parameters
    assert sum(layer.active_parameters for layer in layers) + met + hidden == totals.active_parameters
    assert sum(layer.flops_per_token for layer in layers) + 2 * head == totals.flops_per_token
    assert sum(layer.context_bytes_per_token for layer in layers) == totals.context_bytes_per_token


def test_layers_with_a_window_say_so(tmp_path: Path) -> None:
    windows = [layer.window for layer in counted(tmp_path, GEMMA3_270M).layers]
    assert windows == [512, 512, 512, 512, 512, 0] * 3


def test_layers_in_eight_bits_take_half_the_bytes_and_tables_stay(tmp_path: Path) -> None:
    plain = counted(tmp_path, LLAMA_8B)
    quantised = counted(tmp_path, {**LLAMA_8B, "quantization_config": {"quant_method": "fp8"}})
    tables = 2 * 2 * 4096 * 128256
    halved = quantised.totals.weight_bytes - tables, plain.totals.weight_bytes - tables
    assert 2 * halved[0] == pytest.approx(halved[1], rel=1e-3)
    assert quantised.totals.parameters == plain.totals.parameters


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": None}, "states no model_type"),
        ({"model_type": "perceiver"}, "'perceiver' is not supported; supported: .*llama"),
        ({"torch_dtype": "int3"}, "type 'int3' are not supported"),
        ({"quantization_config": {"quant_method": "hqq"}}, "quantised by 'hqq'.*supported: fp8"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers|block_count"),
        ({"num_hidden_layers": float("nan")}, "num_hidden_layers|block_count"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"model_type": "phi3", "attention_bias": True, "rope_scaling": None}, r"blk\.0\.attn_k\.bias"),
    ],
)
def test_what_is_missing_or_not_supported_is_named(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        counted(tmp_path, LLAMA_8B | changed)
    assert "\n" not in str(refused.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(("yarn", "llama3", "fp8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(tiny=st.sampled_from(TINY), changed=st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3))
def test_any_value_anywhere_is_counted_or_refused_in_one_line(tiny: Tiny, changed: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config_of(tiny) | changed))
        found = outcome(path)
    assert isinstance(found, Anatomy) or "\n" not in found


def test_there_are_no_weights_to_read(tmp_path: Path) -> None:
    counted(tmp_path, LLAMA_8B)
    with pytest.raises(ModelError, match="has no weights; give the directory of a whole checkpoint"):
        BareConfig(tmp_path / "config.json").raw("token_embd.weight")


def test_a_directory_is_bare_until_it_has_weights(tmp_path: Path) -> None:
    assert bare_config(tmp_path) is None
    counted(tmp_path, LLAMA_8B)
    assert bare_config(tmp_path) == bare_config(tmp_path / "config.json") == tmp_path / "config.json"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert bare_config(tmp_path) is None


# A folder with `configs/*.json` of published models and `models.csv`, which says what they come to.
RESEARCH = os.environ.get("TWOFOLD_RESEARCH")
ROWS = {
    "DeepSeek-V3/R1": "deepseek-ai--DeepSeek-V3",
    "Kimi-K2": "moonshotai--Kimi-K2-Instruct",
    "Qwen3-235B-A22B": "Qwen--Qwen3-235B-A22B",
    "Qwen3-30B-A3B": "Qwen--Qwen3-30B-A3B",
    "Qwen3-32B": "Qwen--Qwen3-32B",
    "Qwen3-8B": "Qwen--Qwen3-8B",
    "Qwen3.5-397B-A17B": "Qwen--Qwen3.5-397B-A17B",
    "MiniMax-M2 / M2.5 / M2.7": "MiniMaxAI--MiniMax-M2.5",
    "gpt-oss-120b": "openai--gpt-oss-120b",
    "gpt-oss-20b": "openai--gpt-oss-20b",
    "Llama-3.1-8B": "meta-llama--Meta-Llama-3.1-8B",
    "Llama-3.1-70B": "meta-llama--Meta-Llama-3.1-70B",
    "Llama-3.1-405B": "meta-llama--Meta-Llama-3.1-405B",
    "Mixtral-8x22B": "mistralai--Mixtral-8x22B-v0.1",
}  # fmt: skip
needs_research = pytest.mark.skipif(not RESEARCH, reason="TWOFOLD_RESEARCH names no folder of published configs")


@needs_research
def test_every_published_config_is_counted_or_refused_in_one_line() -> None:
    outcomes = {path: outcome(path) for path in sorted(Path(str(RESEARCH), "configs").glob("*.json"))}
    assert any(isinstance(each, Anatomy) for each in outcomes.values())
    assert [path for path, each in outcomes.items() if isinstance(each, str) and "\n" in each] == []


@needs_research
@pytest.mark.parametrize("row", ROWS)
def test_published_models_come_to_what_the_table_says(row: str) -> None:
    with Path(str(RESEARCH), "models.csv").open() as table:
        said = next(each for each in csv.DictReader(table) if each["model"] == row)
    found = outcome(Path(str(RESEARCH), "configs", f"{ROWS[row]}_config.json"))
    if isinstance(found, str):
        pytest.skip(found)
    growing = sum(layer.context_bytes_per_token for layer in found.layers if not layer.window)  # as the table counts
    assert found.totals.parameters / 1e9 == pytest.approx(float(said["computed_total_params_B"]), rel=0.02)
    assert found.totals.active_parameters / 1e9 == pytest.approx(float(said["computed_active_params_B"]), rel=0.02)
    assert growing == pytest.approx(float(said["kv_bytes_per_token_bf16"]), rel=0.02)
    if said["attn_arith_intensity_flop_per_kvbyte_fp8"]:
        intensity = found.totals.flops_per_position / (found.totals.context_bytes_per_token / 2)
        assert intensity == pytest.approx(float(said["attn_arith_intensity_flop_per_kvbyte_fp8"]), rel=0.02)
