"""The keys folder: files that are whole or refused, and for this user only."""

import hashlib
import os
import ssl
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twofold.errors import ConfigurationError
from twofold.store import keys
from twofold.store.certificate import self_signed
from twofold.store.grant import Grant, Invitation, Scope, Token, UnixSeconds, verifier_of

NOW = UnixSeconds(1_800_000_000)
PEM = self_signed(NOW)
TOKEN = Token("00112233aabbccdd", bytes(range(32)))
GRANT = Grant("laptop", TOKEN.id, verifier_of(TOKEN.secret), Scope(rows=8, rate=2.5, expires=NOW + 1), granted=NOW)
INVITATION = Invitation("weights.example:7070", bytes(32), TOKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys"


def named(name: str, **changes: Any) -> Grant:
    token = hashlib.sha256(name.encode()).hexdigest()[:16]
    return msgspec.structs.replace(GRANT, name=name, token=token, **changes)


def fill(folder: Path) -> None:
    """Every file of the folder."""
    keys.ensure_identity(folder, lambda: PEM)
    keys.add_grant(folder, GRANT)
    keys.join(folder, INVITATION)


def test_the_folder_is_beside_the_settings_file() -> None:
    assert keys.keys_folder({"XDG_CONFIG_HOME": "/conf"}) == Path("/conf/twofold/keys")


def test_an_empty_or_absent_folder_has_no_tokens_no_hosts_and_says_how_to_make_a_certificate(folder: Path) -> None:
    assert keys.grants(folder) == keys.hosts(folder) == ()
    with pytest.raises(ConfigurationError, match=r"no certificate yet.*make one with: twofold keys"):
        keys.identity(folder)
    assert not folder.exists()


def test_everything_in_the_folder_is_for_this_user_only_and_nothing_temporary_is_left(folder: Path) -> None:
    old = os.umask(0)
    try:
        fill(folder)
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "identity.pem": 0o600,
        "grants.json": 0o600,
        "hosts.json": 0o600,
    }


READERS: dict[str, Any] = {keys.IDENTITY: keys.identity, keys.GRANTS: keys.grants, keys.HOSTS: keys.hosts}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_is_not_believed(folder: Path, name: str, mode: int) -> None:
    fill(folder)
    (folder / name).chmod(mode)
    with pytest.raises(ConfigurationError, match=f"open to others.*chmod 600 {folder / name}"):
        READERS[name](folder)


def test_a_folder_that_others_may_enter_gets_no_secrets(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {folder}"):
        fill(folder)
    assert not list(folder.iterdir())


def test_the_identity_is_made_once_and_its_fingerprint_is_that_of_the_certificate(folder: Path) -> None:
    first = keys.ensure_identity(folder, lambda: PEM)
    again = keys.ensure_identity(folder, lambda: self_signed(NOW))
    der = ssl.PEM_cert_to_DER_cert(PEM.decode()[PEM.decode().index("-----BEGIN CERT") :])
    assert first == again == keys.identity(folder)
    assert first.fingerprint == hashlib.sha256(der).digest()
    assert first.path.read_bytes() == PEM


def test_two_identities_are_never_the_same() -> None:
    assert self_signed(NOW) != self_signed(NOW)


def test_grants_and_hosts_come_back_as_they_were_kept(folder: Path) -> None:
    keys.add_grant(folder, GRANT)
    keys.add_grant(folder, named("phone", scope=Scope(model="00ff00ff", admin=True)))
    keys.join(folder, INVITATION)
    keys.join(folder, msgspec.structs.replace(INVITATION, place="other:1"))
    assert keys.grants(folder) == (GRANT, named("phone", scope=Scope(model="00ff00ff", admin=True)))
    assert [host.place for host in keys.hosts(folder)] == ["weights.example:7070", "other:1"]
    assert keys.hosts(folder)[0] == INVITATION


def test_no_secret_of_a_granted_token_is_kept_by_who_granted_it(folder: Path) -> None:
    keys.add_grant(folder, GRANT)
    kept = (folder / keys.GRANTS).read_bytes()
    assert msgspec.json.encode(TOKEN.secret).strip(b'"') not in kept
    assert TOKEN.secret.hex().encode() not in kept


def test_a_name_is_granted_once_at_a_time(folder: Path) -> None:
    keys.add_grant(folder, GRANT)
    with pytest.raises(ConfigurationError, match=r"'laptop' is in force.*twofold keys revoke laptop"):
        keys.add_grant(folder, GRANT)
    later = msgspec.structs.replace(GRANT, token="f" * 16, granted=NOW + 1)  # the first has expired
    keys.add_grant(folder, later)
    assert keys.grants(folder) == (later,)


def test_a_revoked_token_is_kept_as_revoked_until_its_name_is_granted_again(folder: Path) -> None:
    keys.add_grant(folder, GRANT)
    keys.add_grant(folder, named("phone"))
    assert keys.revoke(folder, "laptop", UnixSeconds(NOW)) == GRANT
    assert keys.grants(folder) == (msgspec.structs.replace(GRANT, revoked=NOW), named("phone"))
    for name in ("laptop", "nobody"):
        with pytest.raises(ConfigurationError, match=f"no token '{name}' to revoke"):
            keys.revoke(folder, name, NOW)
    keys.add_grant(folder, GRANT)
    assert keys.grants(folder) == (named("phone"), GRANT)


def test_joining_a_place_again_replaces_what_was_known_of_it(folder: Path) -> None:
    keys.join(folder, INVITATION)
    newer = msgspec.structs.replace(INVITATION, fingerprint=bytes(31) + b"x")
    keys.join(folder, newer)
    assert keys.hosts(folder) == (newer,)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(READERS)), st.integers(0, 400), st.binary(max_size=3), st.booleans())
def test_a_damaged_or_half_written_file_is_whole_or_refused_in_one_line_that_names_it(
    folder: Path, name: str, at: int, patch: bytes, cut: bool
) -> None:
    if not folder.exists():
        fill(folder)
    path = folder / name
    whole = {keys.IDENTITY: PEM, keys.GRANTS: GRANTS_FILE, keys.HOSTS: HOSTS_FILE}[name]
    at %= len(whole)
    path.write_bytes(whole[:at] + patch + (b"" if cut else whole[at + len(patch) :]))
    complaint = f"{path} is damaged"
    try:
        READERS[name](folder)
    except ConfigurationError as error:
        complaint = str(error)
    assert complaint.startswith(f"{path} is damaged")
    assert complaint.isprintable()


GRANTS_FILE = msgspec.json.encode(keys.Grants(grants=(GRANT,)))
HOSTS_FILE = msgspec.json.encode(keys.Hosts(hosts=(INVITATION,)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (keys.GRANTS, b""),
        (keys.GRANTS, GRANTS_FILE[:-1]),
        (keys.GRANTS, GRANTS_FILE.replace(b'"admin"', b'"root"')),
        (keys.GRANTS, GRANTS_FILE.replace(b'"laptop"', b'"lap top"')),
        (keys.GRANTS, GRANTS_FILE.replace(b'"rate":2.5', b'"rate":0')),
        (keys.GRANTS, GRANTS_FILE.replace(TOKEN.id.encode(), b"00")),
        (keys.GRANTS, b"[" * 100_000),
        (keys.GRANTS, b"\xff\xfe"),
        (keys.GRANTS, b'{"version":2}'),
        (keys.HOSTS, HOSTS_FILE.replace(b'"secret":"', b'"secret":"AAAA')),
        (keys.HOSTS, GRANTS_FILE),
        (keys.IDENTITY, b""),
        (keys.IDENTITY, PEM.replace(b"END CERTIFICATE", b"")),
        (keys.IDENTITY, PEM[: PEM.index(b"-----BEGIN CERT")]),
    ],
)
def test_what_cannot_be_right_is_refused_with_what_it_would_cost_to_remove_it(
    folder: Path, name: str, content: bytes
) -> None:
    fill(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{folder / name} is damaged .*remove it, and then"):
        READERS[name](folder)
    assert (folder / name).read_bytes() == content


def test_a_damaged_file_is_not_written_over(folder: Path) -> None:
    fill(folder)
    (folder / keys.GRANTS).write_bytes(b"{")
    with pytest.raises(ConfigurationError, match="damaged"):
        keys.add_grant(folder, named("phone"))
    assert (folder / keys.GRANTS).read_bytes() == b"{"


def test_every_change_of_the_tokens_is_noticed_once(folder: Path) -> None:
    watched = keys.WatchedGrants(folder)
    assert watched.changed() == ()
    assert watched.changed() is None
    keys.add_grant(folder, GRANT)
    assert watched.changed() == (GRANT,)
    assert watched.changed() is None
    keys.revoke(folder, "laptop", NOW)
    assert watched.changed() == (msgspec.structs.replace(GRANT, revoked=NOW),)
    (folder / keys.GRANTS).write_bytes(b"{")
    with pytest.raises(ConfigurationError, match="damaged"):
        watched.changed()
    assert watched.changed() is None
    (folder / keys.GRANTS).unlink()
    assert watched.changed() == ()
