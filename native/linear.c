/* Matrix products: one panel of 16 output rows against one tile of activation rows. The sum over the input
 * runs in the order of the input, block after block, so the tile's size never changes a bit. */
#include "simd.h"
#include "twofold.h"

enum { AHEAD = 4096 }; /* bytes of weights to prefetch ahead: past a page the hardware stops looking */

INLINE void prefetch_block(const void *block, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)block + AHEAD + i, 0, 2);
}

/* sum[n] += one block of 32 columns, lanes v of the panel, by activations `pitch` bytes a row apart */
INLINE void dot_4(const int rows, const int pitch, const uint8_t (*q)[64], int v, const int8_t *x, i32v *sum) {
  UNROLL for (int j = 0; j < 4; j++) {
    u8v w = load_bytes(q[j] + 4 * LANES * v), low = low_nibbles(w), high = high_nibbles(w);
    UNROLL for (int n = 0; n < rows; n++) sum[n] = dot_u4(sum[n], low, splat4(x + pitch * n + 4 * j));
    UNROLL for (int n = 0; n < rows; n++) sum[n] = dot_u4(sum[n], high, splat4(x + pitch * n + 16 + 4 * j));
  }
}
INLINE void dot_8(const int rows, const int pitch, const uint8_t (*q)[64], int v, const int8_t *x, i32v *sum) {
  UNROLL for (int j = 0; j < 8; j++) {
    u8v w = load_bytes(q[j] + 4 * LANES * v);
    UNROLL for (int n = 0; n < rows; n++) sum[n] = dot_q8(sum[n], w, splat4(x + pitch * n + 4 * j));
  }
}

/* Block formats. `fine` activations are 16 bits, high bytes first: the high bytes' sum is shifted up by 8 and
 * the low bytes are added to it, all exact. `start(sum)` is what the format adds for the sum of the activations,
 * `finish` turns the block's integer into its share of the total. */
#define BLOCK_TILE(name, dot, start, finish)                                                                      \
  INLINE void tile_##name(const int rows, const int fine, const void *panel, int64_t width, struct activations x, \
                          f32v (*y)[NV]) {                                                                        \
    const int pitch = fine ? 64 : 32;                                                                             \
    UNROLL for (int v = 0; v < NV; v++) {                                                                         \
      const struct name *w = panel;                                                                               \
      const int8_t *q = x.q;                                                                                      \
      const struct scale *s = x.scale;                                                                            \
      f32v total[TILE];                                                                                           \
      UNROLL for (int n = 0; n < rows; n++) total[n] = (f32v){0};                                                 \
      for (int64_t g = 0; g < width / 32; g++, w++, q += pitch * rows, s += rows) {                               \
        prefetch_block(w, sizeof *w);                                                                             \
        i32v sum[TILE];                                                                                           \
        UNROLL for (int n = 0; n < rows; n++) sum[n] = fine ? (i32v){0} : start(s[n].sum);                        \
        dot(rows, pitch, w->q, v, q, sum);                                                                        \
        if (fine) {                                                                                               \
          UNROLL for (int n = 0; n < rows; n++) sum[n] = (sum[n] << 8) + start(s[n].sum);                         \
          dot(rows, pitch, w->q, v, q + 32, sum);                                                                 \
        }                                                                                                         \
        f32v d = load_half(w->d + LANES * v);                                                                     \
        finish                                                                                                    \
      }                                                                                                           \
      UNROLL for (int n = 0; n < rows; n++) y[n][v] = total[n];                                                   \
    }                                                                                                             \
  }
#define SCALED UNROLL for (int n = 0; n < rows; n++) total[n] = total[n] + to_float(sum[n]) * (d * s[n].d);
#define SCALED_AND_OFFSET                                                                                         \
  f32v m = load_half(w->m + LANES * v);                                                                           \
  UNROLL for (int n = 0; n < rows; n++) total[n] = total[n] + (to_float(sum[n]) * (d * s[n].d) + m * s[n].d_sum);
INLINE i32v q4_0_start(int32_t sum) { return isplat(-8 * sum); }
INLINE i32v q4_1_start(int32_t sum) { (void)sum; return (i32v){0}; }
BLOCK_TILE(q4_0, dot_4, q4_0_start, SCALED)
BLOCK_TILE(q4_1, dot_4, q4_1_start, SCALED_AND_OFFSET)
BLOCK_TILE(q8_0, dot_8, q8_start, SCALED)

/* float weights of any width in bytes: `get` loads LANES of them */
#define FLOAT_TILE(name, type, get)                                                                             \
  INLINE void tile_##name(const int rows, const void *panel, int64_t width, const float *x, f32v (*y)[NV]) {    \
    UNROLL for (int v = 0; v < NV; v++) {                                                                       \
      const type *w = (const type *)panel + LANES * v;                                                          \
      f32v total[TILE];                                                                                         \
      UNROLL for (int n = 0; n < rows; n++) total[n] = (f32v){0};                                               \
      for (int64_t k = 0; k < width; k++, w += PANEL) {                                                         \
        f32v column = get(w);                                                                                   \
        UNROLL for (int n = 0; n < rows; n++) total[n] = total[n] + splat(x[n * width + k]) * column;           \
      }                                                                                                         \
      UNROLL for (int n = 0; n < rows; n++) y[n][v] = total[n];                                                 \
    }                                                                                                           \
  }
FLOAT_TILE(f32, float, load)
FLOAT_TILE(f16, uint16_t, load_half)
FLOAT_TILE(bf16, uint16_t, load_bf16)

/* one function a format and a number of rows, so that sums stay in registers */
typedef void float_function(const void *panel, int64_t width, const float *x, f32v (*y)[NV]);
typedef void block_function(const void *panel, int64_t width, struct activations x, f32v (*y)[NV]);
#define FLOAT_SIZED(name, n) \
  NOINLINE void name##_##n(const void *p, int64_t k, const float *x, f32v (*y)[NV]) { tile_##name(n, p, k, x, y); }
#define BLOCK_SIZED(name, n)                                                                                            \
  NOINLINE void name##_##n(const void *p, int64_t k, struct activations x, f32v (*y)[NV]) { tile_##name(n, 0, p, k, x, y); } \
  NOINLINE void name##_fine_##n(const void *p, int64_t k, struct activations x, f32v (*y)[NV]) { tile_##name(n, 1, p, k, x, y); }
#if TILE == 12
#define EACH(sized, name)                                                                                       \
  sized(name, 1) sized(name, 2) sized(name, 3) sized(name, 4) sized(name, 5) sized(name, 6)                     \
  sized(name, 7) sized(name, 8) sized(name, 9) sized(name, 10) sized(name, 11) sized(name, 12)
#define LIST(name) {0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6,                              \
                    name##_7, name##_8, name##_9, name##_10, name##_11, name##_12}
#else
#define EACH(sized, name) sized(name, 1) sized(name, 2) sized(name, 3) sized(name, 4)
#define LIST(name) {0, name##_1, name##_2, name##_3, name##_4}
#endif
#define FLOATS(name) EACH(FLOAT_SIZED, name) static float_function *const name##_of[] = LIST(name);
#define BLOCKS(name) \
  EACH(BLOCK_SIZED, name) static block_function *const name##_of[2][TILE + 1] = {LIST(name), LIST(name##_fine)};
FLOATS(f32) FLOATS(f16) FLOATS(bf16)
BLOCKS(q4_0) BLOCKS(q4_1) BLOCKS(q8_0)

static void linear(const struct matrix *w, int64_t panel, const float *x, struct activations xq, int fine, struct tile tile, float *y) {
  f32v out[TILE][NV];
  const int64_t width = w->width, blocks = width / 32, first = tile.first, n = tile.count;
  struct activations at = {xq.q + first * width * (fine ? 2 : 1), xq.scale + first * blocks};
  const float *rows = x + first * width;
  const char *data = w->data;
  switch (w->format) {
    case FORMAT_F32: f32_of[n](data + panel * width * 64, width, rows, out); break;
    case FORMAT_F16: f16_of[n](data + panel * width * 32, width, rows, out); break;
    case FORMAT_BF16: bf16_of[n](data + panel * width * 32, width, rows, out); break;
    case FORMAT_Q4_0: q4_0_of[fine][n](data + panel * blocks * (int64_t)sizeof(struct q4_0), width, at, out); break;
    case FORMAT_Q4_1: q4_1_of[fine][n](data + panel * blocks * (int64_t)sizeof(struct q4_1), width, at, out); break;
    default: q8_0_of[fine][n](data + panel * blocks * (int64_t)sizeof(struct q8_0), width, at, out); break;
  }
  const int64_t left = w->rows - panel * PANEL;
  for (int64_t r = 0; r < n; r++)
    memcpy(y + (first + r) * w->rows + panel * PANEL, out[r], 4 * (size_t)(left < PANEL ? left : PANEL));
}

/* One row of the embedding, taken out of its panel. Ids were checked before, but they may lie in memory that a
 * client shares and changes meanwhile: an id out of range reads nothing. */
static void embed(const struct matrix *w, int64_t id, float *y) {
  if (id < 0 || id >= w->rows) { memset(y, 0, 4 * (size_t)w->width); return; }
  const int64_t panel = id / PANEL, r = id % PANEL, width = w->width, blocks = width / 32;
  if (w->format == FORMAT_F32) {
    const float *p = (const float *)w->data + panel * width * PANEL + r;
    for (int64_t k = 0; k < width; k++) y[k] = p[k * PANEL];
  } else if (w->format == FORMAT_F16 || w->format == FORMAT_BF16) {
    const uint16_t *p = (const uint16_t *)w->data + panel * width * PANEL + r;
    for (int64_t k = 0; k < width; k++) {
      union { uint32_t u; float f; } wide = {(uint32_t)p[k * PANEL] << 16};
      y[k] = w->format == FORMAT_F16 ? half_to_float(p[k * PANEL]) : wide.f;
    }
  } else if (w->format == FORMAT_Q8_0) {
    const struct q8_0 *b = (const struct q8_0 *)w->data + panel * blocks;
    for (int64_t k = 0; k < width; k++)
      y[k] = half_to_float(b[k / 32].d[r]) * (float)(b[k / 32].q[k % 32 / 4][4 * r + k % 4] - 128);
  } else {
    for (int64_t k = 0; k < width; k++) {
      const int64_t c = k % 32, j = c % 16 / 4, shift = c / 16 * 4;
      if (w->format == FORMAT_Q4_0) {
        const struct q4_0 *b = (const struct q4_0 *)w->data + panel * blocks + k / 32;
        y[k] = half_to_float(b->d[r]) * (float)((b->q[j][4 * r + c % 4] >> shift & 15) - 8);
      } else {
        const struct q4_1 *b = (const struct q4_1 *)w->data + panel * blocks + k / 32;
        y[k] = half_to_float(b->d[r]) * (float)(b->q[j][4 * r + c % 4] >> shift & 15) + half_to_float(b->m[r]);
      }
    }
  }
}
