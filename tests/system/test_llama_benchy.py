"""llama-benchy, as people measure servers with it, against `twofold serve`; tokenizer and book are of this machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import clean_environment, start
from tokenizers import Tokenizer, decoders, models

from twofold.model.checkpoint import Checkpoint
from twofold.model.pre_tokenizer import cut_of

PROMPT, ANSWER, TOGETHER, RUNS = 100, 12, 4, 2
MODEL = "smollm2"
BOOK = Path(__file__).parents[2] / "docs" / "numerics.md"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def book() -> Iterator[str]:
    """The address of a text, as the tool wants one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=BOOK.parent)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{BOOK.name}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def tokenizer(smollm2_path: Path, tmp_path: Path) -> Path:
    """A folder with the model's tokenizer in the form of Hugging Face, so that no hub is asked for it."""
    with Checkpoint.open(smollm2_path) as checkpoint:
        data = checkpoint.tokenizer
    merges = [tuple(merge.split(" ")) for merge in data.merges]
    written = Tokenizer(models.BPE({token: id_ for id_, token in enumerate(data.tokens)}, merges))  # type: ignore[arg-type]
    written.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    described = {**json.loads(written.to_str()), "pre_tokenizer": cut_of(data.pre).pre_tokenizer}
    (folder / "tokenizer.json").write_text(json.dumps(described))
    return folder


def measured(url: str, book: str, tokenizer: Path, home: Path) -> Any:
    """What the tool stores. It shall not judge what the model says: that is sampled without a seed."""
    result = home / "result.json"
    command = (Path(sys.executable).with_name("llama-benchy"), "--base-url", f"{url}/v1", "--model", MODEL)
    amounts = (
        "--tokenizer",
        tokenizer,
        "--pp",
        str(PROMPT),
        "--tg",
        str(ANSWER),
        "--runs",
        str(RUNS),
        "--concurrency",
        "1",
        str(TOGETHER),
    )
    more = ("--exact-tg", "--skip-coherence", "--exit-on-first-fail", "--book-url", book, "--format", "json")
    done = subprocess.run(
        [*command, *amounts, *more, "--save-result", result],
        env={**clean_environment(), "HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=100, cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return json.loads(result.read_text())


def test_llama_benchy_measures_what_it_asked_for(book: str, tokenizer: Path, tmp_path: Path) -> None:
    with start("serve", MODEL, "--port", "0") as running:
        url = running.wait_output(b"\n").decode().split()[1]
        told = measured(url, book, tokenizer, tmp_path)["benchmarks"]
        assert [(run["concurrency"], run["prompt_size"], run["response_size"]) for run in told] == [
            (together, PROMPT, ANSWER) for together in (1, TOGETHER)
        ]
        for run in told:
            requests = RUNS * run["concurrency"]
            assert len(run["tg_req_throughput"]["values"]) == len(run["e2e_ttft"]["values"]) == requests
            assert min(run["tg_req_throughput"]["values"]) > 0
            assert run["ttfr"]["mean"] == pytest.approx(run["e2e_ttft"]["mean"])  # no event before there is a token
        running.wait_errors(f"generated_tokens={ANSWER}", times=RUNS * (1 + TOGETHER))
