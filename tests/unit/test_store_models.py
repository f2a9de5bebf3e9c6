"""Which models are known, where their files are, and what is said about what is neither."""

from dataclasses import replace
from pathlib import Path

import pytest

from twofold.errors import ConfigurationError, ModelError
from twofold.store import catalogue, models
from twofold.store.catalogue import SMOLLM2, Entry
from twofold.store.models import list_models, models_folder, packed_folder, path_of, remove, resolve
from twofold.store.pull import ensure


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A known model called "tiny", which cannot be fetched from anywhere."""
    entry = replace(SMOLLM2, name="tiny", title="Tiny", member="tiny/tiny.gguf", size_bytes=1000)
    monkeypatch.setitem(catalogue.BY_NAME, "tiny", entry)
    return entry


def in_place(entry: Entry, size: int) -> Path:
    path = path_of(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_the_path_of_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"anything")
    assert resolve(str(own)) == own
    assert ensure(str(own)) == own


@pytest.mark.parametrize("name", ["smolm2", "SmolLM2", "smollm"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=r"did you mean 'smollm2'\?\); use one of smollm2, or a path to a .gguf"):
        resolve(name)
    with pytest.raises(ModelError, match=f"'{name}' is neither a known model nor a file"):
        ensure(name)


@pytest.mark.parametrize("name", ["", "no/such.gguf", "n" * 5000, "a\0b", "two\nlines", "~nobody-of-this-name/x"])
def test_what_is_no_file_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ModelError, match="is neither a known model nor a file; use one of") as caught:
        resolve(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder; give the path of a \.gguf file in it"):
        resolve(str(tmp_path))


def test_a_known_name_resolves_to_its_file_once_it_is_there(tiny: Entry) -> None:
    assert resolve("tiny") is None
    path = in_place(tiny, tiny.size_bytes)
    assert resolve("tiny") == path


def test_removing_deletes_the_file_once(tiny: Entry) -> None:
    path = in_place(tiny, tiny.size_bytes)
    assert remove("tiny")
    assert not path.exists()
    assert not remove("tiny")
    with pytest.raises(ModelError, match="neither a known model nor a file"):
        remove("absent")


def test_removing_deletes_the_packed_weights_too(tiny: Entry) -> None:
    folder = packed_folder()
    folder.mkdir(parents=True)
    others = folder / f"{'0' * 64}.packed"
    for path in (folder / f"{tiny.sha256}.packed", folder / f".{tiny.sha256}.packed.left", others):
        path.write_bytes(b"packed")
    assert remove("tiny")
    assert list(folder.iterdir()) == [others]
    assert not remove("tiny")


def test_listing_tells_what_is_here(tiny: Entry) -> None:
    listed = {model.name: model for model in list_models()}
    assert list(listed) == ["smollm2", "tiny"]
    assert not listed["tiny"].present
    in_place(tiny, tiny.size_bytes)
    (model,) = [model for model in list_models() if model.name == "tiny"]
    assert (model.title, model.path, model.size_bytes) == ("Tiny", path_of(tiny), tiny.size_bytes)
    assert (model.present, model.partial) == (True, False)
    in_place(tiny, tiny.size_bytes - 1)
    assert not any(model.present for model in list_models())


def test_the_models_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/mine")
    assert models_folder() == Path("/var/cache/mine/twofold/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert models_folder() == Path("/home/somebody/.cache/twofold/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_folder() == Path("/home/somebody/.cache/twofold/models")


def test_a_machine_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(models.Path, "home", homeless)
    with pytest.raises(ConfigurationError, match="set HOME or XDG_CACHE_HOME"):
        models_folder()


def test_every_catalogue_entry_is_pinned_exactly() -> None:
    for name, entry in catalogue.BY_NAME.items():
        assert entry.name == name
        assert "==" in entry.requirement
        assert {len(entry.sha256), len(entry.wheel_sha256)} == {64}
        assert entry.file_name.endswith(".gguf")
        assert entry.member.endswith(f"/{entry.file_name}")
    assert SMOLLM2.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"
