"""A checkpoint: one model file, opened and checked, with its weights by name."""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from twofold.errors import ModelError
from twofold.model import family
from twofold.model.described import facts_of, matrix_of, model_of, part_of
from twofold.model.family.base import Blueprint
from twofold.model.format import Format
from twofold.model.gguf import GgufFile
from twofold.model.source import Source
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
        facts = facts_of(file)
        self.tokenizer = TokenizerData.from_metadata(file.metadata)
        _check_vocabulary(file, len(self.tokenizer.tokens))
        blueprint = family.build(facts)
        _check_shapes(file, blueprint)
        self.model = model_of(facts, blueprint, digest=digest, untitled=file.path.stem)

    @classmethod
    def open(cls, path: Path, *, digest: str | None = None) -> Self:
        """Open `path`; `digest` is its SHA-256 if the caller has just verified it, else it is computed here."""
        file = _directory(path) if path.is_dir() else GgufFile.open(path)
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
        size = matrix_of(self._file, name)
        raw = self._file.raw(whole) if last is None else self._file.raw(whole, (first, last))
        return Tensor(size.rows, size.width, size.format, raw, self._file.give_back)

    def close(self) -> None:
        """Drop the mapping."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _directory(path: Path) -> Source:
    """A directory of the model hub; its reader is imported now, because a GGUF file needs none of it."""
    opened: Source = importlib.import_module("twofold.model.hub.directory").HubDirectory(path)
    return opened


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


def _check_vocabulary(file: Source, tokens: int) -> None:
    rows = file.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in file.tensors else tokens
    if rows != tokens:
        raise ModelError(
            f"{file.path}: the tokenizer has {tokens} tokens, the embedding token_embd.weight {rows} rows; "
            "use the tokenizer that belongs to these weights"
        )


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
