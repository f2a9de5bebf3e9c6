"""Kept contexts on the command line: kept by one command, gone on with by another, moved, and never half there."""

import contextlib
import json
import os
import pty
import signal
from pathlib import Path

import pytest
from command import COMMAND, Finished, refused, start, twofold

REQUEST_ERROR = 2
Home = dict[str, str]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Where contexts are kept."""
    return {"XDG_DATA_HOME": str(tmp_path / "data")}


def done(finished: Finished) -> Finished:
    assert finished.code == 0, finished.errors
    return finished


def run(home: Home, *arguments: str | Path, **more: str) -> Finished:
    return twofold("run", *arguments, "--max-tokens", "8", "--ignore-eos", "--json", environment={**home, **more})


def context(home: Home, *arguments: str | Path, **more: str) -> Finished:
    return twofold("context", *arguments, environment={**home, **more})


def names(home: Home) -> list[str]:
    return [kept["name"] for kept in done(context(home, "list", "--json")).json]


def folder(home: Home) -> Path:
    return Path(home["XDG_DATA_HOME"], "twofold", "contexts")


def test_turns_of_several_runs_are_those_of_one_chat(home: Home, tiny: Path) -> None:
    said = ["hello", "the world", "on and on"]
    for text in said:
        done(run(home, tiny, text, "--keep", "runs"))
    flags = ("--max-tokens", "8", "--keep", "chat")
    typed = "".join(f"{text}\n" for text in said).encode()
    done(twofold("chat", tiny, *flags, stdin=typed, environment=home))
    shown = {name: done(context(home, "show", name, "--json")).json["turns"] for name in ("runs", "chat")}
    assert [turn["content"] for turn in shown["chat"] if turn["role"] == "user"] == said
    assert [turn["role"] for turn in shown["chat"]] == ["user", "assistant"] * 3
    first = done(run(home, tiny, "hello", "--keep", "other")).json
    assert shown["runs"][1]["content"] == first["text"]


def test_chat_goes_on_where_it_ended_and_reset_forgets_what_was_kept(home: Home, tiny: Path) -> None:
    whole = done(twofold("chat", tiny, "--max-tokens", "9", stdin=b"hello\nthe world\n", environment=home)).text
    flags = ("chat", tiny, "--max-tokens", "9", "--keep", "c")
    first = done(twofold(*flags, stdin=b"hello\n", environment=home))
    second = done(twofold(*flags, stdin=b"the world\n", environment=home))
    assert first.text + second.text == whole
    assert "Going on with 'c': 2 messages." in second.errors
    assert done(context(home, "list", "--json")).json[0]["messages"] == 4
    done(twofold(*flags, stdin=b"/reset\n", environment=home))
    kept = done(context(home, "list", "--json")).json[0]
    assert (kept["messages"], kept["tokens"]) == (0, 0)
    assert done(twofold(*flags, stdin=b"hello\n", environment=home)).text == first.text


def test_plain_text_goes_on_token_for_token(home: Home, tiny: Path) -> None:
    whole = done(twofold("run", tiny, "hello the", "--raw", "--max-tokens", "8", "--ignore-eos", "--json")).json
    first = done(run(home, tiny, "hello the", "--raw", "--keep", "text")).json
    assert first["token_ids"] == whole["token_ids"]
    second = done(run(home, tiny, " world", "--raw", "--keep", "text")).json
    assert second["prompt_token_ids"][0] == whole["token_ids"][-1]
    shown = done(context(home, "show", "text", "--json")).json
    assert (shown["turns"], shown["tokens"], shown["positions"]) == (
        None,
        len(whole["prompt_token_ids"]) + 7 + len(second["prompt_token_ids"]) + 8,
        len(whole["prompt_token_ids"]) + 7 + len(second["prompt_token_ids"]) + 7,
    )


def test_a_conversation_is_no_plain_text_and_the_other_way_round(home: Home, tiny: Path) -> None:
    done(run(home, tiny, "hello", "--keep", "talk"))
    done(run(home, tiny, "hello", "--raw", "--keep", "text"))
    refused(run(home, tiny, "more", "--raw", "--keep", "talk"), REQUEST_ERROR, "'talk' is a conversation", "--raw")
    refused(run(home, tiny, "more", "--keep", "text"), REQUEST_ERROR, "'text' is plain text", "--raw")
    refused(run(home, tiny, "more", "--keep", "talk", "--system", "x"), REQUEST_ERROR, "leave out --system")
    said = done(run(home, tiny, "more", "--keep", "new", "--system", "Be brief.")).json["text"]
    turns = done(context(home, "show", "new", "--json")).json["turns"]
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("system", "Be brief."), ("user", "more"), ("assistant", said)
    ]  # fmt: skip


def test_another_model_does_not_go_on_with_it_and_leaves_it_alone(home: Home, tiny: Path, other: Path) -> None:
    done(run(home, tiny, "hello", "--keep", "talk"))
    before = (folder(home) / "talk.context").read_bytes()
    refused(run(home, other, "more", "--keep", "talk"), REQUEST_ERROR, "'talk' is of Tiny", "use that model")
    assert (folder(home) / "talk.context").read_bytes() == before


def test_a_context_goes_on_wherever_the_weights_are(home: Home, tiny: Path, tcp: str) -> None:
    done(run(home, tiny, "hello", "--keep", "talk"))
    for name in ("split", "tcp"):
        done(context(home, "fork", "talk", name))
    here = done(run(home, tiny, "the world", "--keep", "talk")).json
    split = done(run(home, tiny, "the world", "--keep", "split", "--split")).json
    there = done(run(home, "--weights", tcp, "the world", "--keep", "tcp")).json
    assert here["logits_digest"] == split["logits_digest"] == there["logits_digest"]
    assert here["timings"]["prompt_tokens"] < 30


def test_a_context_goes_to_another_host_in_a_file_encrypted_or_not(home: Home, tmp_path: Path, tiny: Path) -> None:
    done(run(home, tiny, "hello secret", "--keep", "talk"))
    there = {"XDG_DATA_HOME": str(tmp_path / "there")}
    secret = tmp_path / "passphrase"
    secret.write_text("Käse 42\n")
    key = {"TWOFOLD_PASSPHRASE": "Käse 42"}
    plain, sealed = tmp_path / "plain.context", tmp_path / "sealed.context"
    assert "--encrypt" in done(context(home, "export", "talk", plain)).errors
    done(context(home, "export", "talk", sealed, "--encrypt", "--passphrase-file", secret))
    assert plain.read_bytes() == (folder(home) / "talk.context").read_bytes()
    assert b"hello secret" in plain.read_bytes()
    assert b"hello" not in sealed.read_bytes()
    assert {path.stat().st_mode & 0o777 for path in (plain, sealed)} == {0o600}
    done(context(there, "import", plain))
    done(context(there, "import", sealed, **key))
    done(context(there, "import", sealed, "named", "--passphrase-file", secret))
    assert names(there) == ["named", "plain", "sealed"]
    here = done(run(home, tiny, "the world", "--keep", "talk")).json["logits_digest"]
    for name in names(there):
        assert done(run(there, tiny, "the world", "--keep", name)).json["logits_digest"] == here


def test_a_file_that_is_not_right_is_refused_in_one_line_and_nothing_is_kept(
    home: Home, tmp_path: Path, tiny: Path
) -> None:
    done(run(home, tiny, "hello", "--keep", "talk"))
    done(context(home, "export", "talk", tmp_path / "plain"))
    key = {"TWOFOLD_PASSPHRASE": "right"}
    done(context(home, "export", "talk", tmp_path / "sealed", "--encrypt", **key))
    there = {"XDG_DATA_HOME": str(tmp_path / "there")}
    data = (tmp_path / "plain").read_bytes()
    files = {
        "empty": b"", "text": b"hello", "cut": data[:-1], "long": data + b"x", "version": data[:8] + b"\7" + data[9:],
        "flipped": data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:],
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    said = {
        "empty": "not a context file", "text": "not a context file", "cut": "1 bytes are missing",
        "long": "1 bytes too many", "version": "of version 7", "flipped": "the checksum is wrong",
        "missing": "No such file", ".": "is a folder",
    }  # fmt: skip
    for name, words in said.items():
        refused(context(there, "import", tmp_path / name, "new"), REQUEST_ERROR, words)
    wrong = {"TWOFOLD_PASSPHRASE": "wrong"}
    refused(
        context(there, "import", tmp_path / "sealed", **wrong), REQUEST_ERROR, "the passphrase is wrong",
        resident_bytes=300 << 20,  # scrypt is made to take memory
    )  # fmt: skip
    refused(context(there, "import", tmp_path / "sealed"), REQUEST_ERROR, "a passphrase is needed")
    refused(context(there, "import", tmp_path / "plain", "../x"), REQUEST_ERROR, "a context's name is")
    refused(context(home, "import", tmp_path / "plain", "talk"), REQUEST_ERROR, "'talk' is kept already")
    assert names(there) == []
    assert list(folder(there).iterdir()) == []


def test_contexts_are_listed_shown_forked_renamed_pinned_and_deleted(home: Home, tiny: Path) -> None:
    assert "0 B of 10.0 GiB" in done(context(home, "list")).text
    done(run(home, tiny, "hello [b]world[/b]\x1b[2J", "--keep", "talk"))
    done(context(home, "fork", "talk", "fork"))
    done(context(home, "rename", "talk", "first"))
    done(context(home, "pin", "first"))
    table = done(context(home, "list")).text
    for words in ("first", "pinned", "Tiny random Llama", "hello [b]world[/b]?[2J"):
        assert words in table
    assert "\x1b" not in done(context(home, "show", "first")).text
    done(context(home, "pin", "first", "--off"))
    assert "pinned" not in done(context(home, "list")).text
    done(context(home, "delete", "first", "fork"))
    assert names(home) == []
    for arguments in (("show", "first"), ("delete", "first"), ("fork", "first", "x"), ("export", "first", "x")):
        refused(context(home, *arguments), REQUEST_ERROR, "no context 'first' is kept")


def test_the_quota_refuses_or_evicts_as_it_is_set(home: Home, tiny: Path) -> None:
    done(run(home, tiny, "hello", "--keep", "a"))
    old = folder(home) / "old.context"
    old.write_bytes(bytes((1 << 20) - (folder(home) / "a.context").stat().st_size))
    os.utime(old, (0, 0))
    small = {"TWOFOLD_CONTEXTS_MIB": "1"}
    said = run(home, tiny, "hello", "--keep", "b", **small)
    assert said.code == REQUEST_ERROR
    assert "quota of 1.0 MiB" in said.complaint
    assert said.json["text"]
    chat = ("chat", tiny, "--max-tokens", "4", "--keep", "b")
    told = done(twofold(*chat, stdin=b"hello\nthe world\n", environment={**home, **small}))
    assert told.errors.count("quota of 1.0 MiB") == 2  # and the conversation went on
    assert names(home) == ["a", "old"]
    done(run(home, tiny, "hello", "--keep", "b", TWOFOLD_EVICT_CONTEXTS="true", **small))
    assert names(home) == ["a", "b"]


def test_a_context_in_use_is_left_alone_by_others_and_a_kill_loses_the_answer_in_hand_alone(
    home: Home, long: Path
) -> None:
    flags = ("chat", long, "--max-tokens", "60000", "--keep", "talk")
    done(run(home, long, "hello", "--keep", "talk"))
    before = (folder(home) / "talk.context").read_bytes()
    with start(*flags, environment=home) as running:
        running.wait_errors("Going on with 'talk'")
        refused(context(home, "delete", "talk"), REQUEST_ERROR, "'talk' is in use")
        refused(run(home, long, "more", "--keep", "talk"), REQUEST_ERROR, "'talk' is in use")
        running.say(b"tell me more\n")
        running.wait_output()
        running.send(signal.SIGKILL)
        assert running.finish().code == -signal.SIGKILL
    assert (folder(home) / "talk.context").read_bytes() == before
    again = done(run(home, long, "more", "--keep", "talk")).json
    assert again["timings"]["prompt_tokens"] > 0
    assert sorted(path.name for path in folder(home).iterdir()) == [".talk.lock", "talk.context"]


def test_a_passphrase_is_asked_for_twice_at_a_terminal_and_not_shown(home: Home, tmp_path: Path, tiny: Path) -> None:
    done(run(home, tiny, "hello", "--keep", "talk"))
    sealed = tmp_path / "sealed"
    for typed, code in ((b"open\nopen\n", 0), (b"open\nshut\n", REQUEST_ERROR), (b"\n", REQUEST_ERROR)):
        said, found = at_terminal([*COMMAND, "context", "export", "talk", str(sealed), "--encrypt"], home, typed)
        assert found == code, said
        assert b"Passphrase: " in said
        assert b"open" not in said
    done(context(home, "import", sealed, "new", TWOFOLD_PASSPHRASE="open"))


def at_terminal(command: list[str], home: Home, typed: bytes) -> tuple[bytes, int]:
    """What a command shows on a terminal where `typed` is typed, a line a question, and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, {**os.environ, **home})
    said, lines = b"", typed.splitlines(keepends=True)
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(terminal, 4096):
            said += piece
            if said.endswith((b"Passphrase: ", b"Once more: ")) and lines:
                os.write(terminal, lines.pop(0))
    os.close(terminal)
    return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_is_listed_for_programs_says_of_which_model_it_is(home: Home, tiny: Path) -> None:
    done(run(home, tiny, "hello", "--keep", "talk"))
    model = done(twofold("run", tiny, "hello", "--max-tokens", "1", "--json")).json["model"]
    assert json.loads(context(home, "list", "--json").output)[0]["model"] == model
