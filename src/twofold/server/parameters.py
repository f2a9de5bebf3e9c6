"""Parameters that several protocols share: what is chosen, when it ends, what is told of it.

The forms here and in the protocols' files are the only description of parameters that there is: bodies are read by
them, the OpenAPI document and docs/openai.md are made of them.
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from twofold.engine import prompt
from twofold.engine.request import MOST_LOGPROBS, Limits
from twofold.engine.sampling import COLDEST, MASK, Sampling
from twofold.errors import RequestError
from twofold.server.body import Fixed
from twofold.server.refusal import Refusal

MOST_N = 16  # answers to one prompt
MOST_PROMPTS = 64  # of one request
MOST_MESSAGES = 2048
MOST_STOPS = 16

WITHOUT_TOOLS = "x-without-tools"  # in a JSON Schema: what stands in its place for a model that knows no tools
TOKEN_ID = "token-id"  # the format of a whole number below the vocabulary, in the OpenAPI document

StopText = Annotated[str, Meta(min_length=1, max_length=1000)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 31, extra_json_schema={"format": TOKEN_ID})]
TokenName = Annotated[str, Meta(pattern="^(0|[1-9][0-9]{0,8})$", extra_json_schema={"format": TOKEN_ID})]
Seed = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Count = Annotated[int, Meta(ge=1, lt=1 << 31)]
ServiceTier = Annotated[Literal["auto", "default"], Meta(description="There is one tier.")]
Anything = Annotated[str, Meta(max_length=1000)]
Labels = Annotated[dict[str, Anything], Meta(max_length=16)]
Likeliest = Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream tells besides."""

    include_usage: bool = False
    include_obfuscation: Literal[None] = None


class Sampled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How OpenAI's clients say how to choose tokens, with what vLLM's add."""

    model: Annotated[str | None, Meta(description="The served model's name; may be left out.")] = None
    temperature: Annotated[
        float, Meta(ge=0, le=2, description="0 takes the likeliest token; so does anything below 0.0001.")
    ] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Among the likeliest that together reach this share.")] = 1.0
    top_k: Annotated[int, Meta(ge=-1, lt=1 << 31, description="Among so many likeliest; 0 and -1: all.")] = 0
    min_p: Annotated[float, Meta(ge=0, le=1, description="None below this share of the likeliest.")] = 0.0
    seed: Annotated[
        Seed | None, Meta(description="Same seed, same text, whatever the load; answer i of n takes seed + i.")
    ] = None
    presence_penalty: Annotated[Penalty, Meta(description="Off the logit of every token that was chosen.")] = 0.0
    frequency_penalty: Annotated[Penalty, Meta(description="Off the logit, once each time it was chosen.")] = 0.0
    repetition_penalty: Annotated[
        float, Meta(ge=0.01, le=100, description="Divides the logits of tokens of prompt and answer.")
    ] = 1.0
    logit_bias: Annotated[dict[TokenName, Bias], Meta(max_length=1024, description="By token id, onto the logit.")] = {}
    n: Annotated[int, Meta(ge=1, le=MOST_N, description="Answers to each prompt.")] = 1
    stop: Annotated[
        StopText | Annotated[list[StopText], Meta(max_length=MOST_STOPS)] | None,
        Meta(description="Texts that end the answer and are no part of it."),
    ] = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MOST_STOPS, description="The same as token ids.")] = []
    ignore_eos: Annotated[bool, Meta(description="Go on past the model's end token.")] = False
    min_tokens: Annotated[int, Meta(ge=0, lt=1 << 31, description="No end before; at most max_tokens counts.")] = 0
    priority: Annotated[int, Meta(ge=0, le=1000, description="Lower goes first.")] = 0
    stream: Annotated[bool, Meta(description="Server-sent events.")] = False
    stream_options: Annotated[
        StreamOptions | None, Meta(description="`include_usage`: a last event with the usage.")
    ] = None
    return_token_ids: Annotated[
        bool, Meta(description="Tell the ids of the prompt's tokens, and of those that each choice or event tells of.")
    ] = False
    user: Annotated[Anything | None, Meta(description="Accepted and kept nowhere.")] = None
    metadata: Annotated[Labels | None, Meta(description="Accepted and kept nowhere.")] = None
    safety_identifier: Annotated[Anything | None, Meta(description="Accepted and kept nowhere.")] = None
    prompt_cache_key: Annotated[Anything | None, Meta(description="Accepted; prefixes are shared without it.")] = None
    service_tier: ServiceTier = "auto"

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def sampling(self, vocabulary: int) -> list[Sampling]:
        """How to choose the tokens of each of the `n` answers to one prompt; Refusal 400 for a token that is none."""
        seed = drawn_seed() if self.seed is None else self.seed
        bias = tuple((int(token), bias) for token, bias in self.logit_bias.items())
        check_tokens([token for token, _ in bias], vocabulary, "logit_bias")
        check_tokens(self.stop_token_ids, vocabulary, "stop_token_ids")
        return [
            Sampling(
                temperature=coldest(self.temperature),
                top_k=max(self.top_k, 0),
                top_p=self.top_p,
                min_p=self.min_p,
                seed=(seed + i) & MASK,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                logit_bias=bias,
            )
            for i in range(self.n)
        ]

    def limits(self, most: int) -> Limits:
        """When each ends, after at most `most` tokens."""
        return Limits(
            max_tokens=most,
            min_tokens=min(self.min_tokens, most),
            stop=self.stops,
            stop_ids=tuple(self.stop_token_ids),
            ignore_end=self.ignore_eos,
        )


SAMPLED_FIXED = (
    Fixed("store", (False,), "nothing is stored here"),
    Fixed("prompt_cache_retention", ("in_memory", "in-memory"), "prefixes are kept in memory alone"),
    Fixed("prompt_cache_options", (), "prefixes are cached by themselves"),
)


def check_tokens(ids: Sequence[int], vocabulary: int, param: str) -> None:
    """Refusal 400 that names `param` if one of `ids` is not a token."""
    try:
        prompt.check_tokens(ids, vocabulary)
    except RequestError as error:
        raise Refusal(400, str(error), param=param) from None


def coldest(temperature: float) -> float:
    """`temperature`, or 0 for one so low that it makes no difference."""
    return temperature if temperature >= COLDEST else 0.0


def drawn_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbits(64)
