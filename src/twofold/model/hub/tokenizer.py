"""tokenizer.json of the model hub, said in GGUF's words: byte-level BPE."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from twofold.errors import ModelError
from twofold.model.strings import Strings
from twofold.model.tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED

Json = Mapping[str, object]


class _Added(msgspec.Struct):
    id: int
    content: str
    special: bool


class _Model(msgspec.Struct):
    type: Literal["BPE"]
    vocab: dict[str, int]
    merges: list[str | tuple[str, str]]


class _Described(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []


def tokenizer_metadata(tokenizer: Json, config: Json, vocabulary: int) -> dict[str, object]:
    """The keys `tokenizer.ggml.*` of a tokenizer, its vocabulary filled up to the embedding's rows."""
    try:
        described = msgspec.convert(tokenizer, _Described)
    except msgspec.ValidationError as error:
        raise ModelError(f"tokenizer.json: only byte-level BPE is supported ({error})") from None
    model = described.model
    ids = dict(model.vocab)
    kinds = dict.fromkeys(ids.values(), NORMAL)
    for added in described.added_tokens:
        ids[added.content] = added.id
        kinds[added.id] = CONTROL if added.special else USER_DEFINED
    text = {token: content for content, token in ids.items()}
    tokens = [text.get(i, f"[unused {i}]") for i in range(vocabulary)]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model.merges]
    found: dict[str, object] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": Strings.of(tokens),
        "tokenizer.ggml.token_type": [kinds.get(i, UNUSED) for i in range(vocabulary)],
        "tokenizer.ggml.merges": Strings.of(merges),
    }
    eos = config.get("eos_token")
    if isinstance(eos, str) and eos in ids:
        found["tokenizer.ggml.eos_token_id"] = ids[eos]
    return found
