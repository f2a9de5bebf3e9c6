"""What a weight processor was asked and answered is afterwards in no memory, log or metric of it."""

import re
import time
from itertools import chain
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
import pytest
from command import Running, start, twofold

from twofold import link
from twofold.engine.assemble import open_checkpoint
from twofold.link.base import Connection
from twofold.model.tokenizer import Tokenizer
from twofold.units import Seconds
from twofold.wire.rows import Rows

PAGE = 4096
WORD = 8  # bytes compared at once: two values of float32, four of float16
PATIENCE_SECONDS = 20.0
MARKER = "the quick brown zebra hides a secret"
Words = npt.NDArray[np.uint64]


def words_of(data: bytes) -> Words:
    return np.frombuffer(data[: len(data) // WORD * WORD], np.uint64)


def writable(pid: int) -> bytes:
    """All memory of a process that it can write, and with it all that it could have kept, without pages of zeros."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last, mode = re.match(r"(\w+)-(\w+) (\S+)", line).groups()  # type: ignore[union-attr]
            if mode.startswith("rw") and "[v" not in line:
                memory.seek(int(first, 16))
                found.append(memory.read(int(last, 16) - int(first, 16)))
    pages = (area[at : at + PAGE] for area in found for at in range(0, len(area), PAGE))
    return b"".join(page for page in pages if any(page))


class Secret:
    """What crosses a link: ids of a prompt, and the words of planes."""

    def __init__(self, vocabulary: int) -> None:
        self.random = np.random.default_rng(4)
        self.ids = self.random.permutation(vocabulary)[:24].astype(np.int32)
        self.planes: dict[str, list[Words]] = {}

    def note(self, what: str, plane: npt.NDArray[np.generic]) -> None:
        """Remember the words of a plane of numbers, and of the same as float32, as the kernels widen it.

        Of many different bytes each, so that they can belong to nothing else.
        """
        for dtype in {plane.dtype, np.dtype(np.float32)} if plane.dtype.kind == "f" else ():
            words = words_of(plane.astype(dtype).tobytes())
            kept = [word for word in words if len(set(word.tobytes())) > 5]
            self.planes.setdefault(f"{what} as {dtype.name}", []).append(np.array(kept, np.uint64))

    def found(self, memory: bytes) -> dict[str, int]:
        """How much of what is in `memory`; empty if nothing is."""
        there = words_of(memory)
        there = there[there != 0]
        there = there[np.isin(there, np.concatenate([*chain(*self.planes.values())]))]
        counts = {what: int(np.isin(there, np.concatenate(words)).sum()) for what, words in self.planes.items()}
        for dtype in (np.int32, np.int64):
            ids = self.ids.astype(dtype)
            parts = [ids[i : i + 3].tobytes() for i in range(0, len(ids) - 2, 2)]
            counts[f"ids as {np.dtype(dtype).name}"] = sum(memory.count(part) for part in parts)
        return {what: count for what, count in counts.items() if count}


def walk(connection: Connection, secret: Secret) -> None:
    """Every segment of the model, with the prompt of `secret` and attended rows that are noise; all is noted."""
    rows, count = Rows(connection.layout), len(secret.ids)
    rows["ids"][:count, 0] = secret.ids
    for segment, cut in enumerate(connection.manifest.cuts):
        if segment:
            rows["attended"][:count] = secret.random.standard_normal(rows["attended"][:count].shape)
            secret.note("attended", rows["attended"][:count])
        connection.call(rows, segment, count, Seconds(10.0))
        for plane in cut.gives:
            secret.note(plane.name, rows[plane.name][:count])


def serve(tiny: Path, url: str) -> Running:
    return start("weights", tiny, "--listen", url, "--threads", "2", "--metrics", "127.0.0.1:0")


@pytest.mark.parametrize("scheme", ["shm", "tcp"])
def test_no_prompt_and_no_activation_is_in_the_memory_of_a_weight_processor(
    scheme: str, tiny: Path, tmp_path: Path
) -> None:
    with serve(tiny, f"shm://{tmp_path}/s" if scheme == "shm" else "tcp://127.0.0.1:0") as running:
        url = running.wait_output(b"\n").decode().split()[1]
        running.wait_errors("Metrics: ")
        connection = link.connect(url)
        secret = Secret(connection.manifest.vocabulary)
        walk(connection, secret)
        expiry = time.monotonic() + PATIENCE_SECONDS
        while (left := secret.found(writable(running.pid))) and time.monotonic() < expiry:
            pass  # until the next sweep
        assert not left
        connection.close()


def test_what_is_in_a_memory_is_found_there(tcp: str) -> None:
    connection = link.connect(tcp)
    secret = Secret(connection.manifest.vocabulary)
    walk(connection, secret)
    connection.close()
    for what, words in secret.planes.items():
        assert what in secret.found(b"\1" * 64 + words[0][:1].tobytes())
    assert "ids as int32" in secret.found(b"\1" * 3 + secret.ids[6:9].tobytes())
    assert not secret.found(bytes(range(256)) * 8)


def test_no_text_of_a_request_is_in_memory_logs_or_metrics(tiny: Path, tmp_path: Path) -> None:
    with serve(tiny, f"shm://{tmp_path}/s") as running:
        url = running.wait_output(b"\n").decode().split()[1]
        running.wait_errors("/metrics\n")
        finished = twofold("run", "--weights", url, "--raw", MARKER, "--max-tokens", "8", "--json")
        assert finished.code == 0, finished.errors
        with open_checkpoint(str(tiny), lambda *_: None) as checkpoint:
            ids = np.array(Tokenizer(checkpoint.tokenizer).encode(MARKER), np.int32)
        answer = np.array(finished.json["token_ids"], np.int32)
        place = running.errors().partition("Metrics: ")[2].split()[0]
        with urlopen(place, timeout=5) as response:
            metrics = response.read()
        assert b"twofold_weight_calls_total" in metrics
        for memory in (metrics, running.errors().encode(), running.output, writable(running.pid)):
            assert MARKER.encode() not in memory
            assert finished.json["text"].encode() not in memory
            assert ids.tobytes() not in memory
            assert answer.tobytes() not in memory
