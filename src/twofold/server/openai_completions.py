"""`/v1/completions`: text that is gone on with, as OpenAI defined it and vLLM extended it."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from twofold.engine.request import Chosen, Piece, Request
from twofold.engine.whole import Whole
from twofold.model.tokenizer import Tokenizer
from twofold.server.body import Fixed
from twofold.server.endpoint import Call, Endpoint, answered, encoded
from twofold.server.openai_answers import LEAST_LOGPROB, Events, OpenAIUsage, token_text, used
from twofold.server.parameters import (
    MOST_PROMPTS,
    SAMPLED_FIXED,
    TOKEN_ID,
    Count,
    Likeliest,
    Sampled,
    TokenId,
    check_tokens,
)
from twofold.server.refusal import Refusal
from twofold.server.served import Answering

Ids = Annotated[list[TokenId], Meta(min_length=1)]
Text = Annotated[str, Meta(min_length=1)]

Prompts = Annotated[list[Text | TokenId | Ids], Meta(min_length=1)]


_TEXT = {"type": "string", "minLength": 1}
_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "format": TOKEN_ID}}


def _several(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": MOST_PROMPTS, "items": schema}


# JSON Schema: a prompt is of one kind.
PROMPT_RULES = {"allOf": [{"properties": {"prompt": {"anyOf": [_TEXT, _IDS, _several(_TEXT), _several(_IDS)]}}}]}


class Completion(Sampled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a completion."""

    prompt: Annotated[
        Text | Prompts, Meta(description=f"A text, token ids, or a list of either, at most {MOST_PROMPTS}.")
    ]
    max_tokens: Annotated[Count, Meta(description="Tokens of each answer.")] = 16
    logprobs: Annotated[
        Likeliest | None, Meta(description="Log-probability of every token, and of so many likeliest.")
    ] = None
    add_special_tokens: Annotated[bool, Meta(description="Begin a text as the model's file says.")] = True


COMPLETION_FIXED = (
    *SAMPLED_FIXED,
    Fixed("best_of", (1,), "answers are not ranked; use n"),
    Fixed("echo", (False,), "the prompt is not repeated"),
    Fixed("suffix", ("",), "the models that are served fill no gaps"),
)


class TextLogprobs(msgspec.Struct, frozen=True):
    """Of the tokens of an answer, or of an event."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(msgspec.Struct, frozen=True):
    """One answer."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "cancelled"] | None


class TextCompletion(msgspec.Struct, frozen=True):
    """A complete reply to `/v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: OpenAIUsage


async def completion(body: Completion, call: Call) -> Response:
    """Go on with each prompt, `n` times; answer i of prompt p is choice p * n + i."""
    call.offer.check(body.model)
    given = prompts(body.prompt)
    requests = []
    for prompt in given:
        ids = await _ids(call, prompt, special=body.add_special_tokens)
        limits = body.limits(call.offer.room(call.serving, len(ids), body.max_tokens))
        requests += [
            Request(
                prompt=ids,
                sampling=sampling,
                limits=limits,
                logprobs=body.logprobs,
                owner=call.record.owner,
                priority=body.priority,
            )
            for sampling in body.sampling(call.serving.manifest.vocabulary)
        ]
    answers = await call.submit(requests)
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return call.stream(answers, TextWriting(call, answers, n=body.n, usage=usage, logprobs=body.logprobs))
    wholes = await call.wholes(answers)
    choices = [_choice(call.tokenizer, index, whole, body.logprobs) for index, whole in enumerate(wholes)]
    usage_of_all = used([whole.usage for whole in wholes], body.n)
    return answered(
        TextCompletion(
            f"cmpl-{call.record.id}", "text_completion", call.now(), call.offer.names[0], choices, usage_of_all
        )
    )


def prompts(given: str | list[Any]) -> list[str | list[int]]:
    """The prompts that were given in any of the four ways; Refusal 400 for a list of several kinds, or too many."""
    if isinstance(given, str):
        return [given]
    kinds = {type(item) for item in given}
    if len(kinds) != 1:
        raise Refusal(400, "prompt mixes texts, token ids and lists; send one kind", param="prompt")
    if kinds == {int}:
        return [given]
    if len(given) > MOST_PROMPTS:
        raise Refusal(400, f"{len(given)} prompts are more than {MOST_PROMPTS}; send fewer", param="prompt")
    return given


async def _ids(call: Call, prompt: str | list[int], *, special: bool) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return await encoded(call, prompt, add_bos=None if special else False)
    check_tokens(prompt, call.serving.manifest.vocabulary, "prompt")
    return tuple(prompt)


def text_logprobs(tokenizer: Tokenizer, chosen: Iterable[Chosen], offset: int) -> TextLogprobs:
    """In the shape of completions; `offset`: letters of the answer before."""
    tokens, own, top, offsets = [], [], [], []
    for token in chosen:
        text = token_text(tokenizer, token.token)
        tokens.append(text)
        own.append(max(token.logprob or 0.0, LEAST_LOGPROB))
        top.append({token_text(tokenizer, other): max(logprob, LEAST_LOGPROB) for other, logprob in token.top})
        offsets.append(offset)
        offset += len(text)
    return TextLogprobs(tokens, own, top, offsets)


def _choice(tokenizer: Tokenizer, index: int, whole: Whole, logprobs: int | None) -> TextChoice:
    told = None if logprobs is None else text_logprobs(tokenizer, whole.chosen, 0)
    return TextChoice(index, whole.text, told, whole.finish)  # type: ignore[arg-type]


class TextWriting(Events):
    """Completions as events."""

    def __init__(self, call: Call, answers: Sequence[Answering], *, n: int, usage: bool, logprobs: int | None) -> None:
        super().__init__(call, answers, "cmpl", "text_completion", n=n, usage=usage, logprobs=logprobs is not None)
        self._offsets = [0] * len(answers)

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        """What became certain, and how the answer ended if it did."""
        if not (piece.text or piece.finish or (self._logprobs and piece.chosen)):
            return b""
        told = None
        if self._logprobs:
            told = text_logprobs(self.tokenizer, piece.chosen, self._offsets[index])
            self._offsets[index] += sum(map(len, told.tokens))
        return self.chunk({"index": index, "text": piece.text, "logprobs": told, "finish_reason": piece.finish})


ENDPOINT = Endpoint(
    "/v1/completions", Completion, TextCompletion, completion, COMPLETION_FIXED, streams=True, rules=PROMPT_RULES
)
