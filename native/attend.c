/* Context memory's operations of one layer: rotate and append, then attend.
 *
 * No sum depends on the vector width, the number of rows or the number of threads:
 *   scores   lanes are 16 positions, the sum over the head runs d = 0, 1, ...
 *   values   lanes are dimensions, the sum over positions runs t = 0, 1, ...
 *   softmax  each chunk of 64 absolute positions by itself: a record (maximum, sum, weighted values) a query; records
 *            are merged in order of position, so that one context may be spread over threads and over several
 *            memories without changing a bit. */
#include "elementary.h"
#include "simd.h"
#include "twofold.h"

/* Queries (heads of one row, or of several rows in a row) that share one reading of a KV head, and how many blocks
 * of positions or vectors of dimensions are summed side by side, so that up to 2 GROUP sums are under way. */
enum { LINE = 32 /* halves of a cache line */ };
#define SIDE_BY_SIDE(group) ((group) * 2 <= GROUP ? 4 : 2)

/* LANES of a chunk's keys or values: as they lie in memory, or `wide`, as widen_chunk left them */
INLINE f32v load_part(const int wide, const void *chunk, int64_t at) {
  return wide ? load((const float *)chunk + at) : load_half((const uint16_t *)chunk + at);
}

/* where K of one block of 16 positions lies; its V follows it */
INLINE uint16_t *block_of(const struct attention *a, const struct attend_call *c, int64_t row, int64_t kv_head, int64_t position) {
  const int64_t block = position % PAGE / BLOCK;
  char *page = c->pool + c->table[row][position / PAGE] * c->page_bytes;
  return (uint16_t *)(page + a->page_offset) + (kv_head * (PAGE / BLOCK) + block) * (2 * BLOCK * a->head_dim);
}

/* y = x turned: every element times its cosine plus its partner times its signed sine; elements past the rotary
 * dimensions as they are; then all times `scale`. Lanes are dimensions. */
INLINE void rotate(const struct attention *a, const uint16_t *x, const float *cosine, const float *sine, float scale, float *y) {
  const int64_t n = a->dimensions, vectors = n / LANES * LANES;
  uint16_t partner[MAX_HEAD_DIM];
  if (!a->interleaved) {
    memcpy(partner, x + n / 2, (size_t)n);
    memcpy(partner + n / 2, x, (size_t)n);
  }
  for (int64_t d = 0; d < vectors; d += LANES) {
    const f32v own = load_half(x + d), other = a->interleaved ? SWAP(own, 1) : load_half(partner + d);
    store(y + d, (own * load(cosine + d) + other * load(sine + d)) * splat(scale));
  }
  for (int64_t d = vectors; d < n; d++) {
    const float other = half_to_float(a->interleaved ? x[d ^ 1] : partner[d]);
    y[d] = (half_to_float(x[d]) * cosine[d] + other * sine[d]) * scale;
  }
  for (int64_t d = n; d < a->head_dim; d++) y[d] = half_to_float(x[d]) * scale;
}

static void rotate_append(const struct attention *a, const struct attend_call *c, int64_t row) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads, position = c->position[row], t = position % BLOCK;
  const float *cosine = c->cosine + row * a->dimensions, *sine = c->sine + row * a->dimensions;
  for (int64_t h = 0; h < a->heads; h++) {
    float *q = c->rotated + ((h / share * c->count + row) * share + h % share) * dim;
    rotate(a, c->q + (row * a->heads + h) * dim, cosine, sine, a->scale, q);
  }
  for (int64_t h = 0; h < a->kv_heads; h++) {
    uint16_t *keys = block_of(a, c, row, h, position), *values = keys + BLOCK * dim, narrowed[MAX_HEAD_DIM];
    float turned[MAX_HEAD_DIM];
    rotate(a, c->k + (row * a->kv_heads + h) * dim, cosine, sine, 1.0f, turned);
    for (int64_t d = 0; d < dim; d += LANES) store_half(narrowed + d, load(turned + d));
    for (int64_t d = 0; d < dim; d++) keys[d * BLOCK + t] = narrowed[d];
    memcpy(values + t * dim, c->v + (row * a->kv_heads + h) * dim, 2 * (size_t)dim);
  }
}

/* which places of a chunk a row at `position` sees: from .. to - 1 of 0 .. 63; none if from >= to */
struct seen { int64_t from, to; };
INLINE struct seen seen_of(const struct attention *a, int64_t position, int64_t chunk) {
  const int64_t start = chunk * PAGE, to = position + 1 - start, from = a->window ? to - a->window : 0;
  return (struct seen){from > 0 ? from : 0, to < PAGE ? to : PAGE};
}

/* a chunk of one KV head in f32, so that it is widened once for groups of queries one after the other */
static void widen_chunk(const uint16_t *chunk, int64_t halves, float *wide) {
  for (int64_t i = 0; i < halves; i += LINE)
    UNROLL for (int u = 0; u < LINE; u += LANES) store(wide + i + u, load_half(chunk + i + u));
}

/* scores of `beside` blocks from `block` on: s[i][position]. What is read next may lie in another page, where the
 * hardware does not look: the next unit's keys are prefetched while keys are read, and its values while values are (but
 * not for a chunk that was widened, which several groups read). */
INLINE void score_part(const int group, const int beside, const int wide, int64_t dim, int64_t block, const float *q, const void *chunk,
                       const uint16_t *next, float (*s)[PAGE]) {
  const int64_t size = 2 * BLOCK * dim;
  for (int v = 0; v < NV; v++) {
    f32v sum[GROUP][4];
    UNROLL for (int i = 0; i < group; i++) UNROLL for (int u = 0; u < beside; u++) sum[i][u] = (f32v){0};
    for (int64_t d = 0; d < dim; d++) {
      f32v k[4];
      if (!wide && v == 0)
        UNROLL for (int u = 0; u < beside; u++) __builtin_prefetch(next + (block + u) * size + d * BLOCK);
      UNROLL for (int u = 0; u < beside; u++) k[u] = load_part(wide, chunk, (block + u) * size + d * BLOCK + LANES * v);
      UNROLL for (int i = 0; i < group; i++)
        UNROLL for (int u = 0; u < beside; u++) sum[i][u] = sum[i][u] + splat(q[d * GROUP + i]) * k[u];
    }
    UNROLL for (int i = 0; i < group; i++)
      UNROLL for (int u = 0; u < beside; u++) store(&s[i][(block + u) * BLOCK + LANES * v], sum[i][u]);
  }
}

/* What the queries of a group see of a chunk: places from .. to - 1 those of the first row, and those of each row after
 * it one more, to the end of the chunk. */
struct group_view { int64_t from, to, share; };
INLINE int64_t end_of(const struct group_view *seen, int64_t i) {
  const int64_t to = seen->to + i / seen->share;
  return to < PAGE ? to : PAGE;
}

/* scores of one chunk; places that are not seen are -infinity */
INLINE void score(const int group, const int wide, const struct attention *a, const float *q, const void *chunk,
                  const uint16_t *next, const struct group_view *seen, float (*s)[PAGE]) {
  const int beside = SIDE_BY_SIDE(group);
  const int64_t dim = a->head_dim, first = seen->from / BLOCK, end = (end_of(seen, group - 1) + BLOCK - 1) / BLOCK;
  int64_t b = first;
  for (; b + beside <= end; b += beside) score_part(group, beside, wide, dim, b, q, chunk, next, s);
  for (; b < end; b++) score_part(group, 1, wide, dim, b, q, chunk, next, s);
  if (a->soft_cap > 0)
    for (int i = 0; i < group; i++)
      for (int64_t t = first * BLOCK; t < end * BLOCK; t += LANES)
        store(&s[i][t], splat(a->soft_cap) * tanh_of(load(&s[i][t]) / splat(a->soft_cap)));
  if (seen->from > 0 || seen->to < PAGE)
    for (int i = 0; i < group; i++) {
      for (int64_t t = 0; t < seen->from; t++) s[i][t] = -__builtin_inff();
      for (int64_t t = end_of(seen, i); t < PAGE; t++) s[i][t] = -__builtin_inff();
    }
}

/* One chunk's maximum and sum for each query; s becomes exp(s - maximum). All maxima, then all weights, then all sums:
 * what runs across lanes is a chain of waits, and chains of several queries go on side by side. */
INLINE void chunk_softmax(const int group, float (*s)[PAGE], float *record, int64_t width) {
  f32v top[GROUP];
  UNROLL for (int i = 0; i < group; i++) {
    top[i] = load(s[i]);
    UNROLL for (int t = LANES; t < PAGE; t += LANES) top[i] = max_of(load(s[i] + t), top[i]);
  }
  UNROLL for (int i = 0; i < group; i++) { ACROSS(top[i], max_of); record[i * width] = top[i][0]; }
  for (int i = 0; i < group; i++)
    UNROLL for (int v = 0; v < NV; v++) {
      f32v p[PAGE / BLOCK];
      UNROLL for (int b = 0; b < PAGE / BLOCK; b++) p[b] = load(s[i] + BLOCK * b + LANES * v) - splat(record[i * width]);
      exp_of_each(PAGE / BLOCK, p);
      UNROLL for (int b = 0; b < PAGE / BLOCK; b++) store(s[i] + BLOCK * b + LANES * v, p[b]);
    }
  UNROLL for (int i = 0; i < group; i++) {
    f32v lanes[NV];
    UNROLL for (int v = 0; v < NV; v++) {
      lanes[v] = load(s[i] + LANES * v); /* no weight is -0: as if it had been added to 0 */
      UNROLL for (int b = 1; b < PAGE / BLOCK; b++) lanes[v] = lanes[v] + load(s[i] + BLOCK * b + LANES * v);
    }
    record[i * width + 1] = tree_sum(lanes);
  }
}

/* the values of one chunk, weighted; `beside` vectors of dimensions from d on, into the records of `group` queries: what
 * all of them see */
INLINE void mix_part(const int group, const int beside, const int wide, int64_t dim, int64_t d, float (*s)[PAGE], const void *chunk,
                     const uint16_t *next, const struct group_view *seen, float *record) {
  f32v value[GROUP][4];
  UNROLL for (int i = 0; i < group; i++) UNROLL for (int u = 0; u < beside; u++) value[i][u] = (f32v){0};
  for (int64_t from = seen->from, to; from < seen->to; from = to) { /* a block's part */
    int64_t at = (from / BLOCK * 2 + 1) * BLOCK * dim + from % BLOCK * dim + d;
    to = (from / BLOCK + 1) * BLOCK < seen->to ? (from / BLOCK + 1) * BLOCK : seen->to;
    for (int64_t t = from; t < to; t++, at += dim) {
      f32v x[4];
      if (!wide) UNROLL for (int u = 0; u < beside; u += LINE / LANES) __builtin_prefetch(next + at + LANES * u);
      UNROLL for (int u = 0; u < beside; u++) x[u] = load_part(wide, chunk, at + LANES * u);
      UNROLL for (int i = 0; i < group; i++)
        UNROLL for (int u = 0; u < beside; u++) value[i][u] = value[i][u] + splat(s[i][t]) * x[u];
    }
  }
  UNROLL for (int i = 0; i < group; i++)
    UNROLL for (int u = 0; u < beside; u++) store(record + i * (RECORD + dim) + RECORD + d + LANES * u, value[i][u]);
}

/* the places at the end that only the later rows see */
INLINE void mix_rest(const int group, const int wide, int64_t dim, float (*s)[PAGE], const void *chunk,
                     const struct group_view *seen, float *record) {
  for (int i = 0; i < group; i++)
    for (int64_t t = seen->to; t < end_of(seen, i); t++) {
      const int64_t at = (t / BLOCK * 2 + 1) * BLOCK * dim + t % BLOCK * dim;
      float *value = record + i * (RECORD + dim) + RECORD;
      for (int64_t d = 0; d < dim; d += LANES) store(value + d, load(value + d) + splat(s[i][t]) * load_part(wide, chunk, at + d));
    }
}

/* one chunk for `group` queries of one KV head: their records */
INLINE void attend_chunk(const int group, const int wide, const struct attention *a, const float *q, const void *chunk,
                         const uint16_t *next, struct group_view seen, float *record) {
  const int beside = SIDE_BY_SIDE(group);
  const int64_t dim = a->head_dim;
  float s[GROUP][PAGE];
  score(group, wide, a, q, chunk, next, &seen, s);
  chunk_softmax(group, s, record, RECORD + dim);
  int64_t d = 0;
  for (; d + beside * LANES <= dim; d += beside * LANES) mix_part(group, beside, wide, dim, d, s, chunk, next, &seen, record);
  for (; d < dim; d += LANES) mix_part(group, 1, wide, dim, d, s, chunk, next, &seen, record);
  mix_rest(group, wide, dim, s, chunk, &seen, record);
}
typedef void chunk_function(const struct attention *, const float *, const void *, const uint16_t *, struct group_view, float *);
#define CHUNK_SIZED(name, n)                                                                                           \
  NOINLINE void name##_##n(const struct attention *a, const float *q, const void *chunk, const uint16_t *next,          \
                           struct group_view seen, float *record) {                                                    \
    attend_chunk(n, 0, a, q, chunk, next, seen, record);                                                               \
  }                                                                                                                    \
  NOINLINE void name##_wide_##n(const struct attention *a, const float *q, const void *chunk, const uint16_t *next,     \
                                struct group_view seen, float *record) {                                               \
    attend_chunk(n, 1, a, q, chunk, next, seen, record);                                                               \
  }
EACH_GROUP(CHUNK_SIZED, attend_chunk)
static chunk_function *const chunk_of[2][GROUP + 1] = {GROUP_LIST(attend_chunk), GROUP_LIST(attend_chunk_wide)};

/* Merges records of the same queries, one each, into `state`, in the order of the calls. */
static void merge(const struct attention *a, int64_t queries, const float *record, float *state) {
  const int64_t width = RECORD + a->head_dim;
  float apart[PANEL];
  for (int64_t i = 0; i < queries; i++, record += width, state += width) {
    if (i % PANEL == 0) { /* the exponentials of the next queries side by side */
      for (int64_t j = 0; j < PANEL; j++) {
        const float there = j < queries - i ? state[j * width] : 0, here = j < queries - i ? record[j * width] : 0;
        apart[j] = here > there ? there - here : here - there;
      }
      for (int v = 0; v < NV; v++) store(apart + LANES * v, exp_of(load(apart + LANES * v)));
    }
    if (record[1] == 0) continue;
    const int higher = record[0] > state[0];
    const float before = higher ? apart[i % PANEL] : 1.0f, now = higher ? 1.0f : apart[i % PANEL];
    state[0] = higher ? record[0] : state[0];
    state[1] = state[1] * before + record[1] * now;
    for (int64_t d = RECORD; d < width; d += LANES)
      store(state + d, load(state + d) * splat(before) + load(record + d) * splat(now));
  }
}

/* A tile's queries as scoring reads them: of each KV head [group][dimension][query of the group]. */
static void gather_group(const float *q, int64_t queries, int64_t dim, float *gathered) {
  int64_t i = 0;
  for (; i + 4 <= queries; i += 4)
    for (int64_t d = 0; d < dim; d += 4) {
      four x[4];
      UNROLL for (int j = 0; j < 4; j++) memcpy(&x[j], q + (i + j) * dim + d, sizeof x[j]);
      transpose(x);
      UNROLL for (int j = 0; j < 4; j++) memcpy(gathered + (d + j) * GROUP + i, &x[j], sizeof x[j]);
    }
  for (; i < queries; i++)
    for (int64_t d = 0; d < dim; d++) gathered[d * GROUP + i] = q[i * dim + d];
}
static void gather_queries(const struct attention *a, const struct attend_call *c, struct tile rows, float *gathered) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads, each = group_rows(GROUP, a);
  for (int64_t h = 0; h < a->kv_heads; h++)
    for (int64_t r = 0; r < rows.count; r += each) {
      const int64_t queries = (rows.count - r < each ? rows.count - r : each) * share;
      for (int64_t i = 0; i < queries; i += GROUP, gathered += GROUP * dim)
        gather_group(c->rotated + ((h * c->count + rows.first + r) * share + i) * dim,
                     queries - i < GROUP ? queries - i : GROUP, dim, gathered);
    }
}

/* A unit of a tile: one chunk of one KV head, and where its queries and its records are. */
struct unit_work {
  const uint16_t *keys, *next;
  const float *gathered; /* the KV head's queries */
  float *wide;           /* room for the chunk in f32 */
  float *kept, *state;   /* records of the KV head's queries: to be left there, or if `kept` is 0 to be merged there */
  float *fresh;          /* room for a group's records */
  int64_t chunk;
};

/* `rows` rows from r on, which are of one group */
static void attend_rows(const struct attention *a, const struct unit_work *w, int64_t r, int64_t rows, int wide, struct seen seen) {
  const int64_t share = a->heads / a->kv_heads, width = RECORD + a->head_dim, each = group_rows(GROUP, a);
  const float *q = w->gathered + r / each * group_count(GROUP, share) * GROUP * a->head_dim + r % each * share;
  const struct group_view view = {seen.from, seen.to, share};
  for (int64_t i = 0; i < rows * share; i += GROUP, q += GROUP * a->head_dim) {
    const int64_t group = rows * share - i < GROUP ? rows * share - i : GROUP, at = (r * share + i) * width;
    float *record = w->kept ? w->kept + at : w->fresh;
    if (seen.from < seen.to) {
      chunk_of[wide][group](a, q, wide ? (const void *)w->wide : w->keys, w->next, view, record);
      if (!w->kept) merge(a, group, record, w->state + at);
    } else if (w->kept) {
      for (int64_t j = 0; j < group; j++) record[j * width + 1] = 0;
    }
  }
}

/* Rows of a group go together where they see the chunk from the same place on; else each goes by itself. */
static void attend_unit(const struct attention *a, const struct attend_call *c, struct tile rows, const struct unit_work *w) {
  const int64_t each = group_rows(GROUP, a), *position = c->position + rows.first;
  const int wide = rows.count > each; /* several groups read it */
  if (wide) widen_chunk(w->keys, 2 * PAGE * a->head_dim, w->wide);
  for (int64_t r = 0, n; r < rows.count; r += n) {
    const int64_t left = rows.count - r < each - r % each ? rows.count - r : each - r % each;
    const struct seen seen = seen_of(a, position[r], w->chunk), last = seen_of(a, position[r + left - 1], w->chunk);
    n = seen.from < seen.to && seen.from == last.from ? left : 1;
    attend_rows(a, w, r, n, wide, seen);
  }
}

/* before the first chunk: nothing, or the head's sink, a position without a value */
static void start_state(const struct attention *a, struct tile rows, float *state) {
  const int64_t width = RECORD + a->head_dim, share = a->heads / a->kv_heads;
  for (int64_t i = 0; i < rows.count * a->heads; i++, state += width) {
    const int64_t head = i / (rows.count * share) * share + i % share;
    state[0] = a->sinks ? a->sinks[head] : -__builtin_inff();
    state[1] = a->sinks ? 1.0f : 0.0f;
    memset(state + RECORD, 0, 4 * (size_t)a->head_dim);
  }
}

/* where the keys lie that are read after this unit's: of the next unit, after the last of the tile that follows */
static const uint16_t *next_unit(const struct attention *a, const struct attend_call *c, const struct run *run, int64_t unit) {
  const int64_t row = run->rows.first, after = row + run->rows.count;
  if (++unit < run->to) return block_of(a, c, row, unit % a->kv_heads, (run->chunk + unit / a->kv_heads) * PAGE);
  const int64_t then = after < c->count ? after : row;
  return block_of(a, c, then, 0, first_chunk(a, c, then) * PAGE);
}

static void attend(const struct attention *a, const struct attend_call *c, const struct run *run) {
  const int64_t share = a->heads / a->kv_heads, queries = run->rows.count * share, width = RECORD + a->head_dim;
  const int64_t groups = group_count(GROUP, share) * ((run->rows.count + group_rows(GROUP, a) - 1) / group_rows(GROUP, a));
  float *fresh = run->state + run->rows.count * a->heads * width, *wide = fresh + GROUP * width;
  float *gathered = wide + 2 * PAGE * a->head_dim;
  gather_queries(a, c, run->rows, gathered);
  if (!run->kept) start_state(a, run->rows, run->state);
  for (int64_t unit = run->from; unit < run->to; unit++) {
    const int64_t kv_head = unit % a->kv_heads, chunk = run->chunk + unit / a->kv_heads;
    const struct unit_work work = {
        .keys = block_of(a, c, run->rows.first, kv_head, chunk * PAGE), .next = next_unit(a, c, run, unit),
        .gathered = gathered + kv_head * groups * GROUP * a->head_dim, .wide = wide,
        .kept = run->kept ? run->kept + (unit - run->from) * queries * width : 0,
        .state = run->state + kv_head * queries * width, .fresh = fresh, .chunk = chunk};
    attend_unit(a, c, run->rows, &work);
  }
}

static void conclude(const struct attention *a, const struct attend_call *c, const struct run *run, int64_t from, int64_t to) {
  const int64_t share = a->heads / a->kv_heads, queries = run->rows.count * share, width = RECORD + a->head_dim;
  for (int64_t i = from, end; i < to; i = end) { /* queries i .. end - 1 are of one KV head */
    const int64_t kv_head = i / queries;
    end = (kv_head + 1) * queries < to ? (kv_head + 1) * queries : to;
    if (run->kept)
      for (int64_t unit = run->from; unit < run->to; unit++)
        if (unit % a->kv_heads == kv_head)
          merge(a, end - i, run->kept + ((unit - run->from) * queries + i % queries) * width, run->state + i * width);
    for (int64_t j = i; j < end; j++) {
      const int64_t row = run->rows.first + j % queries / share, head = kv_head * share + j % share;
      const float *state = run->state + j * width;
      for (int64_t d = 0; d < a->head_dim; d += LANES)
        store_half(c->attended + (row * a->heads + head) * a->head_dim + d, load(state + RECORD + d) / splat(state[1]));
    }
  }
}
