"""Answers in the shape of Anthropic's messages: whole, and as events."""

import secrets
from typing import Annotated, Any, Literal

import msgspec

from twofold.engine.request import Chosen, Piece
from twofold.engine.spoken import Part, Speech, Thought
from twofold.engine.whole import Whole, matched
from twofold.model.tool_calls import ToolCall
from twofold.server.endpoint import Call
from twofold.server.refusal import Refusal, anthropic_error
from twofold.server.served import Answering
from twofold.server.sse import event


class SaidBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class ThoughtBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """What the model thought."""

    thinking: str
    signature: str = ""


class CallBlock(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call; `input` is the JSON object that the model wrote."""

    id: str
    name: str
    input: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]


Block = SaidBlock | ThoughtBlock | CallBlock


class AnswerUsage(msgspec.Struct, frozen=True):
    """What an answer took; `input_tokens` are those of the prompt that were not in the cache."""

    input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A complete reply to `/v1/messages`."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: AnswerUsage


class State:
    """An answer as it grows."""

    def __init__(self, call: Call, answer: Answering, speech: Speech, stops: tuple[str, ...]) -> None:
        self.request_id, self.speech = call.record.id, speech
        self._answer, self._stops = answer, stops
        self._model, self._tokenizer = call.offer.names[0], call.tokenizer

    def usage(self) -> AnswerUsage:
        """What it took so far."""
        usage = self._answer.usage
        return AnswerUsage(usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens, usage.generated_tokens)

    def answer(self, content: list[Block], reason: Any = None, stop: str | None = None) -> Answer:
        """The answer."""
        return Answer(
            id=f"msg_{self.request_id}", model=self._model, content=content, stop_reason=reason, stop_sequence=stop,
            usage=self.usage(),
        )  # fmt: skip

    def whole(self, whole: Whole) -> Answer:
        """The complete answer."""
        parts = self.speech.push(Piece(whole.text, finish=whole.finish))
        return self.answer(_blocks(parts), *self.stopped(whole.finish, whole.chosen))

    def stopped(self, finish: str | None, chosen: list[Chosen]) -> tuple[str, str | None]:
        """Why an answer of these tokens ended, and at which stop sequence if at one."""
        if finish != "stop":
            return "max_tokens", None
        if self.speech.called:
            return "tool_use", None
        ended = bool(chosen) and chosen[-1].token in self._tokenizer.end_ids
        stop = None if ended else matched(self._tokenizer, chosen, self._stops)
        return ("end_turn", None) if stop is None else ("stop_sequence", stop)


def _block(part: Part) -> Block:
    match part:
        case Thought():
            return ThoughtBlock(part.text)
        case ToolCall():
            return CallBlock(f"toolu_{secrets.token_hex(12)}", part.name, msgspec.Raw(part.arguments.encode()))
        case _:
            return SaidBlock(part)


def _blocks(parts: list[Part]) -> list[Block]:
    """The blocks of a complete answer: texts in a row are one."""
    blocks: list[Block] = []
    for part in parts:
        last = blocks[-1] if blocks else None
        if isinstance(part, str) and isinstance(last, SaidBlock):
            blocks[-1] = SaidBlock(last.text + part)
        else:
            blocks.append(_block(part))
    return blocks


class MessageWriting:
    """An answer as events: blocks begin and end as it goes from thinking to text to calls."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._chosen: list[Chosen] = []
        self._finish: str | None = None
        self._blocks = 0  # that began
        self._open: type[Block] | None = None  # the kind of the one that has not ended

    @staticmethod
    def _event(kind: str, **fields: Any) -> bytes:
        return event(kind, {"type": kind, **fields})

    def begin(self) -> bytes:
        """The answer is there."""
        return self._event("message_start", message=self._state.answer([])) + self._event("ping")

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain."""
        self._chosen += piece.chosen
        self._finish = piece.finish or self._finish
        return b"".join(self._part(_block(part)) for part in self._state.speech.push(piece))

    def _part(self, block: Block) -> bytes:
        match block:
            case SaidBlock():
                empty: Block | dict[str, Any] = SaidBlock("")
                delta = {"type": "text_delta", "text": block.text}
            case ThoughtBlock():
                empty, delta = ThoughtBlock(""), {"type": "thinking_delta", "thinking": block.thinking}
            case CallBlock():
                empty = CallBlock(block.id, block.name, msgspec.Raw(b"{}"))
                delta = {"type": "input_json_delta", "partial_json": bytes(block.input).decode()}
        events = b""
        if self._open is not type(block) or isinstance(block, CallBlock):
            events = self._closed()
            events += self._event("content_block_start", index=self._blocks, content_block=empty)
            self._blocks, self._open = self._blocks + 1, type(block)
        return events + self._event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return self._event("content_block_stop", index=self._blocks - 1)

    def end(self) -> bytes:
        """How the answer ended, and what it took."""
        reason, stop = self._state.stopped(self._finish, self._chosen)
        delta = {"stop_reason": reason, "stop_sequence": stop}
        return b"".join(
            (
                self._closed(),
                self._event("message_delta", delta=delta, usage=self._state.usage()),
                self._event("message_stop"),
            )
        )

    def failed(self, refusal: Refusal) -> bytes:
        """The error."""
        return event("error", anthropic_error(refusal, self._state.request_id))
