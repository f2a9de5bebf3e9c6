"""Responses as OpenAI's clients read them."""

from typing import Any, Literal

import msgspec

from twofold.server.openai_answers import TokenLogprob

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, frozen=True):
    """The text of a message; log-probabilities if they were asked for."""

    type: Literal["output_text"]
    text: str
    annotations: list[str]
    logprobs: list[TokenLogprob] | msgspec.UnsetType = msgspec.UNSET


class ThoughtText(msgspec.Struct, frozen=True):
    """The text of what was thought."""

    type: Literal["reasoning_text"]
    text: str


class OutputThought(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What the model thought before it answered."""

    id: str
    status: Status
    content: list[ThoughtText]
    summary: list[str] = []


class OutputMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """The answer."""

    id: str
    status: Status
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call of a tool; `call_id` is for its output to name."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


Output = OutputThought | OutputMessage | OutputCall


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A response, whole or as far as it is."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[Output]
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    metadata: dict[str, str]
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    store: bool = False
    text: dict[str, dict[str, Any]]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    truncation: str = "disabled"
    usage: dict[str, Any] | None = None
