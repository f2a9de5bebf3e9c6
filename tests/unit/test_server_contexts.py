"""`/v1/contexts`, and chat completions that go on in one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contexts_made import written
from fake_serving import TEXT, TOOLS
from served import HELLO, Served, events

from twofold.engine.request import Request
from twofold.errors import TwofoldError
from twofold.server.shelves import Shelves
from twofold.store.contexts import Contexts, Quota
from twofold.units import MIB

CHAT, CONTEXTS = "/v1/chat/completions", "/v1/contexts"
KEYS = {"alice": "alice-has-a-long-key", "bob": "bob-has-another-key"}
BINARY = {"Content-Type": "application/octet-stream"}


class Keeping(Served):
    """One application that keeps contexts below `folder`."""

    def __init__(self, path: Path, folder: Path, *, quota: int = MIB, evict: bool = False, **more: Any) -> None:
        self.folder, self.quota = folder, Quota(quota, evict)
        super().__init__(path, more.pop("template", None), shelves=Shelves(self.of, clock=lambda: 1000.0), **more)

    def of(self, owner: str) -> Contexts:
        return Contexts(self.folder / f"of-{owner}", self.quota)

    def begin(self, *names: str) -> None:
        for name in names:
            assert self.post(CONTEXTS, {"name": name}).status_code == 200

    def say(self, text: str = "hello", context: str = "rain", **more: Any) -> Any:
        return self.post(CHAT, {"messages": [{"role": "user", "content": text}], "context": context, **more})

    def turns(self, name: str) -> list[tuple[str, str]]:
        return [(turn["role"], turn["content"]) for turn in self.get(f"{CONTEXTS}/{name}").json()["turns"]]

    def names(self, **request: Any) -> list[str]:
        return [one["name"] for one in self.get(CONTEXTS, **request).json()["data"]]


@pytest.fixture
def keeping(tiny_path: Path, tmp_path: Path) -> Keeping:
    return Keeping(tiny_path, tmp_path)


def refused(response: Any, status: int, code: str) -> str:
    """What the error says."""
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    return str(response.json()["error"]["message"])


def in_a_thread(work: Any) -> Any:
    """`work`, for a place in which an event loop runs."""

    def asked(request: Request) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, request).result(20)

    return asked


def test_messages_and_answers_of_three_requests_are_one_conversation(keeping: Keeping) -> None:
    keeping.begin("rain")
    said = []
    for text in ("hello", "the", "world"):
        assert keeping.say(text).json()["choices"][0]["message"]["content"] == TEXT
        said += [("user", text), ("assistant", TEXT)]
        assert keeping.turns("rain") == said
    alone = [{"role": role, "content": text} for role, text in said[:-1]]
    asked = keeping.serving.asked
    keeping.post(CHAT, {"messages": alone})
    assert keeping.serving.asked.prompt == asked.prompt
    assert (asked.keep, keeping.serving.asked.keep) == (True, False)


def test_a_stream_is_kept_once_it_has_ended(keeping: Keeping) -> None:
    keeping.begin("rain")
    assert events(keeping.say(stream=True))[-1] == "[DONE]"
    assert keeping.turns("rain") == [("user", "hello"), ("assistant", TEXT)]
    keeping.say("the")
    assert keeping.serving.before.length > 0


def test_calls_and_reasoning_are_kept_as_they_were_told(roomy_path: Path, tmp_path: Path) -> None:
    keeping = Keeping(roomy_path, tmp_path, template=TOOLS)
    keeping.begin("rain")
    keeping.serving.text = '<think>hm</think><tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    add = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    message = keeping.say(tools=[add]).json()["choices"][0]["message"]
    kept = keeping.get(f"{CONTEXTS}/rain").json()["turns"][-1]
    assert kept["reasoning_content"] == message["reasoning_content"] == "hm"
    assert kept["tool_calls"][0]["id"] == message["tool_calls"][0]["id"]
    assert kept["tool_calls"][0]["arguments"] == '{"a": 1}'


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_fails_leaves_the_last_good_copy_and_lets_go(keeping: Keeping, stream: bool) -> None:
    keeping.begin("rain")
    keeping.say()
    before = keeping.get(f"{CONTEXTS}/rain/file").content
    keeping.serving.failing = TwofoldError("it broke")
    keeping.say("the", stream=stream)
    assert keeping.get(f"{CONTEXTS}/rain/file").content == before
    keeping.serving.failing = None
    assert keeping.say("the").status_code == 200


def test_what_is_asked_meanwhile_of_a_context_in_use_is_refused(keeping: Keeping) -> None:
    keeping.begin("rain", "snow")
    found = []

    def meanwhile(request: Request) -> None:
        keeping.serving.refusing = lambda request: None
        found.append(keeping.say("the"))
        found.append(keeping.ask("DELETE", f"{CONTEXTS}/rain"))
        found.append(keeping.post(f"{CONTEXTS}/rain/rename", {"name": "new"}))
        assert keeping.say("the", context="snow").status_code == 200

    keeping.serving.refusing = in_a_thread(meanwhile)
    assert keeping.say().status_code == 200
    assert [refused(one, 409, "context_in_use")[:26] for one in found] == ["the context 'rain' is in u"] * 3
    assert keeping.turns("rain") == [("user", "hello"), ("assistant", TEXT)]


def test_no_more_conversations_than_fit_in_memory_are_in_hand(tiny_path: Path, tmp_path: Path) -> None:
    keeping = Keeping(tiny_path, tmp_path)
    keeping.begin("rain", "snow")
    shelves = keeping.app._app.state.offer.shelves  # type: ignore[attr-defined]
    shelves._most = 1
    found = []

    def meanwhile(request: Request) -> None:
        keeping.serving.refusing = lambda request: None
        found.append(keeping.say("the", context="snow"))

    keeping.serving.refusing = in_a_thread(meanwhile)
    keeping.say()
    refused(found[0], 429, "rate_limit_exceeded")
    assert found[0].headers["retry-after"] == "1"
    assert keeping.say("the", context="snow").status_code == 200


def test_a_context_that_was_not_begun_is_refused_and_none_is_begun(keeping: Keeping) -> None:
    for ask in (
        lambda: keeping.say(), lambda: keeping.get(f"{CONTEXTS}/rain"), lambda: keeping.get(f"{CONTEXTS}/rain/file"),
        lambda: keeping.ask("DELETE", f"{CONTEXTS}/rain"), lambda: keeping.post(f"{CONTEXTS}/rain/fork", {"name": "b"}),
        lambda: keeping.post(f"{CONTEXTS}/rain/rename", {"name": "b"}),
        lambda: keeping.post(f"{CONTEXTS}/rain/pin", {"pinned": True}),
    ):  # fmt: skip
        refused(ask(), 404, "context_not_found")
    assert keeping.names() == []


def test_a_context_is_begun_once(keeping: Keeping) -> None:
    keeping.begin("rain")
    keeping.say()
    refused(keeping.post(CONTEXTS, {"name": "rain"}), 409, "context_taken")
    refused(keeping.post(f"{CONTEXTS}/rain/fork", {"name": "rain"}), 409, "context_taken")
    assert len(keeping.turns("rain")) == 2


def test_contexts_are_forked_renamed_pinned_listed_and_deleted(keeping: Keeping) -> None:
    keeping.begin("rain")
    keeping.say()
    assert keeping.post(f"{CONTEXTS}/rain/fork", {"name": "snow"}).json()["name"] == "snow"
    keeping.say("the", context="snow")
    assert [len(keeping.turns(name)) for name in ("rain", "snow")] == [2, 4]
    assert keeping.post(f"{CONTEXTS}/snow/rename", {"name": "hail"}).json()["messages"] == 4
    assert keeping.post(f"{CONTEXTS}/hail/pin", {}).json()["pinned"] is True
    assert keeping.post(f"{CONTEXTS}/hail/pin", {"pinned": False}).json()["pinned"] is False
    listed = keeping.get(CONTEXTS).json()
    assert [one["name"] for one in listed["data"]] == ["hail", "rain"]
    assert listed["size_bytes"] == sum(one["size_bytes"] for one in listed["data"])
    assert listed["quota_bytes"] == MIB
    assert listed["data"][0]["model"]["digest"] == keeping.serving.manifest.digest
    assert listed["data"][0]["title"] == "hello"
    assert keeping.ask("DELETE", f"{CONTEXTS}/hail").json() == {"name": "hail", "deleted": True}
    assert keeping.names() == ["rain"]


def test_a_file_that_was_exported_is_imported_with_the_same_bytes(keeping: Keeping) -> None:
    keeping.begin("rain")
    keeping.say()
    file = keeping.get(f"{CONTEXTS}/rain/file")
    assert file.headers["content-disposition"] == 'attachment; filename="rain.context"'
    assert file.headers["content-length"] == str(len(file.content))
    again = keeping.ask("PUT", f"{CONTEXTS}/snow/file", content=file.content, headers=BINARY)
    assert (again.status_code, again.json()["messages"]) == (200, 2)
    assert keeping.get(f"{CONTEXTS}/snow/file").content == file.content
    refused(keeping.ask("PUT", f"{CONTEXTS}/snow/file", content=file.content, headers=BINARY), 409, "context_taken")


def test_a_file_that_is_damaged_foreign_or_too_large_is_refused_and_leaves_nothing(keeping: Keeping) -> None:
    keeping.begin("rain")
    keeping.say()
    good = keeping.get(f"{CONTEXTS}/rain/file").content
    forged = bytearray(good)
    forged[len(good) // 2] ^= 1
    for content, status, code in (
        (b"", 409, "invalid_context"),
        (b"\x00" * 100, 409, "invalid_context"),
        (good[:-1], 409, "invalid_context"),
        (good + b"\x00", 409, "invalid_context"),
        (bytes(forged), 409, "invalid_context"),
        (written(), 409, "context_of_another_model"),
        (bytes(MIB + 1), 413, "body_too_large"),
    ):
        refused(keeping.ask("PUT", f"{CONTEXTS}/snow/file", content=content, headers=BINARY), status, code)
    assert keeping.names() == ["rain"]
    assert {path.name for path in (keeping.folder / "of-").iterdir()} == {"rain.context", ".rain.lock"}


@pytest.mark.parametrize("name", ["", ".", "..", "../rain", "a/b", "/etc/passwd", "a\x00b", "rain\n", "x" * 65, "ü"])
def test_no_name_leads_out_of_the_folder(keeping: Keeping, name: str) -> None:
    keeping.begin("rain")
    for response in (
        keeping.say(context=name), keeping.post(CONTEXTS, {"name": name}),
        keeping.post(f"{CONTEXTS}/rain/fork", {"name": name}), keeping.post(f"{CONTEXTS}/rain/rename", {"name": name}),
    ):  # fmt: skip
        assert response.status_code in (400, 409)
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/file"), ("PUT", "/file")):
        if name:
            assert keeping.ask(method, f"{CONTEXTS}/{quoted}{path}", content=b"").status_code in (404, 405, 409)
    assert keeping.names() == ["rain"]
    assert [path.name for path in keeping.folder.iterdir()] == ["of-"]


def test_what_has_no_room_is_refused_or_makes_room(tiny_path: Path, tmp_path: Path) -> None:
    refusing = Keeping(tiny_path, tmp_path)
    refusing.begin("rain", "snow")
    refusing.say()
    taken = refusing.get(CONTEXTS).json()["size_bytes"]
    tight = Keeping(tiny_path, tmp_path, quota=taken)
    before = tight.get(f"{CONTEXTS}/snow/file").content
    assert "the quota" in refused(tight.say(context="snow"), 403, "contexts_full")
    assert tight.get(f"{CONTEXTS}/snow/file").content == before
    last = events(tight.say(context="snow", stream=True))[-2]
    assert last["error"]["code"] == "contexts_full"
    evicting = Keeping(tiny_path, tmp_path, quota=taken, evict=True)
    assert evicting.say(context="snow").status_code == 200
    assert evicting.names() == ["snow"]


def test_each_key_has_contexts_of_its_own(tiny_path: Path, tmp_path: Path) -> None:
    keeping = Keeping(tiny_path, tmp_path, keys=KEYS)
    alice, bob = ({"headers": {"Authorization": f"Bearer {key}"}} for key in KEYS.values())
    assert keeping.ask("POST", CONTEXTS, json={"name": "rain"}, **alice).status_code == 200
    assert (keeping.names(**alice), keeping.names(**bob)) == (["rain"], [])
    refused(keeping.get(f"{CONTEXTS}/rain", **bob), 404, "context_not_found")
    assert keeping.get(CONTEXTS).status_code == 401


def test_a_server_that_keeps_none_says_so(served: Served) -> None:
    for response in (served.get(CONTEXTS), served.post(CHAT, {"messages": HELLO, "context": "rain"})):
        assert "--keep-contexts" in refused(response, 404, "context_not_found")


def test_several_answers_cannot_be_kept_in_one_context(keeping: Keeping) -> None:
    keeping.begin("rain")
    response = keeping.say(n=2)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "n")
    assert keeping.say().status_code == 200


def test_a_method_that_a_path_does_not_have_is_told_which_it_has(keeping: Keeping) -> None:
    assert keeping.ask("PATCH", f"{CONTEXTS}/rain").headers["allow"] == "DELETE, GET"
    assert keeping.ask("PUT", CONTEXTS).headers["allow"] == "GET, POST"
