"""Answers in OpenAI's shapes: what both kinds of completion share, and chat completions whole and as events."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from twofold.engine.request import Chosen, Piece, Usage
from twofold.engine.spoken import Part, Speech, Thought
from twofold.engine.whole import Whole
from twofold.model.tokenizer import Tokenizer
from twofold.model.tool_calls import ToolCall
from twofold.server.endpoint import Call
from twofold.server.refusal import Refusal, openai_error
from twofold.server.served import Answering
from twofold.server.sse import data

LEAST_LOGPROB = -9999.0  # for a probability of 0, whose logarithm JSON cannot write
DONE = b"data: [DONE]\n\n"


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens."""

    cached_tokens: int


class OpenAIUsage(msgspec.Struct, frozen=True):
    """What a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have been chosen."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token that was chosen."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Of the tokens of an answer, or of an event."""

    content: list[TokenLogprob]
    refusal: None = None


class FunctionCall(msgspec.Struct, frozen=True):
    """A function and its arguments, a JSON object as text."""

    name: str
    arguments: str


class MadeCall(msgspec.Struct, frozen=True):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The message of an answer; without content it is calls, or was cut off before any."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[MadeCall] = []
    reasoning_content: str = ""


class ChatChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer; with its tokens if they were asked for."""

    index: int
    message: ChatReply
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "cancelled"]
    token_ids: list[int] | None = None


class ChatCompletion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A complete reply to `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: OpenAIUsage
    prompt_token_ids: list[int] | None = None


def used(usages: Sequence[Usage], n: int) -> OpenAIUsage:
    """What answers took, `n` in a row to each prompt. A prompt counts once, however many answers it has."""
    groups = [usages[start : start + n] for start in range(0, len(usages), n)]
    prompt = sum(max(usage.prompt_tokens for usage in group) for group in groups)
    cached = sum(max(usage.cached_tokens for usage in group) for group in groups)
    generated = sum(usage.generated_tokens for usage in usages)
    return OpenAIUsage(prompt, generated, prompt + generated, PromptDetails(cached))


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token by itself; bytes that are no UTF-8 alone become U+FFFD."""
    return tokenizer.token_bytes(token).decode(errors="replace")


def chat_logprobs(tokenizer: Tokenizer, chosen: Iterable[Chosen]) -> ChatLogprobs:
    """In the shape of chat completions."""

    def one(token: int, logprob: float) -> tuple[str, float, list[int]]:
        return token_text(tokenizer, token), max(logprob, LEAST_LOGPROB), list(tokenizer.token_bytes(token))

    return ChatLogprobs(
        [
            TokenLogprob(*one(token.token, token.logprob or 0.0), [TopLogprob(*one(*other)) for other in token.top])
            for token in chosen
        ]
    )


def made_call(called: ToolCall) -> MadeCall:
    """A call."""
    return MadeCall(called.id, "function", FunctionCall(called.name, called.arguments))


def _reply(speech: Speech, whole: Whole) -> ChatReply:
    speech.push(Piece(whole.text, finish=whole.finish))
    reply = speech.reply()
    calls = [made_call(call) for call in reply.tool_calls]
    return ChatReply(
        "assistant", reply.content if reply.content or not calls else None, calls, reply.reasoning_content or ""
    )


def ids_of(chosen: Iterable[Chosen]) -> list[int]:
    """Which tokens were chosen."""
    return [one.token for one in chosen]


def completed(
    call: Call, wholes: Sequence[Whole], speeches: Sequence[Speech], *, logprobs: bool, prompt: Sequence[int] | None
) -> ChatCompletion:
    """Complete answers as a chat completion; `prompt`: its tokens, if tokens are to be told by their ids."""
    choices = [
        ChatChoice(
            index,
            _reply(speech, whole),
            chat_logprobs(call.tokenizer, whole.chosen) if logprobs else None,
            speech.finish(whole.finish),  # type: ignore[arg-type]
            None if prompt is None else ids_of(whole.chosen),
        )
        for index, (whole, speech) in enumerate(zip(wholes, speeches, strict=True))
    ]
    usage = used([whole.usage for whole in wholes], len(wholes))
    return ChatCompletion(
        f"chatcmpl-{call.record.id}", "chat.completion", call.now(), call.offer.names[0], choices, usage,
        None if prompt is None else list(prompt),
    )  # fmt: skip


class Events:
    """What the events of one reply have in common, and how they end."""

    def __init__(
        self, call: Call, answers: Sequence[Answering], prefix: str, kind: str, *, n: int, usage: bool, logprobs: bool,
        ids: bool,
    ) -> None:  # fmt: skip
        self.tokenizer, self.request_id = call.tokenizer, call.record.id
        self._answers, self._n, self._usage, self._logprobs, self._ids = answers, n, usage, logprobs, ids
        self._head = {
            "id": f"{prefix}-{call.record.id}", "object": kind, "created": call.now(), "model": call.offer.names[0]
        }  # fmt: skip

    @property
    def tells_tokens(self) -> bool:
        """Whether tokens are told of that no text is certain of yet."""
        return self._logprobs or self._ids

    def chunk(self, choice: dict[str, Any], **more: Any) -> bytes:
        """An event about one answer."""
        usage = {"usage": None} if self._usage else {}
        return data({**self._head, "choices": [choice], **more, **usage})

    def end(self) -> bytes:
        """The usage if it was asked for, and the mark of the end."""
        return self._last() + DONE

    def _last(self) -> bytes:
        if not self._usage:
            return b""
        usage = used([answer.usage for answer in self._answers], self._n)
        return data({**self._head, "choices": [], "usage": usage})

    def failed(self, refusal: Refusal) -> bytes:
        """The error, and the mark of the end."""
        return data(openai_error(refusal, self.request_id)) + DONE


class ChatWriting(Events):
    """Chat completions as events. A delta has only what is new: no field is null in it."""

    def __init__(
        self, call: Call, answers: Sequence[Answering], speeches: Sequence[Speech], *, usage: bool, logprobs: bool,
        prompt: Sequence[int] | None,
    ) -> None:  # fmt: skip
        kind, ids = "chat.completion.chunk", prompt is not None
        super().__init__(call, answers, "chatcmpl", kind, n=len(answers), usage=usage, logprobs=logprobs, ids=ids)
        self._speeches, self._prompt = speeches, prompt

    def begin(self) -> bytes:
        """Who speaks, for each answer."""
        prompt = {} if self._prompt is None else {"prompt_token_ids": self._prompt}
        role = {"role": "assistant", "content": ""}
        return b"".join(self._delta(index, role, (), None, **prompt) for index in range(len(self._answers)))

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain, an event a part; the end of an answer is one of its own, with an empty delta.

        Log-probabilities and ids of tokens go with the first, and with an empty text if nothing else is certain.
        """
        speech = self._speeches[index]
        before = speech.called
        deltas: list[dict[str, Any]] = []
        for part in speech.push(piece):
            deltas.append(self._part(part, before))
            before += isinstance(part, ToolCall)
        if not deltas and self.tells_tokens and piece.chosen:
            deltas.append({"content": ""})
        chosen = [piece.chosen, *((),) * len(deltas)]
        events = b"".join(self._delta(index, delta, told, None) for delta, told in zip(deltas, chosen, strict=False))
        return events + (self._delta(index, {}, (), speech.finish(piece.finish)) if piece.finish else b"")

    @staticmethod
    def _part(part: Part, number: int) -> dict[str, Any]:
        if isinstance(part, ToolCall):
            made = made_call(part)
            return {"tool_calls": [{"index": number, "id": made.id, "type": made.type, "function": made.function}]}
        return {"reasoning_content": part.text} if isinstance(part, Thought) else {"content": part}

    def _delta(
        self, index: int, delta: dict[str, Any], chosen: Sequence[Chosen], finish: str | None, **more: Any
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
        if self._logprobs:
            choice["logprobs"] = chat_logprobs(self.tokenizer, chosen) if chosen else None
        if self._ids:
            choice["token_ids"] = ids_of(chosen)
        return self.chunk(choice, **more)
