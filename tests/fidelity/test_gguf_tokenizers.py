"""GGUF's tokenizers encode as llama.cpp, live: SentencePiece by scores, and byte-level BPE under every name we know.

Known departures, each of llama.cpp from the published tokenizer: it does not compose to NFC, and of words that end
where capitals begin (gpt-4o, tekken) it knows ASCII's capitals alone; there Transformers' reading of the name decides.
"""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from gemma import gemma3_path
from hard_text import HARD_TEXT, planes
from test_encoding import encode_of, llama_server, tokenizer_data
from tiny_gguf import TinyLlama, write_tiny_llama
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from trained import BYTES, TEXTS
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from twofold.model.pre_tokenizer import PRE_TOKENIZERS, PREFIXED, SPACED
from twofold.model.strings import Strings
from twofold.model.tokenizer import Tokenizer as Ours
from twofold.model.tokenizer import TokenizerData

Encode = Callable[..., list[int]]
# Nothing is learned that llama.cpp would take for a control token by its text, nor what GGUF's C strings end at.
LEARNED = [text.replace("\0", "") for text in TEXTS if "<|" not in text]
BLOCKS = [(name, text) for name, text in planes()][::6]
NAMES = [name for name, cut in PRE_TOKENIZERS.items() if "ByteLevel" in str(cut.pre_tokenizer)]
DISTINCT = [name for i, name in enumerate(NAMES) if PRE_TOKENIZERS[name] not in [PRE_TOKENIZERS[n] for n in NAMES[:i]]]
CASED = [name for name in NAMES if PRE_TOKENIZERS[name] in (PRE_TOKENIZERS["gpt-4o"], PRE_TOKENIZERS["tekken"])]


def sentencepiece(pre: str) -> TokenizerData:
    """A small vocabulary of pieces in the order in which they were learned, with all bytes and two user's tokens."""
    engine = Tokenizer(models.BPE())
    spaced = [text.replace(" ", "▁") for text in LEARNED if text.isascii()]
    engine.train_from_iterator(spaced, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    learned = sorted(engine.get_vocab(), key=engine.get_vocab().__getitem__)
    tokens = ["<unk>", "<s>", "</s>", *BYTES, "<b>", "\n\n", *(t for t in learned if len(t) > 1 and "\n" not in t)]
    tokens += sorted({*"".join(learned)} - {"\n"})
    types = bytes([2, 3, 3, *[6] * 256, 4, 4, *[1] * (len(tokens) - 261)])
    scores = -np.arange(len(tokens), dtype="<f4")
    return TokenizerData(
        "llama", pre, Strings.of(tokens), types, Strings.of([]),
        bos_id=1, eos_id=2, unknown_id=0, add_bos=True, scores=scores.tobytes(),
    )  # fmt: skip


def byte_level(pre: str) -> TokenizerData:
    """Merges learned over nothing but bytes, so that only the cut decides where they stop."""
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=letters, show_progress=False)
    engine.train_from_iterator([*LEARNED, *(text for _, text in BLOCKS[::40])], trainer)
    learned = msgspec.json.decode(engine.to_str())["model"]
    tokens = [*sorted(learned["vocab"], key=learned["vocab"].__getitem__), "<s>", "</s>"]
    merges = Strings.of(" ".join(pair) for pair in learned["merges"])
    types = bytes([*[1] * (len(tokens) - 2), 3, 3])
    last = len(tokens) - 1
    return TokenizerData("gpt2", pre, Strings.of(tokens), types, merges, bos_id=last - 1, eos_id=last)


def agreed(text: str) -> str:
    """`text` in NFC, without the characters that newer tables of Unicode know and older ones do not."""
    return unicodedata.normalize("NFC", "".join(c for c in text if unicodedata.category(c) != "Cn"))


def differing(ours: Ours, theirs: Encode, texts: list[tuple[str, str]]) -> list[str]:
    return [name for name, text in texts if ours.encode(text, add_bos=False) != theirs(text)]


@pytest.mark.parametrize("pre", [SPACED, PREFIXED])
def test_pieces_by_score_encode_as_in_llama_cpp(pre: str, tmp_path: Path) -> None:
    data = sentencepiece(pre)
    path = write_tiny_llama(tmp_path / "tiny.gguf", TinyLlama(tokenizer=data))
    assert tokenizer_data(path) == data
    texts = [(name, text) for name, text in [*HARD_TEXT.items(), *BLOCKS] if text]
    assert differing(Ours(data), encode_of(llama_server(path)), texts) == []


@pytest.mark.parametrize("pre", [*DISTINCT, "glm4", "minimax-m2"])
def test_bytes_under_every_name_encode_as_in_llama_cpp(pre: str, tmp_path: Path) -> None:
    data = byte_level(pre)
    path = write_tiny_llama(tmp_path / "tiny.gguf", TinyLlama(tokenizer=data))
    texts = [(name, agreed(text)) for name, text in [*HARD_TEXT.items(), *BLOCKS]]
    known = [(name, text) for name, text in texts if text.isascii() or pre not in CASED]
    assert differing(Ours(tokenizer_data(path)), encode_of(llama_server(path)), known) == []


@pytest.mark.parametrize("pre", [name for name in NAMES if name in GGUF_PRE_TOKENIZER_SPLITS])
def test_bytes_under_every_name_are_cut_as_in_transformers(pre: str) -> None:
    data = byte_level(pre)
    merges = [tuple(pair.split(" ")) for pair in data.merges]
    whole = PRE_TOKENIZERS[pre].whole_words
    engine = Tokenizer(models.BPE({t: i for i, t in enumerate(data.tokens)}, merges, ignore_merges=whole))
    split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[pre]), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    texts = [(name, agreed(text)) for name, text in [*HARD_TEXT.items(), *BLOCKS]]
    assert differing(Ours(data), lambda text: engine.encode(text).ids, texts) == []


@pytest.fixture(scope="session")
def gemma() -> tuple[Ours, Encode]:
    path = gemma3_path()
    return Ours(tokenizer_data(path)), encode_of(llama_server(path))


def test_gemmas_file_encodes_as_in_llama_cpp(gemma: tuple[Ours, Encode]) -> None:
    ours, theirs = gemma
    texts = [(name, text) for name, text in [*HARD_TEXT.items(), *BLOCKS] if text]
    assert differing(ours, theirs, texts) == []


@pytest.mark.parametrize("name", HARD_TEXT)
def test_gemmas_file_gives_text_back(gemma: tuple[Ours, Encode], name: str) -> None:
    ours, _ = gemma
    text = HARD_TEXT[name].replace("▁", " ")
    assert ours.decode(ours.encode(text, parse_special=False)) == text
