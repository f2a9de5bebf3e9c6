/* Weight memory's work: one segment, one call. A segment is a list of steps over values; a value is a plane of
 * the caller's rows or scratch.
 *
 * Threads share a step out by rows or by columns of what it makes, in units of 32 columns, so their number never
 * changes a bit. Neighbouring steps by columns of one width are done together, a few units after the other, so that
 * what a matrix product makes is still in the cache for the steps that follow it. `waits` marks the steps that need
 * what others made (kernels/lowering.py).
 *
 * Columns are shared out evenly beforehand, and a thread that has done its own takes from those of the others: where
 * somebody else has the processor of one thread for a while, the others do not wait for more than a few units. */
#include <stdatomic.h>
#include <string.h>
#include "twofold.h"

enum { PART = 4 };          /* units of columns that go through neighbouring steps together */
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
    case STEP_RMS_NORM:
      for (int64_t i = 0; i < s->a->width; i += s->weight.width) k->rms_norm(x + i, s->weight.data, s->constant, s->weight.width, y + i);
      break;
    case STEP_QUANTISE: k->quantise(x, from / 32, to / 32, s->a->width / 32, tiles_of(s->out), s->fine, s->zero, row, tile); break;
    case STEP_SWIGLU: k->swiglu(x, (const float *)at(c, s->b, row, from, 4), to - from, y); break;
    case STEP_ADD: k->add(x, (const float *)at(c, s->b, row, from, 4), to - from, y); break;
    case STEP_WIDEN: k->widen((const uint16_t *)at(c, s->a, row, from, 2), to - from, y); break;
    case STEP_LAYER_NORM: k->layer_norm(x, s->weight.data, s->constant, s->a->width, y); break;
    case STEP_BIAS: k->add(x, (const float *)s->weight.data + from, to - from, y); break;
    case STEP_GEGLU: k->geglu(x, (const float *)at(c, s->b, row, from, 4), to - from, y); break;
    case STEP_CLAMPED_SWIGLU: k->clamped_swiglu(x, (const float *)at(c, s->b, row, from, 4), s->constant, s->slope, to - from, y); break;
    case STEP_SCALE: k->scale(x, s->constant, to - from, y); break;
    case STEP_TOP: k->top(x, s->a->width, s->out->width, (int32_t *)y); break;
    case STEP_GATHER: k->gather(x, s->a->width, (const int32_t *)at(c, s->b, row, 0, 4), s->b->width, y); break;
    case STEP_ROUTE: k->route(x, s->weight.data, s->a->width, &s->chosen, s->out->width, (int32_t *)y); break;
    case STEP_SHARES: k->shares(x, s->a->width, (const int32_t *)at(c, s->b, row, 0, 4), s->b->width, &s->chosen, s->constant, y); break;
    case STEP_LOG_SUM_EXP: k->log_sum_exp(x, s->a->width, y); break;
    default: k->narrow(x, to - from, (uint16_t *)at(c, s->out, row, from, 2)); break;
  }
}
/* a step on columns from .. to - 1, whole units, of all rows */
static void run_part(const struct segment_call *c, const struct step *s, int64_t from, int64_t to) {
  const float *x = (const float *)at(c, s->a, 0, 0, 4);
  float *y = (float *)at(c, s->out, 0, 0, 4);
  if (s->kind == STEP_LINEAR) {
    c->level->linear(&s->weight, from / UNIT, (to + UNIT - 1) / UNIT, x, tiles_of(s->a), s->fine, c->count, y);
  } else {
    for (int64_t i = 0; i < tile_count(c->count, c->level->tile); i++) {
      const struct tile tile = tile_at(c, i);
      for (int64_t r = tile.first; r < tile.first + tile.count; r++) run_row(c, s, r, tile, from, to);
    }
  }
}

/* a call under way: how many units each thread's share of each step has given out, by thread and step; and the same of
 * the expert under way */
struct work { const struct segment_call *call; atomic_int *given, *given_inside; int64_t stride, stride_inside; };

/* steps s .. end - 1, all by columns of one width */
static void run_columns(const struct work *w, const struct step *s, const struct step *end, int thread, int threads) {
  const int64_t width = s->out->width, units = (width + UNIT - 1) / UNIT;
  for (int i = 0; i < threads; i++) {
    const int owner = (thread + i) % threads;
    const int64_t first = units * owner / threads, last = units * (owner + 1) / threads;
    atomic_int *given = &w->given[owner * w->stride + (s - w->call->step)];
    for (int64_t from; (from = first + atomic_fetch_add_explicit(given, PART, memory_order_relaxed)) < last;) {
      const int64_t to = (from + PART < last ? from + PART : last) * UNIT;
      for (const struct step *t = s; t < end; t++) run_part(w->call, t, from * UNIT, to < width ? to : width);
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
  if (mine < end) memset(at(c, s->out, mine, 0, 4), 0, (size_t)((end - mine) * bytes));
  for (int64_t expert = 0; expert < m->count; expert++) {
    struct segment_call call = *m->call[expert];
    call.rows = c->rows, call.count = 0;
    for (int32_t r = 0; r < c->count; r++)
      if (seen[r] < k && *(const int32_t *)at(c, s->b, r, seen[r], 4) == expert) seen[r]++, row[call.count++] = r;
    if (!call.count) continue;
    if (!thread) m->call[expert]->total += call.count;
    for (int64_t i = call.count * thread / threads; i < call.count * (thread + 1) / threads; i++)
      memcpy(at(c, &m->in, i, 0, 4), at(c, s->a, row[i], 0, 4), (size_t)bytes);
    memset(w->given_inside + thread * w->stride_inside, 0, sizeof(atomic_int) * (size_t)w->stride_inside);
    pool_barrier(c->pool);
    run_steps(&(struct work){&call, w->given_inside, 0, w->stride_inside, 0}, thread, threads);
    pool_barrier(c->pool);
    for (int64_t i = 0; i < call.count; i++)
      if (row[i] >= mine && row[i] < end)
        c->level->mix((const float *)at(c, &m->out, i, 0, 4), *(const float *)at(c, s->c, row[i], seen[row[i]] - 1, 4), width,
                      (float *)at(c, s->out, row[i], 0, 4));
  }
}
static void run_steps(const struct work *w, int thread, int threads) {
  const struct segment_call *c = w->call;
  const struct step *end = c->step + c->steps, *next;
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
        run_row(c, s, r, tile_around(c, r), 0, s->out->width);
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
