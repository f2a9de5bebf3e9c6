"""Settings: the order of sources, and what is refused by name."""

import inspect
from pathlib import Path

import pytest

from twofold.cli.serve import serve
from twofold.config import NAMES, read_settings
from twofold.errors import ConfigurationError


def environment(tmp_path: Path, text: str | None = None, **variables: str) -> dict[str, str]:
    if text is not None:
        (tmp_path / "twofold").mkdir()
        (tmp_path / "twofold" / "config.toml").write_text(text)
    return {"XDG_CONFIG_HOME": str(tmp_path), **variables}


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    variables = environment(tmp_path, "threads = 1\ncontext = 100\nvector_level = 'sse2'", TWOFOLD_THREADS="2")
    settings = read_settings(variables, threads=3, context=None)
    assert (settings.threads, settings.context, settings.vector_level, settings.weights) == (3, 100, "sse2", None)
    assert read_settings(variables).threads == 2


@pytest.mark.parametrize(
    ("text", "variables", "said"),
    [
        ("thread = 1", {}, "thread"),
        (None, {"TWOFOLD_THREAD": "1"}, "TWOFOLD_THREAD"),
        ("threads = 0", {}, "1 to 256"),
        ("threads = true", {}, "threads"),
        (None, {"TWOFOLD_THREADS": "many"}, "TWOFOLD_THREADS"),
        (None, {"TWOFOLD_THREADS": "1.5"}, "TWOFOLD_THREADS"),
        (None, {"TWOFOLD_CONTEXT": "3"}, "64"),
        ("vector_level = 3", {}, "vector_level"),
        ("threads = ", {}, "config.toml"),
        ("packed_cache = 2", {}, "true or false"),
        (None, {"TWOFOLD_PACKED_CACHE": "maybe"}, "TWOFOLD_PACKED_CACHE"),
        ("\x00", {}, "config.toml"),
        ("max-model-length = 5", {}, "max_model_length"),
        ("max-model-len = 5\nmax_model_len = 5", {}, "'max_model_len' twice"),
    ],
)
def test_what_is_not_a_setting_or_not_allowed_is_refused_by_name(
    tmp_path: Path, text: str | None, variables: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        read_settings(environment(tmp_path, text, **variables))
    assert "\n" not in str(refused.value)


def test_a_file_takes_the_names_of_flags_and_flags_win_over_it(tmp_path: Path) -> None:
    named = tmp_path / "serve.toml"
    named.write_text("max-model-len = 100\nserved-model-name = 'a'\nport = 1")
    settings = read_settings({"XDG_CONFIG_HOME": str(tmp_path), "TWOFOLD_PORT": "2"}, file=named, max_model_len=90)
    assert (settings.max_model_len, settings.served_model_name, settings.port) == (90, "a", 2)


def test_every_flag_of_serve_that_says_how_is_a_setting() -> None:
    given = set(inspect.signature(serve).parameters) - {"model", "config", "split"}
    assert {"map" if name == "map_file" else name for name in given} <= set(NAMES)


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    assert read_settings(environment(tmp_path, TWO="1", TWOFOLDER="2")).threads is None


@pytest.mark.parametrize(("text", "said"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_a_switch_is_true_or_false_wherever_it_is_set(tmp_path: Path, text: str, said: bool) -> None:
    variables = environment(tmp_path, f"packed_cache = {str(not said).lower()}")
    assert read_settings(variables).packed_cache is not said
    assert read_settings({**variables, "TWOFOLD_PACKED_CACHE": text}).packed_cache is said
    assert read_settings({**variables, "TWOFOLD_PACKED_CACHE": text}, packed_cache=not said).packed_cache is not said
