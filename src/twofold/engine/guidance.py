"""Constraints as masks over the vocabulary, by the library llguidance; imported only once a constraint is asked for.

The library takes the bytes of each token, and walks its parser over all of them at once. Control tokens stand for no
text: a grammar names them as `<|name|>` or `<[id]>`.
"""

import functools

import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from twofold.engine.constraint import WHITESPACE, Constraint
from twofold.engine.vetting import TEXT_LIMIT_BYTES, vet
from twofold.errors import RequestError, one_line
from twofold.model.tokenizer import Tokenizer
from twofold.units import KIB

_LEXER_STATES = 25_000  # of 1 to 2 KiB each, an answer


class GuidedMatcher:
    """Where one answer stands in its constraint (`sampler.Matcher`)."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        self._mask: npt.NDArray[np.bool_] | None = None
        self.finished = False
        self.prepare()

    def prepare(self) -> None:
        """Make the next mask; in any thread, while weight memory works. RequestError if that became too costly."""
        if self._mask is None and not self.finished:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            self._check()
            mask = np.zeros(self._vocabulary, np.bool_)
            allowed = np.unpackbits(bits, count=min(8 * len(bits), self._vocabulary), bitorder="little")
            mask[: len(allowed)] = allowed
            self._mask = mask
            self.finished = not mask.any()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, bool[vocabulary]."""
        self.prepare()
        if self._mask is None:
            raise RequestError("the answer is complete under its constraint; nothing more can be chosen")
        return self._mask

    def take(self, token: int) -> None:
        """The answer goes on with `token`."""
        self._matcher.consume_token(token)
        self._check()
        self._mask, self.finished = None, self._matcher.is_stopped()

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
    return GuidedMatcher(LLMatcher(_tokens(tokenizer), grammar, log_level=0, limits=limits), vocabulary)


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
