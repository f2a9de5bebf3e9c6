"""Builds the programs of this folder with the kernels of native/, here or crossed with Zig, and runs them."""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
PROGRAMS = sorted(Path(__file__).parent.glob("*.c"))
TABLE = tomllib.loads((NATIVE / "levels.toml").read_text())
Hashes = dict[str, dict[str, str]]  # level → case → hash
Crossed = Callable[[str], Path]  # a processor family's folder of programs


def need_zig() -> None:
    """Skip the test unless programs can be crossed."""
    if find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed, so nothing was crossed: make test-isa installs it")


def emulator(family: str, cpu: str) -> list[str | Path]:
    """The command that runs programs of another processor; skips the test without it."""
    found = shutil.which(f"qemu-{family}")
    if found is None:
        pytest.skip(f"qemu-{family} is not installed, so {cpu} was not tested (Debian: apt install qemu-user)")
    return [found, "-cpu", cpu]


def zig(family: str, system: str = "linux-musl") -> list[str]:
    """Zig's C compiler for that processor family and system."""
    return [sys.executable, "-m", "ziglang", "cc", f"--target={family}-{system}"]


def run(command: list[str | Path], timeout: float = 300) -> str:
    """What a command prints; raises AssertionError with what it complained of if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def jobs(family: str) -> list[tuple[Path, list[str], str]]:
    """(source, flags, name of what is made) of one processor family, level.c once a level."""
    alone = [path for path in sorted(NATIVE.glob("*.c")) if path.name not in ("level.c", *TABLE["included"])]
    levels = TABLE["levels"]["any"] | TABLE["levels"][family]
    return [(path, [], path.stem) for path in alone] + [
        (NATIVE / "level.c", [*(TABLE["zig"].get(flag, flag) for flag in flags), f"-DLEVEL={name}"], f"level_{name}")
        for name, flags in levels.items()
    ]


def cross(family: str, folder: Path) -> Path:
    """The folder of the static programs of one processor family; the assembly that they are made of is there too."""

    def compile_one(job: tuple[Path, list[str], str]) -> Path:
        source, flags, name = job
        text, made = folder / f"{name}.s", folder / f"{name}.o"
        run([*zig(family), *TABLE["flags"], "-g0", *flags, "-S", source, "-o", text])
        run([*zig(family), *flags, "-g0", "-c", text, "-o", made])
        return made

    with ThreadPoolExecutor(2) as threads:
        kernels = list(threads.map(compile_one, jobs(family)))
    for program in PROGRAMS:
        out = folder / program.stem
        run([*zig(family), *TABLE["flags"], "-g0", f"-I{NATIVE}", "-static", program, *kernels, "-o", out])
    return folder


def native(library: Path, folder: Path) -> Path:
    """The folder of the programs on the installed library, compiled for this processor."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    for program in PROGRAMS:
        out = folder / program.stem
        run([*compiler, *TABLE["flags"], f"-I{NATIVE}", program, library, f"-Wl,-rpath,{library.parent}", "-o", out])
    return folder


def hashes(command: list[str | Path]) -> Hashes:
    """The lines that a program prints, by level and case."""
    found: Hashes = {}
    for line in run(command).splitlines():
        level, case, value = line.split()
        found.setdefault(level, {})[case] = value
    return found
