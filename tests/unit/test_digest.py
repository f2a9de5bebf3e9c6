"""A file's digest is remembered exactly as long as the file is the same."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from twofold.errors import ModelError
from twofold.store import digest
from twofold.store.digest import digest_of, forget
from twofold.store.models import cache_folder
from twofold.store.place import replacing

CONTENT, OTHER = b"weights" * 1000, b"WEIGHTS" * 1000


class Reads:
    """A progress that counts how often a file was read."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.count += (stage, done) == ("check", 0)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as settled at once, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "SETTLED_NS", -1)
    (tmp_path / "model").write_bytes(CONTENT)
    return tmp_path / "model"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_that_stays_the_same_is_read_once(file: Path) -> None:
    reads = Reads()
    assert [digest_of(file, reads) for _ in range(3)] == [sha256(CONTENT)] * 3
    assert reads.count == 1
    forget(file)
    digest_of(file, reads)
    assert reads.count == 2


def test_a_file_written_over_with_its_old_size_and_time_is_read_again(file: Path) -> None:
    digest_of(file)
    before = file.stat()
    changed = time.time_ns()
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of the file system ticks in milliseconds
        file.write_bytes(OTHER)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert time.time_ns() - changed < 10**9
    assert digest_of(file) == sha256(OTHER)


def test_a_file_put_in_the_place_of_another_is_read(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(OTHER)
    digest_of(file)
    os.replace(tmp_path / "other", file)
    assert digest_of(file) == sha256(OTHER)


def test_a_file_that_has_just_changed_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "SETTLED_NS", 10**12)
    digest_of(file)
    assert not list(cache_folder().glob("digests/*"))


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"1 2 3 4 5 " + b"0" * 64, b"0" * 64])
def test_what_is_remembered_and_damaged_is_not_believed(file: Path, damage: bytes) -> None:
    digest_of(file)
    (remembered,) = cache_folder().glob("digests/*")
    stamp, _, _ = remembered.read_bytes().rpartition(b" ")
    for content in (damage, stamp, stamp + b" " + b"x" * 64, stamp + b" " + b"0" * 63):
        remembered.write_bytes(content)
        assert digest_of(file) == sha256(CONTENT)


def test_a_cache_that_cannot_be_written_is_no_error(file: Path) -> None:
    cache_folder().parent.write_bytes(b"a file where the folder should be")
    assert digest_of(file) == sha256(CONTENT)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        digest_of(tmp_path / "none")


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_bytes(CONTENT)
    with pytest.raises(TypeError), replacing(place) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [place]
    with replacing(place) as file:
        file.write(OTHER)
    assert (place.read_bytes(), list(tmp_path.iterdir())) == (OTHER, [place])
