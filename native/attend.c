/* Context memory's operations of one layer: rotate and append, then attend.
 *
 * No sum depends on the vector width, the number of rows or the number of threads:
 *   scores   lanes are 16 positions, the sum over the head runs d = 0, 1, ...
 *   values   lanes are dimensions, the sum over positions runs t = 0, 1, ...
 *   softmax  each chunk of 64 absolute positions by itself (maximum, sum, weighted values), chunks merged in
 *            order, so that one context may be spread over several memories without changing a bit. */
#include "simd.h"
#include "twofold.h"

/* Queries (heads of one row, or of several rows in a row) that share one reading of a KV head, and how many blocks
 * of positions or vectors of dimensions are summed side by side, so that about TILE sums are under way. */
enum { GROUP = TILE };
#define SIDE_BY_SIDE(group) ((group) * 4 <= TILE ? 4 : (group) * 2 <= TILE ? 2 : 1)

/* where K of one block of 16 positions lies; its V follows it */
INLINE uint16_t *block_of(const struct attention *a, const struct attend_call *c, int64_t row, int64_t kv_head, int64_t position) {
  const int64_t block = position % PAGE / BLOCK;
  char *page = c->pool + c->table[row][position / PAGE] * c->page_bytes;
  return (uint16_t *)(page + a->page_offset) + (kv_head * (PAGE / BLOCK) + block) * (2 * BLOCK * a->head_dim);
}

INLINE void rotate(const struct attention *a, const uint16_t *x, const float *cosine, const float *sine, float *y) {
  const int64_t half = a->head_dim / 2, step = a->interleaved ? 2 : 1, apart = a->interleaved ? 1 : half;
  for (int64_t i = 0; i < half; i++) {
    const float p = half_to_float(x[i * step]), q = half_to_float(x[i * step + apart]);
    y[i * step] = p * cosine[i] - q * sine[i];
    y[i * step + apart] = q * cosine[i] + p * sine[i];
  }
}

static void rotate_append(const struct attention *a, const struct attend_call *c, int64_t row) {
  const int64_t dim = a->head_dim, position = c->position[row], t = position % BLOCK;
  const float *cosine = c->cosine + row * (dim / 2), *sine = c->sine + row * (dim / 2);
  float *q = c->rotated + row * a->heads * dim, turned[MAX_HEAD_DIM];
  for (int64_t h = 0; h < a->heads; h++) {
    rotate(a, c->q + (row * a->heads + h) * dim, cosine, sine, q + h * dim);
    for (int64_t d = 0; d < dim; d++) q[h * dim + d] = q[h * dim + d] * a->scale;
  }
  for (int64_t h = 0; h < a->kv_heads; h++) {
    uint16_t *keys = block_of(a, c, row, h, position), *values = keys + BLOCK * dim;
    rotate(a, c->k + (row * a->kv_heads + h) * dim, cosine, sine, turned);
    for (int64_t d = 0; d < dim; d++) keys[d * BLOCK + t] = float_to_half(turned[d]);
    memcpy(values + t * dim, c->v + (row * a->kv_heads + h) * dim, 2 * (size_t)dim);
  }
}

/* the running softmax of one query: maximum, sum, weighted values of the chunks so far */
struct merged { float top, sum, value[MAX_HEAD_DIM]; };

INLINE float exp_one(float x) { return exp_of(splat(x))[0]; }

/* scores of one chunk: s[i][position]; positions past the last are -infinity. Few queries wait for memory, and the
 * next chunk lies in another page, where the hardware does not look: it is prefetched meanwhile. */
INLINE void score(const int group, const struct attention *a, const float *q, const uint16_t *chunk, const uint16_t *next,
                  int64_t valid, float (*s)[PAGE]) {
  const int beside = SIDE_BY_SIDE(group);
  const int64_t dim = a->head_dim;
  for (int64_t b = 0; b * BLOCK < valid; b += beside) {
    const uint16_t *keys = chunk + b * 2 * BLOCK * dim;
    for (int v = 0; v < NV; v++) {
      f32v sum[GROUP][4];
      UNROLL for (int i = 0; i < group; i++) UNROLL for (int u = 0; u < beside; u++) sum[i][u] = (f32v){0};
      for (int64_t d = 0; d < dim; d++) {
        f32v k[4];
        if (beside == 4 && v == 0) UNROLL for (int i = 0; i < 4; i++) __builtin_prefetch(next + d * 2 * PAGE + 32 * i, 0, 2);
        UNROLL for (int u = 0; u < beside; u++) k[u] = load_half(keys + (2 * u * dim + d) * BLOCK + LANES * v);
        UNROLL for (int i = 0; i < group; i++)
          UNROLL for (int u = 0; u < beside; u++) sum[i][u] = sum[i][u] + splat(q[i * dim + d]) * k[u];
      }
      UNROLL for (int i = 0; i < group; i++)
        UNROLL for (int u = 0; u < beside; u++) store(&s[i][(b + u) * BLOCK + LANES * v], sum[i][u]);
    }
  }
  for (int i = 0; i < group; i++)
    for (int64_t t = valid; t < PAGE; t++) s[i][t] = -__builtin_inff();
}

/* one chunk's own maximum and sum; s becomes exp(s - maximum) */
INLINE void chunk_softmax(float *s, float *top, float *sum) {
  f32v most = load(s), lanes[NV];
  for (int t = LANES; t < PAGE; t += LANES) most = max_of(load(s + t), most);
  const float m = top_lane(most);
  for (int v = 0; v < NV; v++) lanes[v] = (f32v){0};
  for (int b = 0; b < PAGE / BLOCK; b++)
    UNROLL for (int v = 0; v < NV; v++) {
      f32v p = exp_of(load(s + b * BLOCK + LANES * v) - splat(m));
      store(s + b * BLOCK + LANES * v, p);
      lanes[v] = lanes[v] + p;
    }
  float flat[PANEL];
  for (int v = 0; v < NV; v++) store(flat + LANES * v, lanes[v]);
  *top = m;
  *sum = tree_sum(flat);
}

/* the values of one chunk, weighted, merged into what came before; `beside` vectors of dimensions from d on */
INLINE void mix_part(const int group, const int beside, int64_t dim, int64_t d, float (*s)[PAGE], const uint16_t *chunk,
                     int64_t valid, const float *before, const float *now, struct merged *all) {
  f32v value[GROUP][4];
  UNROLL for (int i = 0; i < group; i++) UNROLL for (int u = 0; u < beside; u++) value[i][u] = (f32v){0};
  for (int64_t t = 0; t < valid; t++) {
    const uint16_t *row = chunk + (t / BLOCK * 2 + 1) * BLOCK * dim + t % BLOCK * dim + d;
    f32v x[4];
    UNROLL for (int u = 0; u < beside; u++) x[u] = load_half(row + LANES * u);
    UNROLL for (int i = 0; i < group; i++)
      UNROLL for (int u = 0; u < beside; u++) value[i][u] = value[i][u] + splat(s[i][t]) * x[u];
  }
  UNROLL for (int i = 0; i < group; i++)
    UNROLL for (int u = 0; u < beside; u++) {
      float *to = all[i].value + d + LANES * u;
      store(to, load(to) * before[i] + value[i][u] * now[i]);
    }
}
INLINE void mix(const int group, int64_t dim, float (*s)[PAGE], const uint16_t *chunk, int64_t valid, const float *before,
                const float *now, struct merged *all) {
  const int beside = SIDE_BY_SIDE(group);
  int64_t d = 0;
  for (; d + beside * LANES <= dim; d += beside * LANES) mix_part(group, beside, dim, d, s, chunk, valid, before, now, all);
  if (beside > 1)
    for (; d < dim; d += LANES) mix_part(group, 1, dim, d, s, chunk, valid, before, now, all);
}

/* one chunk for `group` queries of one KV head, merged into what came before */
INLINE void attend_chunk(const int group, const struct attention *a, const float *q, const uint16_t *chunk, const uint16_t *next, int64_t valid, struct merged *all) {
  const int64_t dim = a->head_dim;
  float s[GROUP][PAGE], before[GROUP], now[GROUP];
  score(group, a, q, chunk, next, valid, s);
  for (int i = 0; i < group; i++) {
    float top, sum;
    chunk_softmax(s[i], &top, &sum);
    const int higher = top > all[i].top;
    before[i] = higher ? exp_one(all[i].top - top) : 1.0f;
    now[i] = higher ? 1.0f : exp_one(top - all[i].top);
    all[i].top = higher ? top : all[i].top;
    all[i].sum = all[i].sum * before[i] + sum * now[i];
  }
  mix(group, dim, s, chunk, valid, before, now, all);
}
typedef void chunk_function(const struct attention *, const float *, const uint16_t *, const uint16_t *, int64_t, struct merged *);
#define CHUNK_SIZED(name, n)                                                                                           \
  NOINLINE void name##_##n(const struct attention *a, const float *q, const uint16_t *chunk, const uint16_t *next,      \
                           int64_t valid, struct merged *all) {                                                        \
    attend_chunk(n, a, q, chunk, next, valid, all);                                                                    \
  }
EACH(CHUNK_SIZED, attend_chunk)
static chunk_function *const chunk_of[] = LIST(attend_chunk);

/* `queries` queries of one KV head, `share` heads a row, against all their rows have seen. While the chunk is full for
 * all rows they go together; then each row by itself. */
static void attend_group(const struct attention *a, const struct attend_call *c, int64_t row, int64_t rows, int64_t kv_head,
                         int64_t share, const float *q, struct merged *all) {
  const int64_t dim = a->head_dim, first = c->position[row] + 1, last = first + rows - 1;
  for (int64_t start = 0; start < last; start += PAGE) {
    const uint16_t *chunk = block_of(a, c, row, kv_head, start);
    const uint16_t *next = start + PAGE < last ? block_of(a, c, row, kv_head, start + PAGE) : chunk;
    if (first - start >= PAGE) {
      chunk_of[rows * share](a, q, chunk, next, PAGE, all);
    } else {
      for (int64_t r = 0; r < rows; r++) {
        const int64_t seen = first + r - start, valid = seen < PAGE ? seen : PAGE;
        if (valid > 0) chunk_of[share](a, q + r * share * dim, chunk, next, valid, all + r * share);
      }
    }
  }
}

/* Rows row .. row + rows - 1 are consecutive positions of one session, as few as `level.tile` heads allow. */
static void attend(const struct attention *a, const struct attend_call *c, int64_t row, int64_t rows, int64_t kv_head) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads;
  struct merged all[GROUP];
  float q[GROUP * MAX_HEAD_DIM];
  for (int64_t done = 0; done < share; done += GROUP) {
    const int64_t part = share - done < GROUP ? share - done : GROUP;
    for (int64_t i = 0; i < rows * part; i++) {
      const int64_t head = (row + i / part) * a->heads + kv_head * share + done + i % part;
      memcpy(q + i * dim, c->rotated + head * dim, 4 * (size_t)dim);
      all[i].top = -__builtin_inff();
      all[i].sum = 0;
      memset(all[i].value, 0, 4 * (size_t)dim);
    }
    attend_group(a, c, row, rows, kv_head, part, q, all);
    for (int64_t i = 0; i < rows * part; i++) {
      const int64_t head = (row + i / part) * a->heads + kv_head * share + done + i % part;
      for (int64_t d = 0; d < dim; d += LANES)
        store_half(c->attended + head * dim + d, load(all[i].value + d) / splat(all[i].sum));
    }
  }
}
