"""Answers in the shape of OpenAI's responses: whole, and as events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import msgspec

from twofold.engine.request import Chosen, Piece
from twofold.engine.spoken import Speech, Thought
from twofold.model.tool_calls import ToolCall
from twofold.server.endpoint import Call
from twofold.server.openai_answers import TokenLogprob, chat_logprobs, made_call
from twofold.server.refusal import Refusal, openai_error
from twofold.server.response_input import Respond
from twofold.server.response_objects import (
    Output,
    OutputCall,
    OutputMessage,
    OutputText,
    OutputThought,
    Reply,
    Status,
    ThoughtText,
)
from twofold.server.served import Answering
from twofold.server.sse import event


class State:
    """What a response says whatever the answer is."""

    def __init__(self, body: Respond, call: Call, answer: Answering) -> None:
        self.request_id, self.logprobs = call.record.id, body.told is not None
        self._body, self._answer, self._tokenizer = body, answer, call.tokenizer
        self._created, self._model = call.now(), call.offer.names[0]

    def reply(self, status: Any, **more: Any) -> Reply:
        """The response."""
        body, choice = self._body, self._body.tool_choice or "auto"
        form = body.text.format if body.text is not None else None
        return Reply(
            id=f"resp_{self.request_id}", created_at=self._created, status=status, model=self._model,
            metadata=body.metadata, instructions=body.instructions, max_output_tokens=body.max_output_tokens,
            text={"format": {"type": "text"} if form is None else msgspec.to_builtins(form)},
            temperature=body.temperature, top_p=body.top_p, top_logprobs=body.top_logprobs or 0,
            tools=msgspec.to_builtins(body.tools or []), tool_choice=msgspec.to_builtins(choice),
            **({"output": []} | more),
        )  # fmt: skip

    def told(self, chosen: Sequence[Chosen]) -> list[TokenLogprob]:
        """The log-probabilities of tokens."""
        return chat_logprobs(self._tokenizer, chosen).content

    def since(self, chosen: list[Chosen], text: str) -> list[Chosen]:
        """`chosen` without those before `text`, such as the mark that ends a thought."""
        tokens = [self._tokenizer.token_bytes(one.token) for one in chosen]
        before = max(b"".join(tokens).find(text.encode()), 0)
        return [one for one, end in zip(chosen, accumulate(map(len, tokens)), strict=True) if end > before]

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


@dataclass
class Growing:
    """A thought or a message that has not ended."""

    id: str
    thought: bool
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] | msgspec.UnsetType = msgspec.UNSET

    @property
    def part(self) -> ThoughtText | OutputText:
        """Its one part, as far as it is."""
        text = "".join(self.texts)
        return (
            ThoughtText("reasoning_text", text) if self.thought else OutputText("output_text", text, [], self.logprobs)
        )

    def item(self, status: Status, content: list[Any]) -> OutputThought | OutputMessage:
        """The item."""
        if self.thought:
            return OutputThought(self.id, status, content)
        return OutputMessage(self.id, status, "assistant", content)


class ResponseWriting:
    """A response as events, numbered from 0: what is thought, what is said, and each call are items in their order.

    Log-probabilities go with the text that became certain with their tokens; those of thoughts and calls are not told.
    """

    def __init__(self, state: State, speech: Speech) -> None:
        self._state, self._speech = state, speech
        self._number = 0  # of the next event
        self._output: list[Output] = []  # that ended
        self._growing: Growing | None = None
        self._chosen: list[Chosen] = []  # whose text is not certain yet
        self._finish: str | None = None

    def begin(self) -> bytes:
        """The response is there."""
        reply = self._state.reply("in_progress")
        return self._event("created", response=reply) + self._event("in_progress", response=reply)

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain."""
        self._finish = piece.finish or self._finish
        self._chosen += piece.chosen
        parts = self._speech.push(piece)
        events = b"".join(self._called(part) if isinstance(part, ToolCall) else self._grown(part) for part in parts)
        if parts:  # what no text took were tokens of a thought or a call
            self._chosen.clear()
        return events

    def end(self) -> bytes:
        """The last item, and the response, whole."""
        status: Status = "completed" if self._finish == "stop" else "incomplete"
        events = b""
        if self._growing is None or self._growing.thought:
            events += b"" if self._speech.called else self._begun(thought=False)
        elif self._chosen and self._state.logprobs:  # the token that ended it has no text
            events += self._grown("")
        events += self._ended(status)
        return events + self._event(status, response=self.reply())

    def reply(self) -> Reply:
        """The complete response."""
        reason = {"length": "max_output_tokens"}.get(self._finish or "", self._finish or "")
        done = self._finish == "stop"
        details = None if done else {"reason": reason}
        return self._state.reply(
            "completed" if done else "incomplete",
            output=self._output, incomplete_details=details, usage=self._state.usage(),
        )  # fmt: skip

    def failed(self, refusal: Refusal) -> bytes:
        """The error."""
        error = openai_error(refusal, self._state.request_id)["error"]
        told = {"code": refusal.code or error["type"], "message": error["message"]}
        return self._event("failed", response=self._state.reply("failed", error=told))

    def _grown(self, part: Thought | str) -> bytes:
        """The growing item has more text; if it is of the other kind, a new one begins."""
        thought, growing = isinstance(part, Thought), self._growing
        begun = b"" if growing is not None and growing.thought == thought else self._begun(thought=thought)
        growing = self._growing
        assert growing is not None
        if isinstance(part, Thought):
            growing.texts.append(part.text)
            return begun + self._of_part("reasoning_text.delta", delta=part.text)
        if not growing.texts:
            self._chosen = self._state.since(self._chosen, part)
        growing.texts.append(part)
        told: list[TokenLogprob] = []
        if isinstance(growing.logprobs, list):
            told = self._state.told(self._chosen)
            growing.logprobs += told
        self._chosen.clear()
        return begun + self._of_part("output_text.delta", delta=part, logprobs=told)

    def _begun(self, *, thought: bool) -> bytes:
        """An item begins; the one before it ends."""
        events = self._ended("completed")
        growing = self._growing = Growing(self._id("rs" if thought else "msg"), thought)
        if self._state.logprobs and not thought:
            growing.logprobs = []
        events += self._of_item("output_item.added", item=growing.item("in_progress", []))
        return events + self._of_part("content_part.added", part=growing.part)

    def _ended(self, status: Status) -> bytes:
        """The growing item is complete, if there is one."""
        growing = self._growing
        if growing is None:
            return b""
        part, item = growing.part, growing.item(status, [growing.part])
        more = {"logprobs": part.logprobs or []} if isinstance(part, OutputText) else {}
        events = self._of_part(f"{part.type}.done", text=part.text, **more)
        events += self._of_part("content_part.done", part=part)
        events += self._of_item("output_item.done", item=item)
        self._growing = None
        self._output.append(item)
        return events

    def _called(self, part: ToolCall) -> bytes:
        """A call, which is an item and complete."""
        events = self._ended("completed")
        made = made_call(part)
        item = OutputCall(self._id("fc"), "completed", made.id, part.name, part.arguments)
        empty = msgspec.structs.replace(item, status="in_progress", arguments="")
        name = "function_call_arguments"
        events += self._of_item("output_item.added", item=empty)
        events += self._of_item(f"{name}.delta", item_id=item.id, delta=item.arguments)
        events += self._of_item(f"{name}.done", item_id=item.id, name=item.name, arguments=item.arguments)
        events += self._of_item("output_item.done", item=item)
        self._output.append(item)
        return events

    def _id(self, kind: str) -> str:
        return f"{kind}_{len(self._output)}_{self._state.request_id}"

    def _event(self, name: str, /, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event(f"response.{name}", {"type": f"response.{name}", "sequence_number": number, **fields})

    def _of_item(self, name: str, /, **fields: Any) -> bytes:
        return self._event(name, output_index=len(self._output), **fields)

    def _of_part(self, name: str, **fields: Any) -> bytes:
        assert self._growing is not None
        return self._of_item(name, item_id=self._growing.id, content_index=0, **fields)
