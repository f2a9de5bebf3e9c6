"""The tokenizer on a vocabulary small enough to know by heart."""

import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ModelError, RequestError
from twofold.model.pre_tokenizer import PRE_TOKENIZERS
from twofold.model.strings import Strings
from twofold.model.tokenizer import TextStream, Tokenizer, TokenizerData

END, START, TOOL, PAD = "<|end|>", "<|start|>", "<tool>", "<unused0>"


def letters() -> list[str]:
    """The letter GPT-2 writes for each byte, by byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "1 2", "Ã ©"]


def metadata(**changes: Any) -> dict[str, object]:
    """A file's metadata: 256 bytes, seven merges, two control tokens, a user-defined and an unused one."""
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*letters(), *merged, END, START, TOOL, PAD]
    values: dict[str, object] = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": Strings.of(tokens),
        "token_type": [1] * 263 + [3, 3, 4, 5],
        "merges": Strings.of(MERGES),
        "bos_token_id": 264,
        "eos_token_id": 263,
        "unknown_token_id": 263,
        "padding_token_id": 263,
        "add_bos_token": False,
    }
    values |= changes
    chosen = {f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None}
    return chosen | {"tokenizer.chat_template": "{{ messages }}", "general.name": "tiny"}


def tokenizer(**changes: Any) -> Tokenizer:
    return Tokenizer(TokenizerData.from_metadata(metadata(**changes)))


CUTS_BYTES = [pre for pre, cut in PRE_TOKENIZERS.items() if "ByteLevel" in str(cut.pre_tokenizer)]
TINY = {pre: tokenizer(pre=pre) for pre in CUTS_BYTES}
UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
TRICKY = st.lists(
    st.sampled_from([END, START, TOOL, PAD, "hello", " w", "12", "é", "\0", " ", "\r\n", "<|", "漢", "👍🏽"])
).map("".join)
IDS = st.lists(st.integers(0, 266))


@pytest.mark.parametrize("pre", TINY)
@given(text=UNICODE | TRICKY)
def test_text_survives_encoding_and_decoding(pre: str, text: str) -> None:
    tiny = TINY[pre]
    kept = unicodedata.normalize("NFC", text) if PRE_TOKENIZERS[pre].normalizer else text
    assert tiny.decode(tiny.encode(text, parse_special=False)) == kept
    assert tiny.decode(tiny.encode(text), skip_special=False) == kept


@given(ids=IDS, skip_special=st.booleans())
def test_a_stream_gives_what_decode_gives(ids: list[int], skip_special: bool) -> None:
    tiny = TINY["smollm"]
    stream = TextStream(tiny, skip_special=skip_special)
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join(pieces) + stream.finish() == tiny.decode(ids, skip_special=skip_special)


@given(ids=IDS)
def test_decoding_is_utf8_decoding_of_the_tokens_bytes(ids: list[int]) -> None:
    tiny = TINY["smollm"]
    joined = b"".join(map(tiny.token_bytes, ids))
    assert tiny.decode(ids, skip_special=False) == joined.decode(errors="replace")


def test_a_stream_holds_a_character_back_until_it_is_complete() -> None:
    stream = TextStream(TINY["smollm"])
    assert [stream.push(byte) for byte in "漢a".encode()] == ["", "", "漢", "a"]


def test_a_stream_starts_anew_after_an_unfinished_character() -> None:
    stream = TextStream(TINY["smollm"])
    stream.push(0xE6)
    assert stream.finish() == "\ufffd"
    assert stream.push(ord("a")) == "a"


def test_merges_are_applied_best_first() -> None:
    assert TINY["smollm"].encode("hello") == [259]
    assert TINY["smollm"].encode("hell w") == [258, 260]


def test_a_digit_stands_alone_only_where_the_pre_tokenizer_says_so() -> None:
    assert TINY["smollm"].encode("12") == [ord("1"), ord("2")]
    assert TINY["gpt-2"].encode("12") == [261]


def test_whole_words_come_before_merges_in_llama_bpe() -> None:
    one_merge = {"merges": Strings.of(["h e"])}
    assert tokenizer(pre="llama-bpe", **one_merge).encode("hello") == [259]
    assert tokenizer(pre="gpt-2", **one_merge).encode("hello") == [256, *b"llo"]


def test_control_tokens_are_read_from_text_only_if_asked() -> None:
    tiny = TINY["smollm"]
    assert tiny.encode(f"a{END}") == [ord("a"), 263]
    assert tiny.encode(f"a{END}", parse_special=False) == list(f"a{END}".encode())


def test_user_defined_tokens_are_always_read_from_text() -> None:
    assert TINY["smollm"].encode(TOOL, parse_special=False) == TINY["smollm"].encode(TOOL) == [265]


@given(text=UNICODE | TRICKY)
def test_no_control_token_comes_from_text_that_is_not_parsed(text: str) -> None:
    tiny = TINY["smollm"]
    assert tiny.special_ids.isdisjoint(tiny.encode(text, parse_special=False))


def test_decoding_leaves_special_tokens_out_if_asked() -> None:
    ids = [264, ord("a"), 265, 266, 263]
    assert TINY["smollm"].decode(ids) == f"a{TOOL}"
    assert TINY["smollm"].decode(ids, skip_special=False) == f"{START}a{TOOL}{END}"


def test_control_tokens_that_part_an_answer_are_shown_in_it() -> None:
    tiny = tokenizer(tokens=Strings.of([*list(TINY["smollm"].data.tokens)[:263], END, "[TOOL_CALLS]", TOOL, PAD]))
    assert tiny.special_ids == {263, 264}
    assert tiny.decode([264, ord("a"), 263]) == "[TOOL_CALLS]a"


def test_the_bytes_of_a_byte_token_are_that_byte() -> None:
    assert [TINY["smollm"].token_bytes(i) for i in range(256)] == [bytes([i]) for i in range(256)]


@pytest.mark.parametrize(("token_id", "expected"), [(262, "é"), (263, END), (265, TOOL), (266, "")])
def test_the_bytes_of_a_token_are_those_of_its_text(token_id: int, expected: str) -> None:
    assert TINY["smollm"].token_bytes(token_id) == expected.encode()


def test_a_token_not_written_in_letters_for_bytes_is_its_text() -> None:
    tokens = [*TOKENS[:-1], "a 漢"]
    assert tokenizer(tokens=Strings.of(tokens), token_type=[1] * 267).token_bytes(266) == "a 漢".encode()


def test_a_byte_without_a_token_is_left_out() -> None:
    without_nul = ["unreachable" if token == "Ā" else token for token in TOKENS]
    assert tokenizer(tokens=Strings.of(without_nul)).encode("a\0b") == [*b"ab"]


@pytest.mark.parametrize(
    ("changes", "add_bos", "expected"),
    [
        ({}, None, [ord("a")]),
        ({}, True, [264, ord("a")]),
        ({"add_bos_token": True}, None, [264, ord("a")]),
        ({"add_bos_token": True}, False, [ord("a")]),
        ({"add_eos_token": True}, None, [ord("a"), 263]),
        ({"add_eos_token": True}, True, [264, ord("a")]),
        ({"add_bos_token": None}, None, [ord("a")]),
        ({"add_bos_token": None, "pre": "llama-bpe"}, None, [264, ord("a")]),
    ],
)
def test_the_ends_are_marked_as_the_file_and_the_caller_say(
    changes: dict[str, Any], add_bos: bool | None, expected: list[int]
) -> None:
    assert tokenizer(**changes).encode("a", add_bos=add_bos) == expected


def test_asking_for_a_beginning_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(RequestError, match="no beginning-of-sequence token"):
        tokenizer(bos_token_id=None).encode("a", add_bos=True)


def test_end_ids_are_all_ends_that_the_file_names() -> None:
    assert TINY["smollm"].end_ids == {263}
    assert tokenizer(eot_token_id=264, eom_token_id=265).end_ids == {263, 264, 265}
    assert tokenizer(eos_token_ids=[265, 266]).end_ids == {263, 265, 266}


def test_a_control_token_that_is_known_to_end_a_turn_is_an_end_that_no_file_need_name() -> None:
    assert tokenizer(eos_token_id=None).end_ids == {TOKENS.index(END)}
    assert tokenizer(eos_token_id=None, token_type=[1] * 267).end_ids == frozenset()


@given(before=UNICODE, surrogate=st.characters(categories=["Cs"]), after=UNICODE)
def test_a_lone_surrogate_is_refused_with_its_position(before: str, surrogate: str, after: str) -> None:
    with pytest.raises(RequestError, match=f"at character {len(before)}, .* remove it"):
        TINY["smollm"].encode(before + surrogate + after)


@pytest.mark.parametrize("token_id", [-1, 267, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(token_id: int) -> None:
    with pytest.raises(RequestError, match="the ids are 0 to 266"):
        TINY["smollm"].token_bytes(token_id)
    with pytest.raises(RequestError, match="the ids are 0 to 266"):
        TINY["smollm"].decode([token_id])


TOKENS: Any = [*metadata()["tokenizer.ggml.tokens"]]  # type: ignore[misc]
NONE = Strings.of([])
MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "has no tokenizer.ggml.model"),
    "no pre": ({"pre": None}, "has no tokenizer.ggml.pre"),
    "no tokens": ({"tokens": None}, "has no tokenizer.ggml.tokens"),
    "no types": ({"token_type": None}, "has no tokenizer.ggml.token_type"),
    "no merges": ({"merges": None}, "has no tokenizer.ggml.merges"),
    "model of another kind": ({"model": "bert"}, "'bert' is not supported; supported: 'gpt2', 'gemma4', 'llama', 't5'"),
    "unknown pre": ({"pre": "zzz"}, "'zzz' is not supported; supported: 'chatglm-bpe', 'dbrx', 'deepseek-r1-qwen'"),
    "pre of damaged JSON": ({"pre": '{"normalizer"'}, "the tokenizer's pre-tokenizer is damaged"),
    "pre of another thing": (
        {"pre": '{"pre_tokenizer": {"type": "Zzz"}}'},
        "the tokenizer's pre-tokenizer is not supported",
    ),
    "pre without a pattern": ({"pre": '{"pre_tokenizer": {"type": "Split"}}'}, "pre-tokenizer is not supported"),
    "no scores": ({"model": "llama"}, "has no tokenizer.ggml.scores"),
    "too few scores": ({"model": "llama", "scores": [0.0]}, "267 tokens to be scored, 1 scores"),
    "a score that is no number": ({"model": "t5", "scores": [float("nan")] * 267}, "not a finite number"),
    "unigram without unknown": (
        {"model": "t5", "scores": [0.0] * 267, "unknown_token_id": None},
        "unigram and names no unknown id",
    ),
    "a byte written otherwise": (
        {"model": "gemma4", "token_type": [6] + [1] * 266},
        "token 0 is to be a byte and is written 'Ā'",
    ),
    "white space outside": ({"takes_right_token_ids": [267]}, "white space 0 id 267 is outside"),
    "model is a number": ({"model": 2}, "tokenizer.ggml.model has the wrong type"),
    "tokens are numbers": ({"tokens": [1, 2, 3]}, "tokenizer.ggml.tokens has the wrong type"),
    "tokens are one text": ({"tokens": "abc"}, "tokenizer.ggml.tokens has the wrong type"),
    "types are texts": ({"token_type": ["1"]}, "tokenizer.ggml.token_type has the wrong type"),
    "merges are pairs": ({"merges": [["a", "b"]]}, "tokenizer.ggml.merges has the wrong type"),
    "eos is a text": ({"eos_token_id": "2"}, "tokenizer.ggml.eos_token_id has the wrong type"),
    "eos is a truth value": ({"eos_token_id": True}, "tokenizer.ggml.eos_token_id has the wrong type"),
    "add_bos is a number": ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token has the wrong type"),
    "types of another length": ({"token_type": [1] * 266}, "267 tokens, 266 token types"),
    "no tokens at all": ({"tokens": NONE, "token_type": [], "merges": NONE}, "outside its 0 tokens"),
    "bos outside": ({"bos_token_id": 267}, "bos id 267 is outside its 267 tokens"),
    "eos negative": ({"eos_token_id": -1}, "eos id -1 is outside"),
    "unknown outside": ({"unknown_token_id": 999}, "unknown id 999"),
    "padding outside": ({"padding_token_id": 999}, "padding id 999"),
    "end of turn outside": ({"eot_token_id": 999}, "end of turn 0 id 999"),
    "bos wanted but not named": ({"bos_token_id": None, "add_bos_token": True}, "names no bos id"),
    "eos wanted but not named": ({"eos_token_id": None, "add_eos_token": True}, "names no eos id"),
    "token twice": ({"tokens": Strings.of([*TOKENS[:-1], "hello"])}, "has the token 'hello' twice"),
    "empty token": ({"tokens": Strings.of([*TOKENS[:-1], ""])}, "token 266 of the tokenizer is empty"),
    "byte token": ({"token_type": [1] * 266 + [6]}, "token 266 has type 6"),
    "type of no byte": ({"token_type": [1] * 265 + [-1, 256]}, "token 265 has type -1"),
    "type zero": ({"token_type": [0] + [1] * 266}, "token 0 has type 0"),
    "merge of one": ({"merges": Strings.of(["hello"])}, "merge 0 is 'hello', not two tokens"),
    "merge of three": ({"merges": Strings.of(["h e", "h e l"])}, "merge 1 is 'h e l', not two tokens"),
    "merge without a left": ({"merges": Strings.of([" e"])}, "merge 0 is ' e', not two tokens"),
    "merge without a right": ({"merges": Strings.of(["h "])}, "merge 0 is 'h ', not two tokens"),
    "merge of a stranger": ({"merges": Strings.of(["h zz"])}, "merge 0 names 'zz', which is not in the vocabulary"),
    "merge into a stranger": ({"merges": Strings.of(["h z"])}, "merge 0 names 'hz', which is not in the vocabulary"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_metadata_is_refused_in_one_line(name: str) -> None:
    changes, message = MALFORMED[name]
    with pytest.raises(ModelError) as caught:
        TokenizerData.from_metadata(metadata(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_chat_template_of_another_type_is_refused() -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.chat_template has the wrong type"):
        TokenizerData.from_metadata(metadata() | {"tokenizer.chat_template": 3})


def test_the_data_survives_the_wire() -> None:
    data = TokenizerData.from_metadata(metadata(eot_token_id=264))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=TokenizerData) == data


def test_damaged_data_from_the_wire_is_refused() -> None:
    plain = msgspec.structs.asdict(TINY["smollm"].data)
    with pytest.raises(ModelError, match="bos id 999"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(plain | {"bos_id": 999}), type=TokenizerData)


PIECES = ["▁", "a", "b", "ab", "▁a", "<", "s", ">", "<s", "s>"]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


def pieces(model: str, *, prefix: bool) -> Tokenizer:
    """SentencePiece's kind of vocabulary, with pieces of which a control token could be merged."""
    tokens = ["<unk>", "<s>", *BYTE_TOKENS, TOOL, *PIECES]
    values: dict[str, object] = {
        "model": model,
        "tokens": Strings.of(tokens),
        "token_type": [2, 3, *[6] * 256, 4, *[1] * len(PIECES)],
        "scores": [-float(i) for i in range(len(tokens))],
        "bos_token_id": 1,
        "eos_token_id": 1,
        "unknown_token_id": 0,
        "add_space_prefix": prefix,
    }
    return Tokenizer(TokenizerData.from_metadata({f"tokenizer.ggml.{name}": value for name, value in values.items()}))


SPELLED = {(model, prefix): pieces(model, prefix=prefix) for model in ("llama", "t5") for prefix in (False, True)}


@pytest.mark.parametrize("kind", SPELLED)
@given(text=UNICODE | st.lists(st.sampled_from(["<s>", TOOL, "a", " ", "ab", "<0x41>"])).map("".join))
def test_text_survives_pieces_and_bytes_and_never_becomes_a_control_token(kind: tuple[str, bool], text: str) -> None:
    tiny = SPELLED[kind]
    kept = text.replace("▁", " ")
    ids = tiny.encode(kept, parse_special=False, add_bos=False)
    assert tiny.special_ids.isdisjoint(ids)
    if not (kind[1] and (kept.startswith(" ") or TOOL in kept)):  # where a space more is ambiguous
        assert tiny.decode(ids) == kept


def test_the_space_before_a_text_is_put_before_each_stretch_of_it_in_sentencepiece() -> None:
    tiny = SPELLED["llama", True]
    assert [tiny.data.tokens[i] for i in tiny.encode(f"a{TOOL}b<s>a")] == ["<s>", "▁a", TOOL, "▁", "b", "<s>", "▁a"]


def test_a_reply_keeps_the_space_that_a_whole_text_loses() -> None:
    tiny = SPELLED["llama", True]
    ids = tiny.encode("a", add_bos=False)
    assert (tiny.decode(ids), TextStream(tiny).push(ids[0])) == ("a", " a")


ANYTHING = (
    st.none() | st.booleans() | st.integers(-2, 999) | st.text(max_size=3) | st.lists(st.integers(-2, 300), max_size=4)
)


@given(
    kind=st.sampled_from([*metadata(), "tokenizer.ggml.scores", "tokenizer.ggml.precompiled_charsmap"]), value=ANYTHING
)
@pytest.mark.parametrize("model", ["gpt2", "gemma4", "llama", "t5"])
def test_any_value_of_metadata_gives_a_tokenizer_or_one_line(model: str, kind: str, value: object) -> None:
    whole = metadata(model=model, scores=[0.0] * 267) | {kind: value}
    said = ""
    try:
        Tokenizer(TokenizerData.from_metadata(whole)).encode(f"hello w12é{TOOL}")
    except ModelError as error:
        said = str(error)
    assert "\n" not in said
