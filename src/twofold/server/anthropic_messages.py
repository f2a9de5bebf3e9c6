"""`/v1/messages` and `/v1/messages/count_tokens`, as Anthropic defined them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from twofold.engine.request import Chosen, Limits, Piece, Request
from twofold.engine.sampling import Sampling
from twofold.model.chat import Message
from twofold.server.body import Fixed
from twofold.server.endpoint import Call, Endpoint, answered
from twofold.server.openai_chat import conversation
from twofold.server.parameters import MOST_MESSAGES, MOST_STOPS, Anything, Count, StopText, coldest, drawn_seed
from twofold.server.refusal import Refusal, anthropic_error
from twofold.server.served import Answering
from twofold.server.sse import event
from twofold.server.toolbox import Toolbox
from twofold.server.whole import matched


class CacheControl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mark where a prefix ends that will come again; here prefixes are found without it."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: None = None


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str | list[TextBlock]


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the request is for."""

    user_id: Anything | None = None


class NoThinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to reason first."""

    type: Literal["disabled"]


class Conversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to count tokens, and the part of a request for an answer that has any."""

    model: Annotated[str, Meta(description="The served model's name.")]
    messages: Annotated[
        list[Turn], Meta(min_length=1, max_length=MOST_MESSAGES, description="The conversation; text alone.")
    ]
    system: Annotated[str | list[TextBlock] | None, Meta(description="A system message before it.")] = None
    thinking: Annotated[NoThinking | None, Meta(description="Only `disabled`.")] = None

    @property
    def given(self) -> list[Message]:
        """The messages for a chat template."""
        first = [] if self.system is None else [Message("system", _text(self.system))]
        return [*first, *(Message(turn.role, _text(turn.content)) for turn in self.messages)]


class Ask(Conversation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for an answer."""

    max_tokens: Annotated[Count, Meta(description="Tokens of the answer.")]
    temperature: Annotated[float, Meta(ge=0, le=1, description="0 takes the likeliest token.")] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Among the likeliest that together reach this share.")] = 1.0
    top_k: Annotated[int, Meta(ge=0, lt=1 << 31, description="Among so many likeliest; 0: all.")] = 0
    stop_sequences: Annotated[
        list[StopText], Meta(max_length=MOST_STOPS, description="Texts that end the answer and are no part of it.")
    ] = []
    stream: Annotated[bool, Meta(description="Server-sent events.")] = False
    metadata: Annotated[Metadata | None, Meta(description="`user_id` is accepted and kept nowhere.")] = None
    service_tier: Annotated[Literal["auto", "standard_only"], Meta(description="There is one tier.")] = "auto"


COUNT_FIXED = (
    Fixed("tools", ([],), "calls of tools are not parsed yet"),
    Fixed("tool_choice", ({"type": "none"},), "there are no tools"),
    Fixed("mcp_servers", ([],), "nothing is fetched"),
    Fixed("context_management", (), "nothing is stored here"),
    Fixed("output_config", (), "answers are text"),
    Fixed("output_format", (), "answers are text"),
)
ASK_FIXED = (
    *COUNT_FIXED,
    Fixed("container", (), "nothing is run"),
    Fixed("inference_geo", (), "it is where it is"),
)


class Counted(msgspec.Struct, frozen=True):
    """A reply to `/v1/messages/count_tokens`."""

    input_tokens: int


class AnswerBlock(msgspec.Struct, frozen=True):
    """A part of an answer."""

    type: Literal["text"]
    text: str


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
    content: list[AnswerBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence"] | None
    stop_sequence: str | None
    usage: AnswerUsage


async def count_tokens(body: Conversation, call: Call) -> Response:
    """The tokens that a conversation is."""
    call.offer.check(body.model)
    return answered(Counted(len((await conversation(call, body.given, {}, Toolbox())).ids)))


async def ask(body: Ask, call: Call) -> Response:
    """Answer a conversation."""
    call.offer.check(body.model)
    prompt = (await conversation(call, body.given, {}, Toolbox())).ids
    limits = Limits(
        max_tokens=call.offer.room(call.serving, len(prompt), body.max_tokens), stop=tuple(body.stop_sequences)
    )
    sampling = Sampling(temperature=coldest(body.temperature), top_k=body.top_k, top_p=body.top_p, seed=drawn_seed())
    request = Request(prompt=prompt, sampling=sampling, limits=limits, owner=call.record.owner)
    answers = call.submit([request])
    state = State(call, answers[0], limits.stop)
    if body.stream:
        return call.stream(answers, MessageWriting(state))
    (whole,) = await call.wholes(answers)
    reason, stop = state.stopped(whole.finish, whole.chosen)
    return answered(state.answer([AnswerBlock("text", whole.text)], reason, stop))


class State:
    """An answer as it grows."""

    def __init__(self, call: Call, answer: Answering, stops: tuple[str, ...]) -> None:
        self.request_id = call.record.id
        self._call, self._answer, self._stops = call, answer, stops
        self._tokenizer = call.tokenizer

    def usage(self) -> AnswerUsage:
        """What it took so far."""
        usage = self._answer.usage
        return AnswerUsage(usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens, usage.generated_tokens)

    def answer(self, content: list[AnswerBlock], reason: Any, stop: str | None) -> Answer:
        """The answer."""
        return Answer(
            id=f"msg_{self.request_id}", model=self._call.offer.names[0], content=content, stop_reason=reason,
            stop_sequence=stop, usage=self.usage(),
        )  # fmt: skip

    def stopped(self, finish: str | None, chosen: list[Chosen]) -> tuple[str, str | None]:
        """Why an answer of these tokens ended, and at which stop sequence if at one."""
        if finish != "stop":
            return "max_tokens", None
        ended = bool(chosen) and chosen[-1].token in self._tokenizer.end_ids
        stop = None if ended else matched(self._tokenizer, chosen, self._stops)
        return ("end_turn", None) if stop is None else ("stop_sequence", stop)


class MessageWriting:
    """An answer as events."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._chosen: list[Chosen] = []
        self._finish: str | None = None

    @staticmethod
    def _event(kind: str, **fields: Any) -> bytes:
        return event(kind, {"type": kind, **fields})

    def begin(self) -> bytes:
        """The answer is there, and its one block."""
        return b"".join(
            (
                self._event("message_start", message=self._state.answer([], None, None)),
                self._event("content_block_start", index=0, content_block=AnswerBlock("text", "")),
                self._event("ping"),
            )
        )

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain."""
        self._chosen += piece.chosen
        self._finish = piece.finish or self._finish
        if not piece.text:
            return b""
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece.text})

    def end(self) -> bytes:
        """How the answer ended, and what it took."""
        reason, stop = self._state.stopped(self._finish, self._chosen)
        delta = {"stop_reason": reason, "stop_sequence": stop}
        return b"".join(
            (
                self._event("content_block_stop", index=0),
                self._event("message_delta", delta=delta, usage=self._state.usage()),
                self._event("message_stop"),
            )
        )

    def failed(self, refusal: Refusal) -> bytes:
        """The error."""
        return event("error", anthropic_error(refusal, self._state.request_id))


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


ASK = Endpoint("/v1/messages", Ask, Answer, ask, ASK_FIXED, streams=True)
COUNT = Endpoint("/v1/messages/count_tokens", Conversation, Counted, count_tokens, COUNT_FIXED)
