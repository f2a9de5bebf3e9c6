"""Reasoning: taken apart the same however the text is cut; marks anywhere else are content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.model.reasoning import ReasoningReader, opened

PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "think>", "</th", "a", "b c", " ", "\n\n", "ink>"]), max_size=12
)


def parted(pieces: list[str], *, opened: bool) -> tuple[str, str]:
    reader = ReasoningReader(opened=opened)
    parts = [*map(reader.push, pieces), reader.finish()]
    return "".join(part.reasoning for part in parts), "".join(part.content for part in parts)


@given(PIECES, st.booleans())
def test_no_cut_of_the_text_changes_what_is_reasoning_and_what_is_content(pieces: list[str], opened: bool) -> None:
    text = "".join(pieces)
    assert parted(pieces, opened=opened) == parted([text], opened=opened) == parted(list(text), opened=opened)


@given(PIECES, st.booleans())
def test_nothing_is_lost_but_marks_and_blanks(pieces: list[str], opened: bool) -> None:
    kept, text = ("".join("".join(some).split()) for some in (parted(pieces, opened=opened), pieces))
    within = text.removeprefix("<think>")
    assert kept in (text, within, *(some.replace("</think>", "", 1) for some in (text, within)))


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "content"),
    [
        ("<think>\nso\n</think>\n\nYes.", False, "so", "Yes."),
        ("so it is\n</think>\n\nYes.", True, "so it is", "Yes."),
        ("<think>so</think>Yes.", True, "so", "Yes."),  # some models write the mark that the prompt ended with again
        ("<think>\n\n</think>\n\nYes.", False, "", "Yes."),
        ("  Yes, <think>no</think>", False, "", "  Yes, <think>no</think>"),
        ("<thin air", False, "", "<thin air"),
        ("a </think> b </think> c", True, "a", "b </think> c"),
        ("it never ended </thi", True, "it never ended </thi", ""),
        (" <think>it never ended", False, "it never ended", ""),
        (" \n", False, "", " \n"),
        (" \n", True, " \n", ""),
    ],
)
def test_reasoning_is_what_stands_before_its_end(text: str, opened: bool, reasoning: str, content: str) -> None:
    assert parted(list(text), opened=opened) == (reasoning, content)


def test_content_comes_as_soon_as_it_is_certain() -> None:
    reader = ReasoningReader(opened=False)
    shown = [reader.push(piece) for piece in ("<think>", "a b", " ", "</think>", "Yes", ".")]
    assert [part.reasoning for part in shown] == ["", "a b", "", "", "", ""]
    assert [part.content for part in shown] == ["", "", "", "", "Yes", "."]


def test_a_prompt_that_ends_with_the_mark_opens_the_reasoning() -> None:
    assert opened("<|im_start|>assistant\n<think>\n")
    assert not opened("<think>\n\n</think>\n\n")
    assert not opened("")
