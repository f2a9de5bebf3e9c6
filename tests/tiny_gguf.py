"""Tiny random Llama models in GGUF, written with the format's reference writer.

They are whole: every tensor and metadata key of a real file, a byte-level BPE vocabulary, a chat template.
The weights are random and seeded, scaled so that activations stay near 1 through the layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from random_blocks import stored

from twofold.model.format import F32, Q4_1, Q8_0, Format

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (
    "Ġ t",
    "h e",
    "Ġt he",
    "i n",
    "Ġ a",
    "e r",
    "o n",
    "r e",
    "l l",
    "he ll",
    "hell o",
    "Ġ w",
    "Ġw o",
    "Ċ Ċ",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a tiny model.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class TinyLlama:
    """The shape of a tiny model.

    `matrices` is the format of every matrix but the embedding (Q8_0), `formats` what differs, by the part of
    the tensor's name before `.weight`: `{"attn_q": F16, "token_embd": F32, "output": Q8_0}`. Widths must be
    multiples of the format's block. `tied` leaves `output.weight` out, so the embedding serves as the head.
    """

    layers: int = 2
    hidden: int = 64
    ffn: int = 96
    heads: int = 4
    kv_heads: int = 2
    context_length: int = 256
    rope_base: float = 10000.0
    tied: bool = True
    experts: int = 0  # in the place of each feed-forward part; each row goes to two
    seed: int = 0
    matrices: Format = Q4_1
    formats: Mapping[str, Format] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        return self.hidden // self.heads

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape, row-major: (outputs, inputs)."""
        hidden, kv = self.hidden, self.kv_heads * self.head_dim
        vocabulary = len(tokens())
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, hidden)}
        for layer in range(self.layers):
            parts: dict[str, tuple[int, ...]] = {
                "attn_norm": (hidden,),
                **self._feed_forward(),
                "ffn_norm": (hidden,),
                "attn_k": (kv, hidden),
                "attn_output": (hidden, hidden),
                "attn_q": (hidden, hidden),
                "attn_v": (kv, hidden),
            }
            shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()}
        shapes["output_norm.weight"] = (hidden,)
        if not self.tied:
            shapes["output.weight"] = (vocabulary, hidden)
        return shapes

    def _feed_forward(self) -> dict[str, tuple[int, ...]]:
        hidden, ffn, count = self.hidden, self.ffn, self.experts
        parts: dict[str, tuple[int, ...]] = {
            "ffn_down": (hidden, ffn),
            "ffn_gate": (ffn, hidden),
            "ffn_up": (ffn, hidden),
        }
        if not count:
            return parts
        stacked = {f"{name}_exps": (count, *shape) for name, shape in parts.items()}
        return {"ffn_gate_inp": (count, hidden), **stacked}

    def format_of(self, tensor: str) -> Format:
        """The format in which the tensor of this name is written."""
        part = tensor.split(".")[-2]
        default = F32 if part.endswith("norm") else Q8_0 if part == "token_embd" else self.matrices
        return self.formats.get(part, default)


def tokens() -> list[str]:
    """The vocabulary: the special tokens, the 256 bytes in GPT-2's printable letters, the merges."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(0x100 + place) for place in range(len(others))]
    return [*SPECIAL_TOKENS, *letters, *(merge.replace(" ", "") for merge in MERGES)]


def write_tiny_llama(path: Path, model: TinyLlama | None = None) -> Path:
    """Write the model to `path` and return `path`; the same model gives the same bytes."""
    model = model or TinyLlama()
    random = np.random.default_rng(model.seed)
    writer = gguf.GGUFWriter(path, "llama")
    _add_metadata(writer, model)
    _add_tokenizer(writer)
    for name, shape in model.shapes().items():
        values = random.standard_normal(shape, dtype=np.float32)
        values = 1 + values / 10 if len(shape) == 1 else values / np.float32(shape[-1] ** 0.5)
        kind = F32 if len(shape) == 1 else model.format_of(name)
        raw = stored(values.reshape(-1, shape[-1]), kind)
        writer.add_tensor(name, raw.reshape(*shape[:-1], -1), raw_dtype=gguf.GGMLQuantizationType(kind.ggml_id))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_metadata(writer: gguf.GGUFWriter, model: TinyLlama) -> None:
    writer.add_type("model")
    writer.add_name("Tiny random Llama")
    writer.add_size_label("tiny")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_block_count(model.layers)
    writer.add_context_length(model.context_length)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.ffn)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_rope_freq_base(model.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(3)
    writer.add_vocab_size(len(tokens()))
    writer.add_rope_dimension_count(model.head_dim)
    writer.add_quantization_version(2)
    if model.experts:
        writer.add_expert_count(model.experts)
        writer.add_expert_used_count(2)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    vocabulary = tokens()
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([control if token in SPECIAL_TOKENS else normal for token in vocabulary])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
