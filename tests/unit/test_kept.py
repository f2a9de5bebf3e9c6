"""Kept sessions: they go on as if they had never stopped, and what is not theirs is refused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from engines import engine, some_tokens
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.engine.engine import Engine
from twofold.engine.kept import check_fits, head_of, kept, unseen
from twofold.errors import ContextError, RequestError
from twofold.model.manifest import Manifest
from twofold.store.context_file import ContextFile, LayerShape, Turn, write_context
from twofold.store.contexts import Contexts, Quota
from twofold.store.grant import UnixSeconds
from twofold.units import GIB

TURNS = [Turn("system", "Be brief."), Turn("user", "\n Rain?\x1b[1m\nSnow?"), Turn("assistant", "No.")]


@pytest.fixture
def fast(tiny_path: Path) -> Iterator[Engine]:
    with engine(tiny_path) as fast:
        yield fast


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    return Contexts(tmp_path / "contexts", Quota(GIB))


def keep(fast: Engine, contexts: Contexts, count: int = 70, *, pending: int = 1) -> list[int]:
    """A context `rain` of so many tokens; all of them."""
    tokens = some_tokens(count, fast.manifest.vocabulary)
    with kept(fast, contexts, "rain", lambda: 1000.5) as keeper:
        fast.feed(keeper.session, tokens[: count - pending])
        keeper.pending, keeper.turns = tokens[count - pending :], list(TURNS)
        keeper.keep()
    return tokens


def test_a_kept_session_goes_on_with_the_bits_of_one_that_never_stopped(fast: Engine, contexts: Contexts) -> None:
    tokens = keep(fast, contexts)
    session = fast.open()
    fast.feed(session, tokens[:69])
    expected = fast.feed(session, tokens[69:]).copy()
    with kept(fast, contexts, "rain", lambda: 2000.0) as keeper:
        assert (keeper.session.tokens, keeper.pending, keeper.turns) == (tokens[:69], tokens[69:], TURNS)
        found = fast.feed(keeper.session, keeper.pending)
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_both_of_a_fork_go_on_as_the_one_would_have(fast: Engine, contexts: Contexts) -> None:
    tokens = keep(fast, contexts)
    contexts.fork("rain", "snow")
    ways = {"rain": [5, 6, 7], "snow": [9, 8]}
    for _ in range(2):  # what one went on with changes nothing for the other
        for name, more in ways.items():
            session = fast.open()
            expected = fast.feed(session, tokens + more, wanted=len(more)).copy()
            fast.close(session)
            with kept(fast, contexts, name, lambda: 2000.0) as keeper:
                found = fast.feed(keeper.session, unseen(fast, keeper.session, tokens + more), wanted=len(more))
                assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))
                keeper.pending = []
                keeper.keep()
                fast.rewind(keeper.session, len(tokens))
                keeper.keep()


def test_a_context_remembers_when_it_was_begun_and_is_titled_by_what_was_asked_first(
    fast: Engine, contexts: Contexts
) -> None:
    keep(fast, contexts)
    with kept(fast, contexts, "rain", lambda: 2000.0) as keeper:
        keeper.keep()
    head = contexts.entry("rain").head
    assert head
    assert (head.created, head.saved, head.title) == (1000, 2000, "Rain??[1m Snow?")


def test_what_is_not_kept_leaves_the_context_as_it_was_and_no_session(fast: Engine, contexts: Contexts) -> None:
    tokens = keep(fast, contexts)
    with kept(fast, contexts, "rain", lambda: 2000.0) as keeper:
        fast.feed(keeper.session, [1, 2, 3])
    with kept(fast, contexts, "rain", lambda: 2000.0) as keeper:
        assert keeper.session.tokens + keeper.pending == tokens
    assert fast.context.pages.free_pages == fast.context.pages.pages
    with kept(fast, contexts, "new", lambda: 2000.0) as keeper:
        assert keeper.new
    assert [entry.name for entry in contexts.entries()] == ["rain"]


def test_a_context_that_is_gone_on_with_is_in_use(fast: Engine, contexts: Contexts) -> None:
    with kept(fast, contexts, "rain", lambda: 0.0), pytest.raises(ContextError, match="in use"):
        keep(fast, contexts)


def manifest_of(fast: Engine, **changes: object) -> Manifest:
    return msgspec.structs.replace(fast.manifest, **changes)


def test_another_model_other_numerics_and_other_layers_are_refused_by_name(fast: Engine) -> None:
    now = UnixSeconds(0)
    head = head_of(fast.manifest, length=1, tokens=1, turns=None, created=now, saved=now)
    check_fits(head, fast.manifest, "rain")
    other = manifest_of(fast, digest="f" * 64, name="Other")
    with pytest.raises(
        ContextError, match=r"'rain' is of Tiny random Llama .*not of Other \(ffffffffffff…\); use that"
    ):
        check_fits(head, other, "rain")
    with pytest.raises(ContextError, match="made with numerics 1, here it is 99"):
        check_fits(head, manifest_of(fast, numerics=99), "rain")
    with pytest.raises(ContextError, match="its layers are not the model's"):
        check_fits(msgspec.structs.replace(head, layers=(LayerShape(1, 1),)), fast.manifest, "rain")


def test_a_context_of_another_model_is_refused_and_left_alone(fast: Engine, contexts: Contexts, tmp_path: Path) -> None:
    keep(fast, contexts)
    before = (contexts.folder / "rain.context").read_bytes()
    with engine(write_tiny_llama(tmp_path / "other.gguf", TinyLlama(seed=1))) as other:
        with pytest.raises(ContextError, match="not of"), kept(other, contexts, "rain", lambda: 0.0):
            pass
        assert other.context.pages.free_pages == other.context.pages.pages
    assert (contexts.folder / "rain.context").read_bytes() == before


def rewritten(contexts: Contexts, **changes: object) -> None:
    """The context `rain` with another head or other tokens, under a right checksum."""
    path = contexts.folder / "rain.context"
    with contexts.read("rain") as file:
        tokens, pages = changes.pop("ids", None) or file.tokens, list(file.pages())
        head = msgspec.structs.replace(file.head, **changes)
    with path.open("wb") as sink:
        write_context(sink, head, tokens, pages)


def refused(fast: Engine, contexts: Contexts, said: str) -> None:
    with pytest.raises(RequestError, match=said), kept(fast, contexts, "rain", lambda: 0.0):
        pass
    assert fast.context.pages.free_pages == fast.context.pages.pages


def test_tokens_that_the_model_does_not_have_are_refused(fast: Engine, contexts: Contexts) -> None:
    tokens = keep(fast, contexts)
    rewritten(contexts, ids=[*tokens[:-1], fast.manifest.vocabulary])
    refused(fast, contexts, "tokens that the model does not")


def test_a_context_longer_than_the_models_is_refused(fast: Engine, contexts: Contexts) -> None:
    tokens = keep(fast, contexts, 257, pending=2)
    assert len(tokens) == 257
    path = contexts.folder / "rain.context"
    with contexts.read("rain") as file:
        page = next(file.pages())
        head = msgspec.structs.replace(file.head, length=257)
    with path.open("wb") as sink:
        write_context(sink, head, tokens, [page] * 5)
    refused(fast, contexts, "257 positions do not fit the model's context of 256")


def test_a_damaged_page_is_noticed_when_it_is_too_late_to_read_no_more_and_leaves_no_session(
    fast: Engine, contexts: Contexts
) -> None:
    keep(fast, contexts)
    path = contexts.folder / "rain.context"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 4
    path.write_bytes(data)
    refused(fast, contexts, "the checksum is wrong")


def test_the_file_of_a_session_is_the_same_to_the_byte_whatever_its_pool_held(fast: Engine, contexts: Contexts) -> None:
    digests = set()
    for rubbish in (0, 0xFF):
        fast.context.pool.memory[:] = rubbish
        keep(fast, contexts)
        digests.add(hashlib.sha256((contexts.folder / "rain.context").read_bytes()).hexdigest())
        contexts.delete("rain")
    assert len(digests) == 1


def test_only_what_was_not_seen_is_left_of_a_conversation_and_at_least_its_last_token(fast: Engine) -> None:
    session = fast.open()
    assert unseen(fast, session, [1, 2, 3]) == [1, 2, 3]
    fast.feed(session, [1, 2, 3, 4, 5])
    assert unseen(fast, session, [1, 2, 3, 4, 5, 6, 7]) == [6, 7]
    assert session.tokens == [1, 2, 3, 4, 5]
    assert unseen(fast, session, [1, 2, 9, 4]) == [9, 4]
    assert session.tokens == [1, 2]
    assert unseen(fast, session, [1, 2]) == [2]
    assert session.tokens == [1]


def test_a_context_file_says_what_made_it(fast: Engine, contexts: Contexts) -> None:
    keep(fast, contexts)
    with contexts.read("rain") as file:
        assert isinstance(file, ContextFile)
        head = file.head
    assert head.model == fast.manifest.digest
    assert head.layers == tuple(LayerShape(layer.kv_heads, layer.head_dim) for layer in fast.manifest.layers)
    assert (head.length, head.tokens, head.page_bytes) == (69, 70, fast.context.pool.page_bytes)
