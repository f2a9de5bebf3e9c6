/*
 * Which calls a weight memory runs next, together: decides, and is told the time.
 *
 * Rows at the same segment run as one batch, whoever they belong to, because a pass over a segment's weights costs
 * about the same for one row as for many. Each segment where calls wait, or are expected from ports that were answered a
 * moment ago, has a score, and the highest runs:
 *
 *       rows there / most rows anywhere      the fullest goes first,
 *     + GOING_ON if it follows the last      and goes on, until those that were left behind have joined it;
 *     + longest wait / patience              a call left behind waits two tokens' time at most,
 *     - GREED x what its owners had beyond   and many connections or long prompts buy nobody more than a fair share:
 *       the average of all who wait          who had more does not age.
 *
 * If the best lacks rows that are expected, the memory waits for them, but not for longer than a multiple of the passes
 * that they save; and not for rows of who waits already, as lanes of one owner are out of step on purpose.
 *
 *     put ──▶ WAITING, by segment ──linger, next──▶ RUNNING ──ran──▶ COMING to the segment after it
 */
#include "calls.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "twofold.h"

static const int64_t GREED_NS = 5000000;      /* between two looks at who had how much */
static const double MEMORY_NS = 200e6;        /* what an owner had fades by 1 / e in this time */
static const double GOING_ON = 0.5, GREED = 3.0;
static const double FAIR = 1.25;              /* the multiple of the average from which on an owner had more than others */
static const double TOKENS = 2.0;             /* of patience */
static const double LEAST_PATIENCE_NS = 1e6;
static const double LINGER = 1.5;             /* of a pass over the weights: the longest wait for each port that is expected; measured */
static const double SMOOTH = 0.1;             /* weight of the newest cost among the usual ones */
static const double FEW = 8;                  /* rows that cost a pass over the weights and little more */
enum { NONE = -1 };

/* `when`: a call that waits arrived then; one that is expected was answered then. */
enum state { FREE, WAITING, RUNNING, COMING };
struct call { int64_t when, expiry; int32_t before, after, owner; uint32_t segment, rows, state; };
struct list { int32_t first, last; };
struct place { struct list waiting; int64_t rows, rows_waiting; int32_t expected; uint32_t limit; double greed; };
/* amount: nanoseconds of the memory that he had, as of `when` */
struct owner { double amount, greed; int64_t when, seen; int32_t waiting; };

struct calls {
  struct call *call;      /* by port */
  struct place *place;    /* by segment */
  struct owner *owner;    /* as many as ports */
  int32_t *batch;         /* ports */
  int32_t ports, segments, waiting, expected, size;
  struct list coming;     /* in order of their answers */
  uint32_t segment, rows; /* of the batch */
  uint32_t following;     /* the segment after the one that ran last */
  int greedy;             /* somebody had more than the others, as of `greed_at` */
  int64_t greed_at, idle_since;
  double usual_ns;        /* of a batch */
  double pass_ns;         /* of a batch of few rows: what waiting for more rows saves */
};

/* ---- lists of ports ---- */

static void append(struct calls *c, struct list *list, int32_t port) {
  struct call *call = &c->call[port];
  call->before = list->last, call->after = NONE;
  if (list->last == NONE) list->first = port; else c->call[list->last].after = port;
  list->last = port;
}
static void take_out(struct calls *c, struct list *list, int32_t port) {
  const struct call *call = &c->call[port];
  if (call->before == NONE) list->first = call->after; else c->call[call->before].after = call->after;
  if (call->after == NONE) list->last = call->before; else c->call[call->after].before = call->before;
}

/* the port's call neither waits nor is expected any more */
static void forget(struct calls *c, int32_t port) {
  struct call *call = &c->call[port];
  struct place *place = &c->place[call->segment];
  if (call->state == WAITING) {
    take_out(c, &place->waiting, port);
    place->rows -= call->rows, place->rows_waiting -= call->rows, c->waiting--;
    c->owner[call->owner].waiting--;
  } else if (call->state == COMING) {
    take_out(c, &c->coming, port);
    place->rows -= call->rows, place->expected--, c->expected--;
  }
  call->state = FREE;
}

/* e to the power of -x, nearly */
static double faded(int64_t nanoseconds) {
  double y = 1.0 - (double)nanoseconds / MEMORY_NS / 1024;
  for (int i = 0; i < 10 && y > 0; i++) y *= y;
  return y > 0 ? y : 0;
}
static double larger(double a, double b) { return a > b ? a : b; }
static double smaller(double a, double b) { return a < b ? a : b; }

/* ---- scores ---- */

/* the least greed of those who wait or are expected, by segment */
static void find_greed(struct calls *c) {
  for (int32_t s = 0; s < c->segments; s++) {
    c->place[s].greed = INFINITY;
    for (int32_t p = c->place[s].waiting.first; p != NONE; p = c->call[p].after)
      c->place[s].greed = smaller(c->place[s].greed, c->owner[c->call[p].owner].greed);
  }
  for (int32_t p = c->coming.first; p != NONE; p = c->call[p].after) {
    struct place *place = &c->place[c->call[p].segment];
    place->greed = smaller(place->greed, c->owner[c->call[p].owner].greed);
  }
}

static double score(const struct calls *c, int32_t segment, int64_t most, int64_t now, double patience) {
  const struct place *place = &c->place[segment];
  double score = (double)place->rows / (double)most + (segment == (int32_t)c->following ? GOING_ON : 0.0);
  if (c->greedy) score -= place->greed;
  int32_t p = place->waiting.first;
  while (c->greedy && p != NONE && c->owner[c->call[p].owner].greed > 0) p = c->call[p].after;
  return p == NONE ? score : score + (double)(now - c->call[p].when) / patience;
}

/* the segment with the highest score, of all where rows wait, or where any are if `expected` */
static int32_t best(struct calls *c, int64_t now, int expected) {
  const double patience = larger(TOKENS * c->segments * c->usual_ns, LEAST_PATIENCE_NS);
  int64_t most = 0;
  int32_t chosen = NONE;
  double highest = -INFINITY;
  if (c->greedy) find_greed(c);
  for (int32_t s = 0; s < c->segments; s++) most = c->place[s].rows > most ? c->place[s].rows : most;
  for (int32_t s = 0; s < c->segments; s++) {
    if (!(expected ? c->place[s].rows : c->place[s].rows_waiting)) continue;
    const double found = score(c, s, most, now, patience);
    if (found > highest) highest = found, chosen = s;
  }
  return chosen;
}

/* find out who had more than the average of those who wait or are expected */
static void compare(struct calls *c, int64_t now) {
  double sum = 0;
  int count = 0;
  c->greed_at = now, c->greedy = 0;
  for (int pass = 0; pass < 2; pass++) { /* the sum of all, then each against it */
    const double limit = count ? FAIR * sum / count : 0;
    for (int32_t p = 0; p < c->ports; p++) {
      if (c->call[p].state != WAITING && c->call[p].state != COMING) continue;
      struct owner *owner = &c->owner[c->call[p].owner];
      if (!pass && owner->seen != now) {
        owner->amount *= faded(now - owner->when);
        owner->when = owner->seen = now, sum += owner->amount, count++;
      } else if (pass) {
        owner->greed = owner->amount > limit ? GREED * (owner->amount - limit) * FAIR / limit : 0;
        c->greedy |= owner->greed > 0;
      }
    }
  }
}

/* expect those no longer who should have called by now */
static void give_up(struct calls *c, int64_t now) {
  const double latest = (double)now - LINGER * c->pass_ns * (c->expected + c->waiting);
  while (c->coming.first != NONE && (double)c->call[c->coming.first].when <= latest) forget(c, c->coming.first);
}

/* how many ports are expected at a segment whose owner waits for nothing else meanwhile */
static int32_t missed(const struct calls *c, int32_t segment) {
  int32_t count = 0;
  for (int32_t p = c->coming.first; p != NONE; p = c->call[p].after)
    count += c->call[p].segment == (uint32_t)segment && !c->owner[c->call[p].owner].waiting;
  return count;
}

/* ---- what happens ---- */

/* A call of `rows` rows of `owner` for `segment` arrived at `port`, which has one call at a time; times in ns. */
EXPORT void tf_calls_put(struct calls *c, int32_t port, int32_t owner, uint32_t segment, uint32_t rows, int64_t arrived, int64_t expiry) {
  forget(c, port);
  struct place *place = &c->place[segment];
  c->call[port] = (struct call){arrived, expiry, NONE, NONE, owner, segment, rows, WAITING};
  append(c, &place->waiting, port);
  place->rows += rows, place->rows_waiting += rows, c->waiting++;
  c->owner[owner].waiting++;
}

/* The port is gone, with what it had waiting. */
EXPORT void tf_calls_withdraw(struct calls *c, int32_t port) { forget(c, port); }

EXPORT int32_t tf_calls_waiting(const struct calls *c) { return c->waiting; }
/* Whether a call of that port has no answer yet. */
EXPORT int32_t tf_calls_open(const struct calls *c, int32_t port) {
  return c->call[port].state == WAITING || c->call[port].state == RUNNING;
}
int64_t tf_calls_arrived(const struct calls *c, int32_t port) { return c->call[port].when; }

/* Ports whose calls' deadlines have passed, at most `most`; they wait no more. */
EXPORT int32_t tf_calls_expired(struct calls *c, int64_t now, int32_t *port, int32_t most) {
  int32_t found = 0;
  for (int32_t p = 0; p < c->ports && found < most; p++)
    if (c->call[p].state == WAITING && c->call[p].expiry <= now) forget(c, port[found++] = p);
  return found;
}

/* Nanoseconds to wait before `tf_calls_next`, because rows are expected at the segment with the highest score. */
EXPORT int64_t tf_calls_linger(struct calls *c, int64_t now) {
  if (!c->expected || !c->waiting) return 0;
  give_up(c, now);
  if (!c->expected) return 0;
  const double longest = LINGER * c->pass_ns * missed(c, best(c, now, 1));
  const int64_t left = c->idle_since + (int64_t)longest - now;
  return left > 0 ? left : 0;
}

struct rank { double greed; int64_t when; int32_t port; };
static int by_greed_then_age(const void *a, const void *b) {
  const struct rank *x = a, *y = b;
  if (x->greed != y->greed) return x->greed < y->greed ? -1 : 1;
  return x->when < y->when ? -1 : x->when > y->when;
}

/* what of the calls at a place fits its limit, the least greedy and the oldest first; how many */
static int32_t fitting(struct calls *c, const struct place *place, int32_t *port) {
  struct rank *rank = malloc(sizeof *rank * (size_t)c->waiting);
  int32_t count = 0, taken = 0;
  uint32_t room = place->limit;
  if (!rank) return 0;
  for (int32_t p = place->waiting.first; p != NONE; p = c->call[p].after)
    rank[count++] = (struct rank){c->owner[c->call[p].owner].greed, c->call[p].when, p};
  qsort(rank, (size_t)count, sizeof *rank, by_greed_then_age);
  for (int32_t i = 0; i < count; i++) {
    if (c->call[rank[i].port].rows > room) continue;
    room -= c->call[rank[i].port].rows, port[taken++] = rank[i].port;
  }
  free(rank);
  return taken;
}

/* The calls to run together now, in the order of their rows: how many, 0 if none wait (`tf_calls_batch` has them). */
EXPORT int32_t tf_calls_next(struct calls *c, int64_t now) {
  c->size = 0, c->rows = 0;
  if (!c->waiting) return 0;
  c->segment = (uint32_t)best(c, now, 0);
  const struct place *place = &c->place[c->segment];
  if (place->rows_waiting > place->limit) {
    c->size = fitting(c, place, c->batch);
  } else {
    for (int32_t p = place->waiting.first; p != NONE; p = c->call[p].after) c->batch[c->size++] = p;
  }
  for (int32_t i = 0; i < c->size; i++) {
    c->rows += c->call[c->batch[i]].rows;
    forget(c, c->batch[i]);
    c->call[c->batch[i]].state = RUNNING;
  }
  return c->size;
}

/* The ports of the batch chosen last, its segment, and its rows in all. */
EXPORT const int32_t *tf_calls_batch(const struct calls *c, uint32_t *segment, uint32_t *rows) {
  *segment = c->segment, *rows = c->rows;
  return c->batch;
}

/* That batch was answered at `now` after `took` nanoseconds. */
EXPORT void tf_calls_ran(struct calls *c, int64_t now, int64_t took) {
  const double smooth = c->usual_ns > 0 ? SMOOTH : 1.0;
  c->usual_ns += smooth * ((double)took - c->usual_ns);
  c->pass_ns += smooth * ((double)took * smaller(1.0, FEW / larger(1.0, c->rows)) - c->pass_ns);
  c->idle_since = now;
  c->following = (c->segment + 1) % (uint32_t)c->segments;
  for (int32_t i = 0; i < c->size; i++) {
    struct call *call = &c->call[c->batch[i]];
    if (call->state != RUNNING) continue; /* withdrawn since */
    struct owner *owner = &c->owner[call->owner];
    owner->amount = owner->amount * faded(now - owner->when) + (double)took * call->rows / c->rows;
    owner->when = now;
    call->state = COMING, call->segment = c->following, call->when = now;
    append(c, &c->coming, c->batch[i]);
    c->place[c->following].rows += call->rows, c->place[c->following].expected++, c->expected++;
  }
  if (now - c->greed_at > GREED_NS) compare(c, now);
}

/* An owner's number is given to another. */
EXPORT void tf_calls_new_owner(struct calls *c, int32_t owner) { c->owner[owner] = (struct owner){.waiting = 0}; }

/* What is wrong with the counts and lists; 0: nothing. */
EXPORT const char *tf_calls_check(const struct calls *c) {
  int32_t waiting = 0, expected = 0;
  for (int32_t s = 0; s < c->segments; s++) {
    const struct place *place = &c->place[s];
    int64_t rows_waiting = 0, rows_expected = 0;
    int32_t expected_here = 0;
    for (int32_t p = place->waiting.first; p != NONE; p = c->call[p].after, waiting++) {
      if (c->call[p].state != WAITING || c->call[p].segment != (uint32_t)s) return "a call is in a list where it does not wait";
      rows_waiting += c->call[p].rows;
    }
    for (int32_t p = c->coming.first; p != NONE; p = c->call[p].after)
      if (c->call[p].segment == (uint32_t)s) rows_expected += c->call[p].rows, expected_here++;
    if (rows_waiting != place->rows_waiting || rows_waiting + rows_expected != place->rows) return "rows are not counted";
    if (expected_here != place->expected) return "who is expected at a segment is not counted";
  }
  for (int32_t p = c->coming.first; p != NONE; p = c->call[p].after, expected++)
    if (c->call[p].state != COMING) return "a port is expected and is not coming";
  if (waiting != c->waiting || expected != c->expected) return "the calls that wait, or are expected, are not counted";
  for (int32_t p = 0; p < c->ports; p++) waiting -= c->call[p].state == WAITING, expected -= c->call[p].state == COMING;
  return waiting || expected ? "a call is in no list, or in two" : 0;
}

EXPORT void tf_calls_free(struct calls *c) {
  if (!c) return;
  free(c->call), free(c->place), free(c->owner), free(c->batch), free(c);
}

/* For so many segments, which take `limit` rows each, and ports 0 .. ports - 1; 0 if there is no memory. */
EXPORT struct calls *tf_calls_new(int32_t segments, const uint32_t *limit, int32_t ports) {
  struct calls *c = calloc(1, sizeof *c);
  if (!c) return 0;
  c->segments = segments, c->ports = ports, c->coming = (struct list){NONE, NONE};
  c->call = calloc((size_t)ports, sizeof *c->call);
  c->place = calloc((size_t)segments, sizeof *c->place);
  c->owner = calloc((size_t)ports, sizeof *c->owner);
  c->batch = calloc((size_t)ports, sizeof *c->batch);
  if (!c->call || !c->place || !c->owner || !c->batch) return tf_calls_free(c), (struct calls *)0;
  for (int32_t s = 0; s < segments; s++) c->place[s] = (struct place){.waiting = {NONE, NONE}, .limit = limit[s]};
  return c;
}
