"""From a grant to an answer: the commands of two people, each with a configuration of their own."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from command import Finished, Running, refused, start, twofold

USAGE_ERROR, LINK_ERROR = 2, 4


class People(NamedTuple):
    """Where each keeps keys."""

    server: dict[str, str]
    client: dict[str, str]


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People({"XDG_CONFIG_HOME": str(tmp_path / "server")}, {"XDG_CONFIG_HOME": str(tmp_path / "client")})


def granted(people: People, *options: str, name: str = "laptop") -> str:
    """The join link of a new token."""
    finished = twofold("keys", "grant", name, *options, environment=people.server)
    assert finished.code == 0, finished.errors
    return finished.text.strip()


@pytest.fixture(params=["tcp", "tls"])
def guarded(request: pytest.FixtureRequest, people: People, tiny: Path) -> Iterator[tuple[str, Running]]:
    """The address of a weight processor of `tiny` that asks for tokens, and its process."""
    granted(people, name="first")
    flags = ("--listen", f"{request.param}://127.0.0.1:0", "--tokens")
    with start("weights", tiny, *flags, environment=people.server) as running:
        yield running.wait_output(b"\n").decode().split()[1], running


def run(people: People, url: str) -> Finished:
    return twofold("run", "--weights", url, "hello", "--max-tokens", "4", "--json", environment=people.client)


def test_who_has_joined_gets_the_answer_that_the_model_gives_until_the_token_is_revoked(
    people: People, guarded: tuple[str, Running], tiny: Path
) -> None:
    url, _ = guarded
    refusal = run(people, url)
    assert "twofold keys grant" in refusal.complaint  # the processor's words over TCP, our own over TLS
    assert "twofold join LINK" in refusal.complaint
    link = granted(people, "--host", url.partition("://")[2], "--rows", "8", "--model", str(tiny))
    joined = twofold("join", "-", stdin=link.encode(), environment=people.client)
    assert joined.code == 0
    alone = twofold("run", str(tiny), "hello", "--max-tokens", "4", "--json")
    assert run(people, url).json["text"] == alone.json["text"]
    assert twofold("keys", "revoke", "laptop", environment=people.server).text == "laptop revoked\n"
    refused(run(people, url), LINK_ERROR, "token 'laptop' was revoked on")


def test_a_processor_says_no_secret(people: People, guarded: tuple[str, Running]) -> None:
    url, running = guarded
    link = granted(people, "--host", url.partition("://")[2])
    twofold("join", link, environment=people.client)
    assert run(people, url).code == 0
    assert link[-20:] not in running.errors()
    grants = Path(people.server["XDG_CONFIG_HOME"], "twofold", "keys", "grants.json").read_text()
    assert link[-20:] not in grants


@pytest.mark.parametrize("guarded", ["tls"], indirect=True)
def test_a_join_link_in_the_environment_needs_no_joining(people: People, guarded: tuple[str, Running]) -> None:
    link = granted(people, "--host", guarded[0].partition("://")[2])
    environment = {**people.client, "TWOFOLD_WEIGHTS": link}
    finished = twofold("run", "hello", "--max-tokens", "4", "--json", environment=environment)
    assert finished.code == 0, finished.errors
    assert link[-20:] not in finished.errors + finished.text


@pytest.mark.parametrize("guarded", ["tls"], indirect=True)
def test_a_host_with_another_certificate_is_refused(people: People, guarded: tuple[str, Running]) -> None:
    impostor = {"XDG_CONFIG_HOME": people.server["XDG_CONFIG_HOME"] + "-other"}
    place = guarded[0].partition("://")[2]
    link = twofold("keys", "grant", "laptop", "--host", place, environment=impostor).text.strip()
    twofold("join", link, environment=people.client)
    refused(run(people, guarded[0]), LINK_ERROR, "is not the host that was joined", "the join link said")


def test_asking_for_tokens_that_nobody_has_is_refused(people: People, tiny: Path) -> None:
    finished = twofold("weights", tiny, "--listen", "tcp://127.0.0.1:0", "--tokens", environment=people.server)
    refused(finished, USAGE_ERROR, "none is in force", "twofold keys grant NAME")


def test_listening_to_other_hosts_without_encryption_is_refused(people: People, tiny: Path) -> None:
    granted(people)
    finished = twofold("weights", tiny, "--listen", "tcp://0.0.0.0:0", environment=people.server)
    refused(finished, USAGE_ERROR, "can be reached from other hosts", "use tls://0.0.0.0:0")


def test_the_fingerprint_is_the_same_each_time_and_in_every_link(people: People) -> None:
    first, second = (twofold("keys", "--json", environment=people.server).json for _ in range(2))
    assert first == second
    twofold("join", granted(people, "--host", "weights.example:7070"), environment=people.client)
    kept = Path(people.client["XDG_CONFIG_HOME"], "twofold", "keys", "hosts.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [host["place"] for host in json.loads(kept.read_text())["hosts"]] == ["weights.example:7070"]
    assert twofold("keys", environment=people.server).text.replace(" ", "").strip() == first["fingerprint"]


def test_people_and_programs_are_told_the_same_of_the_tokens(people: People) -> None:
    granted(people, "--rows", "8", "--rate", "2.5", "--expires", "30d", "--admin", "--model", "smollm2")
    granted(people, name="phone")
    twofold("keys", "revoke", "phone", environment=people.server)
    table = twofold("keys", "list", environment=people.server).text
    laptop, phone = twofold("keys", "list", "--json", environment=people.server).json
    assert (laptop["name"], laptop["rows"], laptop["rate"], laptop["admin"]) == ("laptop", 8, 2.5, True)
    assert laptop["expires"] - laptop["granted"] == 30 * 86400
    assert (laptop["in_force"], phone["in_force"]) == (True, False)
    for text in ("laptop", "smollm2", "2.5", "in force", "phone", "was revoked on"):
        assert text in table


BAD = {
    "name": (("keys", "grant", "a b"), "a token's name"),
    "name again": (("keys", "grant", "laptop"), "twofold keys revoke laptop"),
    "rows": (("keys", "grant", "x", "--rows", "0"), "rows"),
    "rate": (("keys", "grant", "x", "--rate", "nan"), "rate"),
    "expires": (("keys", "grant", "x", "--expires", "soon"), "write it like 12h, 30d or 8w"),
    "model": (("keys", "grant", "x", "--model", "no-such-model"), "no-such-model"),
    "host": (("keys", "grant", "x", "--host", "nowhere"), "is not HOST:PORT"),
    "revoke": (("keys", "revoke", "nobody"), "there is no token 'nobody'"),
    "link": (("join", "twofold://host:1/#abc"), "join link"),
    "no link": (("join", "-"), "is not a join link"),
    "no such word": (("keys", "forget"), "see twofold keys --help"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing(people: People, case: str) -> None:
    granted(people)
    kept = Path(people.server["XDG_CONFIG_HOME"], "twofold", "keys", "grants.json")
    before = kept.read_bytes()
    arguments, words = BAD[case]
    finished = twofold(*arguments, environment=people.server)
    assert finished.code in (2, 3)
    assert finished.output == b""
    assert words in finished.complaint
    assert kept.read_bytes() == before
