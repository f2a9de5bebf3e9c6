"""The items of a conversation as OpenAI's responses write them, and the turns that they make together."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twofold.model.chat import Message
from twofold.model.tool_calls import ToolCall
from twofold.server.parameters import WITHOUT_TOOLS, Anything
from twofold.server.turns import ToolName

Status = Literal["completed", "incomplete", "in_progress"]
CallId = Annotated[str, Meta(max_length=200, extra_json_schema={WITHOUT_TOOLS: False})]


class InputText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of an item; `annotations` and `logprobs` are what clients send back of an answer."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] = []
    logprobs: list[Any] = []


class InputMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="message"):
    """What somebody says."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]
    id: Anything | None = None
    status: Status | None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("system" if self.role == "developer" else self.role, _text(self.content))


class CallItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function_call"):
    """A call that the model made."""

    call_id: CallId
    name: ToolName
    arguments: str
    id: Anything | None = None
    status: Status | None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("assistant", "", tool_calls=(ToolCall(self.name, self.arguments, self.call_id),))


class CallOutputItem(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function_call_output"
):
    """What a call gave."""

    call_id: CallId
    output: str | list[InputText]
    id: Anything | None = None
    status: Status | None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("tool", _text(self.output), tool_call_id=self.call_id)


class ThoughtPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of what was thought."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="reasoning"):
    """What the model thought before it went on."""

    content: list[ThoughtPart]
    summary: Annotated[list[Any], Meta(max_length=0)] = []
    id: Anything | None = None
    status: Status | None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("assistant", "", reasoning_content=_text(self.content))


Item = InputMessage | CallItem | CallOutputItem | ReasoningItem


def turns(items: Iterable[Item]) -> list[Message]:
    """The conversation: what the model thought, said and called after each other is one turn of it."""
    messages: list[Message] = []
    for item in items:
        after = item.message()
        if messages and _one_turn(messages[-1], after):
            messages[-1] = _joined(messages[-1], after)
        else:
            messages.append(after)
    return messages


def _one_turn(before: Message, after: Message) -> bool:
    thought_alone = not before.content and not before.tool_calls and before.reasoning_content is not None
    return before.role == after.role == "assistant" and (bool(after.tool_calls) or thought_alone)


def _joined(before: Message, after: Message) -> Message:
    thoughts = [one.reasoning_content for one in (before, after) if one.reasoning_content is not None]
    return Message(
        "assistant",
        f"{before.content or ''}{after.content or ''}",
        tool_calls=before.tool_calls + after.tool_calls,
        reasoning_content="\n".join(thoughts) if thoughts else None,
    )


def _text(content: str | Iterable[InputText] | Iterable[ThoughtPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)
