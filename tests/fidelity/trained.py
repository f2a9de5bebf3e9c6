"""Tokenizers of each kind, trained on the hard texts, in the form in which a model's directory has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hard_text import HARD_TEXT
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

SPECIAL = ["<unk>", "<s>", "</s>", "<|turn|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = [*HARD_TEXT.values(), *(str(i) for i in range(300)), "the quick brown fox " * 9, "der schnelle Fuchs\n" * 9]


def byte_level(*before: pre_tokenizers.PreTokenizer, words: bool = False, **model: Any) -> Tokenizer:
    """Byte-level BPE with these cuts before the bytes are written as letters."""
    engine = Tokenizer(models.BPE(**model))
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)]
    )
    engine.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=900, initial_alphabet=letters))
    return engine


def split(pattern: str, **model: Any) -> Tokenizer:
    return byte_level(pre_tokenizers.Split(Regex(pattern), "isolated"), **model)


def composed(engine: Tokenizer) -> Tokenizer:
    engine.normalizer = normalizers.NFC()
    return engine


def characters(normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    """SentencePiece's BPE as the hub has it: listed merges over characters, bytes for the others."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer, trained.pre_tokenizer = normalizer, pre_tokenizer
    latin = [text for text in TEXTS if text.isascii()]
    trained.train_from_iterator(latin, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL[:3] + BYTES))
    learned = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    model = models.BPE(learned["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    engine = Tokenizer(model)
    engine.normalizer, engine.pre_tokenizer = normalizer, pre_tokenizer
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    prefixed = "Prepend" in str(normalizer) or (pre_tokenizer is not None and "Metaspace" in str(pre_tokenizer))
    engine.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if prefixed else [])])
    return engine


def unigram() -> Tokenizer:
    engine = Tokenizer(models.Unigram())
    engine.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    engine.decoder = decoders.Metaspace(prepend_scheme="always")
    latin = [text for text in TEXTS if text.isascii()]
    trainer = trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    engine.train_from_iterator(latin, trainer)
    learned = json.loads(engine.to_str())
    for piece in learned["model"]["vocab"]:
        piece[1] = float(np.float32(piece[1]))  # as SentencePiece keeps them
    return Tokenizer.from_str(json.dumps(learned))


_SPACES = normalizers.Replace(" ", "▁")
_DEEPSEEK3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
# name: (how it is made, the `pre` that is recognised in it or "{" for none)
KINDS: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "gpt2": (lambda: byte_level(words=True), "gpt-2"),
    "smollm": (lambda: byte_level(pre_tokenizers.Digits(individual_digits=True), words=True), "smollm"),
    "llama3": (lambda: split(GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"], ignore_merges=True), "llama-bpe"),
    "glm4": (lambda: split(GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"]), "dbrx"),
    "qwen3": (lambda: composed(split(GGUF_PRE_TOKENIZER_SPLITS["qwen2"])), "qwen2"),
    "qwen3_5": (lambda: composed(split(GGUF_PRE_TOKENIZER_SPLITS["qwen35"])), "qwen35"),
    "gpt_oss": (lambda: split(GGUF_PRE_TOKENIZER_SPLITS["gpt-4o"]), "gpt-4o"),
    "tekken": (lambda: split(GGUF_PRE_TOKENIZER_SPLITS["tekken"], ignore_merges=True), "tekken"),
    "deepseek_v3": (
        lambda: byte_level(*(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _DEEPSEEK3)), "deepseek-v3"
    ),
    "unknown to us": (lambda: byte_level(pre_tokenizers.Punctuation(), pre_tokenizers.Digits()), "{"),
    "gemma3": (lambda: characters(_SPACES, pre_tokenizers.Split(" ", "merged_with_previous")), "{"),
    "spaces": (lambda: characters(_SPACES, None), "sentencepiece"),
    "llama2": (
        lambda: characters(normalizers.Sequence([normalizers.Prepend("▁"), _SPACES]), None), "sentencepiece-prefixed"
    ),
    "mistral": (lambda: characters(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)), "{"),
    "words": (lambda: characters(None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True)), "{"),
    "unigram": (unigram, "{"),
}  # fmt: skip


def write(folder: Path, engine: Tokenizer, *, template: str = "{{ messages[0].content }}{{ eos_token }}") -> Any:
    """Write the tokenizer of a directory as Transformers does, with bos before a text; return Transformers' own."""
    engine.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    engine.add_tokens(
        [AddedToken("<b>", normalized=False), AddedToken("[note]", normalized=False, lstrip=True, rstrip=True)]
    )
    bos = engine.token_to_id("<s>")
    engine.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", bos)])
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=engine, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    theirs.save_pretrained(folder)
    ends = [engine.token_to_id("</s>"), engine.token_to_id("<|turn|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return theirs
