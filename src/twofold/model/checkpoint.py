"""A checkpoint: one model file, opened and checked, with its weights by name."""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from twofold.errors import ModelError
from twofold.model import family
from twofold.model.family.base import Blueprint, Facts
from twofold.model.format import F32, Format
from twofold.model.gguf import GgufFile
from twofold.model.hub.directory import HubDirectory
from twofold.model.manifest import NUMERICS, Manifest, Model
from twofold.model.segment import check_segment
from twofold.model.source import Source, Stored
from twofold.model.tokenizer import TokenizerData


def keep(raw: memoryview) -> None:
    """The way of giving back bytes that are in no file: they stay."""


@dataclass(frozen=True)
class Tensor:
    """One weight matrix as a checkpoint stores it: `raw` is rows · width elements of `format`.

    `give_back` tells the system that bytes of `raw` need not stay in memory; they can be read again.
    """

    rows: int
    width: int
    format: Format
    raw: memoryview
    give_back: Callable[[memoryview], None] = keep

    def slice(self, row: int, rows: int) -> "Tensor":
        """`rows` rows from `row` on, nothing copied."""
        each = self.format.size_bytes(self.width)
        return replace(self, rows=rows, raw=self.raw[row * each : (row + rows) * each])

    def release(self) -> None:
        """Let go of the memory that the bytes of this tensor take."""
        self.give_back(self.raw)


class Tensors(Protocol):
    """Where the weights come from: a checkpoint that hands out tensors by name."""

    def __call__(self, name: str) -> Tensor:
        """The tensor of that name; raises ModelError if the checkpoint has none."""


class Checkpoint:
    """An open model file: `model`, `tokenizer`, and `tensor(name)`. A context manager."""

    def __init__(self, file: Source, digest: str) -> None:
        """Build the model that `file` describes; raises ModelError for anything missing, extra or mis-shaped."""
        self._file = file
        architecture = file.metadata.get("general.architecture")
        if not isinstance(architecture, str):
            raise ModelError(f"{file.path}: metadata general.architecture is missing, so the family is unknown")
        facts = Facts(architecture, file.metadata, frozenset(file.tensors), self._vector)
        self.tokenizer = TokenizerData.from_metadata(file.metadata)
        blueprint = family.build(facts)
        _check_shapes(file, blueprint)
        for index, segment in enumerate(blueprint.segments):
            check_segment(index, segment)
        name = file.metadata.get("general.name")
        manifest = Manifest(
            digest=digest,
            name=name if isinstance(name, str) and name else file.path.stem,
            family=architecture,
            numerics=NUMERICS,
            vocabulary=len(self.tokenizer.tokens),
            context_length=facts.integer("context_length", high=1 << 30),
            cuts=tuple(segment.cut for segment in blueprint.segments),
            layers=blueprint.layers,
            mixtures=blueprint.mixtures,
        )
        self.model = Model(manifest, blueprint.segments)

    @classmethod
    def open(cls, path: Path, *, digest: str | None = None) -> Self:
        """Open `path`; `digest` is its SHA-256 if the caller has just verified it, else it is computed here."""
        file: Source = HubDirectory(path) if path.is_dir() else GgufFile.open(path)
        try:
            return cls(file, digest or file_digest(path))
        except BaseException:
            file.close()
            raise

    def tensor(self, name: str) -> Tensor:
        """The matrix of that name (a vector is one row), its bytes still in the mapped file.

        `name[a:b]` is rows a to b - 1 of the matrix.
        """
        whole, first, last = part_of(name)
        info = self._file.tensors[whole]
        rows, width = _matrix_shape(info)
        if last is None:
            return Tensor(rows, width, info.format, self._file.raw(whole), self._file.give_back)
        part = self._file.raw(whole, (first, last))
        return Tensor(last - first, width, info.format, part, self._file.give_back)

    def _vector(self, name: str) -> tuple[float, ...]:
        """The values of a tensor that is part of the architecture, not of the weights."""
        info = self._file.tensors.get(name)
        if info is None:
            raise ModelError(f"{self._file.path}: tensor {name} is missing; use a complete file")
        if info.format is not F32:
            raise ModelError(f"{self._file.path}: tensor {name} is stored as {info.format.name}; F32 is needed")
        return tuple(np.frombuffer(self._file.raw(name), "<f4").tolist())

    def close(self) -> None:
        """Drop the mapping."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of a directory's files; ModelError if one cannot be read."""
    try:
        if path.is_dir():
            named = ((each.name, file_digest(each)) for each in sorted(path.iterdir()) if each.is_file())
            return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in named).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


_PART = re.compile(r"(.+)\[(\d+):(\d+)\]")


def part_of(name: str) -> tuple[str, int, int | None]:
    """(tensor, first row, row after the last) of the name of a tensor or of some of its rows; None for all."""
    found = _PART.fullmatch(name)
    return (found[1], int(found[2]), int(found[3])) if found else (name, 0, None)


def _matrix_shape(info: Stored) -> tuple[int, int]:
    return (1, info.shape[0]) if len(info.shape) == 1 else (math.prod(info.shape[:-1]), info.shape[-1])


def _check_shapes(file: Source, blueprint: Blueprint) -> None:
    missing = [name for name in blueprint.shapes if name not in file.tensors]
    if missing:
        raise ModelError(f"{file.path}: tensor {missing[0]} is missing ({len(missing)} in all); use a complete file")
    extra = [name for name in file.tensors if name not in blueprint.shapes]
    if extra:
        raise ModelError(
            f"{file.path}: tensor {extra[0]} is not part of this architecture ({len(extra)} in all); "
            "the file is of a variant that is not supported"
        )
    for name, wanted in blueprint.shapes.items():
        shape = file.tensors[name].shape
        if shape != (wanted[1:] if wanted[0] == 1 else wanted):
            raise ModelError(f"{file.path}: tensor {name} has shape {shape}, the metadata asks for {wanted}")
