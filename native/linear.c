/* Matrix products: one panel of 16 output rows against one tile of activation rows. The sum over the input
 * runs in the order of the input, block after block, so the tile's size never changes a bit. */
#include "simd.h"
#include "twofold.h"

enum { AHEAD = 4096 }; /* bytes of weights to prefetch ahead: past a page the hardware stops looking */

INLINE void prefetch_block(const void *block, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)block + AHEAD + i, 0, 2);
}

/* sums[n] of one block of 4-bit weights: 32 columns, lanes v of the panel */
INLINE void dot_block_4(const int rows, const uint8_t (*q)[64], int v, const int8_t *x, i32v *sum) {
  UNROLL for (int j = 0; j < 4; j++) {
    u8v w = load_bytes(q[j] + 4 * LANES * v), low = low_nibbles(w), high = high_nibbles(w);
    UNROLL for (int n = 0; n < rows; n++) sum[n] = dot_u4(sum[n], low, splat4(x + 32 * n + 4 * j));
    UNROLL for (int n = 0; n < rows; n++) sum[n] = dot_u4(sum[n], high, splat4(x + 32 * n + 16 + 4 * j));
  }
}

INLINE void tile_q4_1(const int rows, const void *panel, int64_t width, const float *unused, struct activations x, f32v (*y)[NV]) {
  (void)unused;
  UNROLL for (int v = 0; v < NV; v++) {
    const struct q4_1 *w = panel; const int8_t *q = x.q; const struct scale *s = x.scale;
    f32v total[TILE];
    UNROLL for (int n = 0; n < rows; n++) total[n] = (f32v){0};
    for (int64_t g = 0; g < width / 32; g++, w++, q += 32 * rows, s += rows) {
      prefetch_block(w, sizeof *w);
      i32v sum[TILE];
      UNROLL for (int n = 0; n < rows; n++) sum[n] = (i32v){0};
      dot_block_4(rows, w->q, v, q, sum);
      f32v d = load_half(w->d + LANES * v), m = load_half(w->m + LANES * v);
      UNROLL for (int n = 0; n < rows; n++) total[n] = total[n] + (to_float(sum[n]) * (d * s[n].d) + m * s[n].d_sum);
    }
    UNROLL for (int n = 0; n < rows; n++) y[n][v] = total[n];
  }
}

INLINE void tile_q4_0(const int rows, const void *panel, int64_t width, const float *unused, struct activations x, f32v (*y)[NV]) {
  (void)unused;
  UNROLL for (int v = 0; v < NV; v++) {
    const struct q4_0 *w = panel; const int8_t *q = x.q; const struct scale *s = x.scale;
    f32v total[TILE];
    UNROLL for (int n = 0; n < rows; n++) total[n] = (f32v){0};
    for (int64_t g = 0; g < width / 32; g++, w++, q += 32 * rows, s += rows) {
      prefetch_block(w, sizeof *w);
      i32v sum[TILE];
      UNROLL for (int n = 0; n < rows; n++) sum[n] = isplat(-8 * s[n].sum);
      dot_block_4(rows, w->q, v, q, sum);
      f32v d = load_half(w->d + LANES * v);
      UNROLL for (int n = 0; n < rows; n++) total[n] = total[n] + to_float(sum[n]) * (d * s[n].d);
    }
    UNROLL for (int n = 0; n < rows; n++) y[n][v] = total[n];
  }
}

INLINE void tile_q8_0(const int rows, const void *panel, int64_t width, const float *unused, struct activations x, f32v (*y)[NV]) {
  (void)unused;
  UNROLL for (int v = 0; v < NV; v++) {
    const struct q8_0 *w = panel; const int8_t *q = x.q; const struct scale *s = x.scale;
    f32v total[TILE];
    UNROLL for (int n = 0; n < rows; n++) total[n] = (f32v){0};
    for (int64_t g = 0; g < width / 32; g++, w++, q += 32 * rows, s += rows) {
      prefetch_block(w, sizeof *w);
      i32v sum[TILE];
      UNROLL for (int n = 0; n < rows; n++) sum[n] = q8_start(s[n].sum);
      UNROLL for (int j = 0; j < 8; j++) {
        u8v b = load_bytes(w->q[j] + 4 * LANES * v);
        UNROLL for (int n = 0; n < rows; n++) sum[n] = dot_q8(sum[n], b, splat4(q + 32 * n + 4 * j));
      }
      f32v d = load_half(w->d + LANES * v);
      UNROLL for (int n = 0; n < rows; n++) total[n] = total[n] + to_float(sum[n]) * (d * s[n].d);
    }
    UNROLL for (int n = 0; n < rows; n++) y[n][v] = total[n];
  }
}

/* float weights of any width in bytes: `get` loads LANES of them */
#define FLOAT_TILE(name, type, get)                                                                             \
  INLINE void tile_##name(const int rows, const void *panel, int64_t width, const float *x, struct activations unused, f32v (*y)[NV]) { \
    (void)unused;                                                                                               \
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
typedef void tile_function(const void *panel, int64_t width, const float *x, struct activations xq, f32v (*y)[NV]);
#define SIZED(name, n)                                                                                            \
  NOINLINE void name##_##n(const void *panel, int64_t width, const float *x, struct activations xq, f32v (*y)[NV]) { \
    tile_##name(n, panel, width, x, xq, y);                                                                       \
  }
#if TILE == 12
#define SIZES(name)                                                                                              \
  SIZED(name, 1) SIZED(name, 2) SIZED(name, 3) SIZED(name, 4) SIZED(name, 5) SIZED(name, 6)                      \
  SIZED(name, 7) SIZED(name, 8) SIZED(name, 9) SIZED(name, 10) SIZED(name, 11) SIZED(name, 12)                   \
  static tile_function *const name##_of[] = {0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6,      \
                                             name##_7, name##_8, name##_9, name##_10, name##_11, name##_12};
#else
#define SIZES(name)                                                                                              \
  SIZED(name, 1) SIZED(name, 2) SIZED(name, 3) SIZED(name, 4)                                                    \
  static tile_function *const name##_of[] = {0, name##_1, name##_2, name##_3, name##_4};
#endif
SIZES(f32) SIZES(f16) SIZES(bf16) SIZES(q4_0) SIZES(q4_1) SIZES(q8_0)

static void linear(const struct matrix *w, int64_t panel, const float *x, struct activations xq, struct tile tile, float *y) {
  f32v out[TILE][NV];
  const int64_t width = w->width, blocks = width / 32, first = tile.first, n = tile.count;
  struct activations at = {xq.q + first * width, xq.scale + first * blocks};
  const float *rows = x + first * width;
  const char *data = w->data;
  switch (w->format) {
    case FORMAT_F32: f32_of[n](data + panel * width * 64, width, rows, at, out); break;
    case FORMAT_F16: f16_of[n](data + panel * width * 32, width, rows, at, out); break;
    case FORMAT_BF16: bf16_of[n](data + panel * width * 32, width, rows, at, out); break;
    case FORMAT_Q4_0: q4_0_of[n](data + panel * blocks * (int64_t)sizeof(struct q4_0), width, rows, at, out); break;
    case FORMAT_Q4_1: q4_1_of[n](data + panel * blocks * (int64_t)sizeof(struct q4_1), width, rows, at, out); break;
    default: q8_0_of[n](data + panel * blocks * (int64_t)sizeof(struct q8_0), width, rows, at, out); break;
  }
  const int64_t left = w->rows - panel * PANEL;
  for (int64_t r = 0; r < n; r++)
    memcpy(y + (first + r) * w->rows + panel * PANEL, out[r], 4 * (size_t)(left < PANEL ? left : PANEL));
}

/* one row of the embedding, taken out of its panel */
static void embed(const struct matrix *w, int64_t id, float *y) {
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
