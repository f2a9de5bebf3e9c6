"""A checkpoint is whole and of a kind we know, or it is refused by naming what is wrong."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.errors import ModelError
from twofold.model.anatomy import anatomy
from twofold.model.checkpoint import Checkpoint, file_digest
from twofold.model.gguf import GgufFile
from twofold.model.operations import Side


def changed(path: Path, **metadata: object) -> GgufFile:
    file = GgufFile.open(path)
    for key, value in metadata.items():
        name = key.replace("__", ".")
        if value is None:
            file.metadata.pop(name)
        else:
            file.metadata[name] = value  # type: ignore[assignment]
    return file


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"general__architecture": "mamba"}, "'mamba' is not supported; supported: gemma3, "),
        ({"general__architecture": None}, "general.architecture is missing"),
        ({"general__architecture": 3}, "general.architecture is missing"),
        ({"llama__block_count": None}, "llama.block_count"),
        ({"llama__block_count": 0}, "llama.block_count"),
        ({"llama__block_count": 1 << 40}, "llama.block_count"),
        ({"llama__block_count": True}, "llama.block_count"),
        ({"llama__block_count": 3}, "tensor blk.2.attn_norm.weight is missing"),
        ({"llama__block_count": 1}, "tensor blk.1"),
        ({"llama__embedding_length": 65}, "multiple of 32"),
        ({"llama__attention__head_count_kv": 3}, "share 3 KV heads"),
        ({"llama__attention__head_count_kv": 8}, "head_count_kv"),
        ({"llama__attention__layer_norm_rms_epsilon": 0.0}, "epsilon"),
        ({"llama__attention__layer_norm_rms_epsilon": float("nan")}, "epsilon"),
        ({"llama__rope__freq_base": -1.0}, "freq_base"),
        ({"llama__rope__scaling__type": "dynamic"}, "this rotary scaling"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.factor"),
        ({"llama__rope__scale_linear": 4.0}, "rotary scaling by the old key"),
        ({"llama__rope__dimension_count": 32}, "llama.rope.dimension_count"),
        ({"llama__rope__dimension_count": 7}, "must be even"),
        ({"llama__expert_count": 8}, "expert_used_count is None"),
        ({"llama__context_length": None}, "context_length"),
        ({"tokenizer__ggml__model": "llama"}, "llama"),
        ({"tokenizer__ggml__tokens": None}, "tokenizer.ggml.tokens"),
        ({"llama__feed_forward_length": 128}, "ffn_gate.weight has shape"),
    ],
)
def test_metadata_that_does_not_fit_is_refused_by_name(tiny_path: Path, metadata: dict[str, object], said: str) -> None:
    with changed(tiny_path, **metadata) as file, pytest.raises(ModelError) as refused:
        Checkpoint(file, "0" * 64)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unsupported_quantisation_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    values = np.zeros((4, 256), np.float32)
    kind = gguf.GGMLQuantizationType.TQ2_0
    writer.add_tensor("t", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"TQ2_0.*Q4_1"):
        Checkpoint.open(path)


def test_the_digest_is_the_files_own_unless_the_caller_verified_it(tiny_path: Path) -> None:
    with Checkpoint.open(tiny_path) as checkpoint:
        assert checkpoint.model.manifest.digest == file_digest(tiny_path)
    with Checkpoint.open(tiny_path, digest="ab") as checkpoint:
        assert checkpoint.model.manifest.digest == "ab"


def test_anatomy_adds_up_to_the_file(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", TinyLlama(layers=3, tied=True))
    with Checkpoint.open(path) as checkpoint, GgufFile.open(path) as file:
        found = anatomy(checkpoint.model, checkpoint.tensor)
        assert found.totals.weight_bytes == sum(tensor.size_bytes for tensor in file.tensors.values())
    assert len(found.segments) == 5
    assert [row.context_bytes_per_token for row in found.segments] == [
        128,
        128,
        128,
        0,
        0,
    ]  # 2 · 2 bytes · 2 heads · 16
    sides = {row.name: row.side for row in found.operations}
    assert {name for name, side in sides.items() if side is Side.CONTEXT_AWARE} == {
        "rotary", "append", "attend", "sample", "tokenise",
    }  # fmt: skip
    assert {name for name, side in sides.items() if side is Side.CONTEXT_FREE} == {
        "embed", "rms_norm", "linear", "swiglu", "add",
    }  # fmt: skip
