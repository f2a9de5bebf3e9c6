"""From the options of a call in Python to a request: an option is known, of its type and in its range, or refused."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import msgspec

from twofold.engine.constraint import Constraint, Kind
from twofold.engine.conversing import Tools
from twofold.engine.limits import Limits
from twofold.engine.request import Request
from twofold.engine.sampling import Sampling
from twofold.errors import RequestError, one_line

KINDS: tuple[Kind, ...] = ("json_object", "json_schema", "regex", "grammar")


class Options(TypedDict, total=False):
    """How an answer is to be; what is left out or None is as in `Sampling`, `Limits` and `Request`.

    Give the fields of `Sampling` and of `Limits` by their names, or either as one record. At most one of the last four:
    the answer is a JSON object, JSON valid under a schema, or a word of an expression or a grammar.
    """

    sampling: Sampling | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] | None

    limits: Limits | None
    max_tokens: int | None
    min_tokens: int | None
    stop: str | Sequence[str] | None
    stop_ids: Sequence[int] | None
    ignore_end: bool | None

    logprobs: int | None
    priority: int | None

    json_object: bool | None
    json_schema: Mapping[str, Any] | str | None
    regex: str | None
    grammar: str | None


class ChatOptions(Options, total=False):
    """The same for an answer in a conversation.

    `tools` are offered; `tool_choice` is "auto", "none", "required", or the name of the one to call. `context`: the
    kept context to go on in. `variables` are told to the chat template.
    """

    tools: Tools | None
    tool_choice: str | None
    context: str | None
    variables: Mapping[str, Any] | None


class _Rest(msgspec.Struct, frozen=True):
    """What is neither sampling nor a limit."""

    logprobs: int | None = None
    priority: int = 0
    json_object: bool = False
    json_schema: dict[str, Any] | str | None = None
    regex: str | None = None
    grammar: str | None = None


Record = TypeVar("Record", Sampling, Limits, _Rest)


def asked(prompt: Sequence[int], options: Options) -> Request:
    """The request for one answer. Raises RequestError for an option that is unknown, or wrong, or excludes another."""
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise RequestError(f"{unknown[0]!r} is not an option; options: {', '.join(Options.__annotations__)}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    rest = _record(_Rest, "", given)
    return Request(
        prompt=tuple(prompt),
        sampling=_record(Sampling, "sampling", given),
        limits=_record(Limits, "limits", given),
        logprobs=rest.logprobs,
        priority=rest.priority,
        constraint=_constraint(rest),
    )


def _record(kind: type[Record], name: str, given: Mapping[str, Any]) -> Record:
    """The record that was given under its `name`, or one of its fields."""
    fields = {field: _plain(field, given[field]) for field in kind.__annotations__ if field in given}
    if name not in given:
        try:
            return msgspec.convert(fields, kind)
        except msgspec.ValidationError as error:
            raise RequestError(f"an option is of the wrong kind: {one_line(str(error))}; correct it") from None
    if fields:
        raise RequestError(f"{next(iter(fields))} and {name} exclude each other; put it into {name}")
    whole = given[name]
    if not isinstance(whole, kind):
        raise RequestError(f"{name} is a {type(whole).__name__}; give a {kind.__name__}, or its fields by their names")
    return whole


def _plain(name: str, value: Any) -> Any:
    """The value as the field `name` has it: one stop string is several, biases are pairs."""
    if name == "stop" and isinstance(value, str):
        return (value,)
    if name == "logit_bias" and isinstance(value, Mapping):
        return tuple(value.items())
    return value


def _constraint(rest: _Rest) -> Constraint | None:
    given = [kind for kind in KINDS if getattr(rest, kind) not in (None, False)]
    if len(given) > 1:
        raise RequestError(f"{' and '.join(given)} exclude each other; give one of them")
    if not given:
        return None
    value = getattr(rest, given[0])
    if given[0] == "json_object":
        return Constraint("json_object")
    return Constraint(given[0], value if isinstance(value, str) else msgspec.json.encode(value).decode())
