"""Answers in the shape of OpenAI's responses: whole, and as events."""

from typing import Any, Literal

import msgspec

from twofold.engine.request import Piece
from twofold.engine.spoken import Speech, Thought
from twofold.server.endpoint import Call
from twofold.server.refusal import Refusal, openai_error
from twofold.server.response_input import Respond
from twofold.server.served import Answering
from twofold.server.sse import event


class OutputText(msgspec.Struct, frozen=True):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[str]


class ThoughtText(msgspec.Struct, frozen=True):
    """The text of what was thought."""

    type: Literal["reasoning_text"]
    text: str


class OutputThought(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What the model thought before it answered."""

    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[ThoughtText]
    summary: list[str] = []


class OutputMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """The answer."""

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
    output: list[OutputThought | OutputMessage]
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
    text: dict[str, dict[str, Any]]
    tool_choice: str = "none"
    tools: list[str] = []
    truncation: str = "disabled"
    usage: dict[str, Any] | None = None


class State:
    """What a response says whatever the answer is."""

    def __init__(self, body: Respond, call: Call, answer: Answering) -> None:
        self.request_id = call.record.id
        self._body, self._answer = body, answer
        self._created, self._model = call.now(), call.offer.names[0]

    def reply(self, status: Any, **more: Any) -> Reply:
        """The response."""
        body = self._body
        form = (
            {"type": "text"} if body.text is None or body.text.format is None else msgspec.to_builtins(body.text.format)
        )
        return Reply(
            id=f"resp_{self.request_id}", created_at=self._created, status=status, model=self._model,
            metadata=body.metadata, instructions=body.instructions, max_output_tokens=body.max_output_tokens,
            text={"format": form}, temperature=body.temperature, top_p=body.top_p, **({"output": []} | more),
        )  # fmt: skip

    def usage(self) -> dict[str, Any]:
        """What it took."""
        usage = self._answer.usage
        return {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        }


class ResponseWriting:
    """A response as events, numbered from 0: what was thought is an item, what is said another."""

    def __init__(self, state: State, speech: Speech) -> None:
        self._state, self._speech = state, speech
        self._number = 0
        self._thought: list[str] = []
        self._said: list[str] = []
        self._items: list[str] = []  # the kinds of those that began: "reasoning", "message"
        self._finish: str | None = None

    def begin(self) -> bytes:
        """The response is there."""
        reply = self._state.reply("in_progress")
        return self._event("created", response=reply) + self._event("in_progress", response=reply)

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain."""
        self._finish = piece.finish or self._finish
        events = b""
        for part in self._speech.push(piece):
            if isinstance(part, Thought):
                events += self._entered("reasoning")
                self._thought.append(part.text)
                events += self._of_part("reasoning_text.delta", delta=part.text)
            elif isinstance(part, str):
                events += self._entered("message")
                self._said.append(part)
                events += self._of_part("output_text.delta", delta=part, logprobs=[])
        return events

    def end(self) -> bytes:
        """The last item, and the response, whole."""
        reply = self.ended()
        return self._entered("message") + self._left(reply.status) + self._event(reply.status, response=reply)

    def ended(self) -> Reply:
        """The complete response."""
        status = "completed" if self._finish == "stop" else "incomplete"
        reason = {"length": "max_output_tokens"}.get(self._finish or "", self._finish or "")
        details = None if status == "completed" else {"reason": reason}
        output = [self._item("reasoning", "completed")] if self._thought else []
        output.append(self._item("message", status))
        return self._state.reply(status, output=output, incomplete_details=details, usage=self._state.usage())

    def failed(self, refusal: Refusal) -> bytes:
        """The error."""
        error = openai_error(refusal, self._state.request_id)["error"]
        told = {"code": refusal.code or error["type"], "message": error["message"]}
        return self._event("failed", response=self._state.reply("failed", error=told))

    def _entered(self, kind: str) -> bytes:
        """The item of this kind begins, unless it has; the one before it ends."""
        if kind in self._items:
            return b""
        events = self._left("completed")
        self._items.append(kind)
        events += self._event(
            "output_item.added", output_index=len(self._items) - 1, item=self._item(kind, "in_progress")
        )
        return events + self._of_part("content_part.added", part=self._part(kind))

    def _left(self, status: str) -> bytes:
        """The item that began last is complete."""
        if not self._items:
            return b""
        kind = self._items[-1]
        part = self._part(kind)
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        return b"".join(
            (
                self._of_part(f"{part.type}.done", text=part.text, **more),
                self._of_part("content_part.done", part=part),
                self._event("output_item.done", output_index=len(self._items) - 1, item=self._item(kind, status)),
            )
        )

    def _part(self, kind: str) -> OutputText | ThoughtText:
        if kind == "reasoning":
            return ThoughtText("reasoning_text", "".join(self._thought))
        return OutputText("output_text", "".join(self._said), [])

    def _item(self, kind: str, status: Any) -> OutputThought | OutputMessage:
        part = self._part(kind)
        content = [] if status == "in_progress" else [part]
        if isinstance(part, ThoughtText):
            return OutputThought(self._id(kind), status, content)  # type: ignore[arg-type]
        return OutputMessage(self._id(kind), status, "assistant", content)  # type: ignore[arg-type]

    def _id(self, kind: str) -> str:
        return f"{'rs' if kind == 'reasoning' else 'msg'}_{self._state.request_id}"

    def _event(self, name: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event(f"response.{name}", {"type": f"response.{name}", "sequence_number": number, **fields})

    def _of_part(self, name: str, **fields: Any) -> bytes:
        kind, place = self._items[-1], len(self._items) - 1
        return self._event(name, item_id=self._id(kind), output_index=place, content_index=0, **fields)
