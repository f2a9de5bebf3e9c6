/* Weight memory's work: one segment, one call. A segment is a list of steps over values; a value is a plane of
 * the caller's rows or scratch. Steps on rows are shared out by rows and matrix products by panels of output
 * rows, so the number of threads never changes a bit; `waits` marks the steps that need what others made. */
#include "twofold.h"

enum step_kind { STEP_EMBED, STEP_RMS_NORM, STEP_QUANTISE, STEP_LINEAR, STEP_SWIGLU, STEP_ADD, STEP_WIDEN, STEP_NARROW, STEP_TOP,
                 STEP_GATHER, STEP_LOG_SUM_EXP, STEP_LAYER_NORM, STEP_BIAS, STEP_GEGLU };

struct value {
  int64_t offset;      /* of a plane, bytes from the start of the rows; -1: scratch */
  int64_t width;       /* elements a row */
  char *scratch;       /* f32 [rows][width], or int8 tiles */
  struct scale *scale; /* of int8 tiles */
};
struct step {
  int32_t kind, waits;
  const struct value *a, *b, *out;
  struct matrix weight;
  float epsilon;
  int32_t fine; /* activations of 16 bits */
};
struct segment_call {
  struct pool *pool;
  const struct level *level;
  const struct step *step;
  int64_t steps;
  char *rows;
  int64_t count;
};

static char *at(const struct segment_call *c, const struct value *v, int64_t row, int64_t element_bytes) {
  char *base = v->offset < 0 ? v->scratch : c->rows + v->offset;
  return base + row * v->width * element_bytes;
}
static struct activations tiles_of(const struct value *v) { return (struct activations){(int8_t *)v->scratch, v->scale}; }

/* rows are cut into as few tiles as the level allows, of nearly equal size */
static int64_t tile_count(const struct segment_call *c) { return (c->count + c->level->tile - 1) / c->level->tile; }
static struct tile tile_of(const struct segment_call *c, int64_t i) {
  const int64_t n = tile_count(c), first = c->count * i / n;
  return (struct tile){first, c->count * (i + 1) / n - first};
}

static void row_step(const struct segment_call *c, const struct step *s, int64_t row) {
  const struct level *k = c->level;
  const float *x = (const float *)at(c, s->a, row, 4);
  float *y = (float *)at(c, s->out, row, 4);
  switch (s->kind) {
    case STEP_EMBED: k->embed(&s->weight, *(const int32_t *)at(c, s->a, row, 4), y); break;
    case STEP_RMS_NORM: k->rms_norm(x, s->weight.data, s->epsilon, s->a->width, y); break;
    case STEP_SWIGLU: k->swiglu(x, (const float *)at(c, s->b, row, 4), s->a->width, y); break;
    case STEP_ADD: k->add(x, (const float *)at(c, s->b, row, 4), s->a->width, y); break;
    case STEP_WIDEN: k->widen((const uint16_t *)at(c, s->a, row, 2), s->a->width, y); break;
    case STEP_LAYER_NORM: k->layer_norm(x, s->weight.data, s->epsilon, s->a->width, y); break;
    case STEP_BIAS: k->add(x, s->weight.data, s->a->width, y); break;
    case STEP_GEGLU: k->geglu(x, (const float *)at(c, s->b, row, 4), s->a->width, y); break;
    case STEP_TOP: k->top(x, s->a->width, s->out->width, (int32_t *)y); break;
    case STEP_GATHER: k->gather(x, s->a->width, (const int32_t *)at(c, s->b, row, 4), s->b->width, y); break;
    case STEP_LOG_SUM_EXP: k->log_sum_exp(x, s->a->width, y); break;
    default: k->narrow(x, s->a->width, (uint16_t *)at(c, s->out, row, 2)); break;
  }
}
static void quantise_rows(const struct segment_call *c, const struct step *s, int64_t from, int64_t to) {
  for (int64_t i = 0, n = tile_count(c); i < n; i++) {
    const struct tile tile = tile_of(c, i);
    for (int64_t r = tile.first; r < tile.first + tile.count; r++)
      if (r >= from && r < to) c->level->quantise((const float *)at(c, s->a, r, 4), s->a->width, tiles_of(s->out), s->fine, r, tile);
  }
}
static void linear_panels(const struct segment_call *c, const struct step *s, int64_t from, int64_t to) {
  const float *x = (const float *)at(c, s->a, 0, 4);
  float *y = (float *)at(c, s->out, 0, 4);
  const int64_t tiles = tile_count(c);
  for (int64_t panel = from; panel < to; panel++)
    for (int64_t i = 0; i < tiles; i++) c->level->linear(&s->weight, panel, x, tiles_of(s->a), s->fine, tile_of(c, i), y);
}

static void run_steps(void *argument, int thread, int threads) {
  const struct segment_call *c = argument;
  const int64_t from = c->count * thread / threads, to = c->count * (thread + 1) / threads;
  for (const struct step *s = c->step; s < c->step + c->steps; s++) {
    if (s->waits) pool_barrier(c->pool);
    const int64_t panels = (s->weight.rows + 15) / 16;
    if (s->kind == STEP_LINEAR) linear_panels(c, s, panels * thread / threads, panels * (thread + 1) / threads);
    else if (s->kind == STEP_QUANTISE) quantise_rows(c, s, from, to);
    else for (int64_t r = from; r < to; r++) row_step(c, s, r);
  }
}

/* Run one segment on the first `count` rows; everything was allocated when the weights were loaded. */
EXPORT void tf_segment(struct segment_call *call) { pool_run(call->pool, run_steps, call); }
