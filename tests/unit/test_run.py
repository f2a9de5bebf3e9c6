"""Which of the two arguments of `twofold run` is the model and which the prompt."""

import pytest

from twofold.cli.run import chosen


@pytest.mark.parametrize(
    ("model", "prompt", "remote", "expected"),
    [
        ("smollm2", "hi", False, ("smollm2", "hi")),
        ("Why is the sky blue?", None, False, ("smollm2", "Why is the sky blue?")),
        ("Why is the sky blue?", None, True, (None, "Why is the sky blue?")),
        ("hi", None, True, (None, "hi")),
        ("./a model.gguf", "hi", False, ("./a model.gguf", "hi")),
        (None, "hi", True, (None, "hi")),
    ],
)
def test_a_single_argument_is_the_prompt_unless_it_names_a_model(
    model: str | None, prompt: str | None, remote: bool, expected: tuple[str | None, str]
) -> None:
    assert chosen(model, prompt, remote=remote) == expected
