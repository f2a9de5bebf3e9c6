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

/* where K of one block of 16 positions lies; its V follows it */
INLINE uint16_t *block_of(const struct attention *a, const struct attend_call *c, int64_t row, int64_t kv_head, int64_t position) {
  const int64_t block = position % PAGE / BLOCK;
  char *page = c->pool + c->table[row][position / PAGE] * c->page_bytes;
  return (uint16_t *)(page + a->page_offset) + (kv_head * (PAGE / BLOCK) + block) * (2 * BLOCK * a->head_dim);
}

/* y = x turned: every element times its cosine plus its partner times its signed sine; elements past the rotary
 * dimensions as they are. Lanes are dimensions. */
INLINE void rotate(const struct attention *a, const uint16_t *x, const float *cosine, const float *sine, float *y) {
  const int64_t n = a->dimensions, vectors = n / LANES * LANES;
  uint16_t partner[MAX_HEAD_DIM];
  if (a->interleaved) {
    for (int64_t i = 0; i < n; i += 2) {
      uint32_t pair;
      memcpy(&pair, x + i, 4);
      pair = pair << 16 | pair >> 16;
      memcpy(partner + i, &pair, 4);
    }
  } else {
    memcpy(partner, x + n / 2, (size_t)n);
    memcpy(partner + n / 2, x, (size_t)n);
  }
  for (int64_t d = 0; d < vectors; d += LANES)
    store(y + d, load_half(x + d) * load(cosine + d) + load_half(partner + d) * load(sine + d));
  for (int64_t d = vectors; d < n; d++) y[d] = half_to_float(x[d]) * cosine[d] + half_to_float(partner[d]) * sine[d];
  for (int64_t d = n; d < a->head_dim; d++) y[d] = half_to_float(x[d]);
}

static void rotate_append(const struct attention *a, const struct attend_call *c, int64_t row) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads, position = c->position[row], t = position % BLOCK;
  const float *cosine = c->cosine + row * a->dimensions, *sine = c->sine + row * a->dimensions;
  for (int64_t h = 0; h < a->heads; h++) {
    float *q = c->rotated + ((h / share * c->count + row) * share + h % share) * dim;
    rotate(a, c->q + (row * a->heads + h) * dim, cosine, sine, q);
    for (int64_t d = 0; d < dim; d += LANES) store(q + d, load(q + d) * splat(a->scale));
  }
  for (int64_t h = 0; h < a->kv_heads; h++) {
    uint16_t *keys = block_of(a, c, row, h, position), *values = keys + BLOCK * dim, narrowed[MAX_HEAD_DIM];
    float turned[MAX_HEAD_DIM];
    rotate(a, c->k + (row * a->kv_heads + h) * dim, cosine, sine, turned);
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

/* scores of `beside` blocks from `block` on: s[i][position]. What is read next may lie in another page, where the
 * hardware does not look: the next unit's keys are prefetched while keys are read, and its values while values are. */
INLINE void score_part(const int group, const int beside, int64_t dim, int64_t block, const float *q, const uint16_t *chunk,
                       const uint16_t *next, float (*s)[PAGE]) {
  const int64_t size = 2 * BLOCK * dim;
  for (int v = 0; v < NV; v++) {
    f32v sum[GROUP][4];
    UNROLL for (int i = 0; i < group; i++) UNROLL for (int u = 0; u < beside; u++) sum[i][u] = (f32v){0};
    for (int64_t d = 0; d < dim; d++) {
      f32v k[4];
      if (v == 0)
        UNROLL for (int u = 0; u < beside; u++) __builtin_prefetch(next + (block + u) * size + d * BLOCK);
      UNROLL for (int u = 0; u < beside; u++) k[u] = load_half(chunk + (block + u) * size + d * BLOCK + LANES * v);
      UNROLL for (int i = 0; i < group; i++)
        UNROLL for (int u = 0; u < beside; u++) sum[i][u] = sum[i][u] + splat(q[d * GROUP + i]) * k[u];
    }
    UNROLL for (int i = 0; i < group; i++)
      UNROLL for (int u = 0; u < beside; u++) store(&s[i][(block + u) * BLOCK + LANES * v], sum[i][u]);
  }
}

/* scores of one chunk; places that are not seen are -infinity */
INLINE void score(const int group, const struct attention *a, const float *q, const uint16_t *chunk, const uint16_t *next,
                  struct seen seen, float (*s)[PAGE]) {
  const int beside = SIDE_BY_SIDE(group);
  const int64_t dim = a->head_dim, first = seen.from / BLOCK, end = (seen.to + BLOCK - 1) / BLOCK;
  int64_t b = first;
  for (; b + beside <= end; b += beside) score_part(group, beside, dim, b, q, chunk, next, s);
  for (; b < end; b++) score_part(group, 1, dim, b, q, chunk, next, s);
  for (int i = 0; i < group; i++) {
    if (a->soft_cap > 0)
      for (int64_t t = first * BLOCK; t < seen.to; t += LANES)
        store(&s[i][t], splat(a->soft_cap) * tanh_of(load(&s[i][t]) / splat(a->soft_cap)));
    for (int64_t t = first * BLOCK; t < seen.from; t++) s[i][t] = -__builtin_inff();
    for (int64_t t = seen.to; t < end * BLOCK; t++) s[i][t] = -__builtin_inff();
  }
}

/* one chunk's maximum and sum for each query; s becomes exp(s - maximum), where a block has places that are seen */
INLINE void chunk_softmax(const int group, struct seen seen, float (*s)[PAGE], float *record, int64_t width) {
  const int64_t from = seen.from / BLOCK * BLOCK, to = (seen.to + BLOCK - 1) / BLOCK * BLOCK;
  float top[GROUP];
  UNROLL for (int i = 0; i < group; i++) {
    f32v most = load(s[i] + from);
    for (int64_t t = from + LANES; t < to; t += LANES) most = max_of(load(s[i] + t), most);
    top[i] = top_lane(most);
  }
  for (int i = 0; i < group; i++) {
    f32v lanes[NV];
    for (int v = 0; v < NV; v++) lanes[v] = (f32v){0};
    for (int64_t t = from; t < to; t += BLOCK)
      UNROLL for (int v = 0; v < NV; v++) {
        const f32v p = exp_of(load(s[i] + t + LANES * v) - splat(top[i]));
        store(s[i] + t + LANES * v, p);
        lanes[v] = lanes[v] + p;
      }
    record[i * width] = top[i];
    record[i * width + 1] = tree_sum(lanes);
  }
}

/* the values of one chunk, weighted; `beside` vectors of dimensions from d on, into the records of `group` queries */
INLINE void mix_part(const int group, const int beside, int64_t dim, int64_t d, float (*s)[PAGE], const uint16_t *chunk,
                     const uint16_t *next, struct seen seen, float *record) {
  f32v value[GROUP][4];
  UNROLL for (int i = 0; i < group; i++) UNROLL for (int u = 0; u < beside; u++) value[i][u] = (f32v){0};
  for (int64_t from = seen.from, to; from < seen.to; from = to) { /* a block's part */
    const int64_t at = (from / BLOCK * 2 + 1) * BLOCK * dim + from % BLOCK * dim + d;
    const uint16_t *row = chunk + at, *ahead = next + at;
    to = (from / BLOCK + 1) * BLOCK < seen.to ? (from / BLOCK + 1) * BLOCK : seen.to;
    for (int64_t t = from; t < to; t++, row += dim, ahead += dim) {
      f32v x[4];
      UNROLL for (int u = 0; u < beside; u += LINE / LANES) __builtin_prefetch(ahead + LANES * u);
      UNROLL for (int u = 0; u < beside; u++) x[u] = load_half(row + LANES * u);
      UNROLL for (int i = 0; i < group; i++)
        UNROLL for (int u = 0; u < beside; u++) value[i][u] = value[i][u] + splat(s[i][t]) * x[u];
    }
  }
  UNROLL for (int i = 0; i < group; i++)
    UNROLL for (int u = 0; u < beside; u++) store(record + i * (RECORD + dim) + RECORD + d + LANES * u, value[i][u]);
}

/* one chunk for `group` queries of one KV head: their records */
INLINE void attend_chunk(const int group, const struct attention *a, const float *q, const uint16_t *chunk,
                         const uint16_t *next, struct seen seen, float *record) {
  const int beside = SIDE_BY_SIDE(group);
  const int64_t dim = a->head_dim;
  float s[GROUP][PAGE];
  score(group, a, q, chunk, next, seen, s);
  chunk_softmax(group, seen, s, record, RECORD + dim);
  int64_t d = 0;
  for (; d + beside * LANES <= dim; d += beside * LANES) mix_part(group, beside, dim, d, s, chunk, next, seen, record);
  for (; d < dim; d += LANES) mix_part(group, 1, dim, d, s, chunk, next, seen, record);
}
typedef void chunk_function(const struct attention *, const float *, const uint16_t *, const uint16_t *, struct seen, float *);
#define CHUNK_SIZED(name, n)                                                                                           \
  NOINLINE void name##_##n(const struct attention *a, const float *q, const uint16_t *chunk, const uint16_t *next,      \
                           struct seen seen, float *record) {                                                          \
    attend_chunk(n, a, q, chunk, next, seen, record);                                                                  \
  }
EACH_GROUP(CHUNK_SIZED, attend_chunk)
static chunk_function *const chunk_of[] = GROUP_LIST(attend_chunk);

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

/* a tile's queries as scoring reads them: of each KV head [group][dimension][query of the group] */
INLINE int64_t gathered_floats(int64_t queries, int64_t dim) { return (queries + GROUP - 1) / GROUP * GROUP * dim; }
static void gather_queries(const struct attention *a, const struct attend_call *c, struct tile rows, float *gathered) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads, queries = rows.count * share;
  for (int64_t h = 0; h < a->kv_heads; h++, gathered += gathered_floats(queries, dim)) {
    const float *q = c->rotated + (h * c->count + rows.first) * share * dim;
    for (int64_t i = 0; i < queries; i++, q += dim)
      for (int64_t d = 0; d < dim; d++) gathered[(i / GROUP * dim + d) * GROUP + i % GROUP] = q[d];
  }
}

/* One chunk of one KV head for the rows of a tile. While all rows see the whole chunk they go together; else each row
 * goes by itself. */
static void attend_unit(const struct attention *a, const struct attend_call *c, struct tile rows, int64_t chunk,
                        int64_t kv_head, const float *gathered, const uint16_t *next, float *record) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads, *position = c->position + rows.first;
  const uint16_t *keys = block_of(a, c, rows.first, kv_head, chunk * PAGE);
  const int whole = seen_of(a, position[0], chunk).to == PAGE && seen_of(a, position[rows.count - 1], chunk).from == 0;
  const int64_t together = whole ? rows.count : 1;
  for (int64_t r = 0; r < rows.count; r += together) {
    const struct seen seen = seen_of(a, position[r], chunk);
    for (int64_t i = r * share, end = (r + together) * share; i < end; i += GROUP) {
      const int64_t group = end - i < GROUP ? end - i : GROUP;
      float *out = record + i * (RECORD + dim);
      if (seen.from < seen.to) chunk_of[group](a, gathered + i / GROUP * GROUP * dim + i % GROUP, keys, next, seen, out);
      else for (int64_t j = 0; j < group; j++) out[j * (RECORD + dim) + 1] = 0;
    }
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
  float *fresh = run->state + run->rows.count * a->heads * width, *gathered = fresh + queries * width;
  gather_queries(a, c, run->rows, gathered);
  if (!run->kept) start_state(a, run->rows, run->state);
  for (int64_t unit = run->from; unit < run->to; unit++) {
    const uint16_t *next = next_unit(a, c, run, unit);
    float *record = run->kept ? run->kept + (unit - run->from) * queries * width : fresh;
    attend_unit(a, c, run->rows, run->chunk + unit / a->kv_heads, unit % a->kv_heads,
                gathered + unit % a->kv_heads * gathered_floats(queries, a->head_dim), next, record);
    if (!run->kept) merge(a, queries, record, run->state + unit % a->kv_heads * queries * width);
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
