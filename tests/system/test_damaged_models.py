"""A model file that is not sound is refused by every verb that reads one: one line, soon, and little memory."""

from pathlib import Path

import pytest
from command import Finished, all_of, refused, twofold
from damaged_gguf import DAMAGES, scrambled

MODEL_ERROR = 3


def verbs(path: Path) -> dict[str, tuple[str | Path, ...]]:
    """Every verb that reads a model, with the file at `path`."""
    return {
        "run": ("run", path, "hi"),
        "inspect": ("inspect", path),
        "weights": ("weights", path, "--listen", f"shm://{path.parent}/socket"),
        "chat": ("chat", path),
        "split": ("run", path, "hi", "--split"),
    }


@pytest.fixture(scope="module")
def given_damaged_models(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """What a verb does with each damaged file; the verbs take turns."""
    sound, cases = tiny.read_bytes(), {}
    for number, (name, damage) in enumerate(DAMAGES.items()):
        path = tmp_path_factory.mktemp("damaged") / "model.gguf"
        path.write_bytes(damage.change(sound))
        cases[name] = list(verbs(path).values())[number % 4]
    return all_of(cases)


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_damaged_file_is_refused_for_what_is_wrong_with_it(
    name: str, given_damaged_models: dict[str, Finished]
) -> None:
    refused(given_damaged_models[name], MODEL_ERROR, DAMAGES[name].says)


def test_a_damaged_file_is_refused_by_every_verb(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(DAMAGES["unknown architecture"].change(tiny.read_bytes()))
    for finished in all_of(verbs(path)).values():
        refused(finished, MODEL_ERROR, "gpt-x")


@pytest.mark.parametrize("seed", range(4))
def test_a_file_with_a_scrambled_head_is_refused_or_works_but_never_breaks(
    seed: int, tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(scrambled(tiny.read_bytes(), seed))
    for arguments in (("inspect", path, "--json"), ("run", path, "hi", "--json", "--max-tokens", "4")):
        finished = twofold(*arguments)
        if finished.code:
            refused(finished, MODEL_ERROR)
        else:
            assert finished.json


def test_a_name_that_is_no_model_is_refused_with_the_names_that_are() -> None:
    cases = {verb: (verb, "smolm2") for verb in ("inspect", "weights", "chat", "pull", "rm")}
    for finished in all_of({**cases, "run": ("run", "smolm2", "hi")}).values():
        refused(finished, MODEL_ERROR, "did you mean 'smollm2'?")


def test_a_folder_a_pipe_and_a_device_are_refused_as_models(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null"), Path("/dev/zero")):
        refused(twofold("inspect", path), MODEL_ERROR, str(path))


def test_control_characters_of_a_models_name_do_not_reach_the_terminal(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    sound = tiny.read_bytes()
    name = b"Tiny random Llama"
    path.write_bytes(sound.replace(name, b"[/red]\x1b[31m\nLlama!!"[: len(name)].ljust(len(name), b"!"), 1))
    finished = twofold("inspect", path)
    assert finished.code == 0, finished.errors
    assert "[/red]" in finished.text
    assert "\x1b" not in finished.text
