"""A GGUF file of random weights in the shape of a Llama of 1.2 billion parameters, with a real tokenizer.

    python bench/random_model.py Q4_0 llama-1b-q4_0.gguf [--tokenizer MODEL]

Speed depends on shapes and formats and not on values, so this stands for models that no registry ships. The names
llama-1b-q4_0 and llama-1b-q8_0 have bars in bench/ratios.py.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np

from twofold.engine.measure_kernels import Shape, random_weights
from twofold.model.format import F32, Q4_0, Q8_0, Format
from twofold.store.pull import ensure

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD, CONTEXT = 2048, 8192, 16, 32, 8, 64, 8192
SPREAD = 0.02  # standard deviation of a weight
# standard deviation of a block's integers when all values are as likely
FORMATS: dict[str, tuple[Format, float]] = {"Q4_0": (Q4_0, 4.6), "Q8_0": (Q8_0, 73.9)}
TOKENIZER = ("model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id")


def matrices(vocabulary: int) -> dict[str, Shape]:
    """Every matrix by name; the embedding is the head too."""
    layer = {
        "attn_q": Shape(HEADS * HEAD, HIDDEN), "attn_k": Shape(KV_HEADS * HEAD, HIDDEN),
        "attn_v": Shape(KV_HEADS * HEAD, HIDDEN), "attn_output": Shape(HIDDEN, HEADS * HEAD),
        "ffn_gate": Shape(FFN, HIDDEN), "ffn_up": Shape(FFN, HIDDEN), "ffn_down": Shape(HIDDEN, FFN),
    }  # fmt: skip
    every = {f"blk.{index}.{part}.weight": shape for index in range(LAYERS) for part, shape in layer.items()}
    return {"token_embd.weight": Shape(vocabulary, HIDDEN), **every}


def add_metadata(writer: gguf.GGUFWriter, tokenizer: Path) -> int:
    """Shape and tokenizer; returns the size of the vocabulary."""
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(HEAD)
    fields = gguf.GGUFReader(tokenizer).fields
    for key in TOKENIZER:
        field = fields[f"tokenizer.ggml.{key}"]
        sub = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    vocabulary = len(fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocabulary)
    return vocabulary


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tokenizer", default="smollm2", help="a model whose tokenizer is taken")
    asked = parser.parse_args()
    kind, deviation = FORMATS[asked.format]
    writer = gguf.GGUFWriter(asked.output, "llama")
    vocabulary = add_metadata(writer, ensure(asked.tokenizer))
    norms = ["output_norm"] + [f"blk.{i}.{part}_norm" for i in range(LAYERS) for part in ("attn", "ffn")]
    for name in norms:
        writer.add_tensor(
            f"{name}.weight", np.ones(HIDDEN, np.float32), raw_dtype=gguf.GGMLQuantizationType(F32.ggml_id)
        )
    for seed, (name, shape) in enumerate(matrices(vocabulary).items()):
        scale = SPREAD / deviation
        raw = np.frombuffer(random_weights(kind, shape, scale=scale, seed=seed), np.uint8)
        writer.add_tensor(name, raw.reshape(shape.outputs, -1), raw_dtype=gguf.GGMLQuantizationType(kind.ggml_id))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
