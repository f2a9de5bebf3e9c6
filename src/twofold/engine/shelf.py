"""The kept contexts that one model goes on with, for Python programs: those of `twofold context`."""

import time
from pathlib import Path

from twofold.engine import going
from twofold.engine.going import Going
from twofold.engine.kept import Clock
from twofold.model.manifest import Manifest
from twofold.store.context_file import ContextFile, write_context
from twofold.store.contexts import Contexts, opened_file
from twofold.store.place import replacing
from twofold.store.told import Told, told


class Shelf:
    """Methods raise NoContext, ContextTaken, ContextInUse, OtherModel, ContextsFull; ContextError for what is damaged.

    They wait for the disk; in an event loop, call them by `asyncio.to_thread`.
    """

    def __init__(self, contexts: Contexts, manifest: Manifest, clock: Clock = time.time) -> None:
        self._contexts, self._manifest, self._clock = contexts, manifest, clock

    def begin(self, name: str) -> None:
        """Keep a conversation under `name`, in which nothing was said yet."""
        going.begin(self._contexts, name, self._manifest, self._clock)

    def go_on(self, name: str) -> Going:
        """The conversation `name`, which nobody else may use until it is closed."""
        return Going(self._contexts, name, self._manifest, self._clock)

    def list(self) -> list[Told]:
        """All that are kept, of whichever model, by name."""
        return [told(kept) for kept in self._contexts.entries()]

    def fork(self, name: str, new: str) -> None:
        """Keep a conversation twice, to go on in two ways."""
        self._contexts.fork(name, new)

    def rename(self, name: str, new: str) -> None:
        """Give it another name."""
        self._contexts.rename(name, new)

    def delete(self, name: str) -> None:
        """Keep it no longer."""
        self._contexts.delete(name)

    def save(self, name: str, file: str | Path) -> None:
        """Write it to a file, in plain, which goes on with the same bits on any host that has its model."""
        with self._contexts.read(name) as kept, replacing(Path(file)) as sink:
            write_context(sink, kept.head, kept.tokens, kept.pages())

    def load(self, file: str | Path, name: str) -> None:
        """Keep what is in a file that `save` wrote, once it was found whole and of this model."""
        with opened_file(Path(file)) as source:
            size = source.seek(0, 2)
            source.seek(0)
            going.add(self._contexts, name, ContextFile(source, size, str(file)), self._manifest)
