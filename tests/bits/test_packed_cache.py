"""Packed weights from a file are those that packing makes, or they are packed again; starts do not clash."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from engines import Bits, all_logits, engine, some_tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.kernels import packed_file
from twofold.kernels.native import Native
from twofold.kernels.packed_file import PackedCache
from twofold.model.format import Q5_0

TOKENS = some_tokens(9, 273)


class Start:
    """One start with a packed cache: the logits, and whether a file was of no use."""

    def __init__(self, model: Path, folder: Path, threads: int = 2) -> None:
        self.told = 0
        backend = Native(threads=threads, packed_cache=PackedCache(folder, self._tell))
        try:
            with engine(model, backend) as fast:
                self.logits: Bits = all_logits(fast, TOKENS)
        finally:
            backend.close()

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture(scope="module")
def q5_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a format whose packing needs memory that is zero."""
    return write_tiny_llama(tmp_path_factory.mktemp("q5") / "m.gguf", TinyLlama(matrices=Q5_0))


@pytest.fixture(scope="module")
def expected(q5_path: Path) -> Bits:
    """The logits without any cache."""
    backend = Native(threads=1)
    with engine(q5_path, backend) as fast:
        logits = all_logits(fast, TOKENS)
    backend.close()
    return logits


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_second_start_reads_what_the_first_kept_and_gives_the_same_bits(
    q5_path: Path, tmp_path: Path, expected: Bits
) -> None:
    first = Start(q5_path, tmp_path / "a" / "b")
    kept = the_file(tmp_path / "a" / "b")
    before = (kept.stat().st_ino, kept.read_bytes())
    second = Start(q5_path, tmp_path / "a" / "b", threads=1)
    assert (kept.stat().st_ino, kept.read_bytes()) == before
    assert np.array_equal(first.logits, expected)
    assert np.array_equal(second.logits, expected)
    assert (first.told, second.told) == (0, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_any_damage_is_not_used_but_made_anew(
    data: st.DataObject, q5_path: Path, tmp_path: Path, expected: Bits
) -> None:
    Start(q5_path, tmp_path)
    path = the_file(tmp_path)
    sound = path.read_bytes()
    padding = range(sound.index(b"\0" * 64), packed_file.PAGE_BYTES)  # the one part whose bytes mean nothing
    at = data.draw(st.integers(0, len(sound) - 1).filter(lambda place: place not in padding))
    damaged = data.draw(
        st.sampled_from(
            [
                sound[:at],
                sound + b"\0",
                sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :],
                sound[:at] + sound[at + 1 :],
            ]
        )
    )
    path.write_bytes(damaged)
    again = Start(q5_path, tmp_path)
    assert again.told == 1
    assert np.array_equal(again.logits, expected)
    assert path.read_bytes() == sound


@pytest.mark.parametrize("name", ["FORMAT", "PACKING"])
def test_a_file_of_another_version_is_made_anew(
    name: str, q5_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Start(q5_path, tmp_path)
    monkeypatch.setattr(packed_file, name, 99)
    assert [Start(q5_path, tmp_path).told for _ in range(2)] == [1, 0]


def test_a_cache_that_cannot_be_written_is_no_error(q5_path: Path, tmp_path: Path, expected: Bits) -> None:
    (tmp_path / "file").write_bytes(b"")
    start = Start(q5_path, tmp_path / "file" / "folder")
    assert np.array_equal(start.logits, expected)


def test_starts_at_the_same_time_do_not_clash(q5_path: Path, tmp_path: Path, expected: Bits) -> None:
    with ThreadPoolExecutor(4) as four:
        starts = list(four.map(lambda _: Start(q5_path, tmp_path, threads=1), range(8)))
    assert all(np.array_equal(start.logits, expected) for start in starts)
    assert not any(start.told for start in starts)
    the_file(tmp_path)
