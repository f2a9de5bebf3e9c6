"""Builds native/ into src/twofold/libtwofold.so with the system C compiler; all other metadata: pyproject.toml."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("native")
# No fused multiply-add at any level (docs/numerics.md): contraction off, and no level asks for it.
FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
         "-fno-trapping-math", "-pthread", "-Wall", "-Wextra"]  # fmt: skip
AVX2 = ["-mavx2", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]
LEVELS = {"portable": ["-DPORTABLE"]}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS |= {"sse2": [], "avx2": AVX2, "avx512": AVX512, "avx512vnni": [*AVX512, "-mavx512vnni"]}
INCLUDED = {"attend.c", "head.c", "limits.c", "linear.c", "rows.c", "level.c"}  # by level.c, once a level


def compiler() -> list[str]:
    """The C compiler: $CC, else cc, gcc or clang from the PATH."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(shlex.split(name)[0]):
            return shlex.split(name)
    raise SystemExit(
        "twofold: no C compiler found; install one and try again "
        "(Debian and Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; or set CC)"
    )


class BuildNative(build_ext):  # type: ignore[misc]
    """Compiles each source once, and level.c once for every vector level of this processor family."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one shared object; raise SystemExit with one line if that fails."""
        cc, objects = compiler(), Path(self.build_temp)
        objects.mkdir(parents=True, exist_ok=True)
        jobs: list[tuple[Path, list[str], str]] = [
            (source, [], source.stem) for source in sorted(NATIVE.glob("*.c")) if source.name not in INCLUDED
        ]
        jobs += [(NATIVE / "level.c", [*flags, f"-DLEVEL={name}"], f"level_{name}") for name, flags in LEVELS.items()]
        commands = [
            [*cc, *FLAGS, *flags, "-c", str(source), "-o", str(objects / f"{stem}.o")] for source, flags, stem in jobs
        ]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(run, commands))
        output = Path(self.get_ext_fullpath(ext.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        run(
            [
                *cc,
                "-shared",
                "-pthread",
                *(str(objects / f"{stem}.o") for _, _, stem in jobs),
                "-o",
                str(output),
            ]
        )


def run(command: list[str]) -> None:
    """Run one compiler command; SystemExit with one line if it fails."""
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"twofold: the C compiler failed: {shlex.join(command)}")


class PlatformWheel(bdist_wheel):  # type: ignore[misc]
    """The library is bound by ctypes: any Python 3, this platform only."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


if "sdist" not in sys.argv:
    compiler()  # before anything else is done, so that its absence is the one line that pip shows

setup(
    ext_modules=[Extension("twofold.libtwofold", sources=[])],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": PlatformWheel},
)
