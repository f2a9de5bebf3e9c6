"""Text to token ids and back: byte-level BPE, built from what a GGUF file says about its tokenizer.

    text ──split at special tokens──split by `pre`──bytes as letters──BPE merges──> ids
    ids ──token_bytes──join──UTF-8 (damaged sequences become U+FFFD)──> text

`TokenizerData` is the whole description and is plain data: it travels to a context processor that has no
model file. `Tokenizer` runs it: the `tokenizers` library cuts text at special tokens and into words, `Bpe` merges.
How text is cut into words is the file's `tokenizer.ggml.pre`; the cuts we know, and their sources, are in
`PRE_TOKENIZERS`.

Sources: GGUF specification, section "Tokenizer"; Radford et al. 2019 (GPT-2), byte-level BPE.
"""

import codecs
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Engine

from twofold.errors import ModelError, RequestError
from twofold.model.bpe import REMEDY, Bpe
from twofold.model.strings import CONTINUED, CONTINUES, Ends, Strings
from twofold.units import GIB

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
_TYPES = frozenset((NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED))
_SPECIAL = frozenset((UNKNOWN, CONTROL))
# Control tokens that tell parts of an answer apart, so that they are shown in it (`tool_calls`, `reasoning`).
_SHOWN = frozenset(("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<think>", "</think>"))


class PreTokenizer(msgspec.Struct, frozen=True):
    """How one kind of model cuts text into words before BPE."""

    steps: tuple[pre_tokenizers.PreTokenizer, ...]
    whole_words: bool = False  # a word that is a token is taken as it is, without merging
    add_bos: bool = False  # where the file does not say


_BYTES_AS_LETTERS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_GPT2_WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
_LLAMA3_WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Sources: the published tokenizer.json of openai-community/gpt2, HuggingFaceTB/SmolLM2-135M-Instruct and
# meta-llama/Meta-Llama-3-8B. The fidelity tests hold each equal to llama.cpp.
PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "gpt-2": PreTokenizer((_GPT2_WORDS,)),
    "smollm": PreTokenizer((pre_tokenizers.Digits(individual_digits=True), _GPT2_WORDS)),
    "llama-bpe": PreTokenizer(
        (pre_tokenizers.Split(_LLAMA3_WORDS, "isolated"), _BYTES_AS_LETTERS), whole_words=True, add_bos=True
    ),
}


def _letter_bytes() -> dict[str, int]:
    """GPT-2's writing of bytes as printable letters: 188 stand for themselves, the rest for U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_LETTER_BYTES = _letter_bytes()


class TokenizerData(msgspec.Struct, frozen=True, dict=True):
    """A tokenizer as data; an instance that exists is valid, from a file or from a peer.

    `token_types` holds GGUF's 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, a byte a token;
    `merges` holds "left right", best first. Raises ModelError (see `_check`) when it cannot be used.
    """

    model: str
    pre: str
    tokens: Strings
    token_types: bytes
    merges: Strings
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    padding_id: int | None = None
    end_of_turn_ids: list[int] = []
    add_bos: bool = False
    add_eos: bool = False
    chat_template: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    @functools.cached_property
    def bpe(self) -> Bpe:
        """The merges, ready to use."""
        return Bpe(self.tokens, self.merges, whole_words=PRE_TOKENIZERS[self.pre].whole_words)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> "TokenizerData":
        """The tokenizer of a GGUF file with this metadata.

        Raises ModelError, one line, for a missing key, a value of another type, or a tokenizer that is
        damaged or not supported.
        """
        _check_kind(_required(metadata, "ggml.model", str), _required(metadata, "ggml.pre", str))
        pre = _required(metadata, "ggml.pre", str)
        turn_ends = (_optional(metadata, f"ggml.{name}_token_id", int) for name in ("eot", "eom"))
        add_bos = _optional(metadata, "ggml.add_bos_token", bool)
        return cls(
            model=_required(metadata, "ggml.model", str),
            pre=pre,
            tokens=_required(metadata, "ggml.tokens", Strings),
            token_types=_types(_required(metadata, "ggml.token_type", list[int])),
            merges=_required(metadata, "ggml.merges", Strings),
            bos_id=_optional(metadata, "ggml.bos_token_id", int),
            eos_id=_optional(metadata, "ggml.eos_token_id", int),
            unknown_id=_optional(metadata, "ggml.unknown_token_id", int),
            padding_id=_optional(metadata, "ggml.padding_token_id", int),
            end_of_turn_ids=[token_id for token_id in turn_ends if token_id is not None],
            add_bos=PRE_TOKENIZERS[pre].add_bos if add_bos is None else add_bos,
            add_eos=bool(_optional(metadata, "ggml.add_eos_token", bool)),
            chat_template=_optional(metadata, "chat_template", str),
        )


def _required(metadata: Mapping[str, object], key: str, kind: Any) -> Any:
    if f"tokenizer.{key}" not in metadata:
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


def _check(data: TokenizerData) -> None:
    """Raise ModelError unless every part of `data` is supported and consistent with the others."""
    _check_kind(data.model, data.pre)
    _check_types(data)
    _check_ids(data)
    _ = data.bpe  # holds tokens and merges against each other


def _check_kind(model: str, pre: str) -> None:
    if model != "gpt2":
        raise ModelError(f"the tokenizer model {model[:60]!r} is not supported; supported: 'gpt2' (byte-level BPE)")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(repr(name) for name in sorted(PRE_TOKENIZERS))
        raise ModelError(f"the tokenizer's pre-tokenizer {pre[:60]!r} is not supported; supported: {known}")


def _check_types(data: TokenizerData) -> None:
    count = len(data.tokens)
    if len(data.token_types) != count:
        raise ModelError(f"the tokenizer has {count} tokens, {len(data.token_types)} token types; {REMEDY}")
    unknown_types = set(data.token_types) - _TYPES
    if unknown_types:
        kind = min(unknown_types)
        raise _unknown_type(data.token_types.index(kind), kind)


def _types(kinds: list[int]) -> bytes:
    try:
        return bytes(kinds)
    except ValueError:  # a number that is no byte
        raise _unknown_type(*next((i, kind) for i, kind in enumerate(kinds) if not 0 <= kind < 256)) from None


def _unknown_type(token: int, kind: int) -> ModelError:
    return ModelError(f"token {token} has type {kind}, which a gpt2 tokenizer has not; {REMEDY}")


def _check_ids(data: TokenizerData) -> None:
    named = {"bos": data.bos_id, "eos": data.eos_id, "unknown": data.unknown_id, "padding": data.padding_id}
    named |= {f"end of turn {i}": token_id for i, token_id in enumerate(data.end_of_turn_ids)}
    for name, token_id in named.items():
        if token_id is not None and not 0 <= token_id < len(data.tokens):
            raise ModelError(f"the tokenizer's {name} id {token_id} is outside its {len(data.tokens)} tokens; {REMEDY}")
    for name, wanted, token_id in (("bos", data.add_bos, data.bos_id), ("eos", data.add_eos, data.eos_id)):
        if wanted and token_id is None:
            raise ModelError(f"the tokenizer is to add {name} to a text but names no {name} id; {REMEDY}")


class Splitter:
    """Cuts text at the tokens that are `found` in it as they are, and between those into words."""

    def __init__(self, data: TokenizerData, found: npt.NDArray[np.int32]) -> None:
        # Of the library's tokenizer all but the model is used: to this one every word is the same, token 0.
        self._engine = Engine(models.WordLevel({"": 0}, unk_token=""))
        self._engine.pre_tokenizer = pre_tokenizers.Sequence(list(PRE_TOKENIZERS[data.pre].steps))
        texts = [data.tokens[i] for i in found.tolist()]
        self._engine.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in texts])
        self._known = np.concatenate([[-1], found]).astype(np.int32)  # by the library's id

    def split(self, text: str, raw: bytes) -> tuple[Ends, npt.NDArray[np.int32]]:
        """Where each piece of `text` ends in `raw`, its UTF-8, and its token if it is one that is found, else -1."""
        pieces = self._engine.encode(text, add_special_tokens=False)
        ends = np.array([end for _, end in pieces.offsets], np.int32)
        if len(raw) != len(text):
            begins = np.flatnonzero((np.frombuffer(raw, np.uint8) & CONTINUED) != CONTINUES)  # of each character
            ends = np.append(begins, len(raw)).astype(np.int32)[ends]
        return ends, self._known[pieces.ids]


RECENT_TOKENS = 4096  # whose bytes are kept ready: most of a text is made of few


class Tokenizer:
    """Encodes text and decodes ids of one vocabulary. Safe to share between threads."""

    def __init__(self, data: TokenizerData) -> None:
        self.data = data
        self.vocab_size = len(data.tokens)
        end_ids = [*data.end_of_turn_ids, *([] if data.eos_id is None else [data.eos_id])]
        self.end_ids = frozenset(end_ids)  # a reply is complete at any of these
        self.special_ids = frozenset(self._of_types(*_SPECIAL).tolist())
        self.hidden_ids = frozenset(token for token in self.special_ids if data.tokens[token] not in _SHOWN)
        self._plain = Splitter(data, self._of_types(USER_DEFINED))
        self._special = Splitter(data, self._of_types(USER_DEFINED, *_SPECIAL))
        self._bytes = functools.lru_cache(RECENT_TOKENS)(
            lambda token: _token_bytes(data.tokens[token], data.token_types[token])
        )

    @functools.cached_property
    def longest_bytes(self) -> int:
        """Bytes of the longest token: so many letters of a text at most become one."""
        return int(np.diff(self.data.tokens.end, prepend=np.int32(0)).max(initial=0))

    def _of_types(self, *types: int) -> npt.NDArray[np.int32]:
        """The ids of the tokens of these types."""
        return np.flatnonzero(np.isin(np.frombuffer(self.data.token_types, np.uint8), types)).astype(np.int32)

    def encode(self, text: str, *, parse_special: bool = True, add_bos: bool | None = None) -> list[int]:
        """The token ids of `text`.

        `parse_special` reads control tokens written in the text as those tokens; without it they are
        ordinary characters (for text that is not trusted). `add_bos` None does what the model file asks for
        both ends; True or False decides about the beginning alone, and nothing is added to the end. A byte
        that the vocabulary has no token for is left out, as everywhere else (SmolLM2 lacks U+0004).
        Raises RequestError for text with a lone surrogate or of 2 GiB, and for `add_bos` where there is no such
        token.
        """
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, "
                "which no UTF-8 text can hold; remove it or put U+FFFD in its place"
            ) from None
        if len(raw) >= 2 * GIB:
            raise RequestError("the text has 2 GiB or more, which no context holds; shorten it")
        splitter = self._special if parse_special else self._plain
        data, (ends, known) = self.data, splitter.split(text, raw)
        ids = data.bpe.encode(raw, ends, known)
        if data.add_bos if add_bos is None else add_bos:
            if data.bos_id is None:
                raise RequestError("this model has no beginning-of-sequence token; encode without add_bos")
            ids.insert(0, data.bos_id)
        if add_bos is None and data.add_eos and data.eos_id is not None:
            ids.append(data.eos_id)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: its text for a special token, nothing for an unused one.

        Raises RequestError for an id outside the vocabulary.
        """
        if not 0 <= token_id < self.vocab_size:
            raise RequestError(f"token id {token_id} is not in the vocabulary; the ids are 0 to {self.vocab_size - 1}")
        return self._bytes(token_id)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD, special tokens are left out if asked."""
        stream = TextStream(self, skip_special=skip_special)
        return stream.push_bytes(b"".join(map(stream.bytes_of, ids))) + stream.finish()


class TextStream:
    """Decodes one reply id by id; the pieces joined are `Tokenizer.decode` of all its ids."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.hidden_ids if skip_special else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that became certain with this token; "" while a character is incomplete."""
        return self.push_bytes(self.bytes_of(token_id))

    def push_bytes(self, data: bytes) -> str:
        """The same for bytes."""
        return self._decoder.decode(data)

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes this stream shows for a token: none for a special one that is to be skipped."""
        return b"" if token_id in self._skipped else self._tokenizer.token_bytes(token_id)

    def finish(self) -> str:
        """What is left at the end: "", or U+FFFD for an incomplete character. The stream can start anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def _token_bytes(text: str, kind: int) -> bytes:
    if kind == UNUSED:
        return b""
    if kind == NORMAL and all(letter in _LETTER_BYTES for letter in text):
        return bytes(_LETTER_BYTES[letter] for letter in text)
    return text.encode()
