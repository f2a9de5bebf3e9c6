"""What a request for a response says, as OpenAI's clients write it."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twofold.engine.request import Constraint
from twofold.engine.toolbox import Tool
from twofold.model.chat import Message
from twofold.server.body import Fixed
from twofold.server.parameters import (
    MOST_MESSAGES,
    WITHOUT_TOOLS,
    Anything,
    Count,
    Likeliest,
    ServiceTier,
    StreamOptions,
)
from twofold.server.response_items import CallItem, CallOutputItem, Item, turns
from twofold.server.tool_rules import FREE_CHOICES, check_strict, tool_rules
from twofold.server.turns import MOST_TOOLS, ObjectForm, TextForm, ToolName

LOGPROBS = "message.output_text.logprobs"
Items = Annotated[list[Item], Meta(min_length=1, max_length=MOST_MESSAGES)]


class SchemaFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    """JSON that is valid under a schema; `strict` or not, every answer is."""

    name: ToolName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None

    def constraint(self) -> Constraint | None:
        """What the answer must be."""
        return Constraint("json_schema", msgspec.json.encode(self.schema).decode())


class TextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the text of the answer must be."""

    format: TextForm | ObjectForm | SchemaFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    type: Literal["function"]
    name: ToolName
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None

    def tool(self) -> Tool:
        """The same, whatever the protocol."""
        return Tool(self.name, self.description, self.parameters or {"type": "object", "properties": {}})


class NamedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """This tool is to be called."""

    type: Literal["function"]
    name: ToolName


class Respond(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a response."""

    model: Annotated[str | None, Meta(description="The served model's name; may be left out.")] = None
    input: Annotated[
        str | Items, Meta(description="A text of the user, or the conversation: text, calls and their outputs.")
    ]
    instructions: Annotated[str | None, Meta(description="A system message before the input.")] = None
    max_output_tokens: Annotated[Count | None, Meta(description="Default: what the context leaves.")] = None
    temperature: Annotated[float, Meta(ge=0, le=2, description="0 takes the likeliest token.")] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Among the likeliest that together reach this share.")] = 1.0
    text: Annotated[TextOptions | None, Meta(description="The form of the answer.")] = None
    tools: Annotated[
        Annotated[list[ResponseTool], Meta(max_length=MOST_TOOLS, extra_json_schema={WITHOUT_TOOLS: {"enum": [[]]}})]
        | None,
        Meta(description="Functions that the model may call, if its template knows any."),
    ] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | NamedChoice | None,
        Meta(
            description="`auto`; with `required` or the name of a tool, the answer is calls and nothing else.",
            extra_json_schema={WITHOUT_TOOLS: {"enum": FREE_CHOICES}},
        ),
    ] = None
    include: Annotated[
        list[Literal["message.output_text.logprobs"]] | None,
        Meta(description="The log-probability of every token of a message."),
    ] = None
    top_logprobs: Annotated[
        Likeliest | None, Meta(description="Of so many likeliest besides; asks for logprobs by itself.")
    ] = None
    stream: Annotated[bool, Meta(description="Server-sent events.")] = False
    stream_options: StreamOptions | None = None
    metadata: Annotated[
        dict[str, Anything], Meta(max_length=16, description="Comes back in the response, and is kept nowhere.")
    ] = {}
    user: Annotated[Anything | None, Meta(description="Accepted and kept nowhere.")] = None
    safety_identifier: Annotated[Anything | None, Meta(description="Accepted and kept nowhere.")] = None
    prompt_cache_key: Annotated[Anything | None, Meta(description="Accepted; prefixes are shared without it.")] = None
    service_tier: ServiceTier = "auto"

    def __post_init__(self) -> None:
        """ValueError for what a tool cannot promise."""
        check_strict([tool.strict for tool in self.tools or ()], self.tool_choice)

    @property
    def messages(self) -> list[Message]:
        """The conversation."""
        first = [] if self.instructions is None else [Message("system", self.instructions)]
        if isinstance(self.input, str):
            return [*first, Message("user", self.input)]
        return [*first, *turns(self.input)]

    @property
    def has_calls(self) -> bool:
        """Whether the model was called for, or called, before."""
        return not isinstance(self.input, str) and any(
            isinstance(item, CallItem | CallOutputItem) for item in self.input
        )

    @property
    def told(self) -> int | None:
        """Log-probabilities that are told of each token, besides its own; None: not its own either."""
        return self.top_logprobs if self.top_logprobs is not None else 0 if self.include else None


RESPOND_IMPLIED = {"input": {"type": "message"}}
RESPOND_RULES = tool_rules({"items": {"properties": {"strict": {"enum": [False, None]}}}})
RESPOND_FIXED = (
    Fixed("store", (False,), "nothing is stored here"),
    Fixed("previous_response_id", (), "nothing is stored here; send the whole input"),
    Fixed("conversation", (), "nothing is stored here; send the whole input"),
    Fixed("background", (False,), "nothing is stored here"),
    Fixed("background_options", (), "nothing is stored here"),
    Fixed("parallel_tool_calls", (True,), "how many calls there are is the model's choice"),
    Fixed("max_tool_calls", (), "how many calls there are is the model's choice"),
    Fixed("truncation", ("disabled",), "nothing is cut off"),
    Fixed("reasoning", ({},), "how much to think is the model's"),
    Fixed("prompt", (), "no prompts are stored here"),
    Fixed("prompt_cache_retention", ("in_memory", "in-memory"), "prefixes are kept in memory alone"),
    Fixed("prompt_cache_options", (), "prefixes are cached by themselves"),
    Fixed("context_management", (), "nothing is stored here"),
    Fixed("moderation", (), "nothing is moderated"),
    Fixed("image", (), "answers are text"),
    Fixed("access_programs", (), "there are none"),
)
