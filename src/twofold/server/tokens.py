"""`/tokenize` and `/detokenize`, as vLLM has them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from twofold.engine.toolbox import Toolbox
from twofold.server.endpoint import Call, Endpoint, answered, encoded, threaded
from twofold.server.openai_answers import token_text
from twofold.server.openai_chat import Variables, conversation
from twofold.server.parameters import MOST_MESSAGES, TokenId
from twofold.server.refusal import Refusal
from twofold.server.turns import Turn


class Tokenize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to tokenize: a text, or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MOST_MESSAGES)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool = False
    chat_template_kwargs: Variables | None = None


class Tokenized(msgspec.Struct, frozen=True):
    """A reply to `/tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for the text of tokens."""

    model: str | None = None
    tokens: list[TokenId]


class Detokenized(msgspec.Struct, frozen=True):
    """A reply to `/detokenize`."""

    prompt: str


async def tokenize(body: Tokenize, call: Call) -> Response:
    """The tokens of a text, or of a conversation by the model's chat template."""
    call.offer.check(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise Refusal(400, "either prompt or messages is needed; send one of them", param="prompt")
    if body.messages is not None:
        variables = {**(body.chat_template_kwargs or {}), "add_generation_prompt": body.add_generation_prompt}
        ids = (await conversation(call, [turn.message() for turn in body.messages], variables, Toolbox())).ids
    else:
        ids = await encoded(call, body.prompt or "", add_bos=None if body.add_special_tokens else False)
    texts = [token_text(call.tokenizer, token) for token in ids] if body.return_token_strs else None
    return answered(Tokenized(len(ids), call.offer.most(call.serving), list(ids), texts))


async def detokenize(body: Detokenize, call: Call) -> Response:
    """The text of tokens."""
    call.offer.check(body.model)
    tokenizer = call.tokenizer
    return answered(Detokenized(await threaded(lambda: tokenizer.decode(body.tokens, skip_special=False))))


def _only(one: str, other: str) -> dict[str, Any]:
    """The JSON Schema of a body that has the one and not the other."""
    return {"required": [one], "properties": {one: {"not": {"type": "null"}}, other: {"type": "null"}}}


EITHER = {"oneOf": [_only("prompt", "messages"), _only("messages", "prompt")]}
TOKENIZE = Endpoint("/tokenize", Tokenize, Tokenized, tokenize, rules=EITHER)
DETOKENIZE = Endpoint("/detokenize", Detokenize, Detokenized, detokenize)
