"""Messages, tools and forms of answers, as OpenAI's chat completions write them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twofold.engine.request import Constraint
from twofold.engine.toolbox import Tool
from twofold.model.chat import Message
from twofold.model.tool_calls import ToolCall
from twofold.server.parameters import WITHOUT_TOOLS

ToolName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,64}$")]
MOST_TOOLS = 128


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]


def text_of(content: Content) -> str:
    """The text of a message."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


class SystemTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="system"):
    """What the model is told to be."""

    content: Content

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("system", text_of(self.content))


class DeveloperTurn(SystemTurn, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="developer"):
    """The same, by its newer name."""


class UserTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    """What the user says."""

    content: Content

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("user", text_of(self.content))


class CalledFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was called."""

    name: ToolName
    arguments: str


class Called(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that was made."""

    id: Annotated[str, Meta(max_length=200)]
    function: CalledFunction
    type: Literal["function"] = "function"


Calls = Annotated[list[Called], Meta(max_length=MOST_TOOLS, extra_json_schema={WITHOUT_TOOLS: {"enum": [[]]}})]


class AssistantTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    """What the model said. What clients send back of an answer is accepted where it says nothing."""

    content: Content | None = None
    tool_calls: Calls | None = None
    reasoning_content: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[str], Meta(max_length=0)] | None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        calls = tuple(ToolCall(call.function.name, call.function.arguments, call.id) for call in self.tool_calls or ())
        return Message(
            "assistant",
            "" if self.content is None else text_of(self.content),
            tool_calls=calls,
            reasoning_content=self.reasoning_content,
        )


class ToolTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="tool"):
    """What a call gave."""

    content: Content
    tool_call_id: Annotated[str, Meta(max_length=200, extra_json_schema={WITHOUT_TOOLS: False})]

    def message(self) -> Message:
        """As a chat template takes it."""
        return Message("tool", text_of(self.content), tool_call_id=self.tool_call_id)


Turn = SystemTurn | DeveloperTurn | UserTurn | AssistantTurn | ToolTurn


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool."""

    type: Literal["function"]
    function: Function

    def tool(self) -> Tool:
        """The same, whatever the protocol."""
        function = self.function
        return Tool(function.name, function.description, function.parameters or {"type": "object", "properties": {}})


class NamedFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a function."""

    name: ToolName


class NamedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """This tool is to be called."""

    type: Literal["function"]
    function: NamedFunction


class TextForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Any text."""

    def constraint(self) -> Constraint | None:
        """What the answer must be."""
        return None


class ObjectForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_object"):
    """A JSON object."""

    def constraint(self) -> Constraint | None:
        """What the answer must be."""
        return Constraint("json_object")


class NamedSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON Schema; `strict` or not, every answer follows it."""

    name: ToolName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class SchemaForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    """JSON that is valid under a schema."""

    json_schema: NamedSchema

    def constraint(self) -> Constraint | None:
        """What the answer must be."""
        return Constraint("json_schema", msgspec.json.encode(self.json_schema.schema).decode())


class GrammarForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="grammar"):
    """A word of a grammar in the language of llguidance."""

    grammar: Annotated[str, Meta(min_length=1)]

    def constraint(self) -> Constraint | None:
        """What the answer must be."""
        return Constraint("grammar", self.grammar)


Form = TextForm | ObjectForm | SchemaForm | GrammarForm
