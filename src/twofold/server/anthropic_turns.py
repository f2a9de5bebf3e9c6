"""Conversations and tools as Anthropic's messages write them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twofold.engine.toolbox import Tool
from twofold.model.chat import Message
from twofold.model.tool_calls import ToolCall
from twofold.server.parameters import MOST_MESSAGES, WITHOUT_TOOLS
from twofold.server.turns import MOST_TOOLS, ToolName

CallId = Annotated[str, Meta(max_length=200, extra_json_schema={WITHOUT_TOOLS: False})]


class CacheControl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mark where a prefix ends that will come again; here prefixes are found without it."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Text."""

    text: str
    cache_control: CacheControl | None = None
    citations: None = None


class OnlyTextBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same where nothing else can stand."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: None = None


class ThinkingBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="thinking"):
    """What the model thought."""

    thinking: str
    signature: str = ""


class ToolUseBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_use"):
    """A call that the model made."""

    id: CallId
    name: ToolName
    input: dict[str, Any]
    cache_control: CacheControl | None = None


class ToolResultBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_result"):
    """What a call gave."""

    tool_use_id: CallId
    content: str | list[OnlyTextBlock] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None

    def message(self) -> Message:
        """As a chat template takes it; it knows no errors, so an error says in its text that it is one."""
        text = "" if self.content is None else text_of(self.content)
        return Message("tool", f"error: {text}" if self.is_error else text, tool_call_id=self.tool_use_id)


def text_of(content: str | Sequence[TextBlock | OnlyTextBlock]) -> str:
    """The text of a message."""
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


class UserTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    """What the user says, and what calls gave."""

    content: str | list[TextBlock | ToolResultBlock]

    def messages(self) -> list[Message]:
        """As a chat template takes it: the result of each call is a message of its own."""
        if isinstance(self.content, str):
            return [Message("user", self.content)]
        results = [block.message() for block in self.content if isinstance(block, ToolResultBlock)]
        said = [block for block in self.content if isinstance(block, TextBlock)]
        return [*results, *([Message("user", text_of(said))] if said or not results else [])]


class AssistantTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    """What the model said."""

    content: str | list[TextBlock | ThinkingBlock | ToolUseBlock]

    def messages(self) -> list[Message]:
        """As a chat template takes it."""
        if isinstance(self.content, str):
            return [Message("assistant", self.content)]
        calls = [block for block in self.content if isinstance(block, ToolUseBlock)]
        thought = [block.thinking for block in self.content if isinstance(block, ThinkingBlock)]
        return [
            Message(
                "assistant",
                text_of([block for block in self.content if isinstance(block, TextBlock)]),
                tool_calls=tuple(
                    ToolCall(call.name, msgspec.json.encode(call.input).decode(), call.id) for call in calls
                ),
                reasoning_content="\n".join(thought) if thought else None,
            )
        ]


class CustomTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    cache_control: CacheControl | None = None

    def tool(self) -> Tool:
        """The same, whatever the protocol."""
        return Tool(self.name, self.description, self.input_schema)


class AutoChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="auto"):
    """The model chooses."""


class NoChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"):
    """No call."""


class AnyChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="any"):
    """Calls, and nothing else."""


class ToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool"):
    """One call of this tool."""

    name: ToolName


Turns = Annotated[list[UserTurn | AssistantTurn], Meta(min_length=1, max_length=MOST_MESSAGES)]
Tools = Annotated[list[CustomTool], Meta(max_length=MOST_TOOLS, extra_json_schema={WITHOUT_TOOLS: {"enum": [[]]}})]
FREE = [{"type": "auto"}, {"type": "none"}, None]
Choice = Annotated[
    AutoChoice | NoChoice | AnyChoice | ToolChoice | None,
    Meta(
        description="`auto`, `none`; with `any` or a `tool`, the answer is calls and nothing else.",
        extra_json_schema={WITHOUT_TOOLS: {"enum": FREE}},
    ),
]
# JSON Schema: a call that is asked for needs tools.
TOOL_RULES = {
    "anyOf": [
        {"required": ["tools"], "properties": {"tools": {"type": "array", "minItems": 1}}},
        {"properties": {"tool_choice": {"enum": FREE}}},
    ]
}
