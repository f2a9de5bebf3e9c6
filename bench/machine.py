"""What a result was measured on: stamped into every file of bench/results."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from twofold import __version__
from twofold.cli.doctor import examine

ROOT = Path(__file__).resolve().parent.parent


def stamp() -> dict[str, object]:
    """Commit, machine and moment."""
    findings = examine()
    keys = ("machine", "memory", "physical_cores", "vector_level", "python")
    return {
        "twofold": __version__,
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain") else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "load_average_before": round(os.getloadavg()[0], 2),
        **{key: findings[key] for key in keys},
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ""
