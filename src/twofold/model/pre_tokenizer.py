"""From text to words: the tokens that stand in it as they are, and between them the words a vocabulary is merged from.

    text ──split at the tokens that are found in it──┬──> token
                                                     └──normalise──cut──> words, in the vocabulary's own writing

How a model's text is normalised and cut is its `pre`: a name of `PRE_TOKENIZERS`, GGUF's where it has one, or, for what
no name says, the JSON that tokenizer.json has for it (`Cut`). Both run on the `tokenizers` library.

The patterns are those of the published tokenizer.json of openai-community/gpt2, HuggingFaceTB/SmolLM2-135M-Instruct,
meta-llama/Meta-Llama-3-8B, Qwen/Qwen2-7B, Qwen/Qwen3.5-35B-A3B, openai/gpt-oss-20b, deepseek-ai/DeepSeek-V3 and
mistralai/Mistral-Nemo-Base-2407, the names llama.cpp's. Where both differ (NFC, letters outside ASCII) the published
one counts; the fidelity tests hold each beside llama.cpp and Transformers.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from tokenizers import AddedToken, Encoding
from tokenizers import Tokenizer as Engine

from twofold.errors import ModelError, one_line
from twofold.model.bpe import REMEDY, Piece

Json = Mapping[str, Any] | None
_MAX_JSON = 1 << 20  # the longest known, a table of Unicode's compatible characters, is 300 KiB


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of model cuts text into words: what tokenizer.json calls normalizer and pre_tokenizer.

    `whole_words`: a word that is a token is taken as it is, without merging (tokenizer.json: ignore_merges).
    """

    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    whole_words: bool = False


def _split(*patterns: str) -> dict[str, Any]:
    """Cut at each of the patterns in turn, then write bytes as GPT-2's letters."""
    cuts = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in patterns]
    return {"type": "Sequence", "pretokenizers": [*cuts, _letters(use_regex=False)]}


def _letters(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_QWEN2 = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_QWEN35 = _ENDINGS + (r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _cased(ending: str, digits: str) -> str:
    """Words end where capitals begin."""
    begin = r"[^\r\n\p{L}\p{N}]?"
    words = f"{begin}{_UPPER}*{_LOWER}+{ending}|{begin}{_UPPER}+{_LOWER}*{ending}"
    return words + f"|{digits}" + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
)
_GPT2 = _letters(use_regex=True)
_DIGITS = {"type": "Digits", "individual_digits": True}
_NFC = {"type": "NFC"}
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_PREFIX = {"type": "Prepend", "prepend": "▁"}

SPACED, PREFIXED = "sentencepiece", "sentencepiece-prefixed"  # names of ours, for what GGUF says in other keys
PRE_TOKENIZERS: dict[str, Cut] = {
    "gpt-2": Cut(pre_tokenizer=_GPT2),
    "olmo": Cut(normalizer=_NFC, pre_tokenizer=_GPT2),
    "smollm": Cut(pre_tokenizer={"type": "Sequence", "pretokenizers": [_DIGITS, _GPT2]}),
    "llama-bpe": Cut(pre_tokenizer=_split(_LLAMA3), whole_words=True),
    "dbrx": Cut(pre_tokenizer=_split(_LLAMA3)),
    "qwen2": Cut(normalizer=_NFC, pre_tokenizer=_split(_QWEN2)),
    "stablelm2": Cut(pre_tokenizer=_split(_QWEN2)),
    "qwen35": Cut(normalizer=_NFC, pre_tokenizer=_split(_QWEN35)),
    "gpt-4o": Cut(pre_tokenizer=_split(_cased(_ENDINGS + "?", r"\p{N}{1,3}"))),
    "tekken": Cut(pre_tokenizer=_split(_cased("", r"\p{N}")), whole_words=True),
    "deepseek-v3": Cut(pre_tokenizer=_split(*_DEEPSEEK3)),
    SPACED: Cut(normalizer=_SPACES),
    PREFIXED: Cut(normalizer={"type": "Sequence", "normalizers": [_PREFIX, _SPACES]}),
}
# Other names that GGUF files have for the same.
_SAME = {
    "gpt-2": ("phi-2", "exaone4"),
    "smollm": ("starcoder", "refact"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2"),
    "dbrx": ("smaug-bpe", "glm4", "chatglm-bpe"),
    "qwen2": ("deepseek-r1-qwen", "kormo", "megrez"),
    "gpt-4o": ("llama4", "minimax-m2"),
    "deepseek-v3": ("hunyuan-dense",),
    SPACED: ("gemma4",),
}
PRE_TOKENIZERS |= {name: PRE_TOKENIZERS[known] for known, names in _SAME.items() for name in names}


def cut_of(pre: str) -> Cut:
    """What `pre` says, a name or JSON; ModelError for a name we do not know, and for JSON that the library refuses."""
    if pre in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[pre]
    if not pre.startswith("{"):
        known = ", ".join(repr(name) for name in sorted(PRE_TOKENIZERS))
        raise ModelError(f"the tokenizer's pre-tokenizer {pre[:60]!r} is not supported; supported: {known}")
    if len(pre) > _MAX_JSON:
        raise ModelError(f"the tokenizer's pre-tokenizer is longer than {_MAX_JSON} letters; {REMEDY}")
    try:
        cut = msgspec.json.decode(pre, type=Cut)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ModelError(f"the tokenizer's pre-tokenizer is damaged: {error}; {REMEDY}") from None
    _engine(cut)
    return cut


def pre_of(normalizer: Json, pre_tokenizer: Json, *, whole_words: bool = False) -> str:
    """The `pre` of what a tokenizer.json has: the name of the same thing, recognised by its structure, or JSON."""
    found = Cut(
        normalizer=_plain(normalizer, "normalizers"),
        pre_tokenizer=_plain(pre_tokenizer, "pretokenizers"),
        whole_words=whole_words,
    )
    for name, cut in PRE_TOKENIZERS.items():
        if cut == found:
            return name
    return msgspec.json.encode(found).decode()


def _plain(step: Json, sequence: str) -> dict[str, Any] | None:
    """The step without what makes no difference: sequences in sequences, or of one; the way a line's end is written."""
    if step is None:
        return None
    steps = [_part(part) for part in _flat(step, sequence)]
    return {"type": "Sequence", sequence: steps} if len(steps) > 1 else steps[0] if steps else None


def _flat(step: Mapping[str, Any], sequence: str) -> Iterator[Mapping[str, Any]]:
    if step.get("type") != "Sequence":
        yield step
        return
    parts = step.get(sequence)
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise ModelError(f"tokenizer.json: a Sequence without {sequence}; {REMEDY}")
    for part in parts:
        yield from _flat(part, sequence)


def _part(step: Mapping[str, Any]) -> dict[str, Any]:
    part = dict(step)
    if part.get("type") == "ByteLevel":
        part = {"use_regex": True} | part | {"trim_offsets": True}  # offsets are not asked for
    if part.get("type") == "Split" and isinstance(part.get("pattern"), Mapping):
        written = part["pattern"]
        if isinstance(written.get("Regex"), str):
            part["pattern"] = {"Regex": written["Regex"].replace("\r", r"\r").replace("\n", r"\n")}
    return part


def uses(step: Json, kind: str) -> bool:
    """Whether a normalizer or pre_tokenizer has a part of this type."""
    return step is not None and f'"type": "{kind}"' in json.dumps(step)


def begins_with_space(cut: Cut) -> bool:
    """Whether a space is put before a text that has none there."""
    scheme = json.dumps(cut.pre_tokenizer)
    spaced = uses(cut.pre_tokenizer, "Metaspace") and '"prepend_scheme": "never"' not in scheme
    return spaced or uses(cut.normalizer, "Prepend")


class Added(msgspec.Struct, frozen=True):
    """A token that is found in text as it is, with the white space that it takes with it."""

    id: int
    text: str
    takes_left: bool = False
    takes_right: bool = False


class Splitter:
    """Cuts text at the tokens that are `found` in it as they are, and between those into words."""

    def __init__(self, cut: Cut, found: Iterable[Added]) -> None:
        added = list(found)
        self._whole = _engine(Cut())
        self._whole.add_special_tokens(
            [
                AddedToken(each.text, normalized=False, special=True, lstrip=each.takes_left, rstrip=each.takes_right)
                for each in added
            ]
        )
        self._known = [-1, *(each.id for each in added)]  # by the library's id
        self._first, self._later = _engine(cut), _engine(_later(cut))

    def split(self, text: str) -> list[Piece]:
        """The words of `text`, in the vocabulary's writing, and the tokens between them."""
        stretches: Encoding = self._whole.encode(text, add_special_tokens=False)
        pieces: list[Piece] = []
        for found, (start, end) in zip(stretches.ids, stretches.offsets, strict=True):
            if found:
                pieces.append(self._known[found])
            else:
                pieces += _words(self._later if start else self._first, text[start:end])
        return pieces


def _words(engine: Engine, text: str) -> Sequence[str]:
    if engine.normalizer is not None:
        text = engine.normalizer.normalize_str(text)
    if engine.pre_tokenizer is None:
        return (text,)
    return [word for word, _ in engine.pre_tokenizer.pre_tokenize_str(text)]


def _later(cut: Cut) -> Cut:
    """The cut of what does not begin the text: a space that is put before the first word alone is not put there."""
    if not uses(cut.pre_tokenizer, "Metaspace"):
        return cut
    written = json.dumps(cut.pre_tokenizer).replace('"prepend_scheme": "first"', '"prepend_scheme": "never"')
    return msgspec.structs.replace(cut, pre_tokenizer=json.loads(written))


def _engine(cut: Cut) -> Engine:
    """The library's tokenizer of which all but the model is used: to this one every text is the same, token 0."""
    described: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": cut.normalizer, "pre_tokenizer": cut.pre_tokenizer, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"": 0}, "unk_token": ""},
    }  # fmt: skip
    try:
        return Engine.from_str(json.dumps(described))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 the library raises nothing narrower, and panics over damaged tables
        raise ModelError(f"the tokenizer's pre-tokenizer is not supported: {one_line(str(error))}") from None
