"""A model that is served without an engine: it answers every prompt with the same text, letter by letter.

It follows the contract of `engine.serving.Serving`: pieces come through any event loop, `cancel` ends an answer from
any thread, and what is asked is kept for tests to look at.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from twofold.cache.pages import PAGE_POSITIONS, pages_for
from twofold.engine.request import Chosen, Piece, Request, Usage
from twofold.engine.seen import NOTHING, Seen
from twofold.engine.serving_status import ServingStatus, Sizes, Times
from twofold.engine.work import Processor, Work
from twofold.errors import TwofoldError
from twofold.model.chat import ChatTemplate
from twofold.model.checkpoint import Checkpoint
from twofold.model.manifest import Manifest
from twofold.model.tokenizer import Tokenizer

TEXT = "hello the world"
TOOLS = (  # a template of the kind that Qwen's models have, as short as one can be
    "{% if tools %}<tools>{{ tools | tojson }}</tools> Answer <tool_call>{...}</tool_call>{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }} {{ message.reasoning_content or '' }}"
    "{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call | tojson }}</tool_call>"
    "{% endfor %}{{ message.tool_call_id or '' }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '<think>' if thinking else '' }}{% endif %}"
)


class FakeAnswer:
    """Says `text`, a token a piece; `hold` is waited for after the first piece, an error in `failing` ends it."""

    def __init__(self, request: Request, serving: "FakeServing") -> None:
        self.request, self._serving = request, serving
        self.usage = Usage(prompt_tokens=len(request.prompt), cached_tokens=1)
        self.usage.moments.arrived = self.usage.moments.begun = time.monotonic()
        self.cancelled = False
        self.left: Seen | None = None
        self.ended = threading.Event()  # nobody reads any more
        self._loop: asyncio.AbstractEventLoop | None = None
        self._release = asyncio.Event()

    def cancel(self) -> None:
        """From any thread, as often as one likes."""
        self.ended.set()
        self.cancelled = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release.set)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces."""
        self._loop = asyncio.get_running_loop()
        tokenizer, limits = self._serving.tokenizer, self.request.limits
        self._leave()
        told, said = tokenizer.encode(self._serving.text, add_bos=False), 0
        if self._serving.lumped:
            yield Piece(self._serving.text, (), "stop")
            return
        for token in told[: limits.max_tokens]:
            if self._serving.held and said:
                await self._release.wait()
            if self.cancelled:
                self.left = None
                yield Piece("", finish="cancelled")
                return
            if self._serving.failing is not None:
                raise self._serving.failing
            said += 1
            self.usage.generated_tokens = said
            self.usage.moments.ended = time.monotonic()
            self.usage.moments.first = self.usage.moments.first or self.usage.moments.ended
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

    def _leave(self) -> None:
        """As if the prompt had been seen, and nothing of the answer."""
        layers, length = self._serving.manifest.layers, len(self.request.prompt)
        page_bytes = sum(PAGE_POSITIONS * layer.context_bytes for layer in layers)
        if self.request.keep:
            self.left = Seen(self.request.prompt, length, bytes(pages_for(length) * page_bytes))

    def _chosen(self, token: int) -> Chosen:
        if self.request.logprobs is None:
            return Chosen(token)
        vocabulary = self._serving.manifest.vocabulary
        return Chosen(token, -0.5, tuple(((token + i) % vocabulary, -0.5 - i) for i in range(self.request.logprobs)))


class FakeServing:
    """Answers with `text`; `held` stops every answer after its first piece until it is cancelled."""

    def __init__(self, path: Path, template: str | None = None) -> None:
        """Of the checkpoint at `path` it has the tokenizer, the manifest, and the template unless one is given."""
        with Checkpoint.open(path) as checkpoint:
            data = checkpoint.tokenizer
            data = msgspec.structs.replace(data, chat_template=template or data.chat_template)
            self.tokenizer = Tokenizer(data)
            self.manifest: Manifest = checkpoint.model.manifest
        self.chat_template: ChatTemplate | None = ChatTemplate.of(data)
        self.text = TEXT
        self.held = False
        self.lumped = False  # all in one piece
        self.stopping = False  # end as at a stop string: without an end token
        self.failing: TwofoldError | None = None
        self.refusing: Callable[[Request], TwofoldError | None] = lambda request: None
        self.answers: list[FakeAnswer] = []
        self.before = NOTHING  # what was given with the last request

    def submit(self, request: Request, before: Seen = NOTHING) -> FakeAnswer:
        """Begin an answer, or raise what `refusing` gives for it."""
        error = self.refusing(request)
        if error is not None:
            raise error
        self.answers.append(FakeAnswer(request, self))
        self.before = before
        return self.answers[-1]

    def status(self) -> ServingStatus:
        """Figures that are all different."""
        times, sizes = Times(), Sizes()
        for tokens, of_tokens in enumerate((sizes.prompt, sizes.generated, sizes.allowed), 1):
            of_tokens.add(tokens)
        for seconds, histogram in enumerate(
            (times.queue, times.first_token, times.token, times.answer, times.prefill, times.decode), 1
        ):
            histogram.add(0.001 * seconds)
        work = Work(
            calls=15, failovers=16, weights_ns=17_000, context_ns=18_000, link_ns=19_000,
            segments_ns=[5_000] * 3, layers_ns=[9_000] * 2, processors=[Processor("shm", "up", False, "0-2")],
        )  # fmt: skip
        return ServingStatus(
            running=1, waiting=2, swapped=3, oldest_waiting_seconds=1.5, pages=8, pages_used=4, pages_cached=5,
            prompt_tokens=60, cached_tokens=7, generated_tokens=80, steps=9, rows=10,
            preemptions=11, finished={"stop": 12, "length": 13}, refused=14,
            times=times, sizes=sizes, work=work,
        )  # fmt: skip

    @property
    def asked(self) -> Request:
        """What was asked last."""
        return self.answers[-1].request
