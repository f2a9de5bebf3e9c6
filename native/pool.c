/* A pool of threads that share one job at a time.
 *
 *   job     jobs given out so far and how many threads take part: workers wait for it to change
 *   phase   meetings so far: whoever arrives last advances it
 *   team    how many threads take part from now on: those sent home wait for it to change
 *
 * Waiting spins briefly (the next job of a token comes within microseconds), then sleeps on a futex, so an idle pool
 * uses no processor and a busy neighbour is not fought. Where a neighbour has the processor of one thread, all the
 * others wait for that thread; so a thread that came late because it had no processor moves to another one, and if a
 * quarter of the time is lost so, the team is made smaller by one for a while. Late is who keeps the others waiting for
 * longer than they would have needed to do his part too. Who comes last to a meeting on the processor on which another
 * went to sleep shares it with him, and moves as well: neither is ever late, but they work in turns, and the system,
 * which sees two busy processors, leaves it so. Results do not depend on the size of the team. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "twofold.h"

enum { SPINS = 2000 };
enum { LATE_NS = 500000, REST_NS = 100000000, LONGEST_REST_NS = 1600000000 };
enum { BORNE_OF = 4, BORNE_NS = 10000000 }; /* what may be lost to waiting: one of so much time, and so much at once */

struct signal {
  _Alignas(128) atomic_uint value;
  atomic_int asleep;
};
struct pool {
  struct signal job, phase, team;
  _Alignas(128) atomic_uint arrived;
  atomic_llong asleep_since; /* when someone at the meeting under way went to sleep */
  atomic_int asleep_on;      /* and on which processor */
  int64_t met_ns;            /* when all met last */
  atomic_llong waited_ns;    /* for threads that came late because others had their processor, since the job began */
  job *work;
  void *argument;
  int threads, stop;
  int taking_part;                /* in the job under way */
  int64_t late_ns, lost_ns;       /* when a thread was last late; what was lost by then, beyond what may be */
  int64_t rest_until_ns, rest_ns; /* until then the team stays as small as it is; the length of that rest */
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
static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}
/* Whether the calling thread, since it last asked, was ready to run for long while others had its processor: Linux counts
 * that time in nanoseconds, the second figure of schedstat. */
static int was_kept_waiting(void) {
  static _Thread_local long long before;
  char text[64] = {0};
  const int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t bytes = read(file, text, sizeof text - 1);
  close(file);
  const char *second = bytes > 0 ? strchr(text, ' ') : 0;
  const long long waited = second ? atoll(second) : 0, since = waited - before;
  before = waited;
  return since > LATE_NS;
}

/* Moves the calling thread off its processor: a thread that waits for its turn is otherwise moved late or never, while
 * the processor of one that rests is idle. */
static void change_processor(void) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
  cpu_set_t others = allowed;
  CPU_CLR(sched_getcpu(), &others);
  if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof allowed, &allowed);
}

/* returns the value once it is no longer `old`; `meeting`, if given, is told when and where the wait became a sleep */
static unsigned await(struct signal *s, unsigned old, struct pool *meeting) {
  unsigned value;
  for (int i = 0; i < SPINS; i++) {
    if ((value = atomic_load_explicit(&s->value, memory_order_acquire)) != old) return value;
    relax();
  }
  if (meeting) {
    atomic_store_explicit(&meeting->asleep_since, now_ns(), memory_order_relaxed);
    atomic_store_explicit(&meeting->asleep_on, sched_getcpu(), memory_order_relaxed);
  }
  atomic_fetch_add(&s->asleep, 1);
  while ((value = atomic_load(&s->value)) == old) syscall(SYS_futex, &s->value, FUTEX_WAIT_PRIVATE, old, 0, 0, 0);
  atomic_fetch_sub(&s->asleep, 1);
  return value;
}
static void announce(struct signal *s, unsigned value) {
  atomic_store(&s->value, value);
  if (atomic_load(&s->asleep)) syscall(SYS_futex, &s->value, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
}

/* for how long the others waited for the last to come, now, if that cost more than a team without him would: n at work
 * for a time do in it what n - 1 need n / (n - 1) of it for; else 0 */
static int64_t late_by(struct pool *p, int64_t now) {
  const int64_t since = atomic_load(&p->asleep_since), waited = now - since, worked = since - p->met_ns;
  return waited > LATE_NS && waited * (p->taking_part - 1) > worked ? waited : 0;
}

void pool_barrier(struct pool *p) {
  if (p->taking_part == 1) return;
  const unsigned phase = atomic_load(&p->phase.value);
  if (atomic_fetch_add(&p->arrived, 1) + 1 == (unsigned)p->taking_part) {
    const int64_t now = now_ns();
    if (atomic_load(&p->phase.asleep)) {
      const int64_t waited = late_by(p, now);
      const int late = waited && was_kept_waiting();
      if (late) atomic_fetch_add(&p->waited_ns, waited);
      if (late || sched_getcpu() == atomic_load(&p->asleep_on)) change_processor();
    }
    p->met_ns = now;
    atomic_store(&p->arrived, 0);
    announce(&p->phase, phase + 1);
  } else {
    await(&p->phase, phase, p);
  }
}

int pool_team(const struct pool *p) { return (int)atomic_load_explicit(&p->team.value, memory_order_relaxed); }

/* the size of the team from the next job on */
static void choose_team(struct pool *p) {
  const int team = pool_team(p);
  const int64_t waited = atomic_load_explicit(&p->waited_ns, memory_order_relaxed);
  if (waited) {
    const int64_t now = now_ns(), left = p->lost_ns - (now - p->late_ns) / BORNE_OF;
    const int soon = now - p->rest_until_ns < REST_NS; /* after the last rest */
    atomic_store(&p->waited_ns, 0);
    p->late_ns = now;
    p->lost_ns = (left > 0 ? left : 0) + waited;
    if (p->lost_ns < BORNE_NS) return; /* it may be chance, or somebody who is soon done */
    p->lost_ns = 0;
    p->rest_ns = !soon ? REST_NS : p->rest_ns * 2 < LONGEST_REST_NS ? p->rest_ns * 2 : LONGEST_REST_NS;
    p->rest_until_ns = now + p->rest_ns;
    if (team > 1) announce(&p->team, (unsigned)team - 1);
  } else if (team < p->threads && now_ns() > p->rest_until_ns) {
    announce(&p->team, (unsigned)p->threads);
  }
}

static int team_of(unsigned job) { return (int)(job & 255); }

static void *run_worker(void *argument) {
  const struct worker *self = argument;
  struct pool *p = self->pool;
  unsigned job = 0;
  for (;;) {
    job = await(&p->job, job, 0);
    if (p->stop) return 0;
    if (self->thread < team_of(job)) {
      p->work(p->argument, self->thread, team_of(job));
      pool_barrier(p);
    } else {
      await(&p->team, (unsigned)team_of(job), 0);
    }
  }
}

void pool_run(struct pool *p, job *work, void *argument) {
  if (p->threads == 1) { work(argument, 0, 1); return; }
  const int64_t start = now_ns();
  p->taking_part = pool_team(p);
  if (p->taking_part > 1) {
    p->work = work;
    p->argument = argument;
    p->met_ns = start;
    const unsigned given = atomic_load_explicit(&p->job.value, memory_order_relaxed) >> 8;
    announce(&p->job, (given + 1) << 8 | (unsigned)p->taking_part);
  }
  work(argument, 0, p->taking_part);
  pool_barrier(p);
  if (p->taking_part == 1 && now_ns() - start > LATE_NS && was_kept_waiting()) change_processor();
  choose_team(p);
}

/* A pool of `threads` (the caller is one of them); 0 if the threads cannot be made. */
EXPORT struct pool *tf_pool_new(int threads) {
  if (threads < 1 || threads > MAX_THREADS) return 0;
  struct pool *p = aligned_alloc(128, (sizeof *p + 127) / 128 * 128);
  if (!p) return 0;
  *p = (struct pool){.team.value = 1, .taking_part = 1};
  for (p->threads = 1; p->threads < threads; p->threads++) {
    const int t = p->threads;
    p->worker[t] = (struct worker){p, t};
    if (pthread_create(&p->handle[t], 0, run_worker, &p->worker[t])) { tf_pool_free(p); return 0; }
  }
  atomic_store(&p->team.value, (unsigned)threads);
  return p;
}
EXPORT void tf_pool_free(struct pool *p) {
  p->stop = 1;
  announce(&p->team, 0);
  announce(&p->job, atomic_load(&p->job.value) + 256);
  for (int t = 1; t < p->threads; t++) pthread_join(p->handle[t], 0);
  free(p);
}
