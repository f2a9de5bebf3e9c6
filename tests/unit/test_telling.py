"""What is told of an answer, and where it ends."""

from pathlib import Path

import pytest

from twofold.engine.limits import Limits
from twofold.engine.request import Chosen, Piece
from twofold.engine.telling import Telling
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer


@pytest.fixture
def tokenizer(tiny_path: Path) -> Tokenizer:
    with Checkpoint.open(tiny_path) as checkpoint:
        return Tokenizer(checkpoint.tokenizer)


def told(tokenizer: Tokenizer, text: str, limits: Limits) -> list[Piece]:
    """The pieces of an answer of this text."""
    telling, pieces = Telling(limits, tokenizer, limits.max_tokens), []
    for token in tokenizer.encode(text, add_bos=False):
        if (piece := telling.push(Chosen(token), complete=False)) is not None:
            pieces.append(piece)
            if piece.finish:
                break
    return pieces


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_what_could_begin_a_stop_string_is_told_with_its_tokens_when_it_is_none(tokenizer: Tokenizer) -> None:
    pieces = told(tokenizer, "a<b<<c>", Limits(100, ("<<>",)))
    assert text_of(pieces) == "a<b<<c>"
    assert all(piece.chosen for piece in pieces)
    tokens = [chosen.token for piece in pieces for chosen in piece.chosen]
    assert tokens == tokenizer.encode("a<b<<c>", add_bos=False)


def test_a_stop_string_ends_the_text_before_it_but_not_within_the_least_tokens(tokenizer: Tokenizer) -> None:
    assert text_of(told(tokenizer, "xyzSxyzS", Limits(100, ("S",)))) == "xyz"
    pieces = told(tokenizer, "xyzSxyzS", Limits(100, ("S",), min_tokens=len(tokenizer.encode("xyzS", add_bos=False))))
    assert (text_of(pieces), pieces[-1].finish) == ("xyzSxyz", "stop")


def test_an_end_token_and_a_stop_id_are_no_part_of_the_text(tokenizer: Tokenizer) -> None:
    (end, *_) = tokenizer.end_ids
    for token, limits in ((end, Limits(9)), (tokenizer.encode("z", add_bos=False)[-1], Limits(9, stop_ids=()))):
        limits = Limits(9, stop_ids=() if token == end else (token,))
        telling = Telling(limits, tokenizer, 9)
        (first,) = tokenizer.encode("a", add_bos=False)[-1:]
        telling.push(Chosen(first), complete=False)
        last = telling.push(Chosen(token), complete=False)
        assert last is not None
        assert (last.text, last.finish, last.chosen) == ("", "stop", (Chosen(token),))


def test_the_most_tokens_end_an_answer_with_all_that_is_known(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("abc<", add_bos=False)
    pieces = told(tokenizer, "abc<def", Limits(len(tokens), ("<d",)))
    assert (text_of(pieces), pieces[-1].finish) == ("abc<", "length")


def test_an_answer_that_may_not_go_on_is_complete(tokenizer: Tokenizer) -> None:
    telling = Telling(Limits(9), tokenizer, 9)
    piece = telling.push(Chosen(tokenizer.encode("}", add_bos=False)[-1]), complete=True)
    assert piece is not None
    assert (piece.text, piece.finish) == ("}", "stop")
