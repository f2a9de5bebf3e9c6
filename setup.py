"""Builds native/ into src/twofold/libtwofold.so with the system C compiler; all other metadata: pyproject.toml."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("native")
TABLE = tomllib.loads((NATIVE / "levels.toml").read_text())
LEVELS = TABLE["levels"]["any"] | TABLE["levels"].get(platform.machine(), {})
NOT_ALONE = {"level.c", *TABLE["included"]}
SANITIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = TABLE["flags"]
if os.environ.get("TWOFOLD_SANITIZE"):  # `make sanitize`: all but the vector levels, which would take many minutes
    FLAGS = [*FLAGS, *SANITIZE]
    LEVELS = {
        name: flags if name in TABLE["levels"]["any"] else [*flags, "-fno-sanitize=all"]
        for name, flags in LEVELS.items()
    }


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
            (source, [], source.stem) for source in sorted(NATIVE.glob("*.c")) if source.name not in NOT_ALONE
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
                *FLAGS,
                "-shared",
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
