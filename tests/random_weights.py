"""A tiny model of any family with random weights, as a source: nothing is written for a family but its config."""

import json
import zlib
from pathlib import Path

import numpy as np
from random_blocks import stored
from tiny_gguf import tokens
from tiny_hub import VOCABULARY, Tiny, config_of

from twofold.model.format import F32, Format
from twofold.model.hub.bare import BareConfig
from twofold.model.source import Shape, rows_of
from twofold.model.strings import Strings
from twofold.model.tokenizer import NORMAL


class RandomWeights(BareConfig):
    """The tensors that the family's blueprint asks for, all their matrices in `matrices`; seeded by their names."""

    def __init__(self, folder: Path, tiny: Tiny, matrices: Format = F32) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(config_of(tiny)))
        super().__init__(path)
        self.metadata |= _tokenizer()
        self.tensors = {
            name: Shape(each.shape, F32 if len(each.shape) == 1 or name.endswith(".bias") else matrices)
            for name, each in self.tensors.items()
        }

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> memoryview:
        """A norm is near 1, a bias near 0, a matrix such that activations stay near 1."""
        if name in self._small:
            return super().raw(name)
        return rows_of(self._whole(name), self.tensors[name], rows)

    def _whole(self, name: str) -> memoryview:
        shape, form = self.tensors[name].shape, self.tensors[name].format
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
        if len(shape) == 1 or name.endswith(".bias"):
            return memoryview((values / 4 + name.endswith("norm.weight")).astype("<f4").tobytes())
        each = values.reshape(-1, shape[-1]) / np.float32(shape[-1] ** 0.5)
        return memoryview(stored(each, form).tobytes())


def _tokenizer() -> dict[str, object]:
    """Byte-level BPE of as many tokens as the tiny models have."""
    known = tokens()
    words = [*known, *(f"<{i}>" for i in range(len(known), VOCABULARY))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": Strings.of(words),
        "tokenizer.ggml.token_type": [NORMAL] * VOCABULARY,
        "tokenizer.ggml.merges": Strings.of([]),
    }
