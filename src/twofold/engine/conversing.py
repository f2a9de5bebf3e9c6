"""Conversations and tools as Python programs write them: records of ours, or dictionaries in the shape of OpenAI's."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from twofold.engine.toolbox import Tool, Toolbox, check_calls, toolbox
from twofold.errors import RequestError, one_line
from twofold.model.chat import Message
from twofold.model.tokenizer import Tokenizer

Conversation = str | Sequence[Message | Mapping[str, object]]  # a text is what the user says
Tools = Sequence[Tool | Mapping[str, object]]
CHOICES = ("auto", "none", "required")
EMPTY = {"type": "object", "properties": {}}  # the JSON Schema of a function's arguments that names none


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: dict(EMPTY))


class _FunctionTool(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="function"):
    function: _Function


def messages_of(conversation: Conversation) -> list[Message]:
    """The messages; RequestError for one that has anything that a message has not."""
    return [Message("user", conversation)] if isinstance(conversation, str) else list(map(_message, conversation))


def toolbox_of(tokenizer: Tokenizer, messages: Sequence[Message], tools: Tools | None, choice: str | None) -> Toolbox:
    """What is offered: `choice` is "auto", "none", "required" or the name of a tool. RequestError as for `toolbox`, and
    for messages that have calls if the model knows none."""
    if any(message.role == "tool" or message.tool_calls for message in messages):
        check_calls(tokenizer)
    offered = list(map(_tool, tools or ()))
    if choice is None or choice in CHOICES:
        return toolbox(tokenizer, offered, choice or "auto")
    return toolbox(tokenizer, offered, "required", only=choice)


def _message(given: object) -> Message:
    if isinstance(given, Message):
        return given
    known = Message.__struct_fields__
    if not isinstance(given, Mapping) or not {"role", "content"} <= given.keys() <= set(known):
        raise RequestError(f"a message is wrong; give role and content, and if need be {', '.join(known[2:])}")
    try:
        return msgspec.convert(dict(given), Message)
    except msgspec.ValidationError as error:
        raise RequestError(f"a message is wrong: {one_line(str(error))}; correct it") from None


def _tool(given: object) -> Tool:
    if isinstance(given, Tool):
        return given
    try:
        function = msgspec.convert(given, _FunctionTool).function
    except msgspec.ValidationError as error:
        raise RequestError(f"a tool is wrong: {one_line(str(error))}; give a Tool, or OpenAI's form") from None
    return Tool(function.name, function.description, function.parameters)
