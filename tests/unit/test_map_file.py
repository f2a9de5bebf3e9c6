"""The file of the memory map: what is written is read back, what is wrong is named, and edits are whole."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ConfigurationError
from twofold.memory import map_file
from twofold.memory.map import Entry
from twofold.memory.map_file import Line, Listing, decode, encode, listing_of

URLS = st.text("abcdefghij", min_size=1, max_size=5).map(lambda name: f"shm://{name}")
LINES = st.builds(Line, URLS, st.none() | st.sampled_from(["0-15", "3,7"]), st.booleans())
LISTINGS = st.builds(
    Listing, st.lists(LINES, max_size=5, unique_by=lambda line: line.url).map(tuple), st.integers(0, 1 << 40)
)


@given(LISTINGS)
def test_what_is_written_is_read_back(listing: Listing) -> None:
    assert decode(encode(listing), "x") == listing


@given(st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_listing_or_refused_by_name(data: bytes) -> None:
    try:
        listing = decode(data, "map.json")
    except ConfigurationError as refusal:
        said = str(refusal)
    else:
        assert decode(encode(listing), "x") == listing
        return
    assert "map.json" in said


@given(LISTINGS, st.integers(0, 1000), st.integers(0, 255))
def test_a_damaged_file_is_a_listing_or_refused(listing: Listing, at: int, byte: int) -> None:
    data = bytearray(encode(listing))
    data[at % len(data)] = byte
    try:
        found = decode(bytes(data), "x")
    except ConfigurationError:
        return
    assert len({line.url for line in found.replicas}) == len(found.replicas)


BAD = {
    "no JSON": (b"replicas:", "malformed"),
    "an unknown member": (b'{"replicas": [{"url": "shm://a", "weight": 3}]}', "weight"),
    "no address": (b'{"replicas": [{"url": "a"}]}', "not an address"),
    "no segments": (b'{"replicas": [{"url": "shm://a", "segments": "x"}]}', "not a list of segments"),
    "twice": (b'{"replicas": [{"url": "shm://a"}, {"url": "shm://a"}]}', "listed twice"),
    "another type": (b'{"replicas": [{"url": "shm://a", "drain": "yes"}]}', "bool"),
}


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD)
def test_what_is_wrong_with_a_file_is_said(data: bytes, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        decode(data, "x")


def test_addresses_joined_by_commas_are_a_listing() -> None:
    assert [line.url for line in listing_of("shm://a, shm://b").replicas] == ["shm://a", "shm://b"]
    for text in ("", "shm://a,", "a", "shm://a,shm://a"):
        with pytest.raises(ConfigurationError):
            listing_of(text)


def test_edits_say_what_replicas_are_for() -> None:
    one = Listing().added("shm://a", "0-15").added("shm://b", None)
    assert one.entries() == [Entry("shm://a", frozenset(range(16))), Entry("shm://b")]
    moved = one.moved("shm://a", "shm://c")
    assert moved.entries() == [
        Entry("shm://a", frozenset(range(16)), drain=True),
        Entry("shm://b"),
        Entry("shm://c", frozenset(range(16))),
    ]
    assert moved.removed("shm://a").entries() == [Entry("shm://b"), Entry("shm://c", frozenset(range(16)))]
    assert moved.added("shm://a", None).entries()[0] == Entry("shm://a")
    assert [listing.version for listing in (one, one.added("shm://b", None), one.drained("shm://b"))] == [2, 2, 3]
    for edit in (one.removed, one.drained, lambda url: one.moved(url, "shm://c")):
        with pytest.raises(ConfigurationError, match="listed: shm://a, shm://b"):
            edit("shm://z")


def test_a_file_is_made_edited_and_read(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    with pytest.raises(ConfigurationError, match="twofold map add"):
        map_file.edit(path, lambda old: old.added("shm://a", None))
    map_file.edit(path, lambda old: old.added("shm://a", None), make=True)
    path.chmod(0o640)
    assert map_file.edit(path, lambda old: old.drained("shm://a")) == map_file.read(path)
    assert json.loads(path.read_text()) == {"replicas": [{"url": "shm://a", "drain": True}], "version": 2}
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_edit_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    map_file.edit(path, lambda old: old.added("shm://a", None), make=True)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError):
        map_file.edit(path, lambda old: old.removed("shm://b"))
    assert path.read_bytes() == before


def test_edits_at_once_are_all_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "map.json"

    def add(number: int) -> None:
        map_file.edit(path, lambda old: old.added(f"shm://{number}", None), make=True)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line.url for line in map_file.read(path).replicas} == {f"shm://{number}" for number in range(8)}
    assert map_file.read(path).version == 8


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_bytes(b" " * (map_file.FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="longer than"):
        map_file.read(tmp_path / "map.json")
