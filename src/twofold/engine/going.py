"""Conversations that go on in kept contexts, whichever engine answers: on disk between two answers, and nowhere else.

    begin ──▶ kept ──Going──▶ rendered with what is new ──▶ Serving.submit(before) ──▶ answer.left ──keep──▶ kept
                ▲                                                                                             │
                └──────────────────────────────────── close ◀─────────────────────────────────────────────────┘

What is kept is replaced once an answer is complete, so an answer that was cancelled or failed changes nothing.
"""

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from twofold.cache.pages import PAGE_POSITIONS, pages_for
from twofold.engine.kept import Clock, Entry, check_fits, checked_tokens
from twofold.engine.seen import NOTHING, Seen
from twofold.errors import ContextError
from twofold.memory.page import native_page, page_image
from twofold.model.chat import Message
from twofold.model.manifest import Manifest
from twofold.store.context_file import ContextFile, Turn
from twofold.store.contexts import Contexts


def begin(contexts: Contexts, name: str, manifest: Manifest, clock: Clock) -> None:
    """Keep a conversation of this model under `name` in which nothing was said yet; errors as `Contexts.hold`,
    `Contexts.vacant` and `Entry.put`."""
    with contexts.hold(name):
        contexts.vacant(name)
        Entry(contexts, name, manifest, clock).put((), 0, ())


def add(contexts: Contexts, name: str, file: ContextFile, manifest: Manifest) -> None:
    """Keep what `file` holds as `name`, if it is of this model; errors as `check_fits` and `Contexts.add`."""
    check_fits(file.head, manifest, name)
    contexts.add(name, file)


class Going(Entry):
    """The conversation in the context `name`, which nobody else may use until `close`.

    `before`: what was seen when it was kept; `submit` takes it.
    """

    def __init__(self, contexts: Contexts, name: str, manifest: Manifest, clock: Clock) -> None:
        """NoContext, ContextInUse, OtherModel; ContextError if it is damaged or no conversation."""
        super().__init__(contexts, name, manifest, clock)
        with contextlib.ExitStack() as stack:
            stack.enter_context(contexts.hold(name))
            with contexts.read(name) as file:
                self.before = _seen(file, manifest, name)
                self.go_on(file.head)
            if self.turns is None:
                raise ContextError(f"the context '{name}' is plain text, no conversation; go on with it by run --raw")
            self._held = stack.pop_all()

    def messages(self, said: Sequence[Message]) -> list[Message]:
        """All that was said, `said` last; `keep` keeps it."""
        assert self.turns is not None
        self.turns += msgspec.convert(msgspec.to_builtins(said), list[Turn])
        return msgspec.convert(msgspec.to_builtins(self.turns), list[Message])

    def taken(self) -> Seen:
        """`before`, which from now on is its taker's alone, as it is large."""
        before, self.before = self.before, NOTHING
        return before

    def keep(self, reply: Message, left: Seen) -> None:
        """Keep the conversation with the answer `reply`, after which the session had seen what `left` has."""
        self.messages([reply])
        self.put(left.tokens, left.length, _images(left, self._manifest))

    def close(self) -> None:
        """Let others use the name; as often as one likes."""
        self._held.close()


def _seen(file: ContextFile, manifest: Manifest, name: str) -> Seen:
    tokens = checked_tokens(file, manifest, name)
    return Seen(tokens, file.head.length, b"".join(native_page(page).tobytes() for page in file.pages()))


def _images(seen: Seen, manifest: Manifest) -> Iterator[bytes]:
    """The pages as a context file has them; what lies behind the length is left out."""
    pages = np.frombuffer(seen.pages, np.uint8).reshape(pages_for(seen.length), -1)
    for index, page in enumerate(pages):
        yield page_image(manifest, page, seen.length - index * PAGE_POSITIONS)
