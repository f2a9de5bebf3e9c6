"""The SHA-256 of model files, remembered while the system says that a file is still the same.

    digests/<name>          $XDG_CACHE_HOME/twofold/digests; <name> is a hash of the file's path
        device inode size mtime ctime digest

Every write to a file, and every file put in its place, changes one of these; no program can set the change time
(ctime). It ticks in milliseconds, so a file that changed within the last two seconds is not remembered.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from twofold.errors import ModelError
from twofold.store.models import cache_folder
from twofold.store.place import replacing
from twofold.store.progress import Progress, sha256, silent

SETTLED_NS = 2_000_000_000


def digest_of(path: Path, progress: Progress = silent) -> str:
    """SHA-256 of the file at `path`, lower-case hexadecimal; stage "check" if it has to be read.

    ModelError if it cannot be read. That it cannot be remembered is no error.
    """
    try:
        with path.open("rb") as file:
            return digest_of_open(file, path, progress)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def digest_of_open(file: IO[bytes], path: Path, progress: Progress = silent) -> str:
    """The same of an open file that is at `path`; OSError as from the system."""
    before = _stamp(file)
    known = _recall(path, before)
    if known:
        return known
    digest = sha256(file, "check", os.fstat(file.fileno()).st_size, progress)
    if _stamp(file) == before and time.time_ns() - os.fstat(file.fileno()).st_ctime_ns > SETTLED_NS:
        with suppress(OSError):
            _remember(path, before, digest)
    return digest


def forget(path: Path) -> None:
    """The next question about the file at `path` reads it."""
    with suppress(OSError):
        _place(path).unlink()


def _stamp(file: IO[bytes]) -> str:
    found = os.fstat(file.fileno())
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _recall(path: Path, stamp: str) -> str | None:
    try:
        remembered, _, digest = _place(path).read_text("ascii").rpartition(" ")
    except (OSError, UnicodeDecodeError):
        return None
    sound = remembered == stamp and len(digest) == 64 and not set(digest) - set("0123456789abcdef")
    return digest if sound else None


def _remember(path: Path, stamp: str, digest: str) -> None:
    place = _place(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as file:
        file.write(f"{stamp} {digest}".encode())


def _place(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache_folder() / "digests" / name
