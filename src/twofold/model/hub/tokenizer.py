"""The tokenizer of a checkpoint directory, said in GGUF's words: byte-level BPE, SentencePiece BPE and unigram.

    tokenizer.json           vocabulary, merges or scores, added tokens, how text is cut, what is put around it
    tokenizer_config.json    the names of the special tokens; chat template
    chat_template.jinja      chat template, before the one in the configuration
    generation_config.json   the tokens that end a reply, before those of config.json

What GGUF has no key for: `tokenizer.ggml.pre` may be JSON (`pre_tokenizer`), `eos_token_ids` are all ends of a reply,
`takes_left_token_ids` and `takes_right_token_ids` take white space with them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from twofold.errors import ModelError
from twofold.model.bpe import REMEDY
from twofold.model.pre_tokenizer import pre_of, uses
from twofold.model.strings import Strings
from twofold.model.tokenizer_metadata import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED

Json = Mapping[str, object]
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """The files of a directory that say something about its tokenizer, read."""

    tokenizer: Json
    config: Json = field(default_factory=dict)
    generation: Json = field(default_factory=dict)
    template: str | None = None


class _Added(msgspec.Struct):
    id: int
    content: str
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False


class _Bpe(msgspec.Struct, tag_field="type", tag="BPE"):
    vocab: dict[str, int]
    merges: list[str | tuple[str, str]]
    unk_token: str | None = None
    byte_fallback: bool = False
    ignore_merges: bool | None = False
    continuing_subword_prefix: Literal["", None] = None
    end_of_word_suffix: Literal["", None] = None


class _Unigram(msgspec.Struct, tag_field="type", tag="Unigram"):
    vocab: list[tuple[str, float]]
    unk_id: int
    byte_fallback: bool = False


class _Described(msgspec.Struct):
    model: _Bpe | _Unigram
    added_tokens: list[_Added] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None


def tokenizer_metadata(files: TokenizerFiles, vocabulary: int) -> dict[str, object]:
    """The keys `tokenizer.*` of a directory, its vocabulary filled up to the embedding's rows.

    Raises ModelError, one line, for a tokenizer of another kind, and for one that has more tokens than the embedding
    has rows.
    """
    try:
        described = msgspec.convert(files.tokenizer, _Described)
    except msgspec.ValidationError as error:
        raise ModelError(f"tokenizer.json: only BPE and unigram are supported ({error})") from None
    try:
        return _metadata(files, described, vocabulary)
    except UnicodeEncodeError as error:
        raise ModelError(f"tokenizer.json: a text is not Unicode ({error.reason}); {REMEDY}") from None


def _metadata(files: TokenizerFiles, described: _Described, vocabulary: int) -> dict[str, object]:
    ids = _ids(described, vocabulary)
    special = _special(files, ids)
    found: dict[str, Any] = {f"{name}_token_id": token for name, token in special.items()}
    found |= _vocabulary(described, ids, vocabulary) | _around(described, files.config, ids, special)
    found["eos_token_ids"] = _ends(files.generation, special.get("eos"))
    if "eos" not in special and found["eos_token_ids"]:
        found["eos_token_id"] = found["eos_token_ids"][0]
    for side in ("left", "right"):
        found[f"takes_{side}_token_ids"] = [
            each.id for each in described.added_tokens if getattr(each, f"{side[0]}strip")
        ]
    template = _template(files)
    named = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    return named | ({} if template is None else {"tokenizer.chat_template": template})


def _ids(described: _Described, vocabulary: int) -> dict[str, int]:
    """The id of every token by its text; ModelError for an id outside the embedding's rows, or there twice."""
    model = described.model
    plain = model.vocab if isinstance(model, _Bpe) else {text: i for i, (text, _) in enumerate(model.vocab)}
    ids = {**plain, **{added.content: added.id for added in described.added_tokens}}
    texts: dict[int, str] = {}
    for text, token in ids.items():
        if not 0 <= token < vocabulary:
            raise ModelError(
                f"tokenizer.json: token {text[:60]!r} has the id {token}, outside the embedding's {vocabulary} rows; "
                "use the tokenizer that belongs to these weights"
            )
        if texts.setdefault(token, text) != text:
            raise ModelError(f"tokenizer.json: {texts[token][:60]!r} and {text[:60]!r} have the id {token}; {REMEDY}")
    return ids


def _vocabulary(described: _Described, ids: Mapping[str, int], vocabulary: int) -> dict[str, Any]:
    """Tokens with their types, and what makes them of words."""
    model = described.model
    texts = {token: text for text, token in ids.items()}
    kinds = dict.fromkeys(texts, NORMAL)
    if model.byte_fallback:
        kinds |= {token: BYTE for text, token in ids.items() if _BYTE.fullmatch(text)}
    kinds |= {added.id: CONTROL if added.special else USER_DEFINED for added in described.added_tokens}
    found: dict[str, Any] = {"tokens": Strings.of(texts.get(i, f"[unused {i}]") for i in range(vocabulary))}
    if isinstance(model, _Unigram):
        scores = dict(enumerate(score for _, score in model.vocab))
        kinds[model.unk_id] = UNKNOWN
        found |= {
            "model": "t5",
            "unknown_token_id": model.unk_id,
            "pre": pre_of(described.normalizer, described.pre_tokenizer),
        }
        found["scores"] = [scores.get(i, 0.0) for i in range(vocabulary)]
    else:
        letters = uses(described.pre_tokenizer, "ByteLevel") or uses(described.normalizer, "ByteLevel")
        whole = bool(model.ignore_merges)
        pre = pre_of(described.normalizer, described.pre_tokenizer, whole_words=whole)
        found |= {"model": "gpt2" if letters else "gemma4", "pre": pre}
        found["merges"] = Strings.of(pair if isinstance(pair, str) else " ".join(pair) for pair in model.merges)
        if model.unk_token is not None and model.unk_token in ids:
            found["unknown_token_id"] = ids[model.unk_token]
    found["token_type"] = [kinds.get(i, UNUSED) for i in range(vocabulary)]
    return found


def _special(files: TokenizerFiles, ids: Mapping[str, int]) -> dict[str, int]:
    """The ids of the special tokens that the configuration names."""
    found = {}
    for key, name in _NAMED.items():
        said = files.config.get(key)
        text = said.get("content") if isinstance(said, Mapping) else said
        if isinstance(text, str) and text in ids:
            found[name] = ids[text]
    return found


def _ends(generation: Json, eos: int | None) -> list[int]:
    said = generation.get("eos_token_id")
    ends = said if isinstance(said, list) else [said]
    return [token for token in ends if isinstance(token, int) and not isinstance(token, bool) and token != eos]


def _around(described: _Described, config: Json, ids: Mapping[str, int], special: Mapping[str, int]) -> dict[str, Any]:
    """Whether bos and eos are put around a text: as the post-processor does it, or as the configuration says."""
    for step in _steps(described.post_processor):
        if step.get("type") == "TemplateProcessing" and isinstance(step.get("single"), list):
            before, after = _specials(step["single"])
            return {
                "add_bos_token": [ids.get(text) for text in before] == [special.get("bos", -1)],
                "add_eos_token": [ids.get(text) for text in after] == [special.get("eos", -1)],
            }
    keys = {name: f"add_{name}_token" for name in ("bos", "eos")}
    return {key: config.get(key) is True and name in special for name, key in keys.items()}


def _steps(processor: dict[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    if processor is None:
        return ()
    parts = processor.get("processors")
    steps = parts if processor.get("type") == "Sequence" and isinstance(parts, list) else [processor]
    return [step for step in steps if isinstance(step, Mapping)]


def _specials(single: list[Any]) -> tuple[list[str], list[str]]:
    """The special tokens before and after the text, in a template of tokenizer.json."""
    sides: tuple[list[str], list[str]] = [], []
    after = 0
    for piece in single:
        if isinstance(piece, Mapping) and "Sequence" in piece:
            after = 1
        elif isinstance(piece, Mapping) and isinstance(piece.get("SpecialToken"), Mapping):
            sides[after].append(str(piece["SpecialToken"].get("id")))
    return sides


def _template(files: TokenizerFiles) -> str | None:
    """The chat template: a file, one text in the configuration, or the one of several that is called "default"."""
    said = files.config.get("chat_template")
    if files.template is not None or isinstance(said, str):
        return files.template if files.template is not None else str(said)
    several = said if isinstance(said, list) else []
    named = {each.get("name"): each.get("template") for each in several if isinstance(each, Mapping)}
    template = named.get("default")
    return template if isinstance(template, str) else None
