"""Experts that live in several weight memories give the bits of one that holds the whole model."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from engines import Bits, all_logits, engine, native, some_tokens
from tiny_gguf import TinyLlama, write_tiny_llama
from troubled import engine_at, served

from twofold.engine.assemble import attached_to
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine
from twofold.errors import ConfigurationError
from twofold.kernels.base import Backend
from twofold.kernels.reference import Reference
from twofold.memory.context import ContextMemory
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint
from twofold.units import Seconds

EXPERTS = 7
SHARES_OF = {
    "halves": [(range(4), {0, 1, 2}), (range(4), {3, 4, 5, 6})],
    "one of them beside all": [(range(4), {6}), (range(4), set(range(EXPERTS)))],
    "layers and experts": [(range(2), None), (range(2, 4), {0, 2, 4, 6}), (range(2, 4), {1, 3, 5})],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "m.gguf", TinyLlama(experts=EXPERTS))


def memories(path: Path, backend: Backend, shares: Sequence[tuple[range, set[int] | None]]) -> list[WeightMemory]:
    """A weight memory for each of the shares: its segments, and its experts of them (None: all)."""
    with Checkpoint.open(path) as checkpoint:
        manifest = checkpoint.model.manifest
        held = [manifest.holding(numbers, None if own is None else frozenset(own)) for numbers, own in shares]
        return [
            WeightMemory(checkpoint.model, checkpoint.tensor, backend, segments=sorted(numbers)) for numbers in held
        ]


@contextlib.contextmanager
def engine_over(backend: Backend, parts: Sequence[WeightMemory]) -> Iterator[Engine]:
    context = ContextMemory(parts[0].manifest, backend)
    with attached_to(*parts) as attachments, contextlib.closing(Caller(attachments, wait=Seconds(0))) as caller:
        yield Engine(caller, context)
    context.pages.check()
    for part in parts:
        part.close()


def whole(path: Path) -> tuple[list[int], Bits]:
    with engine(path, Reference()) as plain:
        tokens = some_tokens(70, plain.manifest.vocabulary)
        return tokens, all_logits(plain, tokens)


@pytest.mark.parametrize("name", SHARES_OF)
def test_experts_in_several_memories_give_the_bits_of_one(name: str, path: Path) -> None:
    tokens, expected = whole(path)
    with native(threads=2) as backend, engine_over(backend, memories(path, backend, SHARES_OF[name])) as several:
        assert np.array_equal(all_logits(several, tokens), expected)


def test_experts_behind_sockets_give_the_bits_of_one(path: Path) -> None:
    tokens, expected = whole(path)
    with native(threads=1) as backend, contextlib.ExitStack() as stack:
        parts = memories(path, backend, SHARES_OF["halves"])
        processors = [stack.enter_context(served(part, "tcp://127.0.0.1:0")) for part in parts]
        urls = ",".join(processor.urls[0] for processor in processors)
        with engine_at(urls, backend) as several:
            assert np.array_equal(all_logits(several, tokens), expected)
        for part in parts:
            part.close()


def test_rows_are_counted_by_expert_alike_in_one_call_and_in_parts(path: Path) -> None:
    tokens = some_tokens(20, 100)
    counts = []
    with native(threads=2) as backend:
        for shares in ([(range(4), None)], SHARES_OF["halves"]):
            parts = memories(path, backend, shares)
            with engine_over(backend, parts) as several:
                all_logits(several, tokens)
                found = [part.expert_rows() for part in parts]
            counts.append({segment: np.sum([each[segment] for each in found], axis=0).tolist() for segment in found[0]})
    assert counts[0] == counts[1]
    assert {segment: sum(rows) for segment, rows in counts[0].items()} == {1: 2 * len(tokens), 2: 2 * len(tokens)}


def test_an_expert_that_nobody_holds_is_named(path: Path) -> None:
    parts = memories(path, Reference(), [(range(4), {0, 1, 2}), (range(4), {3, 4, 6})])
    missing = {mixture.first + 5 for mixture in parts[0].manifest.mixtures}
    with pytest.raises(ConfigurationError) as refused, attached_to(*parts):
        pass
    assert all(str(segment) in str(refused.value) for segment in missing)


def test_a_segment_is_called_whole_where_somebody_holds_it_so(path: Path) -> None:
    parts = memories(path, Reference(), [(range(4), {0, 1, 2}), (range(4), None)])
    with engine_over(Reference(), parts) as several:
        all_logits(several, some_tokens(5, several.manifest.vocabulary))
        assert several.work().calls == len(several.manifest.layers) + 1


def test_the_time_of_parts_counts_as_that_of_their_segment(path: Path) -> None:
    with engine_over(Reference(), memories(path, Reference(), SHARES_OF["halves"])) as several:
        all_logits(several, some_tokens(5, several.manifest.vocabulary))
        work = several.work()
        assert len(work.segments_ns) == len(several.manifest.layers) + 1
        assert sum(work.segments_ns) == work.weights_ns
