/*
 * The loop of a weight processor, as long as nothing but calls arrives:
 *
 *     ┌─▶ look at the desk ──▶ queue calls ──▶ linger ──▶ run one batch ──▶ answer ─┐
 *     └─────────────────────────────────────────────────────────────────────────────┘
 *
 * Whatever else arrives or goes wrong is left to processor/weight.py. Nothing here waits for one peer.
 */
#include "calls.h"
#include "frame.h"
#include "twofold.h"
#include <string.h>


/* wire/status.py has the meaning of the buckets */
enum { BUCKETS = 141, ROW_BUCKETS = 17 };
struct tally {
  uint64_t calls, rows, batches, worked, waited, received, sent;
  uint64_t batch_rows[ROW_BUCKETS], waits[BUCKETS], works[BUCKETS];
};

/* The work of a segment that is not native: 0 if it was done, and then its nanoseconds. */
typedef int32_t work(uint32_t segment, uint32_t count, uint64_t *worked);

struct server {
  struct desk *desk;
  struct port *const *port;              /* by place at the desk: where its calls arrive */
  const int32_t *owner;                  /* by place: whose calls go straight to the queue; -1: they do not */
  struct calls *calls;
  const struct layout *layout;
  char *rows;
  struct segment_call *const *native;    /* by segment; 0 where it is not held */
  const uint8_t *held;                   /* by segment */
  work *work;                            /* where nothing is native */
  struct tally *tally;
  struct port **ports;                   /* of a batch */
  int32_t *what;                         /* that its answers came to */
  int64_t called;                        /* when the last call came */
  uint32_t vocabulary, unused;
};

enum { LOOK = 256 };                     /* arrivals at one look */

static int doublings(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }
static int bucket(int64_t duration) {
  const int bits = doublings((uint64_t)duration);
  const int found = bits < 3 ? (int)duration : 4 * (bits - 2) + (int)(duration >> (bits - 3) & 3);
  return found < BUCKETS ? found : BUCKETS - 1;
}

static uint64_t row_bytes(const struct plane *plane, uint32_t planes) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < planes; i++) sum += plane[i].row_bytes;
  return sum;
}

/* A batch of so many rows and calls was worked on for so long. */
EXPORT void tf_tally_batch(struct tally *t, const struct cut *cut, uint32_t rows, uint32_t calls, uint64_t worked) {
  const uint64_t headers = sizeof(struct head) * (uint64_t)calls;
  t->calls += calls, t->rows += rows, t->batches++, t->worked += worked;
  t->received += rows * row_bytes(cut->plane, cut->takes) + headers;
  t->sent += rows * row_bytes(cut->plane + cut->takes, cut->gives) + headers;
  t->batch_rows[doublings(rows - 1)]++;
  t->works[bucket((int64_t)worked)]++;
}
/* One of its calls had waited for so long. */
EXPORT void tf_tally_wait(struct tally *t, int64_t waited) { t->waited += (uint64_t)waited, t->waits[bucket(waited)]++; }

static int known(const struct layout *layout, uint64_t vocabulary, const char *rows, uint32_t count) {
  const int32_t *id = (const int32_t *)(rows + layout->cut[0].plane[0].offset);
  for (uint32_t i = 0; i < count; i++)
    if (id[i] < 0 || (uint32_t)id[i] >= vocabulary) return 0;
  return 1;
}

/* 0 if the segment ran on the first `count` rows, and its nanoseconds in *worked; else it takes Python to say what is wrong. */
int work_here(struct segment_call *const *native, const struct layout *layout, uint64_t vocabulary, char *rows, uint32_t segment, uint32_t count, uint64_t *worked) {
  if (count - 1 >= layout->cut[segment].limit || (!segment && !known(layout, vocabulary, rows, count))) return 1;
  struct segment_call *call = native[segment];
  const int64_t start = clock_ns();
  call->rows = rows, call->count = count;
  tf_segment(call);
  *worked = (uint64_t)(clock_ns() - start);
  return 0;
}

/* 0 if the segment ran on the rows */
static int32_t run(const struct server *s, uint32_t segment, uint32_t rows, uint64_t *worked) {
  if (!s->native) return s->work(segment, rows, worked);
  return work_here(s->native, s->layout, s->vocabulary, s->rows, segment, rows, worked);
}

/* Run the best batch and answer it. Notes in `out` the calls that did not come straight to the queue, and those whose
 * answers have not left; or all, if the batch could not be run. */
static int run_batch(struct server *s, int64_t start, struct arrival *out) {
  const int32_t calls = tf_calls_next(s->calls, start);
  uint32_t segment, rows;
  uint64_t worked = 0;
  const int32_t *batch = tf_calls_batch(s->calls, &segment, &rows);
  int found = 0;
  for (int32_t i = 0; i < calls; i++) s->ports[i] = s->port[batch[i]];
  tf_ports_take(s->ports, (uint32_t)calls, s->layout, s->rows);
  if (run(s, segment, rows, &worked)) {
    for (; found < calls; found++)
      out[found] = (struct arrival){batch[found], FAILED, segment, s->ports[found]->call.rows, 0};
    return found;
  }
  tf_ports_give(s->ports, (uint32_t)calls, s->layout, s->rows, worked, s->what);
  for (int32_t i = 0; i < calls; i++)
    if (s->what[i] != WRITABLE || s->owner[batch[i]] < 0) out[found++] = (struct arrival){batch[i], ANSWERED, segment, 0, 0};
  tf_tally_batch(s->tally, &s->layout->cut[segment], rows, (uint32_t)calls, worked);
  for (int32_t i = 0; i < calls; i++) tf_tally_wait(s->tally, start - tf_calls_arrived(s->calls, batch[i]));
  const int64_t now = clock_ns();
  tf_calls_ran(s->calls, now, now - start);
  return found;
}

static int goes_straight(const struct server *s, const struct arrival *a) {
  return a->what == CALL && s->owner[a->index] >= 0 && s->held[a->segment] && !tf_calls_open(s->calls, a->index);
}

/* Queue the calls among what arrived; how many arrivals are left, in front. */
static int sort_out(struct server *s, struct arrival *arrival, int count) {
  const int64_t now = clock_ns();
  int left = 0;
  for (int i = 0; i < count; i++) {
    const struct arrival *a = &arrival[i];
    if (goes_straight(s, a)) {
      tf_calls_put(s->calls, a->index, s->owner[a->index], a->segment, a->rows, now, now + (int64_t)a->nanoseconds);
      s->called = now;
    } else {
      arrival[left++] = *a;
    }
  }
  return left;
}

/* What arrives, once anything has or it is time for the next batch. */
static int wait(struct server *s, int64_t now, int64_t spin_ns, int64_t until, struct arrival *out) {
  const int64_t linger = tf_calls_linger(s->calls, now);
  if (linger) return desk_linger(s->desk, linger, out, LOOK);
  return desk_wait(s->desk, spin_ns, tf_calls_waiting(s->calls) ? 0 : until - now, out, LOOK);
}

/* Serve until `until` (monotonic, ns), or until there is something for Python to see to: what, in `out`, which has room
 * for LOOK arrivals and for a batch. */
EXPORT int tf_serve(struct server *s, int64_t spin_ns, int64_t until, struct arrival *out) {
  int found = 0;
  for (int64_t now = clock_ns(); !found && (now < until || tf_calls_waiting(s->calls)); ) {
    found = sort_out(s, out, wait(s, now, spin_ns, until, out));
    now = clock_ns();
    if (!found && tf_calls_waiting(s->calls) && !tf_calls_linger(s->calls, now)) {
      found = run_batch(s, now, out);
      now = clock_ns();
      if (now >= until) break;
    }
  }
  return found;
}
