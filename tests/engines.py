"""Engines for tests: both memories in this process, on a chosen backend."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twofold.engine.assemble import attached_to
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine
from twofold.kernels.base import Backend
from twofold.kernels.binding import Functions
from twofold.kernels.native import Native
from twofold.kernels.reference import Reference
from twofold.memory.context import ContextMemory
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint
from twofold.model.source import Source
from twofold.units import Seconds

Bits = npt.NDArray[np.uint32]
LEVELS = Functions().levels()


@contextlib.contextmanager
def native(threads: int = 1, level: str | None = None) -> Iterator[Native]:
    """A native backend, its threads ended afterwards."""
    backend = Native(threads=threads, level=level)
    try:
        yield backend
    finally:
        backend.close()


def opened(model: Path | Source) -> Checkpoint:
    """The checkpoint at a path, or of a source."""
    return Checkpoint.open(model) if isinstance(model, Path) else Checkpoint(model, "0" * 64)


@contextlib.contextmanager
def engine(model: Path | Source, backend: Backend | None = None) -> Iterator[Engine]:
    """An engine of a checkpoint; the reference backend unless one is given."""
    backend = backend or Reference()
    with opened(model) as checkpoint:
        weights = WeightMemory(checkpoint.model, checkpoint.tensor, backend)
    context = ContextMemory(weights.manifest, backend)
    try:
        with attached_to(weights) as attachments:
            yield Engine(Caller(attachments, wait=Seconds(0)), context)
        context.pages.check()
    finally:
        context.shutdown()
        weights.close()


def all_logits(engine: Engine, tokens: Sequence[int], chunk: int = 32) -> Bits:
    """Logits of every token, u32[tokens, vocabulary], fed `chunk` at a time."""
    session = engine.open()
    parts = [tokens[i : i + chunk] for i in range(0, len(tokens), chunk)]
    logits = [engine.feed(session, part, wanted=len(part)).copy() for part in parts]
    engine.close(session)
    return np.concatenate(logits).view(np.uint32)


def some_tokens(count: int, vocabulary: int, seed: int = 0) -> list[int]:
    """Token ids, the same ones everywhere."""
    ids: list[int] = np.random.default_rng(seed).integers(0, vocabulary, count).tolist()
    return ids
