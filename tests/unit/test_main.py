"""The table of verbs says of each what its function says, and asking for little imports little."""

import inspect
import os
import subprocess
import sys

import pytest

from twofold.cli.main import VERBS, verb


@pytest.mark.parametrize("name", VERBS)
def test_the_list_of_verbs_says_of_each_what_the_verb_says_of_itself(name: str) -> None:
    assert (inspect.getdoc(verb(name)) or "").splitlines()[0] == VERBS[name][2]


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (
            ["run", "--raw", "there-is-no-such-model", "Hi"],
            {
                "rich",
                "jinja2",
                "cryptography",
                "twofold.link.shm",
                "twofold.link.tcp",
                "twofold.link.calling",
                "twofold.engine.elsewhere",
                "twofold.memory.map_file",
                "twofold.model.hub.directory",
                "twofold.processor.spawn",
                "twofold.store.fetch",
                "tomllib",
                "pydantic",
                "uvicorn",
            },
        ),
        (["weights", "there-is-no-such-model", "--listen", "tcp://127.0.0.1:0"], {"cryptography", "rich"}),
        (["join", "no link"], {"tokenizers", "cryptography", "rich"}),
        (["--version"], {"numpy", "tokenizers", "jinja2"}),
        (["--help"], {"numpy", "tokenizers", "jinja2"}),
        (["list"], {"numpy", "tokenizers", "jinja2"}),
        (["run", "--help"], {"readline", "twofold.cli.chat", "twofold.engine.measure"}),
    ],
)
def test_what_a_command_does_not_need_is_not_imported(arguments: list[str], unwanted: set[str]) -> None:
    program = (
        "import sys; from twofold.cli import main; sys.argv = ['twofold', *sys.argv[1:]]\n"
        "try: main.main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert "twofold.cli.main" in done.stderr
    assert unwanted.isdisjoint(done.stderr.split())


def test_a_command_starts_no_threads_for_others_and_leaves_python_nothing_to_look_through() -> None:
    program = (
        "import atexit, gc, os, sys\n"
        "seen = lambda: (len(os.listdir('/proc/self/task')), gc.get_freeze_count() > 50_000, 'numpy' in sys.modules)\n"
        "atexit.register(lambda: print(*seen()))\n"
        "from twofold.__main__ import main\n"
        "main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", program, "inspect", "there-is-no-such-model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1 True True\n"
