"""The tokenizer of a directory encodes and decodes as Transformers, for each kind of tokenizer.json."""

import json
from typing import Any

import pytest
from hard_text import HARD_TEXT, planes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained import KINDS, write

from twofold.model.chat import ChatTemplate, Message
from twofold.model.hub.directory import tokenizer_files
from twofold.model.hub.tokenizer import tokenizer_metadata
from twofold.model.tokenizer import Tokenizer, TokenizerData

MARKED = [
    "<s>",
    "</s>",
    "<|turn|>",
    "<b>",
    " [note]  ",
    "a [note]b",
    "<s> a",
    "▁",
    "<0x0A>",
    "\u0301",
    "  ",
    "é",
    "fox",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from([*MARKED, *HARD_TEXT.values()]), max_size=6
).map("".join)
Both = tuple[Tokenizer, Any, str]


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Ours and Transformers', from one directory; and the `pre` that ours should have."""
    made, pre = KINDS[request.param]
    folder = tmp_path_factory.mktemp("hub")
    theirs = write(folder, made())
    files = tokenizer_files(folder, json.loads("{}"))
    metadata = tokenizer_metadata(files, len(theirs) + 5)
    return Tokenizer(TokenizerData.from_metadata(metadata)), theirs, pre


def test_the_cut_is_recognised_by_its_structure(both: Both) -> None:
    ours, _, pre = both
    assert ours.data.pre.startswith(pre)


@pytest.mark.parametrize("name", HARD_TEXT)
def test_hard_text_encodes_as_in_transformers(both: Both, name: str) -> None:
    ours, theirs, _ = both
    assert ours.encode(HARD_TEXT[name], add_bos=False) == theirs.encode(HARD_TEXT[name], add_special_tokens=False)


def test_blocks_of_unicode_encode_as_in_transformers(both: Both) -> None:
    ours, theirs, _ = both
    texts = [*planes()][::5]
    different = [
        name
        for name, text in texts
        if ours.encode(text, add_bos=False) != theirs.encode(text, add_special_tokens=False)
    ]
    assert different == []


@given(text=TEXT)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_encodes_and_decodes_as_in_transformers(both: Both, text: str) -> None:
    ours, theirs, _ = both
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    for skip in (False, True):
        assert ours.decode(ids[1:], skip_special=skip) == theirs.decode(ids[1:], skip_special_tokens=skip)


def test_the_special_tokens_and_all_ends_of_a_reply_are_those_of_the_directory(both: Both) -> None:
    ours, theirs, _ = both
    assert (ours.data.bos_id, ours.data.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.end_ids == {theirs.eos_token_id, theirs.convert_tokens_to_ids("<|turn|>")}
    assert ours.vocab_size == len(theirs) + 5


def test_a_conversation_renders_as_in_transformers(both: Both) -> None:
    ours, theirs, _ = both
    said = [{"role": "user", "content": "hi"}]
    assert ChatTemplate.of(ours.data).render([Message("user", "hi")]) == theirs.apply_chat_template(
        said, tokenize=False
    )
