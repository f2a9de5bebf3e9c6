"""Tools that a request offers to the model, whichever protocol it came by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from twofold.engine.constraint import Constraint
from twofold.engine.tool_choice import call_of
from twofold.errors import RequestError
from twofold.model.tokenizer import Tokenizer
from twofold.model.tool_calls import ToolCallReader, ToolFormat, format_of
from twofold.server.refusal import Refusal

WITHOUT_TOOLS = "x-without-tools"  # in a JSON Schema: what stands in its place for a model that knows no tools
FREE_CHOICES = ["none", "auto", None]  # of OpenAI's clients: no call is asked for


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str | None
    parameters: dict[str, Any]

    def given(self) -> dict[str, Any]:
        """As chat templates know it, in the form of Transformers."""
        told = {} if self.description is None else {"description": self.description}
        return {"type": "function", "function": {"name": self.name, **told, "parameters": self.parameters}}


@dataclass(frozen=True)
class Toolbox:
    """What is offered, the form that the model writes calls in, and what the answer must be if a call is asked for."""

    tools: tuple[Tool, ...] = ()
    form: ToolFormat | None = None
    constraint: Constraint | None = None

    def variables(self) -> dict[str, Any]:
        """What a chat template is told of them."""
        return {"tools": [tool.given() for tool in self.tools]} if self.tools else {}

    def reader(self) -> ToolCallReader | None:
        """Who finds the calls in one answer."""
        return None if self.form is None else ToolCallReader(self.form, [tool.name for tool in self.tools])


def known_form(tokenizer: Tokenizer) -> ToolFormat | None:
    """The form in which a model writes calls, None if its chat template knows no tools."""
    try:
        return format_of(tokenizer.data.chat_template or "")
    except RequestError:
        return None


def check_calls(tokenizer: Tokenizer, param: str = "messages") -> None:
    """Refusal 400 that names `param` for a model that knows no tools, and so cannot read of calls."""
    if known_form(tokenizer) is None:
        raise Refusal(400, "this model's chat template knows no tools; send none", param=param)


def check_strict(strict: Sequence[bool | None], choice: object) -> None:
    """ValueError if one of OpenAI's tools is strict, and no call is asked for that could be held to its schema."""
    if any(strict) and choice in FREE_CHOICES:
        raise ValueError("tools: strict arguments can be had with tool_choice `required` or a named tool alone")


def tool_rules(lenient: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of the same, and that a call needs tools to be asked for; `lenient`: of tools that are not strict."""
    forced = {"anyOf": [{"const": "required"}, {"type": "object"}]}
    asked = {"tools": {"type": "array", "minItems": 1}, "tool_choice": forced}
    free = {"tools": lenient, "tool_choice": {"enum": FREE_CHOICES}}
    return {"anyOf": [{"required": ["tools", "tool_choice"], "properties": asked}, {"properties": free}]}


def one_form(form: Constraint | None, tools: Toolbox, param: str) -> Constraint | None:
    """What the answer must be: of the form that `param` asked for, or calls; Refusal 400 for both."""
    if form is not None and tools.constraint is not None:
        raise Refusal(400, "an answer cannot be calls and of another form; leave one out", param=param)
    return form or tools.constraint


def toolbox(tokenizer: Tokenizer, tools: Sequence[Tool], choice: str, *, only: str | None = None) -> Toolbox:
    """The tools of a request with the `choice` "none", "auto" or "required" (`only`: this one, once).

    Refusal 400 if the model knows no tools, or if a call is asked for that cannot be made.
    """
    if choice == "required" and not tools:
        raise Refusal(400, "a call is asked for, and there are no tools; send tools", param="tool_choice")
    if not tools or choice == "none":
        return Toolbox()
    form = known_form(tokenizer)
    if form is None:
        raise Refusal(400, "this model's chat template knows no tools; leave tools out", param="tools")
    schemas = {tool.name: tool.parameters for tool in tools}
    if len(schemas) < len(tools):
        raise Refusal(400, "two tools have the same name; give each its own", param="tools")
    try:
        constraint = call_of(schemas, form, tokenizer, only=only) if choice == "required" else None
    except RequestError as error:
        raise Refusal(400, str(error), param="tool_choice") from None
    return Toolbox(tuple(tools), form, constraint)
