"""Kept contexts: sessions that have a name, in a folder of this user's own.

contexts/                 $XDG_DATA_HOME/twofold/contexts, or ~/.local/share/twofold/contexts; mode 0700
    NAME.context          a context file (context_file.py), 0600; it only ever appears by a rename
    NAME.pin              there if it must not be evicted
    .NAME.lock            held by whoever goes on with it or changes it; gone with the context

Who writes a file holds the lock on the folder meanwhile, so a temporary file that the next writer finds was left by
one that was killed, and the quota holds for all writers together. When a context was last used is its file's time of
modification.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

from twofold.config import Settings
from twofold.errors import (
    ConfigurationError,
    ContextError,
    ContextInUse,
    ContextsFull,
    ContextTaken,
    NoContext,
    RequestError,
)
from twofold.store.context_file import ContextFile, Head, file_bytes, read_head, write_context
from twofold.store.lock import alone
from twofold.store.place import replacing
from twofold.units import MIB, bytes_text

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", re.ASCII)
_END, _PIN = ".context", ".pin"
_TEMPORARY = re.compile(r"\..*\.context\.[a-z0-9_]{8}")


class Quota(NamedTuple):
    """How much may be kept, and whether room is made by deleting what was not used for longest and is not pinned."""

    size_bytes: int
    evict: bool = False


class Kept(NamedTuple):
    """One context as it stands in the folder."""

    name: str
    size_bytes: int
    used: float  # seconds since 1970
    pinned: bool
    head: Head | None  # None: it cannot be read


def contexts_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of kept contexts; it need not exist. ConfigurationError if there is no home for it."""
    data = environment.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification: a relative one is to be ignored
        return Path(data, "twofold", "contexts")
    try:
        return Path.home() / ".local" / "share" / "twofold" / "contexts"
    except RuntimeError:
        raise ConfigurationError("no home folder is known; set HOME or XDG_DATA_HOME") from None


class Contexts:
    """The contexts kept in one folder. Every method may be called from any thread and process."""

    def __init__(self, folder: Path, quota: Quota) -> None:
        self.folder, self.quota = folder, quota

    def entries(self) -> list[Kept]:
        """All of them, by name."""
        names = (path.name.removesuffix(_END) for path in self.folder.glob(f"[!.]*{_END}"))
        return [kept for name in sorted(names) if NAME.fullmatch(name) and (kept := self._look(name))]

    def entry(self, name: str) -> Kept:
        """One of them; NoContext if there is none."""
        checked(name)
        found = self._look(name)
        if found is None:
            raise _none(name)
        return found

    def exists(self, name: str) -> bool:
        """Whether something is kept under `name`."""
        return self._path(checked(name)).exists()

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Inside, nobody else goes on with or changes `name`, there or not; ContextInUse if somebody does now."""
        checked(name)
        with alone(self.folder):
            lock = self._locked(name)
        if lock is None:
            raise ContextInUse(f"the context '{name}' is in use; end what uses it, or go on with a fork of it")
        try:
            yield
        finally:
            try:
                with alone(self.folder):
                    self._unlock(name)
            finally:
                os.close(lock)

    @contextlib.contextmanager
    def read(self, name: str) -> Iterator[ContextFile]:
        """The file of `name`, which counts as used now; NoContext if there is none, ContextError if it is damaged."""
        with self.opened(name) as file:
            yield ContextFile(file, os.fstat(file.fileno()).st_size, f"the context '{name}'")

    def opened(self, name: str) -> BinaryIO:
        """The bytes of `name` as they are now; it counts as used. NoContext if there is none."""
        try:
            file = self._path(checked(name)).open("rb")
        except FileNotFoundError:
            raise _none(name) from None
        os.utime(file.fileno())
        return file

    def put(self, name: str, head: Head, tokens: Sequence[int], pages: Iterable[bytes]) -> None:
        """Keep this under `name`, in the place of what was there; for who holds `name`.

        ContextsFull, changing nothing, if the quota has no room for it; what `pages` raises changes nothing either.
        """
        path = self._path(checked(name))
        with alone(self.folder):
            self._sweep()
            self._make_room(name, file_bytes(head))
            with replacing(path) as file:
                write_context(file, head, tokens, pages)

    def add(self, name: str, file: ContextFile) -> None:
        """Keep what `file` holds as `name`. ContextTaken, ContextsFull, ContextInUse; ContextError: it is damaged."""
        with self.hold(name):
            self._add(name, file)

    def fork(self, name: str, new: str) -> None:
        """Keep what `name` holds as `new` too. NoContext if there is none; else errors as `add`."""
        with self.hold(new), self.read(name) as file:
            self._add(new, file)

    def rename(self, name: str, new: str) -> None:
        """From now on `name` is called `new`. Errors as `fork`."""
        with self.hold(name), self.hold(new):
            self.entry(name)
            self.vacant(new)
            for path, to in ((self._pin(name), self._pin(new)), (self._path(name), self._path(new))):
                if path.exists():
                    path.rename(to)

    def delete(self, name: str) -> None:
        """Keep it no longer. NoContext, ContextError: there is none, it is in use."""
        with self.hold(name):
            self.entry(name)
            self._remove(name)

    def pin(self, name: str, *, pinned: bool = True) -> None:
        """Never evict it, or do again."""
        with self.hold(name):
            self.entry(name)
            if pinned:
                self._pin(name).touch(0o600)
            else:
                self._pin(name).unlink(missing_ok=True)

    def _add(self, name: str, file: ContextFile) -> None:
        self.vacant(name)
        self.put(name, file.head, file.tokens, file.pages())

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_END}"

    def _pin(self, name: str) -> Path:
        return self.folder / f"{name}{_PIN}"

    def _lock(self, name: str) -> Path:
        return self.folder / f".{name}.lock"

    def _look(self, name: str) -> Kept | None:
        try:
            with self._path(name).open("rb") as file:
                found = os.fstat(file.fileno())
                try:
                    head = read_head(file, found.st_size, f"the context '{name}'")
                except ContextError:
                    head = None
        except FileNotFoundError:
            return None
        return Kept(name, found.st_size, found.st_mtime, self._pin(name).exists(), head)

    def vacant(self, name: str) -> None:
        """ContextTaken if something is kept under `name`."""
        if self.exists(name):
            raise ContextTaken(f"a context '{name}' is kept already; choose another name, or delete it first")

    def _locked(self, name: str) -> int | None:
        """The lock of `name`, None if another has it; for who holds the folder."""
        lock = os.open(self._lock(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _unlock(self, name: str) -> None:
        """The lock's file goes with the context; for who holds the folder and the lock."""
        if not self.exists(name):
            self._lock(name).unlink(missing_ok=True)

    def _remove(self, name: str) -> None:
        self._path(name).unlink()
        self._pin(name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove the temporary files of writers that were killed; for who holds the folder."""
        for path in self.folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink()

    def _make_room(self, name: str, size_bytes: int) -> None:
        """Delete what may go until `size_bytes` for `name` are in the quota; for who holds the folder."""
        others = [kept for kept in self.entries() if kept.name != name]
        over = sum(kept.size_bytes for kept in others) + size_bytes - self.quota.size_bytes
        with contextlib.ExitStack() as locks:
            may_go = [kept for kept in others if not kept.pinned and self._take(kept.name, locks)] if over > 0 else []
            if sum(kept.size_bytes for kept in may_go) < over:
                raise ContextsFull(
                    f"keeping '{name}' takes {bytes_text(size_bytes)}, {bytes_text(over)} more than the quota of "
                    f"{bytes_text(self.quota.size_bytes)} has room for; delete some (twofold context list), or raise "
                    f"contexts_mib{'' if self.quota.evict else ', or allow eviction (evict_contexts)'}"
                )
            for kept in leaving(may_go, over):
                self._remove(kept.name)
                self._unlock(kept.name)

    def _take(self, name: str, locks: contextlib.ExitStack) -> bool:
        """Whether `name` may be evicted, and then nobody else uses it before `locks` ends."""
        lock = self._locked(name) if self.quota.evict else None
        if lock is not None:
            locks.callback(os.close, lock)
        return lock is not None


def leaving(kept: Iterable[Kept], over_bytes: int) -> list[Kept]:
    """Which of them go to free so many bytes: those not used for longest, as few as that takes."""
    going: list[Kept] = []
    for one in sorted(kept, key=lambda one: one.used):
        if sum(gone.size_bytes for gone in going) >= over_bytes:
            break
        going.append(one)
    return going


def contexts_of(settings: Settings, owner: str = "") -> Contexts:
    """This user's kept contexts, or those of an `owner` that is served: a folder and a quota of its own."""
    folder = contexts_folder()
    if owner:
        folder = folder.parent / "served" / f"contexts-{quote(owner, safe='')}"
    return Contexts(folder, Quota(settings.contexts_mib * MIB, settings.evict_contexts))


def opened_file(file: Path) -> BinaryIO:
    """A context file that a user named, to be read; RequestError if it cannot be."""
    try:
        if file.is_dir():
            raise RequestError(f"{file} is a folder; give the path of a context file")
        return file.open("rb")
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} cannot be read ({error}); give the path of a context file") from error


def checked(name: str) -> str:
    """`name`, if a context can be called that; else ContextError."""
    if not NAME.fullmatch(name):
        raise ContextError("a context's name is 1 to 64 letters, digits, '-', '_' or '.', and does not begin with '.'")
    return name


def _none(name: str) -> NoContext:
    return NoContext(f"no context '{name}' is kept; see: twofold context list")
