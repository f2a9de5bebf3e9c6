"""Memory taken before it is asked for: only where it is plain what for, and then as good as any other."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from twofold.cli.ahead import expect, model_path
from twofold.config import Settings
from twofold.kernels.binding import Functions
from twofold.kernels.packing import Arena
from twofold.native import library

EXPECTED = 6 << 20


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        (["run", "smollm2", "Why?"], "SmolLM2-135M-Instruct.Q4_1.gguf"),
        (["chat", "smollm2"], "SmolLM2-135M-Instruct.Q4_1.gguf"),
        (["run", "/models/a.gguf", "Why?", "--threads", "2"], "a.gguf"),
        (["run", "--json", "smollm2", "Why?"], None),
        (["run", "Why?"], None),
        (["run"], None),
        (["run", "smollm2", "Why?", "--split"], None),
        (["run", "smollm2", "Why?", "--weights=tcp://127.0.0.1:7070"], None),
        (["run", "smollm2", "Why?", "--map", "map.json"], None),
        (["run", "smollm2", "--help"], None),
        (["inspect", "smollm2"], None),
        (["--version"], None),
        ([], None),
    ],
)
def test_memory_is_taken_only_where_the_model_comes_into_this_process(arguments: list[str], plain: str | None) -> None:
    path = model_path(arguments, Settings())
    assert (path and path.rsplit("/", 1)[1]) == plain


@pytest.mark.parametrize("settings", [Settings(weights="tcp://127.0.0.1:7070"), Settings(map="map.json")])
def test_no_memory_is_taken_where_settings_place_the_weights_elsewhere(settings: Settings) -> None:
    assert model_path(["run", "smollm2", "Why?"], settings) is None


@pytest.mark.parametrize("path", ["absent.gguf", "a\0b.gguf", "x" * 5000 + ".gguf"])
def test_a_file_that_cannot_be_looked_at_is_left_for_others_to_refuse(path: str) -> None:
    expect(["run", path, "Why?"])


def test_memory_is_taken_before_the_libraries_are_loaded_that_take_longest() -> None:
    program = "import sys, twofold.__main__, twofold.cli.ahead; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "twofold.cli.ahead" in done.stdout.split()
    assert {"numpy", "typer", "tokenizers"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("size_bytes", [1, EXPECTED - 5000, EXPECTED, EXPECTED + 1, 4 * EXPECTED])
def test_memory_that_was_taken_ahead_is_zero_and_large_enough(size_bytes: int) -> None:
    library().tf_expect(ctypes.c_int64(EXPECTED))
    arena = Arena(Functions(), size_bytes)
    view = (ctypes.c_uint8 * size_bytes).from_address(arena.address)
    assert not np.frombuffer(view, np.uint8).any()
    ctypes.memset(arena.address, 255, size_bytes)
    arena.free()


def test_memory_is_taken_ahead_once_and_for_one() -> None:
    for _ in range(2):
        library().tf_expect(ctypes.c_int64(EXPECTED))
    first, second = Arena(Functions(), EXPECTED), Arena(Functions(), EXPECTED)
    assert abs(first.address - second.address) >= EXPECTED
    first.free()
    second.free()
