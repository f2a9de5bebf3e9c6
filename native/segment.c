/* Weight memory's work: one segment, one call. A segment is a list of steps over values; a value is a plane of
 * the caller's rows or scratch.
 *
 * Threads share a step out by rows or by columns of what it makes, in units of 32 columns, so their number never
 * changes a bit. Neighbouring steps by columns of one width are done together, a few units after the other, so that
 * what a matrix product makes is still in the cache for the steps that follow it. `waits` marks the steps that need
 * what others made (kernels/lowering.py).
 *
 * Columns are shared out evenly beforehand, and a thread that has done its own takes from those of the others: where
 * somebody else has the processor of one thread for a while, the others do not wait for more than a few units.
 *
 * Weights are fetched ahead across steps: a product is told which weights its thread reads next, and a call begins with
 * fetching the first. */
#include <stdatomic.h>
#include <string.h>
#include "twofold.h"

enum { PART = 4 };          /* units of columns that go through neighbouring steps together */
enum { FETCHED = 8192 };    /* bytes of weights that a thread fetches while a call's first steps go on */
enum { GIVEN_A_LINE = 16 }; /* counts in a cache line: each thread's have lines of their own */

static char *at(const struct segment_call *c, const struct value *v, int64_t row, int64_t column, int64_t element_bytes) {
  char *base = v->offset < 0 ? v->scratch : c->rows + v->offset;
  return base + (row * v->width + column) * element_bytes;
}
static struct activations tiles_of(const struct value *v) { return (struct activations){(int8_t *)v->scratch, v->scale}; }

static struct tile tile_at(const struct segment_call *c, int64_t i) { return tile_of(c->count, c->level->tile, i); }
static struct tile tile_around(const struct segment_call *c, int64_t row) {
  return tile_at(c, ((row + 1) * tile_count(c->count, c->level->tile) - 1) / c->count);
}

/* a step on columns from .. to - 1 of one row */
static void run_row(const struct segment_call *c, const struct step *s, int64_t row, struct tile tile, int64_t from, int64_t to) {
  const struct level *k = c->level;
  const float *x = (const float *)at(c, s->a, row, from, 4);
  float *y = (float *)at(c, s->out, row, from, 4);
  switch (s->kind) {
    case STEP_EMBED: k->embed(&s->weight, *(const int32_t *)at(c, s->a, row, 0, 4), y); break;
    case STEP_RMS_NORM: k->rms_norm(x, s->weight.data, s->epsilon, s->a->width, y); break;
    case STEP_QUANTISE: k->quantise(x, from / 32, to / 32, s->a->width / 32, tiles_of(s->out), s->fine, s->zero, row, tile); break;
    case STEP_SWIGLU: k->swiglu(x, (const float *)at(c, s->b, row, from, 4), to - from, y); break;
    case STEP_ADD: k->add(x, (const float *)at(c, s->b, row, from, 4), to - from, y); break;
    case STEP_WIDEN: k->widen((const uint16_t *)at(c, s->a, row, from, 2), to - from, y); break;
    case STEP_LAYER_NORM: k->layer_norm(x, s->weight.data, s->epsilon, s->a->width, y); break;
    case STEP_BIAS: k->add(x, (const float *)s->weight.data + from, to - from, y); break;
    case STEP_GEGLU: k->geglu(x, (const float *)at(c, s->b, row, from, 4), to - from, y); break;
    case STEP_TOP: k->top(x, s->a->width, s->out->width, (int32_t *)y); break;
    case STEP_GATHER: k->gather(x, s->a->width, (const int32_t *)at(c, s->b, row, 0, 4), s->b->width, y); break;
    case STEP_LOG_SUM_EXP: k->log_sum_exp(x, s->a->width, y); break;
    default: k->narrow(x, to - from, (uint16_t *)at(c, s->out, row, from, 2)); break;
  }
}
/* a step on columns from .. to - 1, whole units, of all rows */
static void run_part(const struct segment_call *c, const struct step *s, int64_t from, int64_t to, const void *next) {
  const float *x = (const float *)at(c, s->a, 0, 0, 4);
  float *y = (float *)at(c, s->out, 0, 0, 4);
  if (s->kind == STEP_LINEAR) {
    c->level->linear(&s->weight, from / UNIT, (to + UNIT - 1) / UNIT, next, x, tiles_of(s->a), s->fine, c->count, y);
  } else {
    for (int64_t i = 0; i < tile_count(c->count, c->level->tile); i++) {
      const struct tile tile = tile_at(c, i);
      for (int64_t r = tile.first; r < tile.first + tile.count; r++) run_row(c, s, r, tile, from, to);
    }
  }
}

/* a call under way: how many units each thread's share of each step has given out, by thread and step */
struct work { const struct segment_call *call; atomic_int *given; int64_t stride; };

static const struct step *product_from(const struct step *s, const struct step *end) {
  while (s < end && s->kind != STEP_LINEAR) s++;
  return s;
}
static const char *weights_at(const struct step *product, int64_t unit) {
  return (const char *)product->weight.data + unit * tf_packed_bytes(product->weight.format, UNIT, product->weight.width);
}
/* the weights that a thread's share of the first product from s on begins with, or 0 */
static const char *share_of_next(const struct work *w, const struct step *s, int thread, int threads) {
  const struct step *product = product_from(s, w->call->step + w->call->steps);
  if (product == w->call->step + w->call->steps) return 0;
  return weights_at(product, (product->out->width + UNIT - 1) / UNIT * thread / threads);
}
/* the weights that a thread reads after the part of product t that begins at `unit`: of steps s .. end - 1, which go part
 * by part to `last`, or of what follows them */
static const char *weights_after(const struct work *w, const struct step *t, const struct step *s, const struct step *end,
                                 int64_t unit, int64_t last, int thread, int threads) {
  const struct step *same = product_from(t + 1, end);
  if (same < end) return weights_at(same, unit);
  if (unit + PART < last) return weights_at(product_from(s, end), unit + PART);
  return share_of_next(w, end, thread, threads);
}

/* steps s .. end - 1, all by columns of one width */
static void run_columns(const struct work *w, const struct step *s, const struct step *end, int thread, int threads) {
  const int64_t width = s->out->width, units = (width + UNIT - 1) / UNIT;
  for (int i = 0; i < threads; i++) {
    const int owner = (thread + i) % threads;
    const int64_t first = units * owner / threads, last = units * (owner + 1) / threads;
    atomic_int *given = &w->given[owner * w->stride + (s - w->call->step)];
    for (int64_t from; (from = first + atomic_fetch_add_explicit(given, PART, memory_order_relaxed)) < last;) {
      const int64_t to = (from + PART < last ? from + PART : last) * UNIT;
      for (const struct step *t = s; t < end; t++) {
        const char *next = t->kind == STEP_LINEAR ? weights_after(w, t, s, end, from, last, thread, threads) : 0;
        run_part(w->call, t, from * UNIT, to < width ? to : width, next);
      }
    }
  }
}
static void run_steps(void *argument, int thread, int threads) {
  const struct work *w = argument;
  const struct segment_call *c = w->call;
  const struct step *end = c->step + c->steps, *next;
  const char *first = share_of_next(w, c->step, thread, threads);
  if (first) for (int i = 0; i < FETCHED; i += CACHE_LINE) __builtin_prefetch(first + i, 0, 2);
  for (const struct step *s = c->step; s < end; s = next) {
    if (s->waits) pool_barrier(c->pool);
    next = s + 1;
    if (s->columns) {
      while (next < end && next->columns && !next->waits && next->out->width == s->out->width) next++;
      run_columns(w, s, next, thread, threads);
    } else {
      for (int64_t r = c->count * thread / threads; r < c->count * (thread + 1) / threads; r++)
        run_row(c, s, r, tile_around(c, r), 0, s->out->width);
    }
  }
}

/* Run one segment on the first `count` rows; everything was allocated when the weights were loaded. */
EXPORT void tf_segment(struct segment_call *call) {
  if (call->count > call->touched) call->touched = call->count;
  const int64_t stride = (call->steps + GIVEN_A_LINE - 1) / GIVEN_A_LINE * GIVEN_A_LINE;
  _Alignas(4 * GIVEN_A_LINE) atomic_int given[pool_team(call->pool) * stride];
  memset(given, 0, sizeof given);
  pool_run(call->pool, run_steps, &(struct work){call, given, stride});
}
