"""Which model files are here: the models folder, names to paths, listing, removing.

models/                          $XDG_CACHE_HOME/twofold/models, or ~/.cache/twofold/models
    <file>.gguf                  complete and checked: it only ever appears here by a rename
    .<name>.lock                 held by whoever fetches <name>
    .<name>.pull-*/              its temporary folder; left over if it was killed, removed by the next
"""

import difflib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from twofold.errors import ConfigurationError, ModelError
from twofold.store.catalogue import BY_NAME, Entry


@dataclass(frozen=True)
class Model:
    """A known model as it stands here.

    `size_bytes` is the size of the complete file; `present` says that a file of that size is at `path` (its
    digest is checked when it is used); `partial` that a fetch is under way or was cut off.
    """

    name: str
    title: str
    path: Path
    size_bytes: int
    present: bool
    partial: bool


def cache_folder() -> Path:
    """What can be fetched or computed again; it need not exist. ConfigurationError if there is no home for it."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache):  # the XDG specification: a relative one is to be ignored
        return Path(cache, "twofold")
    try:
        return Path.home() / ".cache" / "twofold"
    except RuntimeError:
        raise ConfigurationError("no home folder is known; set HOME or XDG_CACHE_HOME") from None


def models_folder() -> Path:
    """The folder of fetched models; it need not exist."""
    return cache_folder() / "models"


def packed_folder() -> Path:
    """The folder of packed weights, files named after the digest of their model; it need not exist."""
    return cache_folder() / "packed"


def path_of(entry: Entry) -> Path:
    """Where the file of a known model is, or would be."""
    return models_folder() / entry.file_name


def temporary_prefix(entry: Entry) -> str:
    """What the temporary folders of a known model are called, before their random end."""
    return f".{entry.name}.pull-"


def resolve(name_or_path: str) -> Path | None:
    """The model file that a user means.

    A known name gives its file in the models folder, or None if it is not there yet; anything else is the
    path of a file. A known name wins over a file of the same name in the current folder: that is `./name`.
    ModelError if it is neither.
    """
    entry = BY_NAME.get(name_or_path)
    if entry is None:
        return file_at(name_or_path)
    path = path_of(entry)
    return path if path.is_file() else None


def file_at(text: str) -> Path:
    """The file that `text` is the path of, `~` expanded; ModelError that lists the known names otherwise."""
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return path
        is_folder = bool(text) and path.is_dir()
    except PermissionError:
        raise ModelError(f"{text!r} may not be read; give the path of a readable .gguf file") from None
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, of an unknown user's home
        is_folder = False
    if is_folder:
        raise ModelError(f"{text!r} is a folder; give the path of a .gguf file in it")
    raise ModelError(_unknown(text))


def list_models() -> list[Model]:
    """Every known model, in the order of the catalogue."""
    return [_model(entry) for entry in BY_NAME.values()]


def remove(name: str) -> bool:
    """Delete the file of a known model and its packed weights; False if neither was there.

    ModelError if it cannot be done.
    """
    entry = BY_NAME.get(name)
    if entry is None:
        raise ModelError(_unknown(name))
    packed = packed_folder().glob(f"*{entry.sha256}*")  # and what a killed writer left beside it
    return sum(_removed(path) for path in (path_of(entry), *packed)) > 0


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ModelError(f"{path} cannot be removed ({error.strerror}); remove it by hand") from error
    return True


def sweep(entry: Entry) -> None:
    """Remove the temporary folders of fetches that were killed. Only for the holder of the entry's lock."""
    for folder in _temporary_folders(entry):
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folders(entry: Entry) -> list[Path]:
    return list(models_folder().glob(f"{temporary_prefix(entry)}*"))


def _model(entry: Entry) -> Model:
    path = path_of(entry)
    try:
        present = path.stat().st_size == entry.size_bytes
    except OSError:
        present = False
    return Model(entry.name, entry.title, path, entry.size_bytes, present, bool(_temporary_folders(entry)))


def _unknown(asked: str) -> str:
    close = difflib.get_close_matches(asked.lower(), BY_NAME, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    known = ", ".join(BY_NAME)
    shown = asked if len(asked) <= 80 else asked[:77] + "..."
    return f"{shown!r} is neither a known model nor a file{guess}; use one of {known}, or a path to a .gguf file"
