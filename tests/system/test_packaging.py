"""What packages Twofold does what it says: each line of the Dockerfile and of the unit is followed as far as it can be
without Docker and without systemd as the first process."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from command import start

from twofold.config import NAMES

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "packaging/Dockerfile"
UNIT = ROOT / "packaging/twofold.service"
KEY = "a-key-of-many-letters"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: name and what follows, lines that go on joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def unit(name: str) -> list[str]:
    """The values of a setting of the unit."""
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


def assignments(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split())


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"alice {KEY}\n")
    path.chmod(0o400)
    return path


def answers(command: list[str], arguments: list[str | Path], environment: dict[str, str]) -> Iterator[str]:
    """The address of a server in this environment and no other, which has answered somebody with a key."""
    bare = ("env", "-i", *(f"{name}={value}" for name, value in environment.items()))
    with start(*arguments, "--port", "0", command=(*bare, *command)) as running:
        url = running.wait_output(b"\n").decode().split()[1].replace("0.0.0.0", "127.0.0.1")
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60) as alice:
            assert len(list(alice.models.list())) == 1
        yield url


TWOFOLD = [sys.executable, "-m", "twofold"]


def test_what_the_dockerfile_copies_is_there_and_is_all_that_installing_needs() -> None:
    copied = [word for line in of("COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    grafted = [line.split()[1] for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", project["project"]["readme"], *grafted}
    needed |= {*project["project"]["license-files"], *project["tool"]["setuptools"]["packages"]["find"]["where"]}
    assert needed == set(copied)


def test_each_stage_takes_from_the_one_before_only_what_that_made() -> None:
    made = " ".join(of("RUN"))
    for line in of("COPY"):
        if line.startswith("--from"):
            assert f"venv {line.split()[1]}" in made
    assert f"useradd --uid {of('USER')[0]} " in made
    assert of("VOLUME")[0] in made


def test_the_container_answers_as_its_dockerfile_starts_it(tiny: Path, keys: Path, tmp_path: Path) -> None:
    environment = assignments(of("ENV")[0])
    unknown = [name for name in environment if name.startswith("TWOFOLD_") and name[8:].lower() not in NAMES]
    assert not unknown
    environment |= {"TWOFOLD_API_KEY_FILE": str(keys), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    environment["PATH"] = "/usr/bin:/bin"
    arguments: list[str | Path] = [*json.loads(of("CMD")[-1])]
    assert json.loads(of("ENTRYPOINT")[0]) == ["twofold"]
    assert arguments.pop() == "smollm2"
    (check,) = of("HEALTHCHECK")
    program, *rest = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    for url in answers(TWOFOLD, [*arguments, tiny], environment):
        looked = [sys.executable, *(word.replace("http://127.0.0.1:8000", url) for word in rest)]
        assert subprocess.run(looked, capture_output=True, check=False).returncode == 0
        away = [word.replace("http://127.0.0.1:8000", "http://127.0.0.1:9") for word in rest]
        assert subprocess.run([sys.executable, *away], capture_output=True, check=False).returncode != 0


def test_the_unit_starts_what_answers(tiny: Path, keys: Path, tmp_path: Path) -> None:
    command, *arguments = shlex.split(unit("ExecStart")[0])
    assert Path(command).name == "twofold"
    config = tmp_path / "serve.toml"
    config.write_text("served-model-name = 'sky'\n")
    places = {"smollm2": str(tiny), "/etc/twofold/serve.toml": str(config)}
    environment = assignments(unit("Environment")[0])
    assert environment["TWOFOLD_API_KEY_FILE"] == "%d/keys"  # where LoadCredential puts them
    assert unit("LoadCredential") == ["keys:/etc/twofold/keys"]
    environment |= {"TWOFOLD_API_KEY_FILE": str(keys), "XDG_CACHE_HOME": str(tmp_path)}
    assert list(answers(TWOFOLD, [places.get(word, word) for word in arguments], environment))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze (Debian: apt install systemd)")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(shlex.split(unit("ExecStart")[0])[0], sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
