"""Every operation gives the same bits on ARM and RISC-V as here: hashes.c, crossed with Zig and run under QEMU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from crossed import NATIVE, TABLE, Crossed, Hashes, emulator, hashes, native, need_zig, run, zig

from twofold.native import PATH as LIBRARY

# Lines `case hash`: numerics version 1 on any processor. They change only together with NUMERICS in
# model/manifest.py; a new case is a new line.
GOLDEN = dict(line.split() for line in Path(__file__).with_name("golden.txt").read_text().splitlines())
RVV = "rv64,v=true,vext_spec=v1.0,vlen="
PROCESSORS = [
    ("aarch64", "cortex-a53", ["neon", "portable"]),
    ("aarch64", "neoverse-n1", ["neondot", "neon", "portable"]),
    ("riscv64", "rv64", ["portable"]),
    ("riscv64", f"{RVV}128", ["rvv", "portable"]),
    ("riscv64", f"{RVV}256", ["rvv", "portable"]),
    ("riscv64", f"{RVV}512", ["rvv", "portable"]),
]
# Fused multiply-adds of floats as x86, ARM and RISC-V spell them, scalar and vector.
FUSED = re.compile(r"\bv?f(n?m(add|sub)|ml[as]l?2?|w?n?m(acc|sac)|cmla)")
pytestmark = pytest.mark.timeout(600)  # Zig builds its C library once, which takes a minute where others work too


def by_level(found: Hashes) -> Hashes:
    """What each level gave, with the work that knows no level."""
    return {level: found["any"] | cases for level, cases in found.items() if level != "any"}


def test_every_level_of_this_processor_gives_the_golden_hashes(tmp_path: Path) -> None:
    found = by_level(hashes([native(LIBRARY, tmp_path) / "hashes"]))
    assert "portable" in found
    for level, cases in found.items():
        assert cases == GOLDEN, level


@pytest.mark.parametrize(("family", "cpu", "levels"), PROCESSORS)
def test_another_processor_gives_the_golden_hashes(crossed: Crossed, family: str, cpu: str, levels: list[str]) -> None:
    need_zig()
    found = by_level(hashes([*emulator(family, cpu), crossed(family) / "hashes"]))
    assert list(found) == levels
    for level, cases in found.items():
        assert cases == GOLDEN, level


def test_threads_change_no_hash() -> None:
    assert GOLDEN["segment_of_one_thread"] == GOLDEN["segment_of_three_threads"]
    grouped = "attention_grouped"
    assert GOLDEN[f"{grouped}_one_thread"] == GOLDEN[f"{grouped}_three_threads"]


@pytest.mark.parametrize("family", ["aarch64", "riscv64"])
def test_nothing_is_fused_in_what_was_crossed(crossed: Crossed, family: str) -> None:
    need_zig()
    sources = sorted(crossed(family).glob("*.s"))
    assert len(sources) > len(TABLE["levels"][family])
    for source in sources:
        assert not FUSED.search(source.read_text()), source.name


def test_nothing_is_fused_in_the_installed_library() -> None:
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed, so the library was not searched (Debian: apt install binutils)")
    text = subprocess.run(["objdump", "-d", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    assert "<tf_segment>" in text
    assert not FUSED.search(text)


@pytest.mark.parametrize("family", ["aarch64", "riscv64"])
def test_fused_instructions_would_be_found(tmp_path: Path, family: str) -> None:
    need_zig()
    text = tmp_path / "context.s"
    run([*zig(family), "-O3", "-ffp-contract=fast", "-g0", "-S", NATIVE / "context.c", "-o", text])
    assert FUSED.search(text.read_text())


def test_the_kernels_compile_for_a_browser(tmp_path: Path) -> None:
    need_zig()
    text, options = tmp_path / "level.s", ["-O3", "-ffp-contract=off", "-g0", "-msimd128", "-DLEVEL=simd128"]
    run([*zig("wasm32", "wasi"), *options, "-S", NATIVE / "context.c", "-o", tmp_path / "context.s"])
    run([*zig("wasm32", "wasi"), *options, "-S", NATIVE / "level.c", "-o", text])
    assert "f32x4.mul" in text.read_text()
