"""Experts that a checkpoint keeps fused, as gpt_oss does, read as GGUF has them: gate and up apart, rows as outputs.

    mlp.experts.gate_up_proj          [E, H, 2 F]            columns gate, up, gate, up, …
    mlp.experts.down_proj             [E, F, H]
    mlp.experts.…_bias                [E, 2 F], [E, H]
    mlp.experts.…_blocks, …_scales    [E, rows, K / 32, 16], [E, rows, K / 32]     MXFP4, of outputs × inputs

A block has its elements two by two in a byte; GGUF has elements i and 16 + i in a byte, the scale before them.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twofold.errors import ModelError
from twofold.model.format import BF16, F16, F32, MXFP4, Format
from twofold.model.hub.safetensors import SafetensorsFile
from twofold.model.source import Shape

Read = Callable[[int], memoryview]  # the bytes of one expert

_NAME = re.compile(r"model\.layers\.(\d{1,6})\.mlp\.experts\.(gate_up|down)_proj(_bias|_blocks|_scales)?")
_PARTS = {"gate_up": ("gate", "up"), "down": ("down",)}  # row by row in turns
_FORMATS: dict[str, tuple[Format, str]] = {"F32": (F32, "<f4"), "F16": (F16, "<u2"), "BF16": (BF16, "<u2")}
_RANKS = {None: 3, "_bias": 2, "_blocks": 4}


class Fused(NamedTuple):
    """One tensor made of a fused one: `read` gives the rows of one expert."""

    name: str
    stored: Shape
    read: Read


def fused(files: list[SafetensorsFile]) -> tuple[list[Fused], set[str]]:
    """All tensors that are made of fused ones, and the names of those that they are made of."""
    places = {name: file for file in files for name in file.tensors if _NAME.fullmatch(name)}
    return [made for name in places for made in _made(places, name)], set(places)


def _made(places: dict[str, SafetensorsFile], name: str) -> list[Fused]:
    found = _NAME.fullmatch(name)
    at = places[name].tensors[name]
    if found is None or found[3] == "_scales":
        return []
    parts, kind = _PARTS[found[2]], found[3]
    if len(at.shape) != _RANKS[kind] or 0 in at.shape or (kind != "_blocks" and at.dtype not in _FORMATS):
        raise ModelError(f"tensor {name} is {at.dtype} of the impossible shape {at.shape}; use a sound checkpoint")
    count, step = at.shape[0], len(parts)
    made: list[Fused] = []
    shape: tuple[int, ...]
    for first, part in enumerate(parts):
        if kind == "_blocks":
            shape, form = (count, at.shape[1] // step, at.shape[2] * 32), MXFP4
            read = _blocks(places, name, slice(first, None, step))
        elif kind == "_bias":
            shape, form = (count, at.shape[1] // step), _FORMATS[at.dtype][0]
            read = _turned(places[name], name, slice(first, None, step))
        else:
            shape, form = (count, at.shape[2] // step, at.shape[1]), _FORMATS[at.dtype][0]
            read = _turned(places[name], name, slice(first, None, step))
        ending = "bias" if kind == "_bias" else "weight"
        made.append(Fused(f"blk.{int(found[1])}.ffn_{part}_exps.{ending}", Shape(shape, form), read))
    return made


def _expert(file: SafetensorsFile, name: str, expert: int, dtype: str) -> npt.NDArray[np.generic]:
    """The part of a tensor [E, …] that is one expert's."""
    at = file.tensors[name]
    whole: npt.NDArray[np.generic] = np.frombuffer(file.raw(name), dtype).reshape(at.shape)
    return np.asarray(whole[expert])


def _turned(file: SafetensorsFile, name: str, columns: slice) -> Read:
    """Of a matrix [inputs, outputs], or a row of outputs, these outputs as rows."""
    dtype = _FORMATS[file.tensors[name].dtype][1]
    return lambda expert: memoryview(_expert(file, name, expert, dtype)[..., columns].T.tobytes())


def _blocks(places: dict[str, SafetensorsFile], name: str, rows: slice) -> Read:
    """Of MXFP4 blocks [outputs, K / 32, 16] and their scales these outputs, as GGUF's blocks of 17 bytes."""
    scales = name.replace("_blocks", "_scales")
    at = places[name].tensors[name]
    other = places[scales].tensors[scales] if scales in places else None
    if at.shape[3] != 16 or other is None or (other.shape, other.dtype, at.dtype) != (at.shape[:3], "U8", "U8"):
        raise ModelError(f"tensor {name} has no scales that fit it; use a complete checkpoint")

    def read(expert: int) -> memoryview:
        pairs = _expert(places[name], name, expert, "u1")[rows].astype(np.uint8)
        elements = np.stack((pairs & 15, pairs >> 4), axis=-1).reshape(*pairs.shape[:2], 32)
        nibbles = elements[..., :16] | elements[..., 16:] << 4
        exponents = _expert(places[scales], scales, expert, "u1")[rows].astype(np.uint8)
        return memoryview(np.concatenate((exponents[..., None], nibbles), axis=-1).tobytes())

    return read
