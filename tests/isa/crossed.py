"""Builds tests/isa/hashes.c with the kernels of native/, for this processor or crossed with Zig, and runs it."""

import os
import shlex
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
PROGRAM = Path(__file__).with_name("hashes.c")
TABLE = tomllib.loads((NATIVE / "levels.toml").read_text())
Hashes = dict[str, dict[str, str]]  # level → case → hash


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
    """A static program of one processor family; the assembly that it is made of lies beside it."""

    def compile_one(job: tuple[Path, list[str], str]) -> Path:
        source, flags, name = job
        text, made = folder / f"{name}.s", folder / f"{name}.o"
        run([*zig(family), *TABLE["flags"], "-g0", *flags, "-S", source, "-o", text])
        run([*zig(family), *flags, "-g0", "-c", text, "-o", made])
        return made

    with ThreadPoolExecutor(2) as threads:
        kernels = list(threads.map(compile_one, jobs(family)))
    out = folder / "hashes"
    run([*zig(family), *TABLE["flags"], "-g0", f"-I{NATIVE}", "-static", PROGRAM, *kernels, "-o", out])
    return out


def native(library: Path, folder: Path) -> Path:
    """A program on the installed library, compiled for this processor."""
    out = folder / "hashes"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    run([*compiler, *TABLE["flags"], f"-I{NATIVE}", PROGRAM, library, f"-Wl,-rpath,{library.parent}", "-o", out])
    return out


def hashes(command: list[str | Path]) -> Hashes:
    """The lines that the program prints, by level and case."""
    found: Hashes = {}
    for line in run(command).splitlines():
        level, case, value = line.split()
        found.setdefault(level, {})[case] = value
    return found
