"""Requests that cannot be served as they were asked are refused before any work, in one line that names the cause."""

import struct
from pathlib import Path

import pytest
from command import Finished, all_of, refused, start, twofold

from twofold.model.gguf import GgufFile

REQUEST_ERROR, MODEL_ERROR = 2, 3

BAD_FLAGS: dict[str, tuple[tuple[str | bytes, ...], str]] = {
    "max-tokens 0": (("--max-tokens", "0"), "max-tokens is 0"),
    "max-tokens word": (("--max-tokens", "many"), "'--max-tokens'"),
    "temperature negative": (("--temperature", "-1"), "temperature is -1.0"),
    "temperature not a number": (("--temperature", "nan"), "temperature is nan"),
    "temperature next to nothing": (("--temperature", "1e-40"), "temperature is 1e-40"),
    "top-p 0": (("--top-p", "0"), "top-p is 0"),
    "top-p above 1": (("--top-p", "1.5"), "top-p is 1.5"),
    "seed negative": (("--seed", "-1"), "seed is -1"),
    "min-tokens above max-tokens": (("--min-tokens", "9", "--max-tokens", "8"), "min-tokens is 9"),
    "repetition-penalty 0": (("--repetition-penalty", "0"), "repetition-penalty is 0.0"),
    "presence-penalty too large": (("--presence-penalty", "3"), "presence-penalty is 3.0"),
    "frequency-penalty not a number": (("--frequency-penalty", "nan"), "frequency-penalty is nan"),
    "regex that is none": (("--regex", "("), "regex is refused"),
    "json-schema without a file": (("--json-schema", "missing.json"), "missing.json cannot be read"),
    "grammar without an end": (("--grammar", "/dev/zero"), "longer than 256.0 KiB"),
    "two constraints": (("--regex", "a", "--grammar", "b"), "exclude each other"),
    "logprobs without json": (("--logprobs", "2"), "--json"),
    "logprobs too many": (("--logprobs", "21", "--json"), "logprobs is 21"),
    "stop empty": (("--stop", ""), "stop string is empty"),
    "stop not UTF-8": (("--stop", b"\xff"), "not UTF-8"),
    "threads 0": (("--threads", "0"), "threads from the command line is 0"),
    "context too small": (("--context", "1"), "context from the command line is 1"),
    "unknown flag": (("--colour", "red"), "--colour"),
    "one argument too many": (("more",), "more"),
    "split and weights": (("--split", "--weights", "shm://x"), "give one of them"),
    "system without template": (("--raw", "--system", "Be brief."), "--raw"),
    "system not UTF-8": (("--system", b"\xff"), "UTF-8"),
}

BAD_SETTINGS = {
    "unknown": ({"TWOFOLD_THREDS": "1"}, "TWOFOLD_THREDS"),
    "threads": ({"TWOFOLD_THREADS": "two"}, "environment variable TWOFOLD_THREADS"),
    "context": ({"TWOFOLD_CONTEXT": "63"}, "environment variable TWOFOLD_CONTEXT"),
    "vector level": ({"TWOFOLD_VECTOR_LEVEL": "mmx"}, "mmx"),
    "weights": ({"TWOFOLD_WEIGHTS": "somewhere"}, "'somewhere' is not an address"),
}


@pytest.fixture(scope="module")
def given_bad_flags(tiny: Path) -> dict[str, Finished]:
    """What `twofold run` does with each of the bad flags."""
    return all_of({name: ("run", tiny, "hi", *flags) for name, (flags, _) in BAD_FLAGS.items()})


@pytest.mark.parametrize("name", list(BAD_FLAGS))
def test_a_bad_flag_is_refused_by_name(name: str, given_bad_flags: dict[str, Finished]) -> None:
    refused(given_bad_flags[name], REQUEST_ERROR, BAD_FLAGS[name][1])


@pytest.mark.parametrize("name", list(BAD_SETTINGS))
def test_a_bad_setting_is_refused_by_name_and_source(name: str, tiny: Path) -> None:
    environment, says = BAD_SETTINGS[name]
    refused(twofold("run", tiny, "hi", environment=environment), REQUEST_ERROR, says)


def test_a_bad_settings_file_is_refused_by_its_path(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "twofold" / "config.toml"
    file.parent.mkdir()
    for content, says in (("thread = 1\n", "thread"), ("not toml", "cannot be read"), ("threads = true", "True")):
        file.write_text(content)
        environment = {"XDG_CONFIG_HOME": str(tmp_path)}
        said = refused(twofold("run", tiny, "hi", environment=environment), REQUEST_ERROR, says)
        assert str(file) in said


def test_an_empty_prompt_is_refused_as_an_argument_and_as_input(tiny: Path) -> None:
    given = {repr(prompt): ("run", tiny, prompt) for prompt in ("", "   ", "\n\t\n")}
    piped = {flag: ("run", tiny, flag) for flag in ("--json", "--split")}
    for finished in all_of({**given, **piped}).values():
        refused(finished, REQUEST_ERROR, "the prompt is empty")


def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths(tiny: Path) -> None:
    said = refused(twofold("run", tiny, "--raw", "abc " * 100), REQUEST_ERROR, "prompt has 301 tokens", "only 255 fit")
    assert "--context" not in said


def test_a_prompt_longer_than_context_memory_is_refused_with_the_flag_to_raise(tiny: Path) -> None:
    finished = twofold("run", tiny, "--raw", "abc " * 30, "--context", "64")
    refused(finished, REQUEST_ERROR, "only 63 fit", "raise --context", "the model has 256")


def test_a_prompt_of_a_million_letters_is_refused_soon_and_without_much_memory(tiny: Path) -> None:
    finished = twofold("run", tiny, "--json", stdin=b"abc " * 250_000)
    refused(finished, REQUEST_ERROR, "1000000 letters", "a context of 256 positions")


def test_an_endless_standard_input_is_refused(tiny: Path) -> None:
    with Path("/dev/zero").open("rb") as endless, start("run", tiny, stdin=endless) as running:
        refused(running.finish(), REQUEST_ERROR, "standard input is longer than 4.0 MiB")


def test_text_that_is_not_utf8_is_refused_as_an_argument_and_as_input(tiny: Path) -> None:
    refused(twofold("run", tiny, b"caf\xe9 au lait"), REQUEST_ERROR, "UTF-8")
    refused(twofold("run", tiny, stdin=b"caf\xe9 au lait"), REQUEST_ERROR, "not UTF-8 text", "byte 3")
    refused(twofold("run", b"\xff.gguf", "hi"), MODEL_ERROR, ".gguf")


def test_a_verb_that_is_none_and_a_missing_argument_are_refused_with_the_help_to_read() -> None:
    refused(twofold("sing"), REQUEST_ERROR, "'sing'", "see twofold --help")
    refused(twofold("weights"), REQUEST_ERROR, "MODEL", "see twofold weights --help")


def test_weights_that_give_no_numbers_are_refused_as_a_damaged_model(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    content = bytearray(tiny.read_bytes())
    with GgufFile.open(tiny) as file:
        scale = file.tensors["token_embd.weight"].offset  # of the first block of token 0, which nothing here says
    content[scale : scale + 2] = struct.pack("<e", float("nan"))
    path.write_bytes(content)
    for verb in (("run", path, "hi"), ("run", path, "hi", "--split"), ("weights", path)):
        refused(twofold(*verb), MODEL_ERROR, "token_embd.weight holds NaN or infinity")
