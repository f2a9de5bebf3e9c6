"""`/v1/chat/completions`, as OpenAI defined it and vLLM extended it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from twofold.engine.request import Request
from twofold.errors import ModelError, RequestError
from twofold.model.chat import Message
from twofold.server.body import Fixed
from twofold.server.endpoint import Call, Endpoint, answered, encoded, threaded
from twofold.server.openai_answers import ChatCompletion, ChatWriting, completed
from twofold.server.parameters import MOST_MESSAGES, SAMPLED_FIXED, Count, Likeliest, Sampled
from twofold.server.refusal import Refusal

TAKEN = frozenset({"self", "messages", "now", "strftime_now"})  # names that a template is given otherwise
Variables = Annotated[
    dict[str, Any], Meta(max_length=64, extra_json_schema={"propertyNames": {"not": {"enum": sorted(TAKEN)}}})
]


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of the conversation. What clients send back of an answer is accepted where it says nothing."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None
    reasoning_content: None = None

    def message(self) -> Message:
        """As a chat template takes it."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of the answer."""

    type: Literal["text"] = "text"


class Chat(Sampled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a chat completion."""

    messages: Annotated[
        list[ChatMessage], Meta(min_length=1, max_length=MOST_MESSAGES, description="The conversation; text alone.")
    ]
    max_completion_tokens: Annotated[
        Count | None, Meta(description="Tokens of each answer; default: what the context leaves.")
    ] = None
    max_tokens: Annotated[Count | None, Meta(description="The older name; the smaller counts.")] = None
    logprobs: Annotated[bool, Meta(description="Log-probability of every token.")] = False
    top_logprobs: Annotated[
        Likeliest | None, Meta(description="Of so many likeliest besides; asks for logprobs by itself.")
    ] = None
    response_format: Annotated[ResponseFormat | None, Meta(description="The form of the answer.")] = None
    chat_template_kwargs: Annotated[Variables | None, Meta(description="Variables for the model's chat template.")] = (
        None
    )

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
    Fixed("tools", ([],), "calls of tools are not parsed yet"),
    Fixed("tool_choice", ("none",), "there are no tools"),
    Fixed("parallel_tool_calls", (True,), "there are no tools"),
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
    prompt = await rendered(call, [message.message() for message in body.messages], body.chat_template_kwargs or {})
    limits = body.limits(call.offer.room(call.serving, len(prompt), body.most))
    answers = call.submit(
        [
            Request(
                prompt=prompt,
                sampling=sampling,
                limits=limits,
                logprobs=body.told,
                owner=call.record.owner,
                priority=body.priority,
            )
            for sampling in body.sampling(call.serving.manifest.vocabulary)
        ]
    )
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return call.stream(answers, ChatWriting(call, answers, usage=usage, logprobs=body.told is not None))
    return answered(completed(call, await call.wholes(answers), logprobs=body.told is not None))


async def rendered(call: Call, messages: Sequence[Message], variables: dict[str, Any]) -> tuple[int, ...]:
    """The tokens of a conversation, by the model's chat template; Refusal 400 if it refuses it."""
    taken = sorted(TAKEN & variables.keys())
    if taken:
        text = f"the chat template variable {taken[0]!r} is set by Twofold; use another name"
        raise Refusal(400, text, param="chat_template_kwargs")
    template = call.serving.chat_template
    if template is None:
        raise Refusal(400, "this model has no chat template; use /v1/completions", code="no_chat_template")

    def written() -> str:
        try:
            return template.render(messages, now=datetime.now(), **variables)
        except ModelError as error:  # the template is the model's, but what made it too costly came from here
            raise RequestError(str(error)) from error

    return await encoded(call, await threaded(written), add_bos=False)


ENDPOINT = Endpoint("/v1/chat/completions", Chat, ChatCompletion, chat, CHAT_FIXED, streams=True)
