"""`/v1/chat/completions`, as OpenAI defined it and vLLM extended it."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta
from starlette.responses import Response

from twofold.engine.going import Going
from twofold.engine.request import Constraint, Request
from twofold.engine.seen import NOTHING
from twofold.engine.spoken import Speech
from twofold.engine.toolbox import Toolbox, check_calls, one_form, toolbox
from twofold.errors import ModelError, RequestError
from twofold.model.chat import Message
from twofold.model.reasoning import opened
from twofold.server.body import Fixed
from twofold.server.endpoint import Call, Endpoint, answered, encoded, threaded
from twofold.server.openai_answers import ChatCompletion, ChatWriting, completed
from twofold.server.parameters import MOST_MESSAGES, SAMPLED_FIXED, WITHOUT_TOOLS, Count, Likeliest, Sampled
from twofold.server.refusal import Refusal
from twofold.server.served import Answering
from twofold.server.shelves import ContextName, kept
from twofold.server.sse import After
from twofold.server.tool_rules import FREE_CHOICES, check_strict, tool_rules
from twofold.server.turns import MOST_TOOLS, Form, FunctionTool, NamedTool, Turn

TAKEN = frozenset({"self", "messages", "now", "strftime_now", "tools"})  # names that a template is given otherwise
Variables = Annotated[
    dict[str, Any], Meta(max_length=64, extra_json_schema={"propertyNames": {"not": {"enum": sorted(TAKEN)}}})
]


Tools = Annotated[list[FunctionTool], Meta(max_length=MOST_TOOLS, extra_json_schema={WITHOUT_TOOLS: {"enum": [[]]}})]
Choice = Literal["none", "auto", "required"]
LENIENT = {"items": {"properties": {"function": {"properties": {"strict": {"enum": [False, None]}}}}}}


class Chat(Sampled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a chat completion."""

    messages: Annotated[
        list[Turn], Meta(min_length=1, max_length=MOST_MESSAGES, description="The conversation; text alone.")
    ]
    max_completion_tokens: Annotated[
        Count | None, Meta(description="Tokens of each answer; default: what the context leaves.")
    ] = None
    max_tokens: Annotated[Count | None, Meta(description="The older name; the smaller counts.")] = None
    logprobs: Annotated[bool, Meta(description="Log-probability of every token.")] = False
    top_logprobs: Annotated[
        Likeliest | None, Meta(description="Of so many likeliest besides; asks for logprobs by itself.")
    ] = None
    response_format: Annotated[
        Form | None, Meta(description="`text`, `json_object`, `json_schema`, or llguidance's `grammar`.")
    ] = None
    tools: Annotated[
        Tools | None, Meta(description="Functions that the model may call, if its template knows any.")
    ] = None
    tool_choice: Annotated[
        Choice | NamedTool | None,
        Meta(
            description="`auto`; with `required` or the name of a tool, the answer is calls and nothing else.",
            extra_json_schema={WITHOUT_TOOLS: {"enum": FREE_CHOICES}},
        ),
    ] = None
    context: Annotated[
        ContextName | None,
        Meta(description="A kept context: its messages come before these, and the answer is kept in it; `n` is 1."),
    ] = None
    chat_template_kwargs: Annotated[Variables | None, Meta(description="Variables for the model's chat template.")] = (
        None
    )

    def __post_init__(self) -> None:
        """ValueError for what a tool cannot promise."""
        check_strict([tool.function.strict for tool in self.tools or ()], self.tool_choice)

    @property
    def most(self) -> int | None:
        """The most tokens of an answer."""
        return min(filter(None, (self.max_completion_tokens, self.max_tokens)), default=None)

    @property
    def told(self) -> int | None:
        """Log-probabilities that are told of each token, besides its own; None: not its own either."""
        return self.top_logprobs if self.top_logprobs is not None else 0 if self.logprobs else None


CHAT_FIXED = (
    *SAMPLED_FIXED,
    Fixed("parallel_tool_calls", (True,), "how many calls there are is the model's choice"),
    Fixed("functions", (), "it was replaced by tools"),
    Fixed("function_call", ("none",), "it was replaced by tool_choice"),
    Fixed("modalities", (["text"],), "answers are text"),
    Fixed("audio", (), "answers are text"),
    Fixed("prediction", (), "there is no speculation by a given text"),
    Fixed("reasoning_effort", (), "it is the chat template's; see chat_template_kwargs"),
    Fixed("verbosity", ("medium",), "no served model knows it"),
    Fixed("web_search_options", (), "nothing is searched"),
    Fixed("moderation", (), "nothing is moderated"),
)


async def chat(body: Chat, call: Call) -> Response:
    """Answer a conversation."""
    call.offer.check(body.model)
    async with contextlib.AsyncExitStack() as held:
        going = None
        if body.context is not None:
            shelves, manifest = call.shelves, call.serving.manifest
            going = await held.enter_async_context(shelves.going(call.record.owner, body.context, manifest))
        ids, answers, speeches = await _asked(body, call, going)
        told_ids = ids if body.return_token_ids else None
        complete = functools.partial(kept, going, answers[0], speeches[0])
        told = body.told is not None
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            writing = ChatWriting(call, answers, speeches, usage=usage, logprobs=told, prompt=told_ids)
            return call.stream(answers, writing, After(complete, held.pop_all()))
        reply = completed(call, await call.wholes(answers), speeches, logprobs=told, prompt=told_ids)
        await complete()
        return answered(reply)


async def _asked(body: Chat, call: Call, going: Going | None) -> tuple[tuple[int, ...], list[Answering], list[Speech]]:
    """The prompt's tokens, the answers, begun, and who takes each apart."""
    messages = [turn.message() for turn in body.messages]
    if going is not None:
        if body.n > 1:
            raise Refusal(400, "one answer alone can be kept in a context; ask for one", param="n")
        messages = going.messages(messages)
    tools = _toolbox(body, call, messages)
    prompt = await conversation(call, messages, body.chat_template_kwargs or {}, tools)
    limits = body.limits(call.offer.room(call.serving, len(prompt.ids), body.most))
    requests = [
        Request(
            prompt=prompt.ids,
            sampling=sampling,
            limits=limits,
            logprobs=body.told,
            constraint=one_form(_form(body), tools, "response_format"),
            owner=call.record.owner,
            priority=body.priority,
            keep=going is not None,
        )
        for sampling in body.sampling(call.serving.manifest.vocabulary)
    ]
    answers = await call.submit(requests, NOTHING if going is None else going.taken())
    return prompt.ids, answers, [Speech(tools, opened=prompt.opened) for _ in answers]


def _toolbox(body: Chat, call: Call, messages: Sequence[Message]) -> Toolbox:
    if any(message.role == "tool" or message.tool_calls for message in messages):
        check_calls(call.tokenizer)
    tools = [tool.tool() for tool in body.tools or ()]
    if isinstance(body.tool_choice, NamedTool):
        return toolbox(call.tokenizer, tools, "required", only=body.tool_choice.function.name)
    return toolbox(call.tokenizer, tools, body.tool_choice or "auto")


def _form(body: Chat) -> Constraint | None:
    return None if body.response_format is None else body.response_format.constraint()


class Prompt(NamedTuple):
    """A conversation for the model."""

    ids: tuple[int, ...]
    opened: bool  # it ends inside the reasoning


async def conversation(call: Call, messages: Sequence[Message], variables: Mapping[str, Any], tools: Toolbox) -> Prompt:
    """The prompt of a conversation, by the model's chat template; Refusal 400 if it refuses it."""
    taken = sorted(TAKEN & variables.keys())
    if taken:
        text = f"the chat template variable {taken[0]!r} is set by Twofold; use another name"
        raise Refusal(400, text, param="chat_template_kwargs")
    template = call.serving.chat_template
    if template is None:
        raise Refusal(400, "this model has no chat template; use /v1/completions", code="no_chat_template")

    def written() -> str:
        try:
            return template.render(messages, now=datetime.now(), **{**tools.variables(), **variables})
        except ModelError as error:  # the template is the model's, but what made it too costly came from here
            raise RequestError(str(error)) from error

    text = await threaded(written)
    return Prompt(await encoded(call, text, add_bos=False), opened(text))


ENDPOINT = Endpoint(
    "/v1/chat/completions", Chat, ChatCompletion, chat, CHAT_FIXED, streams=True, rules=tool_rules(LENIENT)
)
