"""Merging words natively gives what the `tokenizers` library gives, which is the plain version beside it."""

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


def both(tokens: list[str], merges: list[str], words: list[bytes], *, whole_words: bool) -> tuple[list[int], list[int]]:
    """The ids of the words in one text: ours, and the library's one after another."""
    ours = Bpe(Strings.of(tokens), Strings.of(merges), whole_words=whole_words)
    ends = np.cumsum([*map(len, words)], dtype=np.int32)
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    theirs = models.BPE({token: i for i, token in enumerate(tokens)}, pairs, ignore_merges=whole_words)
    spelled = ["".join(LETTERS[byte] for byte in word) for word in words]
    expected = [token.id for word in spelled for token in theirs.tokenize(word)]
    return ours.encode(b"".join(words), ends, np.full(len(words), -1, np.int32)), expected


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
    bpe = Bpe(Strings.of(tokens), Strings.of(merges), whole_words=False)
    word = b"a" * (2**20 + 2**10 + 1)
    ids = bpe.encode(word, np.array([len(word)], np.int32), np.array([-1], np.int32))
    assert ids == [20, 10, 0]


@pytest.mark.parametrize("known", [[-1, 7, -1], [7, -1, -1], [-1, -1, 7]])
def test_a_known_word_is_the_token_it_is_known_as(known: list[int]) -> None:
    bpe = Bpe(Strings.of(["a", "aa"]), Strings.of(["a a"]), whole_words=False)
    ids = bpe.encode(b"aaaaaa", np.array([2, 4, 6], np.int32), np.array(known, np.int32))
    assert ids == [1 if token < 0 else token for token in known]
