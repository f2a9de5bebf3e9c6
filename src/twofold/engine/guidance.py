"""Constraints as masks over the vocabulary, by the library llguidance; imported only once a constraint is asked for.

The library takes the bytes of each token, and walks its parser over all of them at once. Control tokens stand for no
text: a grammar names them as `<|name|>` or `<[id]>`.
"""

import functools

import msgspec
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from twofold.engine.constraint import TEXT_LIMIT_BYTES, WHITESPACE, Constraint
from twofold.engine.vetting import vet
from twofold.errors import RequestError, one_line
from twofold.kernels.choosing import U32
from twofold.model.tokenizer import Tokenizer
from twofold.units import KIB

_LEXER_STATES = 25_000  # of 1 to 2 KiB each, an answer


class GuidedMatcher:
    """Where one answer stands in its constraint (`sampler.Matcher`)."""

    def __init__(self, matcher: LLMatcher, known: int, vocabulary: int) -> None:
        """`known`: the tokens of the library's own vocabulary."""
        self._matcher = matcher
        self._bits = np.zeros(_words(max(known, vocabulary)), np.uint32)
        self._address, self._bytes = self._bits.__array_interface__["data"][0], 4 * _words(known)
        self._beyond = vocabulary // 32  # the first word that has bits of no token
        self._tail = np.zeros(len(self._bits) - self._beyond, np.uint32)
        self._tail[:1] = (1 << vocabulary % 32) - 1
        self._made = self.finished = False
        self.prepare()

    def prepare(self) -> None:
        """Make the next mask; in any thread, while weight memory works. RequestError if that became too costly."""
        if not self._made and not self.finished:
            self._matcher.unsafe_compute_mask_ptr(self._address, self._bytes)
            self._check()
            self._bits[self._beyond :] &= self._tail
            self._made = True
            self.finished = not self._bits.any()

    def allowed(self) -> U32:
        """Which tokens may come next (`sampler.Matcher`); the next `prepare` writes over it."""
        self.prepare()
        if not self._made:
            raise RequestError("the answer is complete under its constraint; nothing more can be chosen")
        return self._bits

    def take(self, token: int) -> None:
        """The answer goes on with `token`."""
        self._matcher.consume_token(token)
        self._check()
        self._made, self.finished = False, bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RequestError(f"the constraint cannot be followed: {one_line(self._matcher.get_error())[:300]}")


def matcher(constraint: Constraint, tokenizer: Tokenizer, vocabulary: int) -> GuidedMatcher:
    """The beginning of an answer under `constraint`; RequestError for one that is wrong or too costly."""
    if len(constraint.text.encode(errors="surrogatepass")) > TEXT_LIMIT_BYTES:
        raise RequestError(f"{constraint.kind} is longer than {TEXT_LIMIT_BYTES // KIB} KiB; shorten it")
    grammar = _grammar(constraint)
    vet(constraint, grammar)
    limits = LLParserLimits(max_lexer_states=_LEXER_STATES, verbose_errors=False)
    tokens = _tokens(tokenizer)
    return GuidedMatcher(LLMatcher(tokens, grammar, log_level=0, limits=limits), tokens.vocab_size, vocabulary)


def _words(tokens: int) -> int:
    """How many uint32 have a bit for each of so many tokens."""
    return (tokens + 31) // 32


def _grammar(constraint: Constraint) -> str:
    try:
        match constraint.kind:
            case "json_object":
                return _of_schema('{"type": "object"}')
            case "json_schema":
                msgspec.json.decode(constraint.text)
                return _of_schema(constraint.text)
            case "regex":
                return LLMatcher.grammar_from_regex(constraint.text)
            case "grammar":
                return LLMatcher.grammar_from_lark(constraint.text)
    except RecursionError:
        raise RequestError(f"{constraint.kind} is nested too deep; make it flatter") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise RequestError(f"{constraint.kind} is refused: {one_line(str(error))[:300]}") from None


def _of_schema(schema: str) -> str:
    return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": WHITESPACE})


class _Vocabulary:
    """A tokenizer as the library asks for it."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_ids)
        self.end_ids = sorted(tokenizer.end_ids)
        if not self.end_ids:  # the library needs one: a token that no model has
            self.end_ids = [len(self.tokens)]
            self.special_token_ids.append(len(self.tokens))
            self.tokens.append(b"<end>")
        self.eos_token_id = self.end_ids[0]

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode(), parse_special=False, add_bos=False)


@functools.lru_cache(maxsize=2)
def _tokens(tokenizer: Tokenizer) -> LLTokenizer:
    """The library's own tables, which take 0.2 s to make for 49,000 tokens."""
    vocabulary = _Vocabulary(tokenizer)
    return LLTokenizer(TokenizerWrapper(vocabulary), eos_token=vocabulary.end_ids)
