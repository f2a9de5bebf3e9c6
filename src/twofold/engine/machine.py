"""What a figure was measured on: the machine, the program and the moment."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from twofold import __version__
from twofold.kernels.base import Capabilities
from twofold.kernels.native import physical_cores
from twofold.units import bytes_text


def processor() -> str:
    """Architecture and name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()}, {names[0] if names else 'unknown processor'}"


def memory() -> str:
    """Memory of the machine."""
    return bytes_text(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def commit() -> str | None:
    """The commit of the source tree we run from, `+changes` if it was changed; None if installed elsewhere."""
    head = _git("rev-parse", "--short", "HEAD")
    return head and head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def stamp(able: Capabilities) -> dict[str, object]:
    """What every stored result carries."""
    return {
        "twofold": __version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": processor(),
        "memory": memory(),
        "physical_cores": physical_cores(),
        "threads": able.threads,
        "vector_level": able.vector_level,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _git(*arguments: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
