import threading

import pytest

from twofold.link.mailbox import WORD, Mailbox

SECOND_NS = 1_000_000_000


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(256))


@pytest.mark.parametrize("spin_ns", [0, 1_000_000])
def test_a_ring_wakes_the_waiter_whether_it_spins_or_sleeps(memory: memoryview, spin_ns: int) -> None:
    ours, theirs = Mailbox(memory, 64, spin_ns=spin_ns), Mailbox(memory, 128, spin_ns=spin_ns)

    def answer() -> None:
        for word in range(1, 501):
            while ours.wait(word - 1, SECOND_NS) != word:
                pass
            theirs.ring(word)

    thread = threading.Thread(target=answer)
    thread.start()
    for word in range(1, 501):
        ours.ring(word)
        assert theirs.wait(word - 1, 5 * SECOND_NS) == word
    thread.join()


def test_a_wait_ends_at_its_timeout_with_the_word_as_it_was(memory: memoryview) -> None:
    mailbox = Mailbox(memory, 0, spin_ns=0)
    mailbox.ring(9)
    assert mailbox.wait(9, 1_000_000) == 9
    assert mailbox.wait(9, 0) == 9


def test_a_word_uses_all_32_bits(memory: memoryview) -> None:
    mailbox = Mailbox(memory, 0)
    mailbox.ring(WORD - 1)
    assert mailbox.wait(0, 0) == WORD - 1


def test_a_wake_ends_a_sleep_without_a_new_word(memory: memoryview) -> None:
    mailbox = Mailbox(memory, 0, spin_ns=0)
    woken = threading.Event()

    def sleep() -> None:
        mailbox.wait(0, 20 * SECOND_NS)
        woken.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    while not woken.wait(0.005):  # the wake is lost until the other thread sleeps
        mailbox.wake()
    thread.join(1)
    assert not thread.is_alive()


def test_only_the_two_words_of_the_mailbox_are_written(memory: memoryview) -> None:
    mailbox = Mailbox(memory, 64, spin_ns=0)
    mailbox.ring(0xFFFFFFFF)
    mailbox.wait(0xFFFFFFFF, 1000)
    assert bytes(memory[:64]) + bytes(memory[72:]) == bytes(248)
