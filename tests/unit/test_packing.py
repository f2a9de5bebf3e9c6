"""Loading: weights that are no numbers are refused by name, and what was packed is given back to the system."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.address import address_of
from twofold.errors import ModelError
from twofold.kernels.binding import Functions, PackJob
from twofold.kernels.native import Native
from twofold.kernels.packing import PANEL_ROWS, SLICE_BYTES
from twofold.memory.weight import WeightMemory
from twofold.model import format as formats
from twofold.model.checkpoint import Checkpoint
from twofold.model.format import Format
from twofold.model.gguf import GgufFile

# bytes of the scales in a block, and what makes each NaN
HALVES: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "F16": (0,), "BF16": (0,), "F32": (2,),
}  # fmt: skip


def load(path: Path) -> None:
    backend = Native(threads=2)
    try:
        with Checkpoint.open(path, digest="0" * 64) as checkpoint:
            WeightMemory(checkpoint.model, checkpoint.tensor, backend).close()
    finally:
        backend.close()


def spoilt(path: Path, tensor: str, element_bytes: int, at: int, value: int) -> None:
    """Write the u16 `value` at byte `at` of the last block of the tensor."""
    with GgufFile.open(path) as file:
        info = file.tensors[tensor]
    content = bytearray(path.read_bytes())
    place = info.offset + info.size_bytes - element_bytes + at
    content[place : place + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("value", [0x7FFF, 0xFF80, 0x7F80])
@pytest.mark.parametrize("name", HALVES)
def test_a_matrix_with_nan_or_infinity_is_refused_by_its_name(name: str, value: int, tmp_path: Path) -> None:
    kind: Format = getattr(formats, name)
    for at in HALVES[name]:
        path = write_tiny_llama(
            tmp_path / "m.gguf",
            TinyLlama(layers=1, hidden=256, ffn=256, formats={"attn_q": kind}, matrices=formats.Q8_0),
        )
        load(path)
        spoilt(path, "blk.0.attn_q.weight", kind.block_bytes, at, value)
        with pytest.raises(ModelError, match=r"blk\.0\.attn_q\.weight holds NaN or infinity"):
            load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_norm_with_nan_or_infinity_is_refused_by_its_name(value: float, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", TinyLlama(layers=1))
    high = int.from_bytes(np.float32(value).tobytes()[2:], "little")
    spoilt(path, "output_norm.weight", 4, 2, high)
    with pytest.raises(ModelError, match=r"output_norm\.weight holds NaN or infinity"):
        load(path)


def job(source: bytearray, rows: int, width: int, kind: Format, packed: bytearray) -> PackJob:
    each = kind.size_bytes(width)
    return PackJob(address_of(source), address_of(packed), rows, width, each, kind.ggml_id)


def packed_memory(functions: Functions, rows: int, width: int, kind: Format) -> bytearray:
    return bytearray(int(functions.packed_bytes(kind.ggml_id, rows, width)))


@pytest.mark.parametrize("threads", [1, 3])
def test_jobs_in_one_call_give_the_bytes_of_panels_packed_one_by_one(threads: int) -> None:
    functions, random = Functions(), np.random.default_rng(threads)
    pool, alone = functions.pool_new(threads), functions.pool_new(1)
    # small, larger than what a thread takes at a time, not of whole panels
    shapes = [(16, 32, formats.Q4_1), (1003, 512, formats.Q8_0), (640, 256, formats.Q6_K), (1, 64, formats.F16)]
    sources, together, jobs = [], [], []
    for rows, width, kind in shapes:
        sources.append(bytearray(random.integers(0, 64, rows * kind.size_bytes(width), np.uint8).tobytes()))
        together.append(packed_memory(functions, rows, width, kind))
        jobs.append(job(sources[-1], rows, width, kind, together[-1]))
    calls = (PackJob * len(jobs))(*jobs)
    assert functions.pack(pool, ctypes.addressof(calls), len(jobs)) == 0
    for (rows, width, kind), source, found in zip(shapes, sources, together, strict=True):
        panels = b""
        for row in range(0, rows, PANEL_ROWS):
            count, each = min(PANEL_ROWS, rows - row), kind.size_bytes(width)
            panel = packed_memory(functions, count, width, kind)
            part = source[row * each : (row + count) * each]
            one = job(part, count, width, kind, panel)
            functions.pack(alone, ctypes.addressof(one), 1)
            panels += panel
        assert found == panels
    functions.pool_free(pool)
    functions.pool_free(alone)


def test_of_jobs_in_one_call_only_the_damaged_are_marked() -> None:
    functions, rows, width = Functions(), 1000, 512
    pool, sound = functions.pool_new(2), bytearray(2 * rows * width)
    broken = bytearray(sound)
    broken[-2:] = np.array([np.nan], "<f2").tobytes()
    packed = [packed_memory(functions, rows, width, formats.F16) for _ in range(3)]
    pairs = zip((sound, broken, sound), packed, strict=True)
    calls = (PackJob * 3)(*(job(source, rows, width, formats.F16, target) for source, target in pairs))
    assert functions.pack(pool, ctypes.addressof(calls), 3) == 1
    assert [call.damaged for call in calls] == [0, 1, 0]
    functions.pool_free(pool)


MEASURED = """
import sys
from pathlib import Path
from twofold.kernels.native import Native
from twofold.memory.weight import WeightMemory
from twofold.model.checkpoint import Checkpoint

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

backend = Native(threads=2)
with Checkpoint.open(Path(sys.argv[1]), digest="0" * 64) as checkpoint:
    before = peak()
    steps = []
    memory = WeightMemory(checkpoint.model, checkpoint.tensor, backend, progress=lambda *step: steps.append(step))
    print(peak() - before, memory.size_bytes, steps[-1][0] == steps[-1][1], len(steps))
"""


def test_loading_takes_little_more_memory_than_the_packed_weights(tmp_path: Path) -> None:
    model = TinyLlama(layers=4, hidden=1024, ffn=8192, heads=16, kv_heads=16, matrices=formats.F16, context_length=64)
    path = write_tiny_llama(tmp_path / "large.gguf", model)
    assert path.stat().st_size > 200 << 20
    out = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True).stdout
    taken, packed, complete, steps = out.split()
    assert int(taken) <= 1.15 * int(packed)
    assert complete == "True"
    assert int(steps) * SLICE_BYTES >= int(packed)  # progress was told at least so often
