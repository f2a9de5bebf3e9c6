"""Text to token ids and back: byte-level BPE, SentencePiece BPE and unigram, from what a checkpoint says.

    text ──Splitter──> words and decided tokens ──Bpe or Unigram──> ids
    ids ──token_bytes──join──UTF-8 (damaged sequences become U+FFFD)──> text

`TokenizerData` is the whole description and is plain data, with GGUF's names: it travels to a context processor that
has no model file. `Tokenizer` runs it. The kinds (`KINDS`) differ in how a vocabulary writes text and in what merges:

    gpt2     GPT-2's letters for bytes      listed merges
    gemma4   characters, U+2581 for spaces  listed merges         characters without a token become bytes
    llama    characters, U+2581 for spaces  the tokens' scores    characters without a token become bytes
    t5       characters, U+2581 for spaces  unigram: the likeliest of all divisions, by the tokens' scores

Sources: GGUF specification, section "Tokenizer"; Radford et al. 2019 (GPT-2), byte-level BPE; Kudo & Richardson 2018
(SentencePiece).
"""

import codecs
import functools
import re
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from twofold.errors import ModelError, RequestError
from twofold.model.bpe import REMEDY, Bpe, Ids
from twofold.model.pre_tokenizer import Added, Splitter, begins_with_space, cut_of
from twofold.model.strings import Strings
from twofold.model.tokenizer_metadata import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, described
from twofold.model.unigram import Unigram
from twofold.units import GIB

_SPECIAL = frozenset((UNKNOWN, CONTROL))
LETTERS, MERGES, SCORES, UNIGRAM = "gpt2", "gemma4", "llama", "t5"
KINDS = (LETTERS, MERGES, SCORES, UNIGRAM)
# Control tokens that tell parts of an answer apart, so that they are shown in it (`tool_calls`, `reasoning`).
_SHOWN = frozenset(("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<think>", "</think>"))
# Control tokens that end a turn, for files that name only the end of a text.
_TURN_ENDS = frozenset(("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|return|>"))


def _letter_bytes() -> dict[str, int]:
    """GPT-2's writing of bytes as printable letters: 188 stand for themselves, the rest for U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_LETTER_BYTES = _letter_bytes()
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenizerData(msgspec.Struct, frozen=True, dict=True):
    """A tokenizer as data; an instance that exists is valid, from a file or from a peer.

    `model` is one of KINDS, `pre` what `pre_tokenizer.cut_of` reads. `token_types` holds GGUF's 1 normal, 2 unknown,
    3 control, 4 user defined, 5 unused, 6 byte, a byte a token; `merges` holds "left right", best first; `scores` a
    little-endian float32 a token. Of the tokens found in text as they are, those in `takes_left_ids` and
    `takes_right_ids` take the white space before and after them with them. Raises ModelError (see `_check`) when it
    cannot be used.
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
    scores: bytes = b""
    takes_left_ids: list[int] = []
    takes_right_ids: list[int] = []

    def __post_init__(self) -> None:
        _check(self)

    @functools.cached_property
    def types(self) -> Ids:
        """The type of each token."""
        return np.frombuffer(self.token_types, np.uint8).astype(np.int32)

    @functools.cached_property
    def words(self) -> Bpe | Unigram:
        """What makes tokens of words, ready to use."""
        if self.model == UNIGRAM:
            scores = np.frombuffer(self.scores, "<f4")
            bytes_for = _byte_tokens(self)
            return Unigram(self.tokens, scores, self.types, unknown=self.unknown_id, byte_tokens=bytes_for)
        return Bpe(
            self.tokens,
            None if self.model == SCORES else self.merges,
            _ranks(self),
            byte_tokens=_byte_tokens(self),
            unknown=None if self.model == LETTERS else self.unknown_id,
            whole_words=cut_of(self.pre).whole_words,
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> "TokenizerData":
        """The tokenizer that a checkpoint's metadata describes, by GGUF's keys.

        Raises ModelError, one line, for a missing key, a value of another type, or a tokenizer that is
        damaged or not supported.
        """
        return cls(**described(metadata))


def _ranks(data: TokenizerData) -> Ids:
    """-1 for a token that text never becomes; by score, equal scores sharing a rank, where merges are not listed."""
    made = np.isin(data.types, (NORMAL, USER_DEFINED, UNUSED))
    if data.model != SCORES:
        return np.where(made, 0, -1).astype(np.int32)
    ranks = np.unique(-np.frombuffer(data.scores, "<f4"), return_inverse=True)[1]
    return np.where(made, ranks, -1).astype(np.int32)


def _byte_tokens(data: TokenizerData) -> Ids | None:
    """The token of each byte, -1 where there is none; None if there is none at all."""
    found = np.full(256, -1, np.int32)
    for token in np.flatnonzero(data.types == BYTE).tolist():
        found[_byte(data.tokens[token], token)] = token
    return found if (found >= 0).any() else None


def _byte(text: str, token: int) -> int:
    written = _BYTE_TOKEN.fullmatch(text)
    if written is None:
        raise ModelError(f"token {token} is to be a byte and is written {text[:60]!r}, not <0x..>; {REMEDY}")
    return int(written[1], 16)


def _check(data: TokenizerData) -> None:
    """Raise ModelError unless every part of `data` is supported and consistent with the others."""
    if data.model not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ModelError(f"the tokenizer model {data.model[:60]!r} is not supported; supported: {known}")
    cut_of(data.pre)
    _check_types(data)
    _check_scores(data)
    _check_ids(data)
    _ = data.words  # holds tokens and merges against each other


def _check_types(data: TokenizerData) -> None:
    count = len(data.tokens)
    if len(data.token_types) != count:
        raise ModelError(f"the tokenizer has {count} tokens, {len(data.token_types)} token types; {REMEDY}")
    known = {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED} | (set() if data.model == LETTERS else {BYTE})
    unknown_types = set(data.token_types) - known
    if unknown_types:
        kind = min(unknown_types)
        token = data.token_types.index(kind)
        raise ModelError(f"token {token} has type {kind}, which a {data.model} tokenizer has not; {REMEDY}")


def _check_scores(data: TokenizerData) -> None:
    count = len(data.tokens) if data.model in (SCORES, UNIGRAM) else 0
    if len(data.scores) != 4 * count:
        raise ModelError(f"the tokenizer has {count} tokens to be scored, {len(data.scores) // 4} scores; {REMEDY}")
    if not np.isfinite(np.frombuffer(data.scores, "<f4")).all():
        raise ModelError(f"the tokenizer has a score that is not a finite number; {REMEDY}")


def _check_ids(data: TokenizerData) -> None:
    named = {"bos": data.bos_id, "eos": data.eos_id, "unknown": data.unknown_id, "padding": data.padding_id}
    named |= {f"end of turn {i}": token_id for i, token_id in enumerate(data.end_of_turn_ids)}
    named |= {f"white space {i}": token for i, token in enumerate((*data.takes_left_ids, *data.takes_right_ids))}
    for name, token_id in named.items():
        if token_id is not None and not 0 <= token_id < len(data.tokens):
            raise ModelError(f"the tokenizer's {name} id {token_id} is outside its {len(data.tokens)} tokens; {REMEDY}")
    for name, wanted, token_id in (("bos", data.add_bos, data.bos_id), ("eos", data.add_eos, data.eos_id)):
        if wanted and token_id is None:
            raise ModelError(f"the tokenizer is to add {name} to a text but names no {name} id; {REMEDY}")


RECENT_TOKENS = 4096  # whose bytes are kept ready: most of a text is made of few


class Tokenizer:
    """Encodes text and decodes ids of one vocabulary. Safe to share between threads."""

    def __init__(self, data: TokenizerData) -> None:
        self.data = data
        self.vocab_size = len(data.tokens)
        self.special_ids = frozenset(self._of_types(*_SPECIAL))
        self.hidden_ids = frozenset(token for token in self.special_ids if data.tokens[token] not in _SHOWN)
        turn_ends = [token for token in self.special_ids if data.tokens[token] in _TURN_ENDS]
        text_ends = [] if data.eos_id is None else [data.eos_id]
        self.end_ids = frozenset([*text_ends, *data.end_of_turn_ids, *turn_ends])  # a reply is complete at any of these
        self._prefixed = begins_with_space(cut_of(data.pre))
        self._plain = self._splitter(USER_DEFINED)
        self._special = self._splitter(USER_DEFINED, *_SPECIAL)
        self._bytes = functools.lru_cache(RECENT_TOKENS)(self._bytes_of)

    @functools.cached_property
    def longest_bytes(self) -> int:
        """Bytes of the longest token: so many letters of a text at most become one."""
        return int(np.diff(self.data.tokens.end, prepend=np.int32(0)).max(initial=0))

    def _of_types(self, *types: int) -> list[int]:
        """The ids of the tokens of these types."""
        found: list[int] = np.flatnonzero(np.isin(self.data.types, types)).tolist()
        return found

    def _splitter(self, *types: int) -> Splitter:
        data = self.data
        left, right = set(data.takes_left_ids), set(data.takes_right_ids)
        found = (Added(i, data.tokens[i], i in left, i in right) for i in self._of_types(*types))
        return Splitter(cut_of(data.pre), found)

    def encode(self, text: str, *, parse_special: bool = True, add_bos: bool | None = None) -> list[int]:
        """The token ids of `text`.

        `parse_special` reads control tokens written in the text as those tokens; without it they are
        ordinary characters (for text that is not trusted). `add_bos` None does what the model file asks for
        both ends; True or False decides about the beginning alone, and nothing is added to the end. A byte
        that a vocabulary of bytes has no token for is left out, as everywhere else (SmolLM2 lacks U+0004).
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
        data, splitter = self.data, self._special if parse_special else self._plain
        ids = data.words.encode(splitter.split(text))
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

    def _bytes_of(self, token_id: int) -> bytes:
        text, kind = self.data.tokens[token_id], self.data.token_types[token_id]
        if kind in _SPECIAL or kind == UNUSED:
            return text.encode() if kind in _SPECIAL else b""
        if self.data.model == LETTERS:
            plain = kind == NORMAL and all(letter in _LETTER_BYTES for letter in text)
            return bytes(_LETTER_BYTES[letter] for letter in text) if plain else text.encode()
        return bytes([_byte(text, token_id)]) if kind == BYTE else text.replace("▁", " ").encode()

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD, special tokens are left out if asked.

        A space that encoding puts before every text is taken away again.
        """
        stream = TextStream(self, skip_special=skip_special)
        text = stream.push_bytes(b"".join(map(stream.bytes_of, ids))) + stream.finish()
        return text.removeprefix(" ") if self._prefixed else text


class TextStream:
    """Decodes one reply id by id; the pieces joined are `Tokenizer.decode` of all its ids, as the rest of a text."""

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
