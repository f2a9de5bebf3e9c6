/* Weight memory's work: one segment, one call. A segment is a list of steps over values; a value is a plane of
 * the caller's rows or scratch.
 *
 * Threads share a step out by rows or by columns of what it makes, in units of 32 columns, so their number never
 * changes a bit. Neighbouring steps by columns of one width are done together, a few units after the other, so that
 * what a matrix product makes is still in the cache for the steps that follow it. A value that nobody needs after them
 * `passes`: each thread has room for the columns under way, the same for all columns, so that it stays in the thread's
 * cache and never becomes memory traffic. `waits` marks the steps that need what others made (kernels/lowering.py).
 *
 * Columns are shared out evenly beforehand, and a thread that has done its own takes from those of the others: where
 * somebody else has the processor of one thread for a while, the others do not wait for more than a few units.
 *
 * Weights are fetched ahead across steps: a product is told which weights its thread reads next, and a call begins with
 * fetching the first. */
#include <stdatomic.h>
#include <string.h>
#include "twofold.h"

enum { FETCHED = 8192 };    /* bytes of weights that a thread fetches while a call's first steps go on */
enum { GIVEN_A_LINE = 16 }; /* counts in a cache line: each thread's have lines of their own */

/* who runs a step, and on which columns */
struct part { int thread; int64_t from, to; };

/* elements from one row to the next */
static int64_t pitch_of(const struct value *v) { return v->part_bytes ? PART * UNIT : v->width; }
/* a row from `column` on; of a value that passes, that is where the part under way begins */
static char *at(const struct segment_call *c, const struct value *v, int thread, int64_t row, int64_t column, int64_t element_bytes) {
  if (v->part_bytes) return v->scratch + thread * v->part_bytes + row * PART * UNIT * element_bytes;
  char *base = v->offset < 0 ? v->scratch : c->rows + v->offset;
  return base + (row * v->width + column) * element_bytes;
}
static struct activations tiles_of(const struct value *v) { return (struct activations){(int8_t *)v->scratch, v->scale}; }

static struct tile tile_at(const struct segment_call *c, int64_t i) { return tile_of(c->count, c->level->tile, i); }
static struct tile tile_around(const struct segment_call *c, int64_t row) {
  return tile_at(c, ((row + 1) * tile_count(c->count, c->level->tile) - 1) / c->count);
}

/* a step on the part's columns of one row */
static void run_row(const struct segment_call *c, const struct step *s, int64_t row, struct tile tile, struct part part) {
  const struct level *k = c->level;
  const int64_t from = part.from, to = part.to, width = to - from;
  const char *a = at(c, s->a, part.thread, row, from, s->kind == STEP_WIDEN ? 2 : 4);
  const float *x = (const float *)a, *b = s->b ? (const float *)at(c, s->b, part.thread, row, from, 4) : 0;
  char *out = at(c, s->out, part.thread, row, from, s->kind == STEP_NARROW ? 2 : 4);
  float *y = (float *)out;
  switch (s->kind) {
    case STEP_EMBED: k->embed(&s->weight, *(const int32_t *)a, y); break;
    case STEP_RMS_NORM:
      for (int64_t i = 0; i < s->a->width; i += s->weight.width) k->rms_norm(x + i, s->weight.data, s->constant, s->weight.width, y + i);
      break;
    case STEP_QUANTISE: k->quantise(x, from / 32, to / 32, s->a->width / 32, tiles_of(s->out), s->fine, s->zero, row, tile); break;
    case STEP_SWIGLU: k->swiglu(x, b, width, y); break;
    case STEP_ADD: k->add(x, b, width, y); break;
    case STEP_WIDEN: k->widen((const uint16_t *)a, width, y); break;
    case STEP_LAYER_NORM: k->layer_norm(x, s->weight.data, s->constant, s->a->width, y); break;
    case STEP_BIAS: k->add(x, (const float *)s->weight.data + from, width, y); break;
    case STEP_GEGLU: k->geglu(x, b, width, y); break;
    case STEP_CLAMPED_SWIGLU: k->clamped_swiglu(x, b, s->constant, s->slope, width, y); break;
    case STEP_SCALE: k->scale(x, s->constant, width, y); break;
    case STEP_TOP: k->top(x, s->a->width, s->out->width, (int32_t *)y); break;
    case STEP_GATHER: k->gather(x, s->a->width, (const int32_t *)b, s->b->width, y); break;
    case STEP_ROUTE: k->route(x, s->weight.data, s->a->width, &s->chosen, s->out->width, (int32_t *)y); break;
    case STEP_SHARES: k->shares(x, s->a->width, (const int32_t *)b, s->b->width, &s->chosen, s->constant, y); break;
    case STEP_LOG_SUM_EXP: k->log_sum_exp(x, s->a->width, y); break;
    default: k->narrow(x, width, (uint16_t *)out); break;
  }
}
/* a step on the part's columns, whole units, of all rows */
static void run_part(const struct segment_call *c, const struct step *s, struct part part, const void *next) {
  if (s->kind == STEP_LINEAR) {
    c->level->linear(&s->weight, part.from / UNIT, (part.to + UNIT - 1) / UNIT, next,
                     (const float *)at(c, s->a, part.thread, 0, 0, 4), tiles_of(s->a), s->fine, c->count, (float *)at(c, s->out, part.thread, 0, part.from, 4), pitch_of(s->out));
  } else {
    for (int64_t i = 0; i < tile_count(c->count, c->level->tile); i++) {
      const struct tile tile = tile_at(c, i);
      for (int64_t r = tile.first; r < tile.first + tile.count; r++) run_row(c, s, r, tile, part);
    }
  }
}

/* a call under way: how many units each thread's share of each step has given out, by thread and step; and the same of
 * the expert under way */
struct work { const struct segment_call *call; atomic_int *given, *given_inside; int64_t stride, stride_inside; };

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
      const struct part part = {thread, from * UNIT, to < width ? to : width};
      for (const struct step *t = s; t < end; t++) {
        const char *next = t->kind == STEP_LINEAR ? weights_after(w, t, s, end, from, last, thread, threads) : 0;
        run_part(w->call, t, part, next);
      }
    }
  }
}
static void run_steps(const struct work *w, int thread, int threads);

/* The experts one after the other, each on the rows that go to it: those are gathered in the expert's own plane. Each
 * row's sum is in the order of the experts; a thread sums the rows that are its own. */
static void run_experts(const struct work *w, const struct step *s, int thread, int threads) {
  const struct segment_call *c = w->call;
  const struct mixture *m = s->mixture;
  const int64_t k = s->b->width, width = s->a->width, bytes = width * 4;
  const int64_t mine = c->count * thread / threads, end = c->count * (thread + 1) / threads;
  int32_t seen[c->count], row[c->count]; /* how many of its experts a row has been to; the rows of one expert */
  memset(seen, 0, sizeof seen);
  if (mine < end) memset(at(c, s->out, thread, mine, 0, 4), 0, (size_t)((end - mine) * bytes));
  for (int64_t expert = 0; expert < m->count; expert++) {
    struct segment_call call = *m->call[expert];
    call.rows = c->rows, call.count = 0;
    for (int32_t r = 0; r < c->count; r++)
      if (seen[r] < k && *(const int32_t *)at(c, s->b, thread, r, seen[r], 4) == expert) seen[r]++, row[call.count++] = r;
    if (!call.count) continue;
    if (!thread) m->call[expert]->total += call.count;
    for (int64_t i = call.count * thread / threads; i < call.count * (thread + 1) / threads; i++)
      memcpy(at(c, &m->in, thread, i, 0, 4), at(c, s->a, thread, row[i], 0, 4), (size_t)bytes);
    memset(w->given_inside + thread * w->stride_inside, 0, sizeof(atomic_int) * (size_t)w->stride_inside);
    pool_barrier(c->pool);
    run_steps(&(struct work){&call, w->given_inside, 0, w->stride_inside, 0}, thread, threads);
    pool_barrier(c->pool);
    for (int64_t i = 0; i < call.count; i++)
      if (row[i] >= mine && row[i] < end)
        c->level->mix((const float *)at(c, &m->out, thread, i, 0, 4), *(const float *)at(c, s->c, thread, row[i], seen[row[i]] - 1, 4), width,
                      (float *)at(c, s->out, thread, row[i], 0, 4));
  }
}
static void run_steps(const struct work *w, int thread, int threads) {
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
    } else if (s->kind == STEP_EXPERTS) {
      run_experts(w, s, thread, threads);
    } else {
      for (int64_t r = c->count * thread / threads; r < c->count * (thread + 1) / threads; r++)
        run_row(c, s, r, tile_around(c, r), (struct part){thread, 0, s->out->width});
    }
  }
}

static void run_call(void *argument, int thread, int threads) { run_steps(argument, thread, threads); }
static int64_t whole_lines(int64_t counts) { return (counts + GIVEN_A_LINE - 1) / GIVEN_A_LINE * GIVEN_A_LINE; }

/* Run one segment on the first `count` rows; everything was allocated when the weights were loaded. */
EXPORT void tf_segment(struct segment_call *call) {
  if (call->count > call->touched) call->touched = call->count;
  call->total += call->count;
  int64_t inside = 0;
  for (const struct step *s = call->step; s < call->step + call->steps; s++)
    if (s->mixture && s->mixture->steps > inside) inside = s->mixture->steps;
  const int64_t stride = whole_lines(call->steps), stride_inside = whole_lines(inside), team = pool_team(call->pool);
  _Alignas(4 * GIVEN_A_LINE) atomic_int given[team * (stride + stride_inside)];
  memset(given, 0, sizeof given);
  pool_run(call->pool, run_call, &(struct work){call, given, given + team * stride, stride, stride_inside});
}
