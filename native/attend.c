/* Context memory's operations of one layer: rotate and append, then attend.
 *
 * No sum depends on the vector width, the number of rows or the number of threads:
 *   scores   lanes are 16 positions, the sum over the head runs d = 0, 1, ...
 *   values   lanes are dimensions, the sum over positions runs t = 0, 1, ...
 *   softmax  each chunk of 64 absolute positions by itself (maximum, sum, weighted values), chunks merged in
 *            order, so that one context may be spread over several memories without changing a bit. */
#include "simd.h"
#include "twofold.h"

enum { GROUP = 4 }; /* query heads that share one reading of a KV head */

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

/* scores of one chunk: s[i][position]; positions past the last are -infinity */
INLINE void score(const int group, const struct attention *a, const float *q, const uint16_t *chunk, int64_t valid, float (*s)[PAGE]) {
  const int64_t dim = a->head_dim;
  for (int64_t b = 0; b * BLOCK < PAGE; b++) {
    if (b * BLOCK >= valid) {
      for (int i = 0; i < group; i++) for (int t = 0; t < BLOCK; t++) s[i][b * BLOCK + t] = -__builtin_inff();
      continue;
    }
    const uint16_t *keys = chunk + b * 2 * BLOCK * dim;
    UNROLL for (int v = 0; v < NV; v++) {
      f32v sum[GROUP];
      UNROLL for (int i = 0; i < group; i++) sum[i] = (f32v){0};
      for (int64_t d = 0; d < dim; d++) {
        f32v k = load_half(keys + d * BLOCK + LANES * v);
        UNROLL for (int i = 0; i < group; i++) sum[i] = sum[i] + splat(q[i * dim + d]) * k;
      }
      UNROLL for (int i = 0; i < group; i++) store(&s[i][b * BLOCK + LANES * v], sum[i]);
    }
    for (int i = 0; i < group; i++)
      for (int64_t t = valid - b * BLOCK; t < BLOCK; t++) s[i][b * BLOCK + t] = -__builtin_inff();
  }
}

/* one chunk's own maximum and sum; s becomes exp(s - maximum) */
INLINE void chunk_softmax(float *s, float *top, float *sum) {
  f32v most = load(s), lanes[NV];
  for (int t = LANES; t < PAGE; t += LANES) most = max_of(load(s + t), most);
  float m = most[0];
  for (int i = 1; i < LANES; i++) m = most[i] > m ? most[i] : m;
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

/* one chunk for `group` queries of one KV head, merged into what came before */
INLINE void attend_chunk(const int group, const struct attention *a, const float *q, const uint16_t *chunk, int64_t valid, struct merged *all) {
  const int64_t dim = a->head_dim;
  float s[GROUP][PAGE], before[GROUP], now[GROUP];
  score(group, a, q, chunk, valid, s);
  for (int i = 0; i < group; i++) {
    float top, sum;
    chunk_softmax(s[i], &top, &sum);
    const int higher = top > all[i].top;
    before[i] = higher ? exp_one(all[i].top - top) : 1.0f;
    now[i] = higher ? 1.0f : exp_one(top - all[i].top);
    all[i].top = higher ? top : all[i].top;
    all[i].sum = all[i].sum * before[i] + sum * now[i];
  }
  for (int64_t d = 0; d < dim; d += LANES) {
    f32v value[GROUP];
    UNROLL for (int i = 0; i < group; i++) value[i] = (f32v){0};
    for (int64_t t = 0; t < valid; t++) {
      f32v x = load_half(chunk + (t / BLOCK * 2 + 1) * BLOCK * dim + t % BLOCK * dim + d);
      UNROLL for (int i = 0; i < group; i++) value[i] = value[i] + splat(s[i][t]) * x;
    }
    UNROLL for (int i = 0; i < group; i++)
      store(all[i].value + d, load(all[i].value + d) * before[i] + value[i] * now[i]);
  }
}
#define SIZED_CHUNK(n)                                                                                                 \
  NOINLINE void attend_chunk_##n(const struct attention *a, const float *q, const uint16_t *chunk, int64_t valid, struct merged *all) { \
    attend_chunk(n, a, q, chunk, valid, all);                                                                          \
  }
SIZED_CHUNK(1) SIZED_CHUNK(2) SIZED_CHUNK(3) SIZED_CHUNK(4)
typedef void chunk_function(const struct attention *, const float *, const uint16_t *, int64_t, struct merged *);
static chunk_function *const chunk_of[] = {0, attend_chunk_1, attend_chunk_2, attend_chunk_3, attend_chunk_4};

static void attend(const struct attention *a, const struct attend_call *c, int64_t row, int64_t kv_head) {
  const int64_t dim = a->head_dim, share = a->heads / a->kv_heads, seen = c->position[row] + 1;
  struct merged all[GROUP];
  for (int64_t done = 0; done < share; done += GROUP) {
    const int64_t group = share - done < GROUP ? share - done : GROUP, head = row * a->heads + kv_head * share + done;
    for (int64_t i = 0; i < group; i++) {
      all[i].top = -__builtin_inff();
      all[i].sum = 0;
      memset(all[i].value, 0, sizeof all[i].value);
    }
    for (int64_t start = 0; start < seen; start += PAGE) {
      const int64_t valid = seen - start < PAGE ? seen - start : PAGE;
      const uint16_t *chunk = block_of(a, c, row, kv_head, start);
      chunk_of[group](a, c->rotated + head * dim, chunk, valid, all);
    }
    for (int64_t i = 0; i < group; i++)
      for (int64_t d = 0; d < dim; d += LANES)
        store_half(c->attended + (head + i) * dim + d, load(all[i].value + d) / splat(all[i].sum));
  }
}
