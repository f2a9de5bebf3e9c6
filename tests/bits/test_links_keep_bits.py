"""Splitting changes no bit: in process = a second process over shared memory = over TCP, on the real model."""

from pathlib import Path

import pytest

from twofold.config import Settings
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.generate import Generation
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling
from twofold.model.chat import ChatTemplate, Message
from twofold.processor.spawn import SpawnedWeights, weights_command

TOKENS = 64
PROMPTS = [
    "Why is the sky blue?",
    "Write a Python function that reverses a list.",
    "Explain what a lighthouse keeper does, in three sentences.",
    "List the prime numbers below 30.",
    "写一首关于雨的短诗。",
    "What is 17 times 23? Think step by step.",
    "Translate to German: The bell rang slowly in the fog. 🌫️",
    "Continue: It was the best of times, it was the worst of times, and in the little town by the sea " * 4,
]
SAMPLINGS = {
    "greedy": Sampling(),
    "seeded": Sampling(temperature=0.9, top_p=0.95, top_k=80, min_p=0.02, seed=11),
}
Answers = dict[tuple[str, int], tuple[list[int], str]]


def answers(ready: Ready) -> Answers:
    """(tokens, digest of the logits) of every prompt under every sampling."""
    template = ChatTemplate.of(ready.tokenizer.data)
    found = {}
    for name, sampling in SAMPLINGS.items():
        for i, prompt in enumerate(PROMPTS):
            ids = ready.tokenizer.encode(template.render([Message("user", prompt)]), add_bos=False)
            session = ready.engine.open()
            generation = Generation(ready.engine, session, ready.tokenizer, sampling, Limits(TOKENS, ignore_end=True))
            list(generation.run(ids))
            ready.engine.close(session)
            assert len(generation.token_ids) == TOKENS
            found[name, i] = (generation.token_ids, generation.logits_digest)
    return found


def quiet(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


@pytest.fixture(scope="module")
def in_process(smollm2_path: Path) -> Answers:
    with open_engine(str(smollm2_path), Settings(), split=False, progress=quiet) as ready:
        return answers(ready)


def test_a_second_process_over_shared_memory_gives_the_same_tokens_and_logits(
    smollm2_path: Path, in_process: Answers
) -> None:
    with open_engine(str(smollm2_path), Settings(), split=True, progress=quiet) as ready:
        assert answers(ready) == in_process


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", None])
def test_a_running_weight_processor_gives_the_same_tokens_and_logits(
    smollm2_path: Path, in_process: Answers, url: str | None
) -> None:
    command = weights_command(smollm2_path, listen=url, threads=1)
    with (
        SpawnedWeights(command) as child,
        open_engine(None, Settings(weights=child.url), split=False, progress=quiet) as ready,
    ):
        assert answers(ready) == in_process


def test_greedy_and_seeded_sampling_differ_so_the_comparison_says_something(in_process: Answers) -> None:
    for i in range(len(PROMPTS)):
        assert in_process["greedy", i][0] != in_process["seeded", i][0]
    assert len({digest for _, digest in in_process.values()}) == len(in_process)
