"""What a request for a response says, as OpenAI's clients write it."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twofold.engine.request import Constraint
from twofold.model.chat import Message
from twofold.server.body import Fixed
from twofold.server.parameters import MOST_MESSAGES, Anything, Count, ServiceTier, StreamOptions
from twofold.server.turns import ObjectForm, TextForm, ToolName


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
    Fixed("reasoning", ({},), "how much to think is the model's"),
    Fixed("prompt", (), "no prompts are stored here"),
    Fixed("prompt_cache_retention", ("in_memory", "in-memory"), "prefixes are kept in memory alone"),
    Fixed("prompt_cache_options", (), "prefixes are cached by themselves"),
    Fixed("context_management", (), "nothing is stored here"),
    Fixed("moderation", (), "nothing is moderated"),
)
