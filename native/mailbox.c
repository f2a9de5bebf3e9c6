/*
 * Mailboxes: how two processes that share memory wake each other.
 *
 *     ┌──────┬────────┐
 *     │ word │ asleep │   two u32; the memory around them is the caller's
 *     └──────┴────────┘
 *
 * One side waits for the word to change, the other rings: stores a new word and wakes the waiter if it
 * sleeps. The waiter spins for a short time first, because a futex costs about 30 us and an answer from
 * another core 2 us. Everything written before a ring is visible after the wait that sees it.
 */

#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "twofold.h"

struct mailbox {
    _Atomic uint32_t word;
    _Atomic uint32_t asleep;
};

EXPORT long tf_mailbox_wait(struct mailbox *box, uint32_t expected_not, long spin_ns, long timeout_ns);
EXPORT void tf_mailbox_ring(struct mailbox *box, uint32_t word);
EXPORT void tf_mailbox_wake(struct mailbox *box);

enum { PAUSES_PER_CLOCK = 32 };

static void pause_core(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb"); /* "yield" is a no-op on most cores and would hog the memory port */
#elif defined(__riscv)
    __asm__ __volatile__(".insn i 0x0f, 0, x0, x0, 0x010"); /* pause (Zihintpause), a hint elsewhere */
#endif
}

static long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* 1 if the word changed within spin_ns. */
static int spin(struct mailbox *box, uint32_t expected_not, long spin_ns)
{
    long end = now_ns() + spin_ns;
    do {
        for (int i = 0; i < PAUSES_PER_CLOCK; i++) {
            if (atomic_load_explicit(&box->word, memory_order_acquire) != expected_not)
                return 1;
            pause_core();
        }
    } while (now_ns() < end);
    return 0;
}

/*
 * Wait until the word differs from `expected_not`: spin for spin_ns, then sleep for at most timeout_ns.
 * Returns the word as it is then, changed or not: a signal or a wake ends the sleep early, so that the
 * caller can look around and wait again.
 */
EXPORT long tf_mailbox_wait(struct mailbox *box, uint32_t expected_not, long spin_ns, long timeout_ns)
{
    if (!spin(box, expected_not, spin_ns) && timeout_ns > 0) {
        struct timespec limit = {timeout_ns / 1000000000L, timeout_ns % 1000000000L};
        /* Sequentially consistent with the ring: either it sees `asleep`, or the futex sees the new word. */
        atomic_store(&box->asleep, 1);
        syscall(SYS_futex, &box->word, FUTEX_WAIT, expected_not, &limit, NULL, 0);
        atomic_store(&box->asleep, 0);
    }
    return (long)atomic_load_explicit(&box->word, memory_order_acquire);
}

/* Wake the waiter without a new word. */
EXPORT void tf_mailbox_wake(struct mailbox *box)
{
    syscall(SYS_futex, &box->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Store a new word and wake the waiter if it sleeps. */
EXPORT void tf_mailbox_ring(struct mailbox *box, uint32_t word)
{
    atomic_store(&box->word, word);
    if (atomic_load(&box->asleep))
        tf_mailbox_wake(box);
}
