"""A context that was kept on one kind of processor goes on at another with the bits of one that never stopped."""

from itertools import permutations
from pathlib import Path

import pytest
from crossed import Crossed, emulator, hashes, native, need_zig, run

from twofold.native import PATH as LIBRARY

MOVED = {"moved": "17c0c2cbc59155f0"}  # numerics version 1 on any processor; changes only together with NUMERICS
OTHERS = {"arm": ("aarch64", "neoverse-n1"), "risc-v": ("riscv64", "rv64,v=true,vext_spec=v1.0,vlen=256")}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native(LIBRARY, tmp_path_factory.mktemp("here")) / "moved"


def command(name: str, here: Path, crossed: Crossed) -> list[str | Path]:
    """How the program runs on that processor."""
    if name == "here":
        return [here]
    family, cpu = OTHERS[name]
    return [*emulator(family, cpu), crossed(family) / "moved"]


def test_every_level_goes_on_with_the_bits_of_one_that_never_stopped(here: Path, tmp_path: Path) -> None:
    whole = hashes([here])
    assert "portable" in whole
    assert list(whole.values()) == [whole["portable"]] * len(whole)
    assert whole["portable"] == MOVED
    run([here, "keep", tmp_path / "pages"])
    assert hashes([here, "go-on", tmp_path / "pages"]) == whole


def test_the_pages_matter(here: Path, tmp_path: Path) -> None:
    run([here, "keep", tmp_path / "pages"])
    data = bytearray((tmp_path / "pages").read_bytes())
    data[5000] ^= 0x10
    (tmp_path / "pages").write_bytes(data)
    assert hashes([here, "go-on", tmp_path / "pages"])["portable"] != MOVED


@pytest.mark.parametrize(("source", "target"), list(permutations(["here", *OTHERS], 2)))
def test_a_context_of_one_processor_goes_on_at_another(
    source: str, target: str, here: Path, crossed: Crossed, tmp_path: Path
) -> None:
    need_zig()
    run([*command(source, here, crossed), "keep", tmp_path / "pages"])
    run([here, "keep", tmp_path / "same"])
    assert (tmp_path / "pages").read_bytes() == (tmp_path / "same").read_bytes()
    found = hashes([*command(target, here, crossed), "go-on", tmp_path / "pages"])
    assert list(found.values()) == [MOVED] * len(found)
    assert len(found) > 1
