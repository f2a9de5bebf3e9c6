import fcntl
import os
from collections.abc import Iterator

import pytest
from toy_processor import MANIFEST

from twofold.errors import DeviceError, FrameError
from twofold.link import region
from twofold.link.region import PAGE, CallFields, Region
from twofold.wire.rows import Layout

LAYOUT = Layout(MANIFEST)
SIZE = PAGE + LAYOUT.size_bytes


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


def test_two_mappings_of_one_descriptor_are_one_memory(descriptor: int) -> None:
    ours, theirs = Region(descriptor, LAYOUT), Region(descriptor, LAYOUT)
    call = CallFields(2**32 - 1, 3, 200, 2**64 - 1)
    ours.write_call(call)
    ours.rows["carry"][255, 1023] = 1.5
    ours.calls.ring(7)
    theirs.write_reply(failed=True, nanoseconds=2**64 - 1)
    assert theirs.read_call() == call
    assert theirs.rows["carry"][255, 1023] == 1.5
    assert theirs.calls.wait(0, 0) == 7
    assert ours.read_reply() == (True, 2**64 - 1)


def test_planes_do_not_reach_into_the_control_page_and_are_aligned(descriptor: int) -> None:
    shared = Region(descriptor, LAYOUT)
    for array in shared.rows.arrays.values():
        array.view("u1")[:] = 0xFF
    assert os.pread(descriptor, PAGE, 0) == bytes(PAGE)
    assert shared.rows.address % PAGE == 0


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
