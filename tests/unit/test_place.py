import os
import socket
import threading
from pathlib import Path

import pytest

from twofold.errors import ConfigurationError, Unreachable
from twofold.link import listen, place
from twofold.link.base import parse
from twofold.link.place import bind, socket_path


def dead_socket(path: Path) -> int:
    """A socket file with nobody behind it; its inode."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
    return path.stat().st_ino


def test_a_name_lies_in_a_folder_of_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = socket_path(parse("shm://w-1.a"), {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert path == tmp_path / "twofold" / "w-1.a"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(place, "FALLBACK", tmp_path)
    assert socket_path(parse("shm://b"), {}) == tmp_path / f"twofold-{os.getuid()}" / "b"
    assert (tmp_path / f"twofold-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert socket_path(parse(f"shm://{tmp_path}/a b")) == tmp_path / "a b"


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twofold").mkdir(mode=0o755)
    (tmp_path / "twofold").chmod(0o755)
    with pytest.raises(ConfigurationError, match="belong to you alone"):
        socket_path(parse("shm://a"), {"XDG_RUNTIME_DIR": str(tmp_path)})


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "twofold").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="belong to you alone"):
        socket_path(parse("shm://a"), {"XDG_RUNTIME_DIR": str(tmp_path)})


def test_a_runtime_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/no/twofold, cannot be made"):
        socket_path(parse("shm://a"), {"XDG_RUNTIME_DIR": f"{tmp_path}/no"})


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "é", "x" * 65, "a\0"])
def test_a_name_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not of the form shm://NAME"):
        socket_path(parse(f"shm://{name}"), {"XDG_RUNTIME_DIR": str(tmp_path)})


def test_a_path_longer_than_a_socket_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="200 bytes; 107 are possible"):
        socket_path(parse("shm:///" + "x" * 199))


def test_the_socket_is_for_this_user_only(tmp_path: Path) -> None:
    with bind(tmp_path / "s", "shm://s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


def test_the_socket_file_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead_socket(path)
    with bind(path, "shm://s"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_place_of_a_live_server_is_in_use(tmp_path: Path) -> None:
    with bind(tmp_path / "s", "shm://s") as first:
        with pytest.raises(Unreachable, match="cannot listen at shm://s: the address is in use"):
            bind(tmp_path / "s", "shm://s")
        assert (tmp_path / "s").exists()
        first.setblocking(False)
        first.accept()[0].close()  # still the one that is reached: the probe arrived here


def test_of_many_servers_that_find_a_dead_one_exactly_one_gets_the_place(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead_socket(path)
    start, got, refused = threading.Barrier(8), [], []

    def take() -> None:
        start.wait()
        try:
            got.append(bind(path, "shm://s"))
        except Unreachable as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    with got[0], socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "folder", "link to a file"])
def test_what_is_not_a_socket_is_never_removed(kind: str, tmp_path: Path) -> None:
    path, precious = tmp_path / "s", tmp_path / "precious"
    precious.write_text("keep me")
    if kind == "file":
        path.write_text("keep me")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(precious)
    with pytest.raises(Unreachable, match="exists and is not a socket"):
        bind(path, "shm://s")
    assert path.exists()
    assert precious.read_text() == "keep me"


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"cannot listen at shm://s .*no such file or directory"):
        bind(tmp_path / "no" / "s", "shm://s")


def test_a_closed_listener_leaves_no_file_and_never_takes_away_its_successors(tmp_path: Path) -> None:
    url, path = f"shm://{tmp_path}/s", tmp_path / "s"
    listener = listen(url)
    listener.close()
    listener.close()
    assert not path.exists()
    listener = listen(url)
    path.rename(tmp_path / "moved")
    inode = dead_socket(path)
    listener.close()
    assert path.stat().st_ino == inode
