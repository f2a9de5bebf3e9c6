"""`/v1/messages` and `/v1/messages/count_tokens`, as Anthropic defined them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from twofold.engine.request import Limits, Request, Sampling
from twofold.engine.spoken import Speech
from twofold.engine.toolbox import Toolbox, check_calls, toolbox
from twofold.model.chat import Message
from twofold.server.anthropic_answers import Answer, MessageWriting, State
from twofold.server.anthropic_turns import (
    TOOL_RULES,
    AnyChoice,
    CacheControl,
    Choice,
    NoChoice,
    OnlyTextBlock,
    ToolChoice,
    Tools,
    Turns,
    text_of,
)
from twofold.server.body import Fixed
from twofold.server.endpoint import Call, Endpoint, answered
from twofold.server.openai_chat import Prompt, conversation
from twofold.server.parameters import MOST_STOPS, Anything, Count, StopText, coldest, drawn_seed


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the request is for."""

    user_id: Anything | None = None


class NoThinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to reason first."""

    type: Literal["disabled"]


class Conversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to count tokens, and the part of a request for an answer that has any."""

    model: Annotated[str, Meta(description="The served model's name.")]
    messages: Annotated[Turns, Meta(description="The conversation: text, calls and their results.")]
    system: Annotated[str | list[OnlyTextBlock] | None, Meta(description="A system message before it.")] = None
    thinking: Annotated[
        NoThinking | None, Meta(description="Only `disabled`: told to the chat template as `enable_thinking`.")
    ] = None
    tools: Annotated[
        Tools | None, Meta(description="Functions that the model may call, if its template knows any.")
    ] = None
    tool_choice: Choice = None
    cache_control: Annotated[CacheControl | None, Meta(description="Accepted; prefixes are shared without it.")] = None

    def toolbox(self, call: Call) -> Toolbox:
        """The tools; Refusal 400 if the model knows none."""
        tools = [tool.tool() for tool in self.tools or ()]
        match self.tool_choice:
            case AnyChoice():
                return toolbox(call.tokenizer, tools, "required")
            case ToolChoice(name):
                return toolbox(call.tokenizer, tools, "required", only=name)
            case NoChoice():
                return toolbox(call.tokenizer, tools, "none")
            case _:
                return toolbox(call.tokenizer, tools, "auto")

    async def prompt(self, call: Call, tools: Toolbox) -> Prompt:
        """The prompt, by the model's chat template."""
        first = [] if self.system is None else [Message("system", text_of(self.system))]
        messages = [*first, *(message for turn in self.messages for message in turn.messages())]
        if any(message.tool_calls or message.role == "tool" for message in messages):
            check_calls(call.tokenizer)
        variables = {} if self.thinking is None else {"enable_thinking": False}
        return await conversation(call, messages, variables, tools)


class Ask(Conversation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for an answer."""

    max_tokens: Annotated[Count, Meta(description="Tokens of the answer.")]
    temperature: Annotated[float, Meta(ge=0, le=1, description="0 takes the likeliest token.")] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Among the likeliest that together reach this share.")] = 1.0
    top_k: Annotated[int, Meta(ge=0, lt=1 << 31, description="Among so many likeliest; 0: all.")] = 0
    stop_sequences: Annotated[
        list[StopText], Meta(max_length=MOST_STOPS, description="Texts that end the answer and are no part of it.")
    ] = []
    stream: Annotated[bool, Meta(description="Server-sent events.")] = False
    metadata: Annotated[Metadata | None, Meta(description="`user_id` is accepted and kept nowhere.")] = None
    service_tier: Annotated[Literal["auto", "standard_only"], Meta(description="There is one tier.")] = "auto"


COUNT_FIXED = (
    Fixed("speed", ("standard",), "there is one speed"),
    Fixed("mcp_servers", ([],), "nothing is fetched"),
    Fixed("context_management", (), "nothing is stored here"),
    Fixed("compaction", (), "nothing is summarised; send what is to be read"),
    Fixed("billing_policy", (), "nothing is billed"),
    Fixed("output_config", (), "answers are text"),
    Fixed("output_format", (), "answers are text"),
)
ASK_FIXED = (
    *COUNT_FIXED,
    Fixed("container", (), "nothing is run"),
    Fixed("diagnostics", (), "nothing is stored here"),
    Fixed("thread", (), "nothing is stored here; send the whole conversation"),
    Fixed("fallbacks", (), "one model is served"),
    Fixed("fallback_credit_token", (), "nothing is billed"),
    Fixed("inference_geo", (), "it is where it is"),
)


class Counted(msgspec.Struct, frozen=True):
    """A reply to `/v1/messages/count_tokens`."""

    input_tokens: int


async def count_tokens(body: Conversation, call: Call) -> Response:
    """The tokens that a conversation is."""
    call.offer.check(body.model)
    prompt = await body.prompt(call, body.toolbox(call))
    return answered(Counted(len(prompt.ids)))


async def ask(body: Ask, call: Call) -> Response:
    """Answer a conversation."""
    call.offer.check(body.model)
    tools = body.toolbox(call)
    prompt = await body.prompt(call, tools)
    limits = Limits(
        max_tokens=call.offer.room(call.serving, len(prompt.ids), body.max_tokens), stop=tuple(body.stop_sequences)
    )
    sampling = Sampling(temperature=coldest(body.temperature), top_k=body.top_k, top_p=body.top_p, seed=drawn_seed())
    request = Request(
        prompt=prompt.ids, sampling=sampling, limits=limits, constraint=tools.constraint, owner=call.record.owner
    )
    answers = await call.submit([request])
    state = State(call, answers[0], Speech(tools, opened=prompt.opened), limits.stop)
    if body.stream:
        return call.stream(answers, MessageWriting(state))
    (whole,) = await call.wholes(answers)
    return answered(state.whole(whole))


ASK = Endpoint("/v1/messages", Ask, Answer, ask, ASK_FIXED, streams=True, rules=TOOL_RULES)
COUNT = Endpoint("/v1/messages/count_tokens", Conversation, Counted, count_tokens, COUNT_FIXED, rules=TOOL_RULES)
