"""tokenizer.json and its companions, read into GGUF's words; whatever they hold, the answer is metadata or one line."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import ModelError
from twofold.model.hub.tokenizer import TokenizerFiles, tokenizer_metadata
from twofold.model.tokenizer import Tokenizer, TokenizerData

SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
LETTERS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def described(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json of six tokens, of which two are added."""
    vocab = {"a": 0, "b": 1, "ab": 2, "<unk>": 3}
    model = {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]], "unk_token": "<unk>"}
    added = [{"id": 4, "content": "<s>", "special": True}, {"id": 5, "content": "[x]", "lstrip": True}]
    return {"model": model, "added_tokens": added, "normalizer": SPACES, "pre_tokenizer": None} | changes


def model(**changes: Any) -> dict[str, Any]:
    return described(model=described()["model"] | changes)


def data(tokenizer: dict[str, Any], vocabulary: int = 8, **files: Any) -> TokenizerData:
    return TokenizerData.from_metadata(tokenizer_metadata(TokenizerFiles(tokenizer=tokenizer, **files), vocabulary))


def test_the_vocabulary_is_filled_up_to_the_rows_of_the_embedding() -> None:
    read = data(described())
    assert [*read.tokens] == ["a", "b", "ab", "<unk>", "<s>", "[x]", "[unused 6]", "[unused 7]"]
    assert [*read.token_types] == [1, 1, 1, 1, 3, 4, 5, 5]


def test_text_becomes_the_tokens_of_the_directory() -> None:
    assert Tokenizer(data(described())).encode("abc  [x]<s>") == [2, 3, 5, 4]


@pytest.mark.parametrize(
    ("generation", "ends"), [({}, set()), ({"eos_token_id": 4}, {4}), ({"eos_token_id": [2, 4]}, {2, 4})]
)
def test_a_reply_ends_at_all_ends_of_the_generation_config(generation: dict[str, Any], ends: set[int]) -> None:
    assert Tokenizer(data(described(), generation=generation)).end_ids == ends


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"config": {"chat_template": "b"}}, "b"),
        (
            {"config": {"chat_template": [{"name": "rag", "template": "t"}, {"name": "default", "template": "d"}]}},
            "d",
        ),
        ({"config": {"chat_template": "b"}, "template": "f"}, "f"),
    ],
)
def test_the_chat_template_is_the_files_or_else_the_configurations(files: dict[str, Any], template: str | None) -> None:
    assert data(described(), **files).chat_template == template


def test_the_beginning_is_what_the_post_processor_puts_there() -> None:
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    read = data(described(post_processor={"type": "TemplateProcessing", "single": single}), config={"bos_token": "<s>"})
    assert (read.bos_id, read.add_bos, read.add_eos) == (4, True, False)


def test_the_beginning_is_the_configurations_where_no_template_is() -> None:
    config = {"bos_token": {"content": "<s>"}, "add_bos_token": True, "add_eos_token": True}
    read = data(described(), config=config)
    assert (read.add_bos, read.add_eos) == (True, False)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "more tokens than rows": (model(vocab={"a": 0, "b": 8}), "token 'b' has the id 8, outside the embedding's 8 rows"),
    "negative id": (model(vocab={"a": -1}), "token 'a' has the id -1, outside"),
    "id twice": (model(vocab={"a": 0, "b": 0}), "'a' and 'b' have the id 0"),
    "merge of a stranger": (model(merges=["a z"]), "merge 0 names 'z', which is not in the vocabulary"),
    "no merges": (described(model={"type": "BPE", "vocab": {"a": 0}}), "missing required field `merges`"),
    "words in pieces": (model(end_of_word_suffix="</w>"), "only BPE and unigram are supported"),
    "another kind": (described(model={"type": "WordPiece", "vocab": {}}), "only BPE and unigram are supported"),
    "unigram unknown outside": (
        described(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 9}), "unknown id 9 is outside"
    ),
    "a cut unheard of": (described(pre_tokenizer={"type": "Zzz"}), "pre-tokenizer is not supported"),
    "half a character": (model(vocab={"\ud800": 0}), "tokenizer.json: a text is not Unicode"),
    "a sequence of nothing": (described(normalizer={"type": "Sequence"}), "a Sequence without normalizers"),
    "a broken pattern": (
        described(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}),
        "pre-tokenizer is not supported",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_that_does_not_fit_is_refused_in_one_line(name: str) -> None:
    tokenizer, said = REFUSED[name]
    with pytest.raises(ModelError) as refused:
        data(tokenizer)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.sampled_from(["a", "<s>", ""])
KEYS = st.sampled_from(["type", "id", "a", "Regex"])
JSON = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(KEYS, part, max_size=3), max_leaves=6
)


def paths(value: Any) -> list[tuple[Any, ...]]:
    """Where in a JSON value another could stand."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, part in inside for rest in paths(part))]


@given(draw=st.data())
@settings(max_examples=400, deadline=None)
def test_any_part_may_be_anything_and_the_answer_is_a_tokenizer_or_one_line(draw: st.DataObject) -> None:
    whole = json.loads(json.dumps(described(pre_tokenizer={"type": "Sequence", "pretokenizers": [LETTERS]})))
    for _ in range(draw.draw(st.integers(1, 2))):
        path = draw.draw(st.sampled_from(paths(whole)[1:]))
        place = whole
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = draw.draw(JSON)
    config = {"bos_token": draw.draw(JSON), "chat_template": draw.draw(JSON)}
    said = ""
    try:
        read = data(whole, config=config, generation={"eos_token_id": draw.draw(JSON)})
        Tokenizer(read).encode("ab [x]<s> é")
    except ModelError as error:
        said = str(error)
    assert "\n" not in said
