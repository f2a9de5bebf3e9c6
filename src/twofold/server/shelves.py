"""The contexts that a server keeps, of every owner, and the conversations that go on in them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from msgspec import Meta

from twofold.engine.going import Going
from twofold.engine.kept import Clock
from twofold.engine.spoken import Speech
from twofold.errors import Overloaded
from twofold.model.manifest import Manifest
from twofold.server.served import Answering
from twofold.store.contexts import NAME, Contexts

MOST_GOING = 32  # conversations at once: what each has seen is in memory once more before its answer, and after it

ContextName = Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]


class Shelves:
    """`of`: the contexts of one owner, "" if there are no keys; each has a folder and a quota of its own."""

    def __init__(self, of: Callable[[str], Contexts], *, clock: Clock = time.time, most: int = MOST_GOING) -> None:
        self.of, self.clock = of, clock
        self._most, self._going = most, 0

    @contextlib.asynccontextmanager
    async def going(self, owner: str, name: str, manifest: Manifest) -> AsyncIterator[Going]:
        """The conversation in a context, which nobody else may use meanwhile; errors as `Going`, Overloaded."""
        if self._going >= self._most:
            raise Overloaded(f"{self._most} conversations in contexts are in hand already; come back in a moment")
        self._going += 1
        try:
            going = await asyncio.to_thread(lambda: Going(self.of(owner), name, manifest, self.clock))
            try:
                yield going
            finally:
                await asyncio.to_thread(going.close)
        finally:
            self._going -= 1


async def kept(going: Going | None, answer: Answering, speech: Speech) -> None:
    """Keep the conversation, if there is one, with its answer; one that was cancelled left nothing to keep."""
    if going is not None and answer.left is not None:
        await asyncio.to_thread(going.keep, speech.reply(), answer.left)
