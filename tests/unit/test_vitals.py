import os

import pytest
from fabric.vitals import SLACK_BYTES, SLACK_DESCRIPTORS, Vital, flat, growth, look

from twofold.units import MIB


def life(resident: list[int], descriptors: list[int] | None = None) -> list[Vital]:
    return [Vital(at, r, d) for at, (r, d) in enumerate(zip(resident, descriptors or [9] * len(resident), strict=True))]


def test_we_are_seen_with_the_descriptors_that_we_have() -> None:
    before = look(os.getpid())
    descriptor = os.open("/dev/null", os.O_RDONLY)
    after = look(os.getpid())
    os.close(descriptor)
    assert before
    assert after
    assert after.descriptors == before.descriptors + 1
    assert after.resident_bytes > MIB


def test_a_process_that_is_gone_is_not_seen() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert look(pid) is None


def test_what_grows_at_the_start_only_is_flat() -> None:
    assert flat(life([MIB * min(at, 10) for at in range(100)]))


@pytest.mark.parametrize("samples", [40, 1200])
def test_a_steady_leak_is_not_flat(samples: int) -> None:
    assert not flat(life([100 * MIB + at * 20 * SLACK_BYTES // samples for at in range(samples)]))
    assert not flat(life([100 * MIB] * samples, [9 + 20 * at * SLACK_DESCRIPTORS // samples for at in range(samples)]))


def test_ups_and_downs_that_return_are_flat() -> None:
    assert flat(life([100 * MIB + (at % 7) * 10 * MIB for at in range(200)], [9 + at % 5 for at in range(200)]))


def test_a_short_life_shows_no_growth() -> None:
    assert growth(life([MIB, 2 * MIB])) is None
    assert flat(life([MIB, 900 * MIB]))
