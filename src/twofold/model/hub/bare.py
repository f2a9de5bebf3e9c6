"""A config.json without weights, as a source: everything about a model but what its tensors hold.

The tensors follow from the family's blueprint, so what is counted here is what a checkpoint would have. How they would
be stored is what the config says: matrices in its `dtype` (bfloat16 if it is silent), those of the layers in what its
`quantization_config` names; norms, biases and small tensors in F32.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twofold.errors import ModelError
from twofold.model import family
from twofold.model.checkpoint import file_digest
from twofold.model.described import Matrix, facts_of, matrix_of, model_of
from twofold.model.format import BF16, F16, F32, MXFP4, Format
from twofold.model.hub.config import (
    Config,
    architecture_of,
    metadata_of,
    optional_tensors,
    rope_tensors,
    text_part,
    untold_tensors,
)
from twofold.model.hub.directory import read_json
from twofold.model.manifest import Model
from twofold.model.source import Shape

F8 = Format("F8_E4M3", -1, 1, 1)  # in no ggml file; the scale of each block of 128 × 128 is not counted
_DTYPES: dict[str, Format] = {"float32": F32, "float16": F16, "bfloat16": BF16, "None": BF16}


def bare_config(place: Path) -> Path | None:
    """The config that `place` is or holds with no weights beside it; None for anything else."""
    if place.suffix == ".json":
        return place
    config = place / "config.json"
    return config if os.path.isfile(config) and not any(place.glob("*.safetensors")) else None


class BareConfig:
    """What a config.json describes; a `Source` whose tensors have shapes and formats, and no bytes."""

    def __init__(self, path: Path) -> None:
        """Read `path`; raises ModelError naming what is missing, damaged or not supported."""
        config = read_json(path)
        self.path = path
        family.require(architecture_of(config))
        self.metadata: dict[str, object] = metadata_of(config)
        self.metadata.setdefault("general.name", path.parent.name if path.stem == "config" else path.stem)
        small = rope_tensors(config) | untold_tensors(config)
        self._small = {name: np.array(values, "<f4") for name, values in small.items()}
        beside = optional_tensors(config)
        self.tensors = dict.fromkeys(beside, Shape((), F32))
        self.tensors |= {name: Shape(values.shape, F32) for name, values in self._small.items()}
        self._blueprint = family.build(facts_of(self))
        shapes = self._blueprint.shapes
        unknown = sorted(beside - shapes.keys())
        if unknown:
            raise ModelError(f"{path}: has a tensor {unknown[0]}, which is not supported ({len(unknown)} in all)")
        stored = Storage.of(config)
        self.tensors |= {name: Shape(*stored.of_tensor(name, shape)) for name, shape in shapes.items()}

    def model(self) -> Model:
        """The model, whose digest is that of the config alone."""
        return model_of(facts_of(self), self._blueprint, digest=file_digest(self.path), untitled=self.path.stem)

    def matrix(self, name: str) -> Matrix:
        """The size of a weight matrix (a vector is one row), or of rows a to b - 1 of it: `name[a:b]`."""
        return matrix_of(self, name)

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> memoryview:
        """The bytes of a small tensor of the architecture, which is one row; ModelError for any other."""
        if name not in self._small:
            raise ModelError(f"{self.path}: has no weights; give the directory of a whole checkpoint")
        return memoryview(self._small[name].tobytes())

    def give_back(self, raw: memoryview) -> None:
        """There is nothing to give back."""

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True)
class Storage:
    """In which formats a config says that matrices are kept."""

    plain: Format
    layers: Format
    experts: Format

    @classmethod
    def of(cls, config: Config) -> "Storage":
        """Raises ModelError for a type or a quantisation that we cannot count."""
        text = text_part(config)
        named = text.get("dtype", text.get("torch_dtype", config.get("dtype", config.get("torch_dtype"))))
        plain = _DTYPES.get(str(named))
        if plain is None:
            raise ModelError(f"config.json: weights of type {named!r} are not supported")
        quantised = config.get("quantization_config", text.get("quantization_config"))
        if not isinstance(quantised, Mapping):
            return cls(plain, plain, plain)
        method = quantised.get("quant_algo") or quantised.get("quant_method")
        if str(method) not in _QUANTISED:
            known = ", ".join(_QUANTISED)
            raise ModelError(f"config.json: weights quantised by {method!r} are not supported; supported: {known}")
        layers, experts = _QUANTISED[str(method)]
        return cls(plain, layers or plain, experts)

    def of_tensor(self, name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Format]:
        """(shape as stored, format) of a tensor of a blueprint: a vector is one row there."""
        if shape[0] == 1 or name.endswith(".bias"):
            return (shape[1:] if shape[0] == 1 else shape), F32
        if "_exps." in name:
            return shape, self.experts
        return shape, self.layers if name.startswith("blk.") and not name.endswith(_ROUTER) else self.plain


_ROUTER = "ffn_gate_inp.weight"
_QUANTISED: dict[str, tuple[Format | None, Format]] = {  # of the matrices of layers, None: not quantised; of experts
    "fp8": (F8, F8),
    "FP8": (F8, F8),
    "mxfp4": (None, MXFP4),
}
