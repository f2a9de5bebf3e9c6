/* A pool of threads that share one job at a time. Waiting spins briefly (the next job of a token comes within
 * microseconds), then sleeps on a futex, so an idle pool uses no processor and a busy neighbour is not fought.
 *
 *   generation   counts jobs: workers wait for it to change
 *   phase        counts barriers: whoever arrives last advances it */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "twofold.h"

enum { SPINS = 2000, MAX_THREADS = 256 };

struct pool {
  _Alignas(128) atomic_uint generation;
  _Alignas(128) atomic_uint phase;
  _Alignas(128) atomic_uint arrived;
  _Alignas(128) atomic_int asleep;
  job *work;
  void *argument;
  int threads, stop;
  pthread_t handle[MAX_THREADS];
  struct worker { struct pool *pool; int thread; } worker[MAX_THREADS];
};

static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* returns once *word is no longer `old` */
static void wait_change(struct pool *p, atomic_uint *word, unsigned old) {
  for (int i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(word, memory_order_acquire) != old) return;
    relax();
  }
  atomic_fetch_add(&p->asleep, 1);
  while (atomic_load(word) == old) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, 0, 0, 0);
  atomic_fetch_sub(&p->asleep, 1);
}
static void change(struct pool *p, atomic_uint *word) {
  atomic_fetch_add(word, 1);
  if (atomic_load(&p->asleep)) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
}

void pool_barrier(struct pool *p) {
  if (p->threads == 1) return;
  const unsigned phase = atomic_load(&p->phase);
  if (atomic_fetch_add(&p->arrived, 1) + 1 == (unsigned)p->threads) {
    atomic_store(&p->arrived, 0);
    change(p, &p->phase);
  } else {
    wait_change(p, &p->phase, phase);
  }
}

static void *run_worker(void *argument) {
  const struct worker *self = argument;
  struct pool *p = self->pool;
  for (unsigned seen = 0;; seen++) {
    wait_change(p, &p->generation, seen);
    if (p->stop) return 0;
    p->work(p->argument, self->thread, p->threads);
    pool_barrier(p);
  }
}

void pool_run(struct pool *p, job *work, void *argument) {
  if (p->threads > 1) {
    p->work = work;
    p->argument = argument;
    change(p, &p->generation);
  }
  work(argument, 0, p->threads);
  pool_barrier(p);
}

/* A pool of `threads` (the caller is one of them); 0 if the threads cannot be made. */
EXPORT struct pool *tf_pool_new(int threads) {
  if (threads < 1 || threads > MAX_THREADS) return 0;
  struct pool *p = aligned_alloc(128, (sizeof *p + 127) / 128 * 128);
  if (!p) return 0;
  atomic_init(&p->generation, 0);
  atomic_init(&p->phase, 0);
  atomic_init(&p->arrived, 0);
  atomic_init(&p->asleep, 0);
  p->stop = 0;
  for (p->threads = 1; p->threads < threads; p->threads++) {
    const int t = p->threads;
    p->worker[t] = (struct worker){p, t};
    if (pthread_create(&p->handle[t], 0, run_worker, &p->worker[t])) { tf_pool_free(p); return 0; }
  }
  return p;
}
EXPORT void tf_pool_free(struct pool *p) {
  p->stop = 1;
  change(p, &p->generation);
  for (int t = 1; t < p->threads; t++) pthread_join(p->handle[t], 0);
  free(p);
}
