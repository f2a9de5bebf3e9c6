"""Tools that a request offers to the model, whichever way it came."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from twofold.engine.constraint import Constraint
from twofold.engine.tool_choice import call_of
from twofold.errors import RequestError
from twofold.model.tokenizer import Tokenizer
from twofold.model.tool_calls import ToolCallReader, ToolFormat, format_of


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
    """RequestError that names `param` for a model that knows no tools, and so cannot read of calls."""
    if known_form(tokenizer) is None:
        raise RequestError("this model's chat template knows no tools; send none", param=param)


def one_form(form: Constraint | None, tools: Toolbox, param: str) -> Constraint | None:
    """What the answer must be: of the form that `param` asked for, or calls; RequestError for both."""
    if form is not None and tools.constraint is not None:
        raise RequestError("an answer cannot be calls and of another form; leave one out", param=param)
    return form or tools.constraint


def toolbox(tokenizer: Tokenizer, tools: Sequence[Tool], choice: str, *, only: str | None = None) -> Toolbox:
    """The tools of a request with the `choice` "none", "auto" or "required" (`only`: this one, once).

    RequestError if the model knows no tools, or if a call is asked for that cannot be made.
    """
    if choice == "required" and not tools:
        raise RequestError("a call is asked for, and there are no tools; send tools", param="tool_choice")
    if not tools or choice == "none":
        return Toolbox()
    form = known_form(tokenizer)
    if form is None:
        raise RequestError("this model's chat template knows no tools; leave tools out", param="tools")
    schemas = {tool.name: tool.parameters for tool in tools}
    if len(schemas) < len(tools):
        raise RequestError("two tools have the same name; give each its own", param="tools")
    try:
        constraint = call_of(schemas, form, tokenizer, only=only) if choice == "required" else None
    except RequestError as error:
        raise RequestError(str(error), param="tool_choice") from None
    return Toolbox(tuple(tools), form, constraint)
