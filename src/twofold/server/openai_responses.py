"""`/v1/responses`, as OpenAI defined it, remembering nothing: each request brings its whole input."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response as HttpResponse

from twofold.engine.request import Limits, Piece, Request
from twofold.engine.sampling import Sampling
from twofold.model.chat import Message
from twofold.server.body import Fixed
from twofold.server.endpoint import Call, Endpoint, answered
from twofold.server.openai_chat import conversation
from twofold.server.parameters import MOST_MESSAGES, Anything, Count, ServiceTier, StreamOptions, coldest, drawn_seed
from twofold.server.refusal import Refusal, openai_error
from twofold.server.served import Answering
from twofold.server.sse import event
from twofold.server.toolbox import Toolbox


class InputText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of an item; `annotations` and `logprobs` are what clients send back of an answer."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] = []
    logprobs: Annotated[list[Any], Meta(max_length=0)] = []


class InputMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]
    type: Literal["message"] = "message"
    id: Anything | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class TextFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of the answer."""

    type: Literal["text"] = "text"


class TextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the text of the answer must be."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class Respond(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a response."""

    model: Annotated[str | None, Meta(description="The served model's name; may be left out.")] = None
    input: Annotated[
        str | Annotated[list[InputMessage], Meta(min_length=1, max_length=MOST_MESSAGES)],
        Meta(description="A text of the user, or the conversation; text alone."),
    ]
    instructions: Annotated[str | None, Meta(description="A system message before the input.")] = None
    max_output_tokens: Annotated[Count | None, Meta(description="Default: what the context leaves.")] = None
    temperature: Annotated[float, Meta(ge=0, le=2, description="0 takes the likeliest token.")] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Among the likeliest that together reach this share.")] = 1.0
    text: Annotated[TextOptions | None, Meta(description="The form of the answer.")] = None
    stream: Annotated[bool, Meta(description="Server-sent events.")] = False
    stream_options: StreamOptions | None = None
    metadata: Annotated[
        dict[str, Anything], Meta(max_length=16, description="Comes back in the response, and is kept nowhere.")
    ] = {}
    user: Annotated[Anything | None, Meta(description="Accepted and kept nowhere.")] = None
    safety_identifier: Annotated[Anything | None, Meta(description="Accepted and kept nowhere.")] = None
    prompt_cache_key: Annotated[Anything | None, Meta(description="Accepted; prefixes are shared without it.")] = None
    service_tier: ServiceTier = "auto"

    @property
    def messages(self) -> list[Message]:
        """The conversation."""
        first = [] if self.instructions is None else [Message("system", self.instructions)]
        if isinstance(self.input, str):
            return [*first, Message("user", self.input)]
        return [*first, *(item.message() for item in self.input)]


RESPOND_FIXED = (
    Fixed("store", (False,), "nothing is stored here"),
    Fixed("previous_response_id", (), "nothing is stored here; send the whole input"),
    Fixed("conversation", (), "nothing is stored here; send the whole input"),
    Fixed("background", (False,), "nothing is stored here"),
    Fixed("include", ([],), "there is nothing to add to a response"),
    Fixed("tools", ([],), "calls of tools are not parsed yet"),
    Fixed("tool_choice", ("none", "auto"), "there are no tools"),
    Fixed("parallel_tool_calls", (True, False), "there are no tools"),
    Fixed("max_tool_calls", (), "there are no tools"),
    Fixed("truncation", ("disabled",), "nothing is cut off"),
    Fixed("top_logprobs", (0,), "use /v1/chat/completions"),
    Fixed("reasoning", ({},), "it is the chat template's; use /v1/chat/completions"),
    Fixed("prompt", (), "no prompts are stored here"),
    Fixed("prompt_cache_retention", ("in_memory", "in-memory"), "prefixes are kept in memory alone"),
    Fixed("prompt_cache_options", (), "prefixes are cached by themselves"),
    Fixed("context_management", (), "nothing is stored here"),
    Fixed("moderation", (), "nothing is moderated"),
)


class OutputText(msgspec.Struct, frozen=True):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[str]


class OutputMessage(msgspec.Struct, frozen=True):
    """The answer."""

    type: Literal["message"]
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A response, whole or as far as it is."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputMessage]
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    metadata: dict[str, str]
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    store: bool = False
    text: dict[str, dict[str, str]]
    tool_choice: str = "none"
    tools: list[str] = []
    truncation: str = "disabled"
    usage: dict[str, Any] | None = None


async def respond(body: Respond, call: Call) -> HttpResponse:
    """Answer one input."""
    call.offer.check(body.model)
    prompt = (await conversation(call, body.messages, {}, Toolbox())).ids
    most = call.offer.room(call.serving, len(prompt), body.max_output_tokens)
    sampling = Sampling(temperature=coldest(body.temperature), top_p=body.top_p, seed=drawn_seed())
    request = Request(prompt=prompt, sampling=sampling, limits=Limits(max_tokens=most), owner=call.record.owner)
    answers = call.submit([request])
    state = State(body, call, answers[0])
    if body.stream:
        return call.stream(answers, ResponseWriting(state))
    (whole,) = await call.wholes(answers)
    return answered(state.ended(whole.text, whole.finish))


class State:
    """A response as it grows."""

    def __init__(self, body: Respond, call: Call, answer: Answering) -> None:
        self.id, self.message_id = f"resp_{call.record.id}", f"msg_{call.record.id}"
        self.request_id = call.record.id
        self._body, self._answer = body, answer
        self._created, self._model = call.now(), call.offer.names[0]

    def part(self, text: str) -> OutputText:
        """The text of the answer."""
        return OutputText("output_text", text, [])

    def item(self, text: str, status: Any) -> OutputMessage:
        """The answer."""
        return OutputMessage("message", self.message_id, status, "assistant", [self.part(text)])

    def reply(self, status: Any, **more: Any) -> Reply:
        """The response."""
        body = self._body
        return Reply(
            id=self.id, created_at=self._created, status=status, model=self._model, metadata=body.metadata,
            instructions=body.instructions, max_output_tokens=body.max_output_tokens,
            text={"format": {"type": "text"}},
            temperature=body.temperature, top_p=body.top_p, **({"output": []} | more),
        )  # fmt: skip

    def ended(self, text: str, finish: str | None) -> Reply:
        """The complete response."""
        status = "completed" if finish == "stop" else "incomplete"
        reason = {"length": "max_output_tokens"}.get(finish or "", finish or "")
        details = None if status == "completed" else {"reason": reason}
        output = [self.item(text, status)]
        return self.reply(status, output=output, incomplete_details=details, usage=self._usage())

    def _usage(self) -> dict[str, Any]:
        usage = self._answer.usage
        return {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        }


class ResponseWriting:
    """A response as events, numbered from 0."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._number = 0
        self._text: list[str] = []
        self._finish: str | None = None

    def _event(self, name: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event(f"response.{name}", {"type": f"response.{name}", "sequence_number": number, **fields})

    def _of_part(self, name: str, **fields: Any) -> bytes:
        return self._event(name, item_id=self._state.message_id, output_index=0, content_index=0, **fields)

    def begin(self) -> bytes:
        """The response is there, and its one item with its one part."""
        state = self._state
        item = OutputMessage("message", state.message_id, "in_progress", "assistant", [])
        return b"".join(
            (
                self._event("created", response=state.reply("in_progress")),
                self._event("in_progress", response=state.reply("in_progress")),
                self._event("output_item.added", output_index=0, item=item),
                self._of_part("content_part.added", part=state.part("")),
            )
        )

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain."""
        self._finish = piece.finish or self._finish
        if not piece.text:
            return b""
        self._text.append(piece.text)
        return self._of_part("output_text.delta", delta=piece.text, logprobs=[])

    def end(self) -> bytes:
        """Everything again, whole."""
        text = "".join(self._text)
        reply = self._state.ended(text, self._finish)
        return b"".join(
            (
                self._of_part("output_text.done", text=text, logprobs=[]),
                self._of_part("content_part.done", part=self._state.part(text)),
                self._event("output_item.done", output_index=0, item=reply.output[0]),
                self._event(reply.status, response=reply),
            )
        )

    def failed(self, refusal: Refusal) -> bytes:
        """The error."""
        error = openai_error(refusal, self._state.request_id)["error"]
        told = {"code": refusal.code or error["type"], "message": error["message"]}
        return self._event("failed", response=self._state.reply("failed", error=told))


ENDPOINT = Endpoint("/v1/responses", Respond, Reply, respond, RESPOND_FIXED, streams=True)
