"""`twofold.LLM`: a model in a Python program. It answers many at once, as `twofold serve` does, with no HTTP between.

LLM ──Options──▶ Request ──▶ Serving ──pieces──▶ Output, TextStream
    (engine/asking.py)       (engine/serving.py)
"""

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard, Unpack, overload

import msgspec

from twofold.config import check_places, read_settings
from twofold.engine.answer import Answer
from twofold.engine.asking import Options, asked
from twofold.engine.assemble import chosen_model
from twofold.engine.limits import Limits
from twofold.engine.opening import open_serving
from twofold.engine.prompt import check_text, check_tokens
from twofold.engine.request import Chosen, Request, Usage
from twofold.engine.sampling import Sampling
from twofold.engine.text_stream import Output, TextStream, output, output_of
from twofold.engine.whole import whole
from twofold.errors import RequestError, one_line
from twofold.model.chat import Message
from twofold.store.progress import Progress

__all__ = ["LLM", "Chosen", "Limits", "Message", "Options", "Output", "Sampling", "TextStream", "Usage"]

TAKEN = frozenset({"self", "messages", "now"})  # names that a rendering has for itself
AT_ONCE = 256  # prompts of one list that are asked before the first of them is answered

One = str | list[int] | tuple[int, ...]  # a prompt: text, or token ids
Several = list[str] | list[list[int]]
Conversation = str | Sequence[Message | Mapping[str, object]]  # a text is what the user says


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

    def chat(
        self, messages: Conversation, *, variables: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> Output:
        """What the model answers in a conversation. `variables` are told to its chat template."""
        return self._outputs([self._turn(messages, variables, options)])[0]

    async def achat(
        self, messages: Conversation, *, variables: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> Output:
        """As `chat`."""
        request = await asyncio.to_thread(self._turn, messages, variables, options)
        return (await self._aoutputs([request]))[0]

    def stream(self, prompt: One, **options: Unpack[Options]) -> TextStream:
        """The text that `generate` gives for one prompt, as it becomes certain."""
        return TextStream(self._submit(self._request(prompt, options)), self)

    async def astream(self, prompt: One, **options: Unpack[Options]) -> TextStream:
        """As `stream`: `async for text in await llm.astream(prompt)`."""
        answer = await self._asubmit(await asyncio.to_thread(self._request, prompt, options))
        return TextStream(answer, self)

    def stream_chat(
        self, messages: Conversation, *, variables: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> TextStream:
        """The text that `chat` gives, as it becomes certain."""
        return TextStream(self._submit(self._turn(messages, variables, options)), self)

    async def astream_chat(
        self, messages: Conversation, *, variables: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> TextStream:
        """As `stream_chat`."""
        answer = await self._asubmit(await asyncio.to_thread(self._turn, messages, variables, options))
        return TextStream(answer, self)

    def _request(self, prompt: object, options: Options, *, add_bos: bool | None = None) -> Request:
        """Go on with text or token ids."""
        if isinstance(prompt, str):
            check_text(self.tokenizer, prompt, self.manifest.context_length)
            return asked(self.tokenizer.encode(prompt, add_bos=add_bos), options)
        if not isinstance(prompt, list | tuple) or not all(type(token) is int for token in prompt):
            raise RequestError(
                "the prompt is neither text nor a list of token ids; give one of these, or a list of them"
            )
        check_tokens(prompt, self.manifest.vocabulary)
        return asked(prompt, options)

    def _turn(self, messages: Conversation, variables: Mapping[str, Any] | None, options: Options) -> Request:
        """Go on with a conversation."""
        template = self._serving.chat_template
        if template is None:
            raise RequestError("this model has no chat template, so it cannot hold a conversation; use generate")
        for name in TAKEN & (variables or {}).keys():
            raise RequestError(f"the chat template variable {name!r} is set by Twofold; use another name")
        said = [Message("user", messages)] if isinstance(messages, str) else list(map(_message, messages))
        return self._request(template.render(said, now=datetime.now(), **(variables or {})), options, add_bos=False)

    def _submit(self, request: Request) -> Answer:
        if not self._forgotten.alive:
            raise RequestError("this LLM is closed; open another")
        return self._serving.submit(request)

    async def _asubmit(self, request: Request) -> Answer:
        """As `_submit`, in a thread, as a constraint takes its time to prepare."""
        begun = asyncio.get_running_loop().run_in_executor(None, self._submit, request)
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(_abandon)
            raise

    def _outputs(self, requests: Sequence[Request]) -> list[Output]:
        """The answers, in order. If one fails, or nobody waits any more, the others are ended."""
        waiting, answers, outputs = deque(requests), deque[Answer](), list[Output]()
        try:
            while waiting or answers:
                if waiting and len(answers) < AT_ONCE:
                    answers.append(self._submit(waiting.popleft()))
                    continue
                outputs.append(output(answers[0]))
                answers.popleft()
        finally:
            _end(answers)
        return outputs

    async def _aoutputs(self, requests: Sequence[Request]) -> list[Output]:
        """As `_outputs`."""
        waiting, answers, outputs = deque(requests), deque[Answer](), list[Output]()
        try:
            while waiting or answers:
                if waiting and len(answers) < AT_ONCE:
                    answers.append(await self._asubmit(waiting.popleft()))
                    continue
                outputs.append(output_of(await whole(answers[0])))
                answers.popleft()
        finally:
            _end(answers)
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


def _message(given: object) -> Message:
    """A message as chat templates have it; RequestError for one that has anything else."""
    if isinstance(given, Message):
        return given
    known = Message.__struct_fields__
    if not isinstance(given, Mapping) or not {"role", "content"} <= given.keys() <= set(known):
        raise RequestError(f"a message is wrong; give role and content, and if need be {', '.join(known[2:])}")
    try:
        return msgspec.convert(dict(given), Message)
    except msgspec.ValidationError as error:
        raise RequestError(f"a message is wrong: {one_line(str(error))}; correct it") from None


def _end(answers: Iterable[Answer]) -> None:
    for answer in answers:
        answer.cancel()


def _abandon(begun: asyncio.Future[Answer]) -> None:
    """Nobody waits for what was begun."""
    if not begun.cancelled() and begun.exception() is None:
        begun.result().cancel()
