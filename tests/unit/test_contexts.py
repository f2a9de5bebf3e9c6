"""Kept contexts: named, whole or absent, one user at a time, and no more of them than the quota allows."""

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from contexts_made import HEAD, TOKENS, of_length, pages_of
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ConfigurationError, ContextError, NoContext
from twofold.store.context_file import Head, file_bytes
from twofold.store.contexts import Contexts, Kept, Quota, contexts_folder, leaving
from twofold.units import GIB

PLENTY = Quota(GIB)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "contexts"


@pytest.fixture
def contexts(folder: Path) -> Contexts:
    return Contexts(folder, PLENTY)


def put(contexts: Contexts, name: str, head: Head = HEAD, *, used: int | None = None) -> None:
    with contexts.hold(name):
        contexts.put(name, head, TOKENS[: head.tokens], pages_of(head))
    if used is not None:
        os.utime(contexts.folder / f"{name}.context", (used, used))


def content(contexts: Contexts, name: str) -> tuple[Head, list[int], list[bytes]]:
    with contexts.read(name) as file:
        return file.head, file.tokens, list(file.pages())


def names(contexts: Contexts) -> list[str]:
    return [kept.name for kept in contexts.entries()]


def test_the_folder_is_where_the_xdg_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contexts_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/twofold/contexts")
    monkeypatch.setenv("HOME", "/users/me")
    for ignored in ({}, {"XDG_DATA_HOME": ""}, {"XDG_DATA_HOME": "relative"}):
        assert contexts_folder(ignored) == Path("/users/me/.local/share/twofold/contexts")


def test_what_was_kept_is_read_listed_and_shown(contexts: Contexts) -> None:
    assert contexts.entries() == []
    put(contexts, "rain")
    put(contexts, "a.b_C-9", of_length(3))
    assert content(contexts, "rain") == (HEAD, list(TOKENS), pages_of(HEAD))
    assert names(contexts) == ["a.b_C-9", "rain"]
    shown = contexts.entry("rain")
    assert (shown.head, shown.size_bytes, shown.pinned) == (HEAD, file_bytes(HEAD), False)


def test_keeping_again_replaces_what_was_kept(contexts: Contexts) -> None:
    put(contexts, "rain")
    put(contexts, "rain", of_length(3))
    assert content(contexts, "rain")[0] == of_length(3)
    assert names(contexts) == ["rain"]


def test_everything_is_for_this_user_only_and_nothing_else_is_left(contexts: Contexts, folder: Path) -> None:
    old = os.umask(0)
    try:
        put(contexts, "rain")
        contexts.pin("rain")
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "rain.context": 0o600,
        "rain.pin": 0o600,
        ".rain.lock": 0o600,
    }
    contexts.delete("rain")
    assert list(folder.iterdir()) == []


def test_a_folder_that_others_may_look_into_is_not_used(contexts: Contexts, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {folder}"):
        put(contexts, "rain")


BAD = ["", ".", "..", ".hidden", "a/b", "../a", "/etc/passwd", "a\0b", "a\nb", "x" * 65, "ä", "a b", "a\n"]


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_a_name_that_could_lead_elsewhere_is_refused_by_everything(contexts: Contexts, name: str) -> None:
    put(contexts, "rain")
    asks = [
        lambda: put(contexts, name), lambda: contexts.entry(name), lambda: content(contexts, name),
        lambda: contexts.fork("rain", name), lambda: contexts.fork(name, "new"), lambda: contexts.rename("rain", name),
        lambda: contexts.delete(name), lambda: contexts.pin(name), lambda: contexts.exists(name),
        lambda: contexts.put(name, HEAD, TOKENS, pages_of(HEAD)),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(ContextError, match="a context's name is"):
            ask()
    assert names(contexts) == ["rain"]


def test_what_is_not_there_is_said_to_be_missing_and_leaves_no_trace(contexts: Contexts, folder: Path) -> None:
    asks = [
        lambda: contexts.entry("rain"), lambda: content(contexts, "rain"), lambda: contexts.fork("rain", "new"),
        lambda: contexts.rename("rain", "new"), lambda: contexts.delete("rain"), lambda: contexts.pin("rain"),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(NoContext, match=r"no context 'rain' is kept; see: twofold context list"):
            ask()
    assert list(folder.iterdir()) == []


def test_a_fork_is_a_context_of_its_own(contexts: Contexts) -> None:
    put(contexts, "rain")
    contexts.fork("rain", "snow")
    put(contexts, "rain", of_length(2))
    assert content(contexts, "snow") == (HEAD, list(TOKENS), pages_of(HEAD))
    with pytest.raises(ContextError, match="'snow' is kept already"):
        contexts.fork("rain", "snow")


def test_a_damaged_context_is_not_forked_but_listed_shown_and_deleted(contexts: Contexts, folder: Path) -> None:
    put(contexts, "rain")
    path = folder / "rain.context"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ContextError, match="the context 'rain' is damaged"):
        contexts.fork("rain", "snow")
    path.write_bytes(data[:30])
    assert contexts.entry("rain").head is None
    assert names(contexts) == ["rain"]
    contexts.delete("rain")
    assert list(folder.iterdir()) == []


def test_a_renamed_context_keeps_its_content_and_its_pin(contexts: Contexts, folder: Path) -> None:
    put(contexts, "rain")
    put(contexts, "other")
    contexts.pin("rain")
    with pytest.raises(ContextError, match="'other' is kept already"):
        contexts.rename("rain", "other")
    contexts.rename("rain", "snow")
    assert content(contexts, "snow")[0] == HEAD
    assert contexts.entry("snow").pinned
    assert {path.name for path in folder.iterdir() if "rain" in path.name} == set()


def test_a_pin_can_be_taken_off(contexts: Contexts) -> None:
    put(contexts, "rain")
    contexts.pin("rain")
    assert contexts.entry("rain").pinned
    contexts.pin("rain", pinned=False)
    assert not contexts.entry("rain").pinned


def test_who_holds_a_name_holds_it_alone_in_any_thread_or_process(contexts: Contexts, folder: Path) -> None:
    put(contexts, "rain")
    with contexts.hold("rain"):
        for ask in (
            lambda: put(Contexts(folder, PLENTY), "rain"), lambda: contexts.delete("rain"),
            lambda: contexts.rename("rain", "new"), lambda: contexts.fork("other", "rain"),
            lambda: contexts.pin("rain"),
        ):  # fmt: skip
            with pytest.raises(ContextError, match="the context 'rain' is in use"):
                ask()
        assert another_process(contexts, "rain") == "refused"
        assert another_process(contexts, "other") == "held"
        contexts.fork("rain", "new")  # reading disturbs nobody
    contexts.delete("rain")
    assert names(contexts) == ["new"]


ANOTHER = """
import sys
from pathlib import Path
from twofold.errors import ContextError
from twofold.store.contexts import Contexts, Quota
try:
    with Contexts(Path(sys.argv[1]), Quota(0)).hold(sys.argv[2]):
        print("held")
except ContextError:
    print("refused")
"""


def another_process(contexts: Contexts, name: str) -> str:
    """What another process that wants to hold the name comes to."""
    command = [sys.executable, "-c", ANOTHER, str(contexts.folder), name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_many_who_want_one_name_get_it_one_at_a_time(contexts: Contexts) -> None:
    inside, worst, held = [0], [0], [0]
    guard = threading.Lock()

    def try_often() -> None:
        for _ in range(50):
            with contextlib.suppress(ContextError), contexts.hold("rain"):
                with guard:
                    inside[0] += 1
                    held[0] += 1
                    worst[0] = max(worst[0], inside[0])
                with guard:
                    inside[0] -= 1

    threads = [threading.Thread(target=try_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst[0] == 1
    assert held[0] >= 1


def broken_pages() -> Iterator[bytes]:
    yield pages_of(HEAD)[0]
    raise ZeroDivisionError


def test_what_fails_while_it_is_written_leaves_what_was_there(contexts: Contexts, folder: Path) -> None:
    put(contexts, "rain", of_length(3))
    before = sorted(path.name for path in folder.iterdir())
    with contexts.hold("rain"), pytest.raises(ZeroDivisionError):
        contexts.put("rain", HEAD, TOKENS, broken_pages())
    assert content(contexts, "rain")[0] == of_length(3)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_a_killed_writer_left_is_removed_by_the_next_and_nothing_else_is(contexts: Contexts, folder: Path) -> None:
    put(contexts, "a.context")
    put(contexts, "rain")
    (folder / ".rain.context.abcd_123").write_bytes(b"half")
    (folder / "mine.txt").write_bytes(b"mine")
    put(contexts, "snow")
    assert not (folder / ".rain.context.abcd_123").exists()
    assert (folder / "mine.txt").exists()
    assert (folder / ".a.context.lock").exists()
    assert names(contexts) == ["a.context", "rain", "snow"]


SIZE = file_bytes(HEAD)


def test_more_than_the_quota_is_refused_and_changes_nothing(folder: Path) -> None:
    contexts = Contexts(folder, Quota(2 * SIZE))
    put(contexts, "a")
    put(contexts, "b")
    with pytest.raises(ContextError, match=r"keeping 'c' takes .* delete some .*raise contexts_mib, or allow eviction"):
        put(contexts, "c")
    assert names(contexts) == ["a", "b"]
    put(contexts, "a")  # its own place is not counted twice


def test_where_eviction_is_allowed_the_least_recently_used_go_but_not_pinned_ones_or_those_in_use(folder: Path) -> None:
    contexts = Contexts(folder, Quota(4 * SIZE, evict=True))
    for used, name in enumerate(("pinned", "busy", "old", "new"), 1000):
        put(contexts, name, used=used)
    contexts.pin("pinned")
    with contexts.hold("busy"):
        put(contexts, "c")
        assert names(contexts) == ["busy", "c", "new", "pinned"]
        contexts.pin("new")
        contexts.pin("c")
        with pytest.raises(ContextError, match="quota"):
            put(contexts, "d")
    assert names(contexts) == ["busy", "c", "new", "pinned"]
    assert {path.name for path in folder.glob(".*.lock")} == {f".{name}.lock" for name in names(contexts)}


def test_reading_a_context_counts_as_using_it(folder: Path) -> None:
    contexts = Contexts(folder, Quota(2 * SIZE, evict=True))
    put(contexts, "a", used=1000)
    put(contexts, "b", used=2000)
    content(contexts, "a")
    put(contexts, "c")
    assert names(contexts) == ["a", "c"]


def test_nothing_is_evicted_if_that_would_not_be_enough(folder: Path) -> None:
    put(Contexts(folder, PLENTY), "a")
    put(Contexts(folder, PLENTY), "b")
    small = Contexts(folder, Quota(SIZE - 1, evict=True))
    with pytest.raises(ContextError, match="quota"):
        put(small, "c")
    assert names(small) == ["a", "b"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 100)), max_size=8), st.integers(-10, 900))
def test_as_few_leave_as_it_takes_and_those_first_that_were_not_used_for_longest(
    sizes: list[tuple[int, int]], over: int
) -> None:
    kept = [Kept(str(i), size, used, False, None) for i, (used, size) in enumerate(sizes)]
    going = leaving(kept, over)
    freed = [one.size_bytes for one in going]
    assert sum(freed) >= over or len(going) == len(kept)
    assert sum(freed[:-1]) < over or not going
    staying = [one.used for one in kept if one not in going]
    assert not going or not staying or max(one.used for one in going) <= min(staying)


def test_a_head_that_was_made_by_hand_is_kept_as_it_is(contexts: Contexts) -> None:
    head = msgspec.structs.replace(HEAD, turns=None, title="")
    put(contexts, "text", head)
    assert content(contexts, "text")[0] == head
