"""A model that is served without an engine: it answers every prompt with the same text, letter by letter.

It follows the contract of `engine.serving.Serving`: pieces come through any event loop, `cancel` ends an answer from
any thread, and what is asked is kept for tests to look at.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from twofold.engine.request import Chosen, Piece, Request, Usage
from twofold.errors import TwofoldError
from twofold.model.chat import ChatTemplate
from twofold.model.checkpoint import Checkpoint
from twofold.model.manifest import Manifest
from twofold.model.tokenizer import Tokenizer

TEXT = "hello the world"


class FakeAnswer:
    """Says `text`, a token a piece; `hold` is waited for after the first piece, an error in `failing` ends it."""

    def __init__(self, request: Request, serving: "FakeServing") -> None:
        self.request, self._serving = request, serving
        self.usage = Usage(prompt_tokens=len(request.prompt), cached_tokens=1)
        self.cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._release = asyncio.Event()

    def cancel(self) -> None:
        """From any thread, as often as one likes."""
        self.cancelled = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release.set)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces."""
        self._loop = asyncio.get_running_loop()
        tokenizer, limits = self._serving.tokenizer, self.request.limits
        told, said = tokenizer.encode(self._serving.text, add_bos=False), 0
        for token in told[: limits.max_tokens]:
            if self._serving.held and said:
                await self._release.wait()
            if self.cancelled:
                yield Piece("", finish="cancelled")
                return
            if self._serving.failing is not None:
                raise self._serving.failing
            said += 1
            self.usage.generated_tokens = said
            yield Piece(tokenizer.decode([token]), (self._chosen(token),))
            await asyncio.sleep(0)
        if said < len(told):
            yield Piece("", finish="length")
            return
        if self._serving.stopping:
            yield Piece("", finish="stop")
            return
        end = min(tokenizer.end_ids)
        self.usage.generated_tokens = said + 1
        yield Piece("", (self._chosen(end),), "stop")

    def _chosen(self, token: int) -> Chosen:
        if self.request.logprobs is None:
            return Chosen(token)
        vocabulary = self._serving.manifest.vocabulary
        return Chosen(token, -0.5, tuple(((token + i) % vocabulary, -0.5 - i) for i in range(self.request.logprobs)))


class FakeServing:
    """Answers with `text`; `held` stops every answer after its first piece until it is cancelled."""

    def __init__(self, path: Path) -> None:
        """Of the checkpoint at `path` it has the tokenizer, the template and the manifest."""
        with Checkpoint.open(path) as checkpoint:
            self.tokenizer = Tokenizer(checkpoint.tokenizer)
            self.manifest: Manifest = checkpoint.model.manifest
            self.chat_template: ChatTemplate | None = ChatTemplate.of(checkpoint.tokenizer)
        self.text = TEXT
        self.held = False
        self.stopping = False  # end as at a stop string: without an end token
        self.failing: TwofoldError | None = None
        self.refusing: Callable[[Request], TwofoldError | None] = lambda request: None
        self.answers: list[FakeAnswer] = []

    def submit(self, request: Request) -> FakeAnswer:
        """Begin an answer, or raise what `refusing` gives for it."""
        error = self.refusing(request)
        if error is not None:
            raise error
        self.answers.append(FakeAnswer(request, self))
        return self.answers[-1]

    @property
    def asked(self) -> Request:
        """What was asked last."""
        return self.answers[-1].request
