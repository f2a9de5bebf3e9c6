"""A tokenizer as a checkpoint's metadata has it: GGUF's keys `tokenizer.*`, read into the parts of `TokenizerData`.

Source: GGUF specification, section "Tokenizer"; the defaults of keys that are not there are llama.cpp's.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from twofold.errors import ModelError
from twofold.model.bpe import REMEDY
from twofold.model.pre_tokenizer import PRE_TOKENIZERS, PREFIXED, SPACED, pre_of
from twofold.model.strings import Strings

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_BEGUN = (PRE_TOKENIZERS["llama-bpe"], PRE_TOKENIZERS["tekken"])  # texts begin with bos where the file does not say


def described(metadata: Mapping[str, object]) -> dict[str, Any]:
    """The parts of the tokenizer, by the names of `TokenizerData`.

    Raises ModelError, one line, for a missing key or a value of another type.
    """
    model = _required(metadata, "ggml.model", str)
    scored = model in ("llama", "t5")
    pre = _optional(metadata, "ggml.pre", str) if scored else _required(metadata, "ggml.pre", str)
    if scored and not (pre or "").startswith("{"):
        pre = _scored_pre(metadata, model)
    turn_ends = (_optional(metadata, f"ggml.{name}_token_id", int) for name in ("eot", "eom"))
    further_ends = _optional(metadata, "ggml.eos_token_ids", list[int]) or []
    add_bos = _optional(metadata, "ggml.add_bos_token", bool)
    add_eos = _optional(metadata, "ggml.add_eos_token", bool)
    return {
        "model": model,
        "pre": pre,
        "tokens": _required(metadata, "ggml.tokens", Strings),
        "token_types": _types(_required(metadata, "ggml.token_type", list[int])),
        "merges": Strings(b"", b"") if scored else _required(metadata, "ggml.merges", Strings),
        "scores": _scores(_required(metadata, "ggml.scores", list[float])) if scored else b"",
        "bos_id": _optional(metadata, "ggml.bos_token_id", int),
        "eos_id": _optional(metadata, "ggml.eos_token_id", int),
        "unknown_id": _optional(metadata, "ggml.unknown_token_id", int),
        "padding_id": _optional(metadata, "ggml.padding_token_id", int),
        "end_of_turn_ids": [*(token_id for token_id in turn_ends if token_id is not None), *further_ends],
        "takes_left_ids": _optional(metadata, "ggml.takes_left_token_ids", list[int]) or [],
        "takes_right_ids": _optional(metadata, "ggml.takes_right_token_ids", list[int]) or [],
        "add_bos": PRE_TOKENIZERS.get(pre) in _BEGUN or model in ("llama", "gemma4") if add_bos is None else add_bos,
        "add_eos": model == "t5" if add_eos is None else add_eos,
        "chat_template": _optional(metadata, "chat_template", str),
    }


def _scored_pre(metadata: Mapping[str, object], model: str) -> str:
    """The `pre` of SentencePiece, which GGUF says in keys of its own."""
    prefixed = _optional(metadata, "ggml.add_space_prefix", bool) is not False
    if model == "llama":
        return PREFIXED if prefixed else SPACED
    characters = _optional(metadata, "ggml.precompiled_charsmap", list[int]) or []
    narrow = _optional(metadata, "ggml.remove_extra_whitespaces", bool)
    steps: list[dict[str, Any]] = []
    if characters:
        table = np.array(characters, np.int64).astype(np.uint8).tobytes()
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()})
    if narrow:
        steps.append({"type": "Replace", "pattern": {"Regex": "^ +| +$| +(?= )"}, "content": ""})
    scheme = "always" if prefixed or narrow else "never"
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    return pre_of({"type": "Sequence", "normalizers": steps}, spaces)


def _required(metadata: Mapping[str, object], key: str, kind: Any) -> Any:
    if metadata.get(f"tokenizer.{key}") is None:
        raise ModelError(f"the model's metadata has no tokenizer.{key}; {REMEDY}")
    return _optional(metadata, key, kind)


def _optional(metadata: Mapping[str, object], key: str, kind: Any) -> Any:
    value = metadata.get(f"tokenizer.{key}")
    if value is None:
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ModelError(f"the model's tokenizer.{key} has the wrong type: {error}; {REMEDY}") from None


def _types(kinds: list[int]) -> bytes:
    try:
        return bytes(kinds)
    except ValueError:  # a number that is no byte
        token, kind = next((i, kind) for i, kind in enumerate(kinds) if not 0 <= kind < 256)
        raise ModelError(f"token {token} has type {kind}, which no tokenizer has; {REMEDY}") from None


def _scores(scores: list[float]) -> bytes:
    with np.errstate(over="ignore"):
        return np.array(scores, "<f4").tobytes()
