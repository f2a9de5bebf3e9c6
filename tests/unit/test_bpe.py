"""Merging words natively gives what the `tokenizers` library gives, which is the plain version beside it."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from twofold.model.bpe import Bpe
from twofold.model.strings import Strings


def letters() -> list[str]:
    """The letter GPT-2 writes for each byte, by byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


LETTERS = letters()
ALPHABET = [LETTERS[byte] for byte in b"ab \xc3\xa9"]


@st.composite
def vocabularies(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Tokens and merges over five bytes, some of which may have no token; a merge may be there twice."""
    tokens = draw(st.lists(st.sampled_from(ALPHABET), min_size=1, unique=True))
    merges = []
    for left, right in draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)):
        pair = tokens[left % len(tokens)], tokens[right % len(tokens)]
        merges.append(" ".join(pair))
        if "".join(pair) not in tokens:
            tokens.append("".join(pair))
    return tokens, draw(st.permutations(merges))


def bpe(tokens: list[str], merges: list[str] | None, **changes: Any) -> Bpe:
    listed = None if merges is None else Strings.of(merges)
    return Bpe(Strings.of(tokens), listed, np.arange(len(tokens), dtype=np.int32), **changes)


def both(tokens: list[str], merges: list[str], words: list[bytes], *, whole_words: bool) -> tuple[list[int], list[int]]:
    """The ids of the words in one text: ours, and the library's one after another."""
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    theirs = models.BPE({token: i for i, token in enumerate(tokens)}, pairs, ignore_merges=whole_words)
    spelled = ["".join(LETTERS[byte] for byte in word) for word in words]
    expected = [token.id for word in spelled for token in theirs.tokenize(word)]
    return bpe(tokens, merges, whole_words=whole_words).encode(spelled), expected


@given(
    vocabulary=vocabularies(),
    words=st.lists(st.lists(st.sampled_from([*b"ab \xc3\xa9x"]), max_size=24).map(bytes), max_size=4),
    whole_words=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_any_words_are_merged_as_by_the_library(
    vocabulary: tuple[list[str], list[str]], words: list[bytes], whole_words: bool
) -> None:
    ours, theirs = both(*vocabulary, words, whole_words=whole_words)
    assert ours == theirs


def test_every_byte_is_its_letter() -> None:
    words = [bytes([byte]) for byte in range(256)]
    ours, theirs = both(LETTERS, [], words, whole_words=False)
    assert ours == theirs == [*range(256)]


def test_a_word_of_a_million_bytes_takes_no_longer_than_its_length_and_a_logarithm() -> None:
    merges = [" ".join(["a" * 2**i] * 2) for i in range(20)]
    tokens = ["a" * 2**i for i in range(21)]
    assert bpe(tokens, merges).encode(["a" * (2**20 + 2**10 + 1)]) == [20, 10, 0]


@pytest.mark.parametrize("known", [[-1, 7, -1], [7, -1, -1], [-1, -1, 7]])
def test_a_decided_token_is_that_token(known: list[int]) -> None:
    ids = bpe(["a", "aa"], ["a a"]).encode(["aa" if token < 0 else token for token in known])
    assert ids == [1 if token < 0 else token for token in known]


CHARACTERS = ["a", "b", "\u2581", "é", "漢"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@st.composite
def character_vocabularies(draw: st.DrawFn) -> list[str]:
    """Tokens of characters, and of two tokens before them, in an order that may put the longer first."""
    tokens = draw(st.lists(st.sampled_from(CHARACTERS), min_size=1, unique=True))
    for left, right in draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)):
        whole = tokens[left % len(tokens)] + tokens[right % len(tokens)]
        if whole not in tokens:
            tokens.append(whole)
    return draw(st.permutations(tokens))


def by_rank(tokens: list[str], word: str) -> list[str]:
    """What merging by rank means, plainly: the best pair at its leftmost place, until none is left."""
    parts = [*word]
    while True:
        pairs = [(tokens.index(a + b), i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in tokens]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@given(tokens=character_vocabularies(), word=st.text(st.sampled_from("ab\u2581é漢"), max_size=20))
@settings(max_examples=400, deadline=None)
def test_without_merges_neighbours_become_the_token_of_the_least_rank(tokens: list[str], word: str) -> None:
    vocabulary = tokens + BYTES
    ranks = np.array([*range(len(tokens)), *[-1] * 256], np.int32)
    byte_tokens = np.arange(len(tokens), len(vocabulary), dtype=np.int32)
    ours = Bpe(Strings.of(vocabulary), None, ranks, byte_tokens=byte_tokens).encode([word])
    parts = by_rank(tokens, word)
    spelled = [
        [tokens.index(part)] if part in tokens else [len(tokens) + byte for byte in part.encode()] for part in parts
    ]
    assert ours == [token for tokens_of_part in spelled for token in tokens_of_part]


@given(
    tokens=character_vocabularies(),
    words=st.lists(st.text(st.sampled_from("ab\u2581é漢x"), max_size=12), max_size=4),
    fallback=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_characters_without_a_token_become_bytes_or_one_unknown_as_by_the_library(
    tokens: list[str], words: list[str], fallback: bool
) -> None:
    merges = [(a, b) for a in tokens for b in tokens if a + b in tokens]
    vocabulary = ["<unk>", *tokens, *(BYTES if fallback else [])]
    theirs = models.BPE(
        {token: i for i, token in enumerate(vocabulary)},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=fallback,
    )
    byte_tokens = np.arange(len(tokens) + 1, len(vocabulary), dtype=np.int32) if fallback else None
    ours = bpe(vocabulary, [" ".join(pair) for pair in merges], byte_tokens=byte_tokens, unknown=0)
    assert ours.encode(words) == [token.id for word in words for token in theirs.tokenize(word)]


def test_text_never_becomes_a_token_of_no_rank() -> None:
    ranks = np.array([0, 0, -1], np.int32)
    merged = Bpe(Strings.of(["a", "b", "ab"]), None, ranks, whole_words=True)
    assert merged.encode(["ab"]) == [0, 1]
