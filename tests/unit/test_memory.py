"""The memories: addresses that are not held are refused, and a failed step leaves a session whole."""

from pathlib import Path

import numpy as np
import pytest
from engines import Bits, engine, some_tokens

from twofold.engine.assemble import attached_to
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine, Session
from twofold.errors import ConfigurationError, ProcessorLost, RequestError, Unreachable
from twofold.kernels.reference import Reference
from twofold.memory.context import ContextMemory, Run
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint
from twofold.model.segment import TOP_WIDTH
from twofold.units import Nanoseconds, Seconds
from twofold.wire.rows import Rows

NEVER = Seconds(0)  # to wait for a replica to come back


def weights_of(path: Path, segments: list[int] | None = None, digest: str | None = None) -> WeightMemory:
    with Checkpoint.open(path, digest=digest) as checkpoint:
        return WeightMemory(checkpoint.model, checkpoint.tensor, Reference(), segments=segments)


def test_a_call_of_what_is_not_held_or_allowed_is_refused(tiny_path: Path) -> None:
    memory = weights_of(tiny_path, [0, 1])
    rows = Rows(memory.layout)
    for segment, count, said in ((2, 1, "held: 0-1"), (0, 0, "1 to 256"), (0, 257, "1 to 256")):
        with pytest.raises(RequestError, match=said):
            memory.work(segment, rows, count)
    for token in (-1, memory.manifest.vocabulary):
        rows["ids"][0] = token
        with pytest.raises(RequestError, match="outside the vocabulary"):
            memory.work(0, rows, 1)


def test_a_model_spread_over_two_replicas_gives_the_same_bits(tiny_path: Path) -> None:
    parts = [weights_of(tiny_path, [0, 2]), weights_of(tiny_path, [1])]
    context = ContextMemory(parts[0].manifest, Reference())
    with attached_to(*parts) as attachments, engine(tiny_path) as whole:
        spread = Engine(Caller(attachments, wait=NEVER), context)
        tokens = some_tokens(20, whole.manifest.vocabulary)
        expected = whole.feed(whole.open(), tokens)
        assert np.array_equal(spread.feed(spread.open(), tokens).view(np.uint32), expected.view(np.uint32))


def test_a_share_that_is_not_the_whole_model_is_refused_with_what_is_missing(tiny_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="segments 2 of"), attached_to(weights_of(tiny_path, [0, 1])):
        pass


def test_the_other_end_of_a_step_gives_the_largest_of_the_logits_that_the_first_gives(tiny_path: Path) -> None:
    memory = weights_of(tiny_path)
    rows, last = Rows(memory.layout), len(memory.manifest.layers)
    rng = np.random.default_rng(4)
    for plane in memory.manifest.cuts[last].takes:
        rows[plane.name][:3] = rng.standard_normal((3, plane.width))
    carry = rows["carry"][:3].copy()
    memory.work(last, rows, 3)
    rows["carry"][:3] = carry
    memory.work(last + 1, rows, 3)
    logits: np.ndarray = rows["logits"][:3]  # type: ignore[type-arg]
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_WIDTH]
    assert np.array_equal(rows["top_ids"][:3], ids)
    assert np.array_equal(rows["top_values"][:3], np.take_along_axis(logits, ids, axis=1))
    exact = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    assert np.allclose(rows["log_sum_exp"][:3, 0].astype(np.float64), exact, rtol=1e-6)


class Failing:
    """A service that is lost at one call."""

    def __init__(self, memory: WeightMemory, calls: int) -> None:
        self.manifest, self.held, self.layout, self.tokenizer = memory.manifest, memory.held, memory.layout, bytes
        self._memory, self._left = memory, calls

    def native_segments(self) -> None:
        return None

    def expert_rows(self) -> dict[int, tuple[int, ...]]:
        return {}

    def work(self, segment: int, rows: Rows, count: int) -> Nanoseconds:
        self._left -= 1
        if self._left == 0:
            raise ProcessorLost("gone")
        return self._memory.work(segment, rows, count)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_step_that_fails_leaves_the_session_as_it_was_and_it_can_go_on(tiny_path: Path, calls: int) -> None:
    memory = weights_of(tiny_path)
    tokens = some_tokens(10, memory.manifest.vocabulary)
    with engine(tiny_path) as whole:
        expected = whole.feed(whole.open(), tokens).copy()
    steps = len(memory.manifest.layers) + 1
    context = ContextMemory(memory.manifest, Reference())
    with attached_to(Failing(memory, steps + calls)) as attachments:
        fast = Engine(Caller(attachments, wait=NEVER), context)
        session = fast.open()
        fast.feed(session, tokens[:6])
        with pytest.raises(Unreachable, match="gone"):
            fast.feed(session, tokens[6:])
        assert (context.length(session.number), session.tokens) == (6, tokens[:6])
        assert np.array_equal(fast.feed(session, tokens[6:]).view(np.uint32), expected.view(np.uint32))
    context.pages.check()


def test_a_session_may_not_pass_the_context_length_nor_the_pool(tiny_path: Path) -> None:
    with engine(tiny_path) as fast:
        session = fast.open()
        with pytest.raises(RequestError, match="context of 256"):
            fast.context.place(fast.context.placed(fast.weights.rows), [Run(session.number, 200, 57)])
        assert fast.context.pages.free_pages == 4
    memory = weights_of(tiny_path)
    small = ContextMemory(memory.manifest, Reference(), positions=100)
    assert small.pages.pages == 2
    with pytest.raises(RequestError, match="context memory is full"):
        small.place(small.placed(Rows(memory.layout)), [Run(small.open(), 0, 129)])


def test_the_engine_refuses_logits_it_cannot_give(tiny_path: Path) -> None:
    with engine(tiny_path) as fast:
        session = fast.open()
        for wanted in (0, 4, 33):
            with pytest.raises(RequestError):
                fast.feed(session, [1, 2, 3], wanted=wanted)


def test_a_session_cut_inside_a_shared_page_leaves_the_others_as_they_were(tiny_path: Path) -> None:
    with engine(tiny_path) as fast:
        tokens = some_tokens(100, fast.manifest.vocabulary)
        expected = [fed(fast, tokens[:50] + tokens[90:]), fed(fast, tokens)]
        first, second = fast.open(), fast.open()
        fast.feed(first, tokens[:64])
        fast.context.pages.adopt(second.number, fast.context.pages[first.number].pages)
        second.tokens += tokens[:64]
        fast.rewind(second, 50)
        assert np.array_equal(fast.feed(second, tokens[90:]).view(np.uint32), expected[0])
        assert np.array_equal(fast.feed(first, tokens[64:]).view(np.uint32), expected[1])


def fed(fast: Engine, tokens: list[int]) -> Bits:
    """Logits of the last token, by a session that ends."""
    session = fast.open()
    logits = fast.feed(session, tokens).copy().view(np.uint32)
    fast.close(session)
    return logits


@pytest.mark.parametrize("length", [1, 63, 64, 65, 120])
def test_a_session_put_in_again_goes_on_with_the_bits_of_the_one_taken_out(tiny_path: Path, length: int) -> None:
    with engine(tiny_path) as whole:
        tokens = some_tokens(length + 3, whole.manifest.vocabulary)
        session = whole.open()
        whole.feed(session, tokens[:length])
        data = whole.context.take_out(session.number)
        other = Session(whole.context.put_in(data, length))
        assert whole.context.take_out(other.number) == data
        assert len(data) == -(-length // 64) * whole.context.pool.page_bytes
        expected = whole.feed(session, tokens[length:], wanted=3).copy()
        assert np.array_equal(whole.feed(other, tokens[length:], wanted=3).view(np.uint32), expected.view(np.uint32))
        whole.close(session)
        whole.close(other)
        assert whole.context.pages.free_pages == whole.context.pages.pages


def test_what_is_taken_out_has_nothing_of_what_was_forgotten_or_of_another_session(tiny_path: Path) -> None:
    with engine(tiny_path) as whole:
        tokens = some_tokens(100, whole.manifest.vocabulary)
        fresh = whole.open()
        whole.feed(fresh, tokens[:70])
        clean = whole.context.take_out(fresh.number)
        whole.context.pool.memory[:] = 0xA5
        session = whole.open()
        whole.feed(session, tokens)
        whole.rewind(session, 70)
        assert whole.context.take_out(session.number) == clean


def test_pages_that_do_not_fit_are_refused_and_leave_nothing(tiny_path: Path) -> None:
    with engine(tiny_path) as whole:
        memory = whole.context
        page = bytes(memory.pool.page_bytes)
        for data, length, said in (
            (page, 65, "not 65 positions"),
            (page * 2, 64, "not 64 positions"),
            (page[:-1], 64, "not 64 positions"),
            (b"", 1, "not 1 positions"),
            (page * 5, 257, "context of 256"),
        ):
            with pytest.raises(RequestError, match=said):
                memory.put_in(data, length)
        full = memory.put_in(page * 4, 256)
        with pytest.raises(RequestError, match="context memory is full"):
            memory.put_in(page, 1)
        memory.close(full)
        assert memory.pages.free_pages == memory.pages.pages
