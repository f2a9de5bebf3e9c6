"""The examples run as they stand, and say what they promise."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import PATIENCE_SECONDS, clean_environment, twofold

from twofold import LLM

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MOST_LINES = 50
PROGRAM = re.compile(r"^```python\n(.*?\bLLM\b.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = [
    program for page in ("README.md", "docs/howto/python.md") for program in PROGRAM.findall((ROOT / page).read_text())
]


def output_of(name: str, model: Path) -> str:
    """What an example prints."""
    return said_by(str(EXAMPLES / name), str(model))


def said_by(*arguments: str) -> str:
    """What a Python program prints; it must end well and say nothing else, warnings included."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_batch_goes_on_with_each_prompt_in_order(smollm2_path: Path) -> None:
    lines = output_of("batch.py", smollm2_path).splitlines()
    assert [line.split(" because")[0] for line in lines] == ["The sky is blue", "The sea is salty", "Grass is green"]
    assert all(re.fullmatch(r".+ because .+ \[(stop|length), [0-9]+ tokens\]", line) for line in lines)


def test_two_conversations_are_shown_side_by_side(smollm2_path: Path) -> None:
    lines = output_of("stream_chat.py", smollm2_path).splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert set(names) == {"sky", "sea"}
    first = {name: names.index(name) for name in ("sky", "sea")}
    last = {name: len(names) - 1 - names[::-1].index(name) for name in ("sky", "sea")}
    assert max(first.values()) < min(last.values())
    assert sum(" after " in line for line in lines) == 2


def test_weights_in_another_process_answer_in_the_form_that_was_asked_for(smollm2_path: Path) -> None:
    said = json.loads(output_of("split_json.py", smollm2_path))
    assert said["finish_reason"] == "stop"
    assert said["answer"].keys() == {"colour", "letters"}
    assert said["answer"]["colour"] in ("red", "green", "blue")


@pytest.mark.usefixtures("smollm2_path")
@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_in_the_documentation_runs_as_it_stands(program: str) -> None:
    assert said_by("-c", program)


def test_the_documentation_has_programs() -> None:
    assert len(PROGRAMS) == 3


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_is_run_here(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MOST_LINES
    assert f'output_of("{path.name}"' in Path(__file__).read_text()


@pytest.mark.parametrize("options", [(), ("--temperature", "0.8", "--seed", "5")], ids=["greedy", "seeded"])
def test_an_answer_in_python_is_that_of_the_command(smollm2_path: Path, options: tuple[str, ...]) -> None:
    question = "Why is the sky blue?"
    sampling = {"temperature": 0.8, "seed": 5} if options else {}
    with LLM(smollm2_path) as llm:
        chat = llm.chat(question, max_tokens=24, **sampling)  # type: ignore[arg-type]
        text = llm.generate(question, max_tokens=24, **sampling)  # type: ignore[arg-type]
    for output, flags in ((chat, ()), (text, ("--raw",))):
        said = twofold("run", smollm2_path, question, "--max-tokens", "24", "--json", *options, *flags).json
        assert said["text"] == output.text
        assert said["token_ids"] == list(output.token_ids)
        assert said["finish_reason"] == output.finish_reason
