"""`twofold.LLM`: a model in a Python program. It answers many at once, as `twofold serve` does, with no HTTP between.

LLM ──Options──▶ Request ──▶ Serving ──pieces──▶ Output, TextStream
    (engine/asking.py)       (engine/serving.py)
"""

import asyncio
import contextlib
import functools
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeGuard, Unpack, cast, overload

import msgspec

from twofold.config import check_places, read_settings
from twofold.engine.ask import Ask, Output
from twofold.engine.asking import ChatOptions, Options, asked
from twofold.engine.assemble import chosen_model
from twofold.engine.conversing import Conversation, messages_of, toolbox_of
from twofold.engine.limits import Limits
from twofold.engine.opening import open_serving
from twofold.engine.prompt import check_text, check_tokens
from twofold.engine.request import Chosen, Usage
from twofold.engine.sampling import Sampling
from twofold.engine.shelf import Shelf
from twofold.engine.spoken import Speech
from twofold.engine.text_stream import TextStream
from twofold.engine.toolbox import Tool
from twofold.errors import RequestError
from twofold.model.chat import Message
from twofold.model.reasoning import opened
from twofold.model.tool_calls import ToolCall
from twofold.store.contexts import contexts_of
from twofold.store.progress import Progress

__all__ = [
    "LLM", "ChatOptions", "Chosen", "Limits", "Message", "Options", "Output", "Sampling", "Shelf", "TextStream", "Tool",
    "ToolCall", "Usage",
]  # fmt: skip

TAKEN = frozenset({"self", "messages", "now", "tools"})  # names that a rendering has for itself
AT_ONCE = 256  # prompts of one list that are asked before the first of them is answered

One = str | list[int] | tuple[int, ...]  # a prompt: text, or token ids
Several = list[str] | list[list[int]]


class LLM:
    """A model that is ready to answer. Close it, use it as a context manager, or let it go.

    Any thread and any event loop may ask; what is asked together is computed together, and each answer is bit for bit
    what it would be alone. Methods with an `a` before their name are the same for `asyncio`; to cancel their task ends
    the answer. All raise RequestError for what cannot be had, and what else of `twofold.errors` happens meanwhile.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        split: bool = False,
        weights: str | None = None,
        map: str | Path | None = None,  # noqa: A002  (the setting is called so)
        wait: int | None = None,
        threads: int | None = None,
        context: int | None = None,
        packed_cache: bool | None = None,
        max_num_seqs: int | None = None,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        """Open `model`, a known name or the path of a `.gguf` file; without one the default, or what `weights` holds.

        `split` puts the weights into a child process; `weights` (URL,URL,…) or `map` (a file) name weight processors
        that run. The others are settings as in `config.py`; environment and file set what is None here. `progress` is
        told (stage, bytes done, bytes in all). Raises ConfigurationError, ModelError, LinkError or DeviceError.
        """
        settings = read_settings(
            source="LLM(...)", weights=weights, map=None if map is None else str(map), wait=wait, threads=threads,
            context=context, packed_cache=packed_cache, max_num_seqs=max_num_seqs,
        )  # fmt: skip
        check_places(settings, split=split)
        named = chosen_model(None if model is None else str(model), settings)
        with contextlib.ExitStack() as stack:
            opened = open_serving(named, settings, split=split, progress=progress, refusing=False)
            self._serving = stack.enter_context(opened)
            self.tokenizer, self.manifest = self._serving.tokenizer, self._serving.manifest
            self._opened = stack.pop_all()
        self._settings = settings
        self._forgotten = weakref.finalize(self, _let_go, self._opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End answers in hand as "cancelled", and give weights and context back; as often as one likes."""
        if self._forgotten.detach():
            self._opened.close()

    @overload
    def generate(self, prompt: One, **options: Unpack[Options]) -> Output: ...
    @overload
    def generate(self, prompt: Several, **options: Unpack[Options]) -> list[Output]: ...
    def generate(self, prompt: One | Several, **options: Unpack[Options]) -> Output | list[Output]:
        """Go on with a prompt, as it stands, without the chat template; of a list of prompts the answers, in order."""
        if _several(prompt):
            return self._outputs([self._request(one, options) for one in prompt])
        return self._outputs([self._request(prompt, options)])[0]

    @overload
    async def agenerate(self, prompt: One, **options: Unpack[Options]) -> Output: ...
    @overload
    async def agenerate(self, prompt: Several, **options: Unpack[Options]) -> list[Output]: ...
    async def agenerate(self, prompt: One | Several, **options: Unpack[Options]) -> Output | list[Output]:
        """As `generate`."""
        several = _several(prompt)
        prompts = prompt if several else [prompt]
        requests = await asyncio.to_thread(lambda: [self._request(one, options) for one in prompts])
        outputs = await self._aoutputs(requests)
        return outputs if several else outputs[0]

    def chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> Output:
        """What the model answers in a conversation; with `context`, in what was said there, with `messages` last."""
        return self._outputs([self._turn(messages, options)])[0]

    async def achat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> Output:
        """As `chat`."""
        return (await self._aoutputs([await asyncio.to_thread(self._turn, messages, options)]))[0]

    def stream(self, prompt: One, **options: Unpack[Options]) -> TextStream:
        """The text that `generate` gives for one prompt, as it becomes certain."""
        return self._stream(self._request(prompt, options))

    async def astream(self, prompt: One, **options: Unpack[Options]) -> TextStream:
        """As `stream`: `async for text in await llm.astream(prompt)`."""
        return await self._astream(await asyncio.to_thread(self._request, prompt, options))

    def stream_chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> TextStream:
        """The text that `chat` gives, as it becomes certain."""
        return self._stream(self._turn(messages, options))

    async def astream_chat(self, messages: Conversation, **options: Unpack[ChatOptions]) -> TextStream:
        """As `stream_chat`."""
        return await self._astream(await asyncio.to_thread(self._turn, messages, options))

    @property
    def contexts(self) -> Shelf:
        """The kept contexts, which `chat` goes on in by name; those of `twofold context`, within their quota."""
        return Shelf(contexts_of(self._settings), self.manifest)

    def _request(self, prompt: object, options: Options) -> Ask:
        """Go on with text or token ids."""
        if isinstance(prompt, str):
            return Ask(asked(self._encoded(prompt), options))
        if not isinstance(prompt, list | tuple) or not all(type(token) is int for token in prompt):
            raise RequestError(
                "the prompt is neither text nor a list of token ids; give one of these, or a list of them"
            )
        check_tokens(prompt, self.manifest.vocabulary)
        return Ask(asked(prompt, options))

    def _encoded(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        check_text(self.tokenizer, text, self.manifest.context_length)
        return self.tokenizer.encode(text, add_bos=add_bos)

    def _turn(self, messages: Conversation, options: ChatOptions) -> Ask:
        """Go on with a conversation."""
        template, variables = self._serving.chat_template, options.get("variables") or {}
        if template is None:
            raise RequestError("this model has no chat template, so it cannot hold a conversation; use generate")
        for name in TAKEN & variables.keys():
            raise RequestError(f"the chat template variable {name!r} is set by Twofold; use another name")
        said, context = messages_of(messages), options.get("context")
        with contextlib.ExitStack() as stack:
            going = None if context is None else stack.enter_context(contextlib.closing(self.contexts.go_on(context)))
            said = said if going is None else going.messages(said)
            tools = toolbox_of(self.tokenizer, said, options.get("tools"), options.get("tool_choice"))
            text = template.render(said, now=datetime.now(), **{**tools.variables(), **variables})
            request = asked(self._encoded(text, add_bos=False), _of_any(options))
            if request.constraint is not None and tools.constraint is not None:
                raise RequestError("an answer cannot be calls and of another form; leave one out")
            constraint = request.constraint or tools.constraint
            request = msgspec.structs.replace(request, constraint=constraint, keep=going is not None)
            stack.pop_all()
        return Ask(request, Speech(tools, opened=opened(text)), going)

    def _stream(self, ask: Ask) -> TextStream:
        self._begin(ask)
        return TextStream(ask, self)

    async def _astream(self, ask: Ask) -> TextStream:
        await self._abegin(ask)
        return TextStream(ask, self)

    def _begin(self, ask: Ask) -> None:
        try:
            if not self._forgotten.alive:
                raise RequestError("this LLM is closed; open another")
            ask.begin(self._serving)
        except BaseException:
            ask.close()
            raise

    async def _abegin(self, ask: Ask) -> None:
        """As `_begin`, in a thread, as a constraint takes its time to prepare."""
        begun = asyncio.get_running_loop().run_in_executor(None, self._begin, ask)
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(functools.partial(_abandon, ask))
            raise

    def _outputs(self, asks: Sequence[Ask]) -> list[Output]:
        """The answers, in order. If one fails, or nobody waits any more, the others are ended."""
        waiting, begun, outputs = deque(asks), deque[Ask](), list[Output]()
        try:
            while waiting or begun:
                if waiting and len(begun) < AT_ONCE:
                    begun.append(waiting.popleft())
                    self._begin(begun[-1])
                    continue
                for piece in begun[0].answer:
                    begun[0].read(piece)
                begun[0].finish()
                outputs.append(begun.popleft().output)
        finally:
            _end(begun)
        return outputs

    async def _aoutputs(self, asks: Sequence[Ask]) -> list[Output]:
        """As `_outputs`."""
        waiting, begun, outputs = deque(asks), deque[Ask](), list[Output]()
        try:
            while waiting or begun:
                if waiting and len(begun) < AT_ONCE:
                    begun.append(waiting.popleft())
                    await self._abegin(begun[-1])
                    continue
                async for piece in begun[0].answer:
                    begun[0].read(piece)
                if begun[0].kept:
                    await asyncio.to_thread(begun[0].finish)
                outputs.append(begun.popleft().output)
        finally:
            _end(begun)
        return outputs


def _let_go(opened: contextlib.ExitStack) -> None:
    """Close what nobody has any more: at exit, or in whichever thread that was noticed, even in the engine's own."""
    if threading.current_thread() is threading.main_thread():
        opened.close()
    else:
        threading.Thread(target=opened.close, name="closing").start()


def _several(prompt: One | Several) -> TypeGuard[Several]:
    """Whether it is a list of prompts, rather than one as token ids."""
    return isinstance(prompt, list) and not (prompt and isinstance(prompt[0], int))


def _of_any(options: ChatOptions) -> Options:
    """Those options that every answer has."""
    own = ChatOptions.__annotations__.keys() - Options.__annotations__.keys()
    return cast("Options", {name: value for name, value in options.items() if name not in own})


def _abandon(ask: Ask, begun: asyncio.Future[None]) -> None:
    """Nobody waits for what was begun, nor for why it was not."""
    if not begun.cancelled():
        begun.exception()
    ask.close()


def _end(asks: Iterable[Ask]) -> None:
    for ask in asks:
        ask.close()
