"""`twofold run` when all is well: what it prints, where, and when it stops."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from command import start, twofold

SUMMARY = re.compile(
    r"(\d+) tokens?, [\d.]+ tok/s; prompt (\d+) tokens?, [\d.]+ tok/s; "
    r"time: weights \d+ %, context \d+ %, link \d+ %, sampling \d+ %"
)
TIMINGS = {
    "prompt_tokens", "generated_tokens", "prefill_seconds", "decode_seconds",
    "weights_seconds", "context_seconds", "link_seconds", "sampling_seconds",
}  # fmt: skip
SEEDED = ("--temperature", "1", "--seed", "3", "--max-tokens", "60")


def answered(*arguments: str | Path) -> dict[str, Any]:
    """The object of `twofold run ARGUMENTS --json`."""
    finished = twofold("run", *arguments, "--json")
    assert finished.code == 0, finished.errors
    assert finished.errors == ""
    found: dict[str, Any] = finished.json
    return found


def test_text_goes_to_standard_output_and_one_line_about_it_to_standard_error(tiny: Path) -> None:
    finished = twofold("run", tiny, "hello", "--max-tokens", "12")
    assert finished.code == 0
    assert finished.text == answered(tiny, "hello", "--max-tokens", "12")["text"] + "\n"
    counts = SUMMARY.fullmatch(finished.errors.strip())
    assert counts, finished.errors
    assert counts[1] == "12"


def test_json_is_one_object_with_the_promised_fields(tiny: Path) -> None:
    found = answered(tiny, "hello", "--max-tokens", "12")
    assert set(found) >= {"text", "token_ids", "logits_digest", "timings", "prompt_token_ids", "finish_reason", "model"}
    assert len(found["token_ids"]) == 12 == found["timings"]["generated_tokens"]
    assert found["finish_reason"] == "length"
    assert re.fullmatch(r"[0-9a-f]{64}", found["logits_digest"])
    assert set(found["timings"]) == TIMINGS
    assert len(found["prompt_token_ids"]) == found["timings"]["prompt_tokens"]
    assert found["model"]["digest"] == hashlib.sha256(tiny.read_bytes()).hexdigest()


def test_the_parts_of_the_time_are_no_more_than_the_whole(tiny: Path) -> None:
    timings = answered(tiny, "hello", "--max-tokens", "60", "--split")["timings"]
    parts = sum(timings[f"{part}_seconds"] for part in ("weights", "context", "link", "sampling"))
    assert 0 < parts <= timings["prefill_seconds"] + timings["decode_seconds"]


def test_a_stop_string_ends_the_text_before_it_also_where_it_spans_tokens(tiny: Path) -> None:
    whole = answered(tiny, "hello", *SEEDED)
    text = whole["text"]
    stop = next(text[at : at + 5] for at in range(10, 40) if text.find(text[at : at + 5]) == at)
    stopped = answered(tiny, "hello", *SEEDED, "--stop", "never said", "--stop", stop)
    assert stopped["text"] == text[: text.index(stop)]
    assert stopped["finish_reason"] == "stop"
    used = len(stopped["token_ids"])
    assert stopped["token_ids"] == whole["token_ids"][:used]
    assert used < 60
    streamed = twofold("run", tiny, "hello", *SEEDED, "--stop", stop)
    assert streamed.text == stopped["text"] + "\n"


def test_raw_text_is_continued_without_the_chat_template(tiny: Path) -> None:
    raw, templated = (answered(tiny, "hello", "--max-tokens", "1", *flags) for flags in (("--raw",), ()))
    assert 0 < len(raw["prompt_token_ids"]) < len(templated["prompt_token_ids"])


def test_a_system_message_changes_what_the_model_sees(tiny: Path) -> None:
    prompts = [
        answered(tiny, "hello", "--max-tokens", "1", *flags)["prompt_token_ids"]
        for flags in ((), ("--system", "Be brief."), ("--system", "Be long."))
    ]
    assert len({tuple(prompt) for prompt in prompts}) == 3


def test_an_answer_ends_where_the_context_does(tiny: Path) -> None:
    found = answered(tiny, "hello", "--max-tokens", "100000", "--context", "128")
    assert found["finish_reason"] == "length"
    assert len(found["prompt_token_ids"]) + len(found["token_ids"]) == 128


def test_the_default_model_answers_a_greeting_over_two_processes(smollm2_path: Path) -> None:
    assert smollm2_path.is_file()
    finished = twofold("run", "smollm2", "hello", "--split", "--max-tokens", "24")
    assert finished.code == 0, finished.errors
    assert finished.text == "Hello! How can I assist you today?\n"
    assert SUMMARY.fullmatch(finished.errors.strip()), finished.errors


def test_a_single_argument_with_a_space_is_a_prompt_for_the_default_model(smollm2_path: Path) -> None:
    assert smollm2_path.is_file()
    found = answered("What is the capital of France?", "--max-tokens", "8")
    assert found["model"]["digest"] == hashlib.sha256(smollm2_path.read_bytes()).hexdigest()


def test_a_packed_cache_is_used_when_asked_for_split_or_not_and_told_when_it_is_damaged(
    tiny: Path, tmp_path: Path
) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    run = ("run", tiny, "hello", "--max-tokens", "4")
    plain = twofold(*run, environment=environment)
    assert not list(tmp_path.glob("twofold/packed/*"))
    assert twofold(*run, "--split", "--packed-cache", environment=environment).output == plain.output
    (packed,) = tmp_path.glob("twofold/packed/*")
    packed.write_bytes(packed.read_bytes()[:-1])
    told = twofold(*run, environment={**environment, "TWOFOLD_PACKED_CACHE": "1"})
    again = twofold(*run, environment={**environment, "TWOFOLD_PACKED_CACHE": "1"})
    assert told.output == again.output == plain.output
    assert ("damaged" in told.errors, "damaged" in again.errors) == (True, False)


# The peak that the system gives for a child counts what its parent held; this one is the program's own.
OWN_PEAK = """
import atexit, pathlib, sys
from twofold.__main__ import main
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(next(line for line in status.read_text().splitlines() if "VmHWM" in line)))
main()
"""


def test_a_run_takes_at_most_1_6_times_the_memory_of_the_file(smollm2_path: Path) -> None:
    arguments = ("run", smollm2_path, "Hi", "--max-tokens", "1")
    with start(*arguments, command=(sys.executable, "-c", OWN_PEAK)) as running:
        peak = running.finish().text.splitlines()[-1].split()
    assert int(peak[1]) * 1024 <= 1.6 * smollm2_path.stat().st_size


def test_an_answer_obeys_the_schema_or_the_expression_that_it_was_given(tiny: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": ["a", 5]}, "minItems": 2, "maxItems": 3}')
    found = json.loads(answered(tiny, "hello", "--json-schema", schema, *SEEDED, "--max-tokens", "300")["text"])
    assert 2 <= len(found) <= 3
    assert set(found) <= {"a", 5}
    assert re.fullmatch("[xyz]{3}", answered(tiny, "hello", "--regex", "[xyz]{3}", *SEEDED)["text"])


def test_log_probabilities_are_told_for_every_token_if_asked_for(tiny: Path) -> None:
    found = answered(tiny, "hello", "--max-tokens", "5", "--logprobs", "3")
    assert [chosen["token"] for chosen in found["logprobs"]] == found["token_ids"]
    for chosen in found["logprobs"]:
        assert chosen["top"][0] == [chosen["token"], chosen["logprob"]]  # the likeliest was taken
        assert len(chosen["top"]) == 3
    assert "logprobs" not in answered(tiny, "hello", "--max-tokens", "5")


def test_penalties_and_a_minimum_change_the_answer(tiny: Path) -> None:
    plain = answered(tiny, "hello", *SEEDED)["token_ids"]
    penalties = ("--repetition-penalty", "1.5", "--presence-penalty", "1", "--frequency-penalty", "1")
    assert len(set(answered(tiny, "hello", *SEEDED, *penalties)["token_ids"])) > len(set(plain))
    end = answered(tiny, "hello", *SEEDED, "--min-tokens", "50")
    assert len(end["token_ids"]) > 50
