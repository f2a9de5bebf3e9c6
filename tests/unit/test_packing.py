"""Loading: weights that are no numbers are refused by name, and what was packed is given back to the system."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.errors import ModelError
from twofold.kernels.native import Native
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
    assert int(steps) > 36  # more than one a tensor
