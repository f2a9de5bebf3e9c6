"""A checkpoint directory of the model hub as a source of tensors: `Source` in GGUF's words.

    config.json                     what the model is
    model.safetensors               its tensors, or
    model.safetensors.index.json    which file has which: {"weight_map": {tensor: file}}
    tokenizer.json, …               tokenizer.py

GGUF keeps some tensors in another form than the hub, and so does this: q and k of a few families with the elements
of a rotary pair side by side, Gemma's norms with their 1 added, the experts of a layer stacked to one tensor.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twofold.errors import ModelError
from twofold.model.format import BF16, F16, F32, Format
from twofold.model.hub.config import metadata_of, rope_tensors, tied
from twofold.model.hub.fused import Fused, Read, fused
from twofold.model.hub.names import expert_of, gguf_name
from twofold.model.hub.safetensors import SafetensorsFile
from twofold.model.hub.tokenizer import TokenizerFiles, tokenizer_metadata
from twofold.model.source import Shape, rows_of

MAX_JSON_BYTES = 64 << 20
_FORMATS: dict[str, Format] = {"F32": F32, "F16": F16, "BF16": BF16}
_PAIRS_TOGETHER = frozenset(("llama", "mistral", "mixtral", "smollm3"))
_NORMS_BELOW_ONE = frozenset(("gemma3_text",))


class HubDirectory:
    """An open checkpoint directory. `metadata` and `tensors` have GGUF's names."""

    def __init__(self, path: Path) -> None:
        """Read config.json and the heads of all files; raises ModelError for what is damaged or not supported."""
        self.path = path
        config = read_json(path / "config.json")
        self.metadata: dict[str, object] = metadata_of(config)
        self._family = str(self.metadata["general.architecture"])
        vocabulary = self.metadata.get(f"{self._family}.vocab_size")
        self.metadata |= tokenizer_metadata(tokenizer_files(path, config), int(str(vocabulary)))
        self._small = {name: np.array(values, "<f4").tobytes() for name, values in rope_tensors(config).items()}
        self.tensors = {name: Shape((len(raw) // 4,), F32) for name, raw in self._small.items()}
        self._places: dict[str, tuple[SafetensorsFile, str]] = {}
        self._experts: dict[str, Read] = {}  # of stacked tensors: the bytes of an expert
        apart: dict[str, dict[int, tuple[SafetensorsFile, str]]] = {}  # experts with a tensor each
        head_is_embedding = tied(config)
        self._files = [SafetensorsFile.open(each) for each in _files(path)]
        made, known = fused(self._files)
        for file in self._files:
            self._take(file, head_is_embedding, known, apart)
        for name, stored, read in (*made, *(_stacked(name, experts) for name, experts in apart.items())):
            self.tensors[name], self._experts[name] = stored, read

    def _take(
        self,
        file: SafetensorsFile,
        head_is_embedding: bool,
        fused: set[str],
        apart: dict[str, dict[int, tuple[SafetensorsFile, str]]],
    ) -> None:
        """Note the tensors of a file, but for those `fused`; those of one expert go to `apart`."""
        layers = int(str(self.metadata.get(f"{self._family}.block_count", 0)))
        for name, at in file.tensors.items():
            if name in fused:
                continue
            whole, expert = expert_of(name)
            known = gguf_name(self._family, whole, layers)
            if known is None or (known == "output.weight" and head_is_embedding):
                continue
            if known in self.tensors:
                raise ModelError(f"{file.path}: tensor {name} is there twice; use a sound checkpoint")
            if at.dtype not in _FORMATS:
                raise ModelError(f"{file.path}: tensor {name} is stored as {at.dtype}, which is not supported yet")
            if not at.shape or 0 in at.shape:
                raise ModelError(f"{file.path}: tensor {name} has the impossible shape {at.shape}")
            if expert is not None:
                apart.setdefault(known, {})[expert] = (file, name)
                continue
            self._places[known] = (file, name)
            self.tensors[known] = Shape(at.shape, F32 if len(at.shape) == 1 else _FORMATS[at.dtype])

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> memoryview:
        """The bytes of a tensor, or of rows a to b - 1 of it, as GGUF would have them: of the file, or made from it."""
        if name in self._experts:
            return self._stack(name, rows)
        return rows_of(self._whole(name), self.tensors[name], rows)

    def _stack(self, name: str, rows: tuple[int, int] | None) -> memoryview:
        """Rows of experts; those of one are as they lie in the file."""
        count, *each_shape = self.tensors[name].shape[:-1]
        each = math.prod(each_shape)
        first, last = rows or (0, count * each)
        touched = range(first // each, -(-last // each))
        raws = [self._experts[name](expert) for expert in touched]
        raw = raws[0] if len(raws) == 1 else memoryview(b"".join(raws))
        return rows_of(raw, self.tensors[name], (first - touched.start * each, last - touched.start * each))

    def _whole(self, name: str) -> memoryview:
        if name in self._small:
            return memoryview(self._small[name])
        file, stored = self._places[name]
        raw, info = file.raw(stored), self.tensors[name]
        if len(info.shape) == 1:
            return memoryview(self._vector(name, raw, file.tensors[stored].dtype))
        heads = self._heads(name)
        return memoryview(_pairs_together(raw, info.shape[0], heads)) if heads else raw

    def give_back(self, raw: memoryview) -> None:
        """Tell the system that the bytes of the file up to the end of `raw` need not stay in our memory."""
        for file in self._files:
            file.give_back(raw)

    def close(self) -> None:
        """Drop the mappings, now or with the last view of them."""
        self._places.clear()
        self._experts.clear()
        self._files.clear()

    def _vector(self, name: str, raw: memoryview, dtype: str) -> bytes:
        values = _float32(raw, dtype)
        if self._family in _NORMS_BELOW_ONE and name.endswith("norm.weight"):
            values = values + np.float32(1)
        heads = self._heads(name)
        return _pairs_together(memoryview(values.tobytes()), len(values), heads) if heads else values.tobytes()

    def _heads(self, name: str) -> int:
        """Of a tensor whose rows are to be reordered the number of heads, else 0."""
        keys = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
        key = keys.get(name.split(".")[-2])
        heads = self.metadata.get(f"{self._family}.{key}") if key and self._family in _PAIRS_TOGETHER else 0
        return heads if isinstance(heads, int) else 0


def _stacked(name: str, experts: Mapping[int, tuple[SafetensorsFile, str]]) -> Fused:
    """The tensor that the experts of a layer make together; ModelError unless they are of one kind and all there."""
    kinds = {(file.tensors[stored].shape, file.tensors[stored].dtype) for file, stored in experts.values()}
    if len(kinds) != 1 or sorted(experts) != list(range(len(experts))) or len(next(iter(kinds))[0]) != 2:
        raise ModelError(f"the experts of {name} are not all there, or not alike; use a complete checkpoint")
    (shape, dtype) = kinds.pop()
    if dtype not in _FORMATS:
        raise ModelError(f"the experts of {name} are stored as {dtype}, which is not supported yet")
    return Fused(
        name, Shape((len(experts), *shape), _FORMATS[dtype]), lambda expert: experts[expert][0].raw(experts[expert][1])
    )


def _float32(raw: memoryview, dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, "<f2" if dtype == "F16" else "<f4").astype("<f4")


def _pairs_together(raw: memoryview, rows: int, heads: int) -> bytes:
    """Rows of each head, halves (0 1 2 | 3 4 5), reordered so that rotary pairs are neighbours (0 3 1 4 2 5)."""
    halves = np.frombuffer(raw, np.uint8).reshape(heads, 2, rows // heads // 2, -1)
    return halves.swapaxes(1, 2).tobytes()


def _files(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return [path / "model.safetensors"]
    named = read_json(index).get("weight_map")
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{index}: has no weight_map; use a complete checkpoint")
    names = sorted(set(named.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: names the file {name!r}, which is no safetensors file of this directory")
    return [path / name for name in names]


def tokenizer_files(path: Path, config: Mapping[str, object]) -> TokenizerFiles:
    """What the directory says about its tokenizer; `config` is its config.json. ModelError for what cannot be read."""

    def optional(name: str) -> dict[str, object]:
        return read_json(path / name) if (path / name).exists() else {}

    template = path / "chat_template.jinja"
    return TokenizerFiles(
        tokenizer=read_json(path / "tokenizer.json"),
        config=optional("tokenizer_config.json"),
        generation={**config, **optional("generation_config.json")},
        template=_bytes(template).decode(errors="replace") if template.exists() else None,
    )


def read_json(path: Path) -> dict[str, object]:
    """The object in a file of the hub; raises ModelError if it is missing, too large or damaged."""
    try:
        found = json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is no JSON object; use a sound checkpoint")
    return found


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path}: is larger than {MAX_JSON_BYTES} bytes, which no such file is")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; give a complete checkpoint directory") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
