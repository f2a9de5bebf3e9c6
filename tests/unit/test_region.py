import fcntl
import os
from collections.abc import Iterator

import numpy as np
import pytest
from toy_processor import MANIFEST

from twofold.errors import DeviceError, FrameError
from twofold.link import region
from twofold.link.port import Batch, What, native_layout
from twofold.link.region import PAGE, Region, frame_bytes
from twofold.wire.rows import Layout, Rows

LAYOUT = Layout(MANIFEST)
SIZE = PAGE + sum(frame_bytes(LAYOUT))


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = region.create(LAYOUT)
    yield descriptor
    os.close(descriptor)


def memfd(size: int, seals: int) -> int:
    made = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(made, size)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, seals)
    return made


def test_a_call_and_its_reply_cross_two_mappings_of_one_descriptor(descriptor: int) -> None:
    native = native_layout(LAYOUT)
    client, server = Region(descriptor, LAYOUT).calling(-1), Region(descriptor, LAYOUT).serving(-1)
    ours, batch = Rows(LAYOUT), Batch(LAYOUT)
    ours["ids"][:3, 0] = [1, 2, 3]
    assert client.begin(ours, native, 0, 3, 10**9) == What.WRITABLE
    assert server.pull() == What.CALL
    assert server.header()[2:6] == (0, 3, 1, 10**9)
    batch.take([server])
    assert batch.rows["ids"][:4, 0].tolist() == [1, 2, 3, 0]
    batch.rows["carry"][:3] = 7
    assert client.finish(ours, native, 0, 3, 0) == What.NOTHING
    assert batch.give(1, 99) == [What.WRITABLE]
    assert client.finish(ours, native, 0, 3, 0) == What.CALL
    assert client.worked == 99
    assert (ours["carry"][:3] == 7).all()
    assert not ours["carry"][3:].any()


def test_calls_of_several_ports_lie_behind_one_another_and_each_gets_its_own_rows() -> None:
    native, batch = native_layout(LAYOUT), Batch(LAYOUT)
    descriptors = [region.create(LAYOUT) for _ in range(3)]
    clients = [Region(descriptor, LAYOUT).calling(-1) for descriptor in descriptors]
    servers = [Region(descriptor, LAYOUT).serving(-1) for descriptor in descriptors]
    planes = [Rows(LAYOUT) for _ in descriptors]
    for number, (client, server, rows) in enumerate(zip(clients, servers, planes, strict=True)):
        rows["ids"][: number + 1] = 10 * number
        client.begin(rows, native, 0, number + 1, 10**9)
        assert server.pull() == What.CALL
    batch.take(servers)
    assert batch.rows["ids"][:6, 0].tolist() == [0, 10, 10, 20, 20, 20]
    batch.rows["carry"][:6] = np.arange(6)[:, None]
    assert batch.give(3, 5) == [What.WRITABLE] * 3
    for number, (client, rows) in enumerate(zip(clients, planes, strict=True)):
        assert client.finish(rows, native, 0, number + 1, 0) == What.CALL
    assert [rows["carry"][:3, 0].tolist() for rows in planes] == [[0, 0, 0], [1, 2, 0], [3, 4, 5]]
    for descriptor in descriptors:
        os.close(descriptor)


def test_nothing_of_a_call_stays_in_any_memory_once_it_is_answered(descriptor: int) -> None:
    native = native_layout(LAYOUT)
    client, server = Region(descriptor, LAYOUT).calling(-1), Region(descriptor, LAYOUT).serving(-1)
    rows, batch = Rows(LAYOUT), Batch(LAYOUT)
    rows["ids"][:2] = 0x5EC2E7
    client.begin(rows, native, 0, 2, 10**9)
    server.pull()
    batch.take([server])
    batch.rows["carry"][:2] = 1.5
    batch.give(1, 1)
    client.finish(rows, native, 0, 2, 0)
    call, reply = frame_bytes(LAYOUT)
    assert not any(os.pread(descriptor, call - 64, PAGE + 64))
    assert not any(os.pread(descriptor, reply - 64, PAGE + call + 64))
    assert not any(batch.rows.memory)


def test_frames_do_not_reach_into_the_control_page(descriptor: int) -> None:
    client = Region(descriptor, LAYOUT).calling(-1)
    for frame in (client.inward, client.outward):
        frame[:] = b"\xff" * len(frame)
    assert os.pread(descriptor, PAGE, 0) == bytes(PAGE)


def test_new_memory_passes_the_check_and_cannot_be_resized(descriptor: int) -> None:
    region.check(descriptor, LAYOUT)
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.truncate(descriptor, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_memory_of_another_size_is_refused(size: int) -> None:
    made = memfd(size, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with pytest.raises(FrameError, match=f"{size} bytes arrived; the manifest needs {SIZE}"):
        region.check(made, LAYOUT)
    os.close(made)


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK])
def test_memory_that_can_still_be_resized_is_refused(seals: int) -> None:
    made = memfd(SIZE, seals)
    with pytest.raises(FrameError, match="not sealed"):
        region.check(made, LAYOUT)
    os.close(made)


def test_a_plain_file_is_refused(tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "f"), "wb+") as file:
        file.truncate(SIZE)
        with pytest.raises(FrameError, match=r"a file arrived|not sealed"):
            region.check(file.fileno(), LAYOUT)


def test_no_memory_left_is_a_device_error_and_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(DeviceError, match="no space left on device"):
        region.create(LAYOUT)
    assert os.listdir("/proc/self/fd") == before
