/* Matrix products: a unit of 32 output rows, two panels, against tiles of activation rows. The sum over the input
 * runs in the order of the input, block after block, so the tile's size never changes a bit.
 *
 * A tile is as many rows, and `BESIDE` as many vectors of a unit, as fit the registers with their sums: each activation
 * that is loaded meets BESIDE vectors of weights, since loads are as scarce as multiplications. */
#include "simd.h"
#include "twofold.h"

/* A thread reads weights as one stream, fetched ahead: the lines that follow in its share and, past the share's end, those
 * that it reads `next`. Lines that nobody fetched cost a product of eight rows as much as its multiplications do. */
enum { AHEAD = 8192 };   /* bytes to prefetch ahead in one stream: past a page the hardware stops looking */
enum { NEAR = 1 << 18 }; /* bytes of weights kept near while tiles of rows go by */
/* The two panels of a unit and the end of the share; each tile of rows fetches its part of the lines. */
struct unit { const char *panel[2], *end, *next; int64_t ahead, first_line, line_step; };
INLINE void prefetch_block(const struct unit *unit, const void *block, int bytes) {
  const char *ahead = (const char *)block + unit->ahead;
  if (__builtin_expect(ahead >= unit->end, 0)) ahead = unit->next + (ahead - unit->end);
  if (unit->line_step == CACHE_LINE) for (int i = 0; i < bytes; i += CACHE_LINE) __builtin_prefetch(ahead + i, 0, 2);
  else for (int64_t i = unit->first_line; i < bytes; i += unit->line_step) __builtin_prefetch(ahead + i, 0, 2);
}

/* ---- block formats: what differs between them is small and inline
 *
 *   name_pair     bytes of columns 4 j .. 4 j + 3 and 16 + 4 j .. of block g, lanes v
 *   name_dot      which integer dot those bytes are for
 *   name_start    what the integer starts at: minus the zero point of the weights, times the sum of the activations
 *   name_scale    d of block g, lanes v;  name_offset  m, for formats that have one */
typedef struct { u8v low, high; } pair;
INLINE pair nibbles(const uint8_t (*q)[64], int j, int v) {
  const u8v w = load_bytes(q[j] + 4 * LANES * v);
  return (pair){low_nibbles(w), high_nibbles(w)};
}
/* bits 2 j and 2 j + 1 of h are the fifth bits of the pair */
INLINE pair fifth_bits(pair p, const uint8_t *h, int j, int v) {
  const u32v bits = (u32v)load_bytes(h + 4 * LANES * v) >> (2 * j);
  return (pair){p.low | (u8v)((bits & 0x01010101u) << 4), p.high | (u8v)((bits & 0x02020202u) << 3)};
}
INLINE i32v no_start(const struct scale *s) { (void)s; return (i32v){0}; }
INLINE i32v stored_start(const struct scale *s) { return isplat(s->start); }
INLINE i32v q8_start(const struct scale *s) { return Q8_SIGNED ? no_start(s) : stored_start(s); }

INLINE pair q4_0_pair(const struct q4_0 *w, int g, int j, int v) { (void)g; return nibbles(w->q, j, v); }
INLINE f32v q4_0_scale(const struct q4_0 *w, int g, int v) { (void)g; return load_half(w->d + LANES * v); }

INLINE pair q4_1_pair(const struct q4_1 *w, int g, int j, int v) { (void)g; return nibbles(w->q, j, v); }
INLINE f32v q4_1_scale(const struct q4_1 *w, int g, int v) { (void)g; return load_half(w->d + LANES * v); }
INLINE f32v q4_1_offset(const struct q4_1 *w, int g, int v) { (void)g; return load_half(w->m + LANES * v); }

INLINE pair q5_0_pair(const struct q5_0 *w, int g, int j, int v) { (void)g; return fifth_bits(nibbles(w->q, j, v), w->h, j, v); }
INLINE f32v q5_0_scale(const struct q5_0 *w, int g, int v) { (void)g; return load_half(w->d + LANES * v); }

INLINE pair q5_1_pair(const struct q5_1 *w, int g, int j, int v) { (void)g; return fifth_bits(nibbles(w->q, j, v), w->h, j, v); }
INLINE f32v q5_1_scale(const struct q5_1 *w, int g, int v) { (void)g; return load_half(w->d + LANES * v); }
INLINE f32v q5_1_offset(const struct q5_1 *w, int g, int v) { (void)g; return load_half(w->m + LANES * v); }

INLINE pair q8_0_pair(const struct q8_0 *w, int g, int j, int v) {
  (void)g;
  return (pair){load_bytes(w->q[j] + 4 * LANES * v), load_bytes(w->q[j + 4] + 4 * LANES * v)};
}
INLINE f32v q8_0_scale(const struct q8_0 *w, int g, int v) { (void)g; return load_half(w->d + LANES * v); }

/* super-blocks of 8: one f16 scale and offset for all, times a small integer of each block */
INLINE pair q4_k_pair(const struct q4_k *w, int g, int j, int v) { return nibbles(w->q[g], j, v); }
INLINE f32v q4_k_scale(const struct q4_k *w, int g, int v) { return load_half(w->d + LANES * v) * load_u8(w->scale[g] + LANES * v); }
INLINE f32v q4_k_offset(const struct q4_k *w, int g, int v) { return -(load_half(w->m + LANES * v) * load_u8(w->least[g] + LANES * v)); }

INLINE pair q5_k_pair(const struct q5_k *w, int g, int j, int v) { return fifth_bits(nibbles(w->q[g], j, v), w->h[g], j, v); }
INLINE f32v q5_k_scale(const struct q5_k *w, int g, int v) { return load_half(w->d + LANES * v) * load_u8(w->scale[g] + LANES * v); }
INLINE f32v q5_k_offset(const struct q5_k *w, int g, int v) { return -(load_half(w->m + LANES * v) * load_u8(w->least[g] + LANES * v)); }

/* four-bit floats as twice their value plus 12; the scale is a power of two, halved */
INLINE pair mxfp4_pair(const struct mxfp4 *w, int g, int j, int v) {
  (void)g;
  const pair p = nibbles(w->q, j, v);
  return (pair){fp4_plus_12(p.low), fp4_plus_12(p.high)};
}
INLINE f32v mxfp4_scale(const struct mxfp4 *w, int g, int v) { (void)g; return half_power_of_two(w->e + LANES * v); }

/* Fine activations are 16 bits, high bytes first: the high bytes' sum is shifted up by 8 and the low bytes are
 * added to it, all exact. */
#define EACH_SUM UNROLL for (int n = 0; n < rows; n++) UNROLL for (int u = 0; u < beside; u++)
#define DOTS(name, dot, x)                                                                                        \
  UNROLL for (int j = 0; j < 4; j++) {                                                                            \
    pair p[BESIDE];                                                                                               \
    UNROLL for (int u = 0; u < beside; u++) p[u] = name##_pair(w[u], g, j, v % NV + u % NV);                      \
    EACH_SUM sum[n][u] = dot(sum[n][u], p[u].low, splat4((x) + pitch * n + 4 * j));                               \
    EACH_SUM sum[n][u] = dot(sum[n][u], p[u].high, splat4((x) + pitch * n + 16 + 4 * j));                         \
  }
#define BLOCK_TILE(name, dot, start, super, finish)                                                               \
  INLINE void tile_##name(const int rows, const int beside, const int fine, const struct unit *unit, int64_t width,                 \
                          struct activations x, f32v (*y)[2 * NV]) {                                              \
    const int pitch = fine ? 64 : 32;                                                                             \
    for (int v = 0; v < 2 * NV; v += beside) {                                                                    \
      const struct name *w[BESIDE];                                                                               \
      UNROLL for (int u = 0; u < beside; u++) w[u] = (const struct name *)unit->panel[(v + u) / NV];              \
      const int8_t *q = x.q;                                                                                      \
      const struct scale *s = x.scale;                                                                            \
      f32v total[TILE][BESIDE];                                                                                   \
      EACH_SUM total[n][u] = (f32v){0};                                                                           \
      for (int64_t k = 0; k < width / (32 * super); k++) {                                                        \
        UNROLL for (int u = 0; u < beside; u++) prefetch_block(unit, w[u], sizeof *w[u]);                         \
        for (int g = 0; g < super; g++, q += pitch * rows, s += rows) {                                           \
          i32v sum[TILE][BESIDE];                                                                                 \
          EACH_SUM sum[n][u] = fine ? (i32v){0} : start(s + n);                                                   \
          DOTS(name, dot, q)                                                                                      \
          if (fine) {                                                                                             \
            EACH_SUM sum[n][u] = (sum[n][u] << 8) + start(s + n);                                                 \
            DOTS(name, dot, q + 32)                                                                               \
          }                                                                                                       \
          UNROLL for (int u = 0; u < beside; u++) {                                                               \
            const f32v d = name##_scale(w[u], g, v % NV + u % NV);                                                \
            finish(name)                                                                                          \
          }                                                                                                       \
        }                                                                                                         \
        UNROLL for (int u = 0; u < beside; u++) w[u]++;                                                           \
      }                                                                                                           \
      EACH_SUM y[n][v + u] = total[n][u];                                                                         \
    }                                                                                                             \
  }
#define SCALED(name) \
  UNROLL for (int n = 0; n < rows; n++) total[n][u] = total[n][u] + to_float(sum[n][u]) * (d * s[n].d);
#define SCALED_AND_OFFSET(name)                                                                                   \
  const f32v m = name##_offset(w[u], g, v % NV + u % NV);                                                         \
  UNROLL for (int n = 0; n < rows; n++) total[n][u] = total[n][u] + (to_float(sum[n][u]) * (d * s[n].d) + m * s[n].d_sum);
BLOCK_TILE(q4_0, dot_u7, stored_start, 1, SCALED)
BLOCK_TILE(q4_1, dot_u7, no_start, 1, SCALED_AND_OFFSET)
BLOCK_TILE(q5_0, dot_u7, stored_start, 1, SCALED)
BLOCK_TILE(q5_1, dot_u7, no_start, 1, SCALED_AND_OFFSET)
BLOCK_TILE(q8_0, dot_q8, q8_start, 1, SCALED)
BLOCK_TILE(q4_k, dot_u7, no_start, 8, SCALED_AND_OFFSET)
BLOCK_TILE(q5_k, dot_u7, no_start, 8, SCALED_AND_OFFSET)
BLOCK_TILE(mxfp4, dot_u7, stored_start, 1, SCALED)

/* Q6_K has a scale for every 16 columns, so the two halves of a block are summed apart. */
INLINE pair q6_k_pair(const struct q6_k *w, int g, int j, int v) {
  const pair p = nibbles(w->q[g], j, v);
  const u32v bits = (u32v)load_bytes(w->h[g][j / 2] + 4 * LANES * v) >> (4 * (j % 2));
  return (pair){p.low | (u8v)((bits & 0x03030303u) << 4), p.high | (u8v)((bits & 0x0c0c0c0cu) << 2)};
}
INLINE void dots_q6_k(const int rows, const int pitch, const struct q6_k *w, int g, int v, const int8_t *x, i32v *low, i32v *high) {
  UNROLL for (int j = 0; j < 4; j++) {
    const pair p = q6_k_pair(w, g, j, v);
    UNROLL for (int n = 0; n < rows; n++) low[n] = dot_u7(low[n], p.low, splat4(x + pitch * n + 4 * j));
    UNROLL for (int n = 0; n < rows; n++) high[n] = dot_u7(high[n], p.high, splat4(x + pitch * n + 16 + 4 * j));
  }
}
INLINE void tile_q6_k(const int rows, const int beside, const int fine, const struct unit *unit, int64_t width, struct activations x, f32v (*y)[2 * NV]) {
  (void)beside; /* one: the two halves of a block are two sums already */
  const int pitch = fine ? 64 : 32;
  for (int at = 0; at < 2 * NV; at++) {
    const int v = at % NV;
    const struct q6_k *w = (const struct q6_k *)unit->panel[at / NV];
    const int8_t *q = x.q;
    const struct scale *s = x.scale;
    f32v total[TILE];
    UNROLL for (int n = 0; n < rows; n++) total[n] = (f32v){0};
    for (int64_t k = 0; k < width / 256; k++, w++) {
      prefetch_block(unit, w, sizeof *w);
      const f32v super = load_half(w->d + LANES * v);
      for (int g = 0; g < 8; g++, q += pitch * rows, s += rows) {
        i32v low[TILE], high[TILE];
        UNROLL for (int n = 0; n < rows; n++) low[n] = high[n] = (i32v){0};
        dots_q6_k(rows, pitch, w, g, v, q, low, high);
        if (fine) {
          UNROLL for (int n = 0; n < rows; n++) { low[n] = low[n] << 8; high[n] = high[n] << 8; }
          dots_q6_k(rows, pitch, w, g, v, q + 32, low, high);
        }
        const f32v first = load_s8(w->scale[g][0] + LANES * v), second = load_s8(w->scale[g][1] + LANES * v);
        UNROLL for (int n = 0; n < rows; n++) {
          const i32v a = low[n] + s[n].low_start, b = high[n] + (s[n].start - s[n].low_start);
          total[n] = total[n] + (to_float(a) * first + to_float(b) * second) * (super * s[n].d);
        }
      }
    }
    UNROLL for (int n = 0; n < rows; n++) y[n][at] = total[n];
  }
}

/* float weights of any width in bytes: `get` loads LANES of them */
#define FLOAT_TILE(name, type, get)                                                                               \
  INLINE void tile_##name(const int rows, const int beside, const struct unit *unit, int64_t width, const float *x, f32v (*y)[2 * NV]) {  \
    for (int v = 0; v < 2 * NV; v += beside) {                                                                    \
      const type *w[BESIDE];                                                                                      \
      UNROLL for (int u = 0; u < beside; u++) w[u] = (const type *)unit->panel[(v + u) / NV] + LANES * (v % NV + u % NV);  \
      f32v total[TILE][BESIDE];                                                                                   \
      EACH_SUM total[n][u] = (f32v){0};                                                                           \
      for (int64_t k = 0; k < width; k++) {                                                                       \
        f32v column[BESIDE];                                                                                      \
        UNROLL for (int u = 0; u < beside; u++) { column[u] = get(w[u]); w[u] += PANEL; }                         \
        EACH_SUM total[n][u] = total[n][u] + splat(x[n * width + k]) * column[u];                                 \
      }                                                                                                           \
      EACH_SUM y[n][v + u] = total[n][u];                                                                         \
    }                                                                                                             \
  }
FLOAT_TILE(f32, float, load)
FLOAT_TILE(f16, uint16_t, load_half)
FLOAT_TILE(bf16, uint16_t, load_bf16)

/* One function a format and a number of rows, so that sums stay in registers. One row waits for memory, which is read
 * fastest as one stream. */
#define BESIDE_OF(n) ((n) > 1 ? BESIDE : 1)
typedef void float_function(const struct unit *unit, int64_t width, const float *x, f32v (*y)[2 * NV]);
typedef void block_function(const struct unit *unit, int64_t width, struct activations x, f32v (*y)[2 * NV]);
#define FLOAT_SIZED(name, n) \
  NOINLINE void name##_##n(const struct unit *w, int64_t k, const float *x, f32v (*y)[2 * NV]) { tile_##name(n, BESIDE_OF(n), w, k, x, y); }
#define BLOCK_SIZED(name, n)                                                                                            \
  NOINLINE void name##_##n(const struct unit *w, int64_t k, struct activations x, f32v (*y)[2 * NV]) { tile_##name(n, BESIDE_OF(n), 0, w, k, x, y); } \
  NOINLINE void name##_fine_##n(const struct unit *w, int64_t k, struct activations x, f32v (*y)[2 * NV]) { tile_##name(n, BESIDE_OF(n), 1, w, k, x, y); }
#define FLOATS(name) EACH_ROWS(FLOAT_SIZED, name) static float_function *const name##_of[] = ROWS_LIST(name);
#define BLOCKS(name) \
  EACH_ROWS(BLOCK_SIZED, name) static block_function *const name##_of[2][TILE + 1] = {ROWS_LIST(name), ROWS_LIST(name##_fine)};
FLOATS(f32) FLOATS(f16) FLOATS(bf16)
BLOCKS(q4_0) BLOCKS(q4_1) BLOCKS(q5_0) BLOCKS(q5_1) BLOCKS(q8_0) BLOCKS(q4_k) BLOCKS(q5_k) BLOCKS(q6_k) BLOCKS(mxfp4)

/* bytes of one panel, and who multiplies it */
struct way { int64_t panel_bytes; float_function *floats; block_function *blocks; };
INLINE struct way way_of(const struct matrix *w, int fine, int64_t n) {
  const int64_t k = w->width, b = k / 32, s = k / 256;
  switch (w->format) {
    case FORMAT_F32: return (struct way){64 * k, f32_of[n], 0};
    case FORMAT_F16: return (struct way){32 * k, f16_of[n], 0};
    case FORMAT_BF16: return (struct way){32 * k, bf16_of[n], 0};
    case FORMAT_Q4_0: return (struct way){b * (int64_t)sizeof(struct q4_0), 0, q4_0_of[fine][n]};
    case FORMAT_Q4_1: return (struct way){b * (int64_t)sizeof(struct q4_1), 0, q4_1_of[fine][n]};
    case FORMAT_Q5_0: return (struct way){b * (int64_t)sizeof(struct q5_0), 0, q5_0_of[fine][n]};
    case FORMAT_Q5_1: return (struct way){b * (int64_t)sizeof(struct q5_1), 0, q5_1_of[fine][n]};
    case FORMAT_Q4_K: return (struct way){s * (int64_t)sizeof(struct q4_k), 0, q4_k_of[fine][n]};
    case FORMAT_Q5_K: return (struct way){s * (int64_t)sizeof(struct q5_k), 0, q5_k_of[fine][n]};
    case FORMAT_Q6_K: return (struct way){s * (int64_t)sizeof(struct q6_k), 0, q6_k_of[fine][n]};
    case FORMAT_MXFP4: return (struct way){b * (int64_t)sizeof(struct mxfp4), 0, mxfp4_of[fine][n]};
    default: return (struct way){b * (int64_t)sizeof(struct q8_0), 0, q8_0_of[fine][n]};
  }
}

/* Units from .. last - 1 for all tiles. Where the activations do not stay in the second cache, as many units as do go
 * together, so that activations are read once for all of them. */
static void linear(const struct matrix *w, int64_t from, int64_t last, const void *next, const float *x, struct activations xq, int fine, int64_t count, float *y, int64_t pitch) {
  const int64_t width = w->width, tiles = tile_count(count, TILE), panel_bytes = way_of(w, fine, 1).panel_bytes;
  const char *const share_end = (const char *)w->data + 2 * last * panel_bytes;
  const int64_t most = count * width > NEAR && NEAR > 2 * panel_bytes ? NEAR / (2 * panel_bytes) : 1;
  for (int64_t first = from, end; from < last; from = end) {
    end = from + most < last ? from + most : last;
    for (int64_t i = 0; i < tiles; i++) {
      const struct tile tile = tile_of(count, TILE, i);
      const struct way way = way_of(w, fine, tile.count);
      const struct activations rounded = {xq.q + tile.first * width * (fine ? 2 : 1), xq.scale + tile.first * (width / 32)};
      for (int64_t at = from; at < end; at++) {
        const int64_t left = w->rows - at * UNIT; /* a last panel by itself is done twice */
        const char *panel = (const char *)w->data + 2 * at * panel_bytes;
        const struct unit unit = {{panel, left > PANEL ? panel + panel_bytes : panel}, share_end, next ? next : share_end,
                                  count > 1 ? (end - from) * 2 * panel_bytes : AHEAD, CACHE_LINE * i, CACHE_LINE * tiles};
        f32v out[TILE][2 * NV];
        if (way.floats) way.floats(&unit, width, x + tile.first * width, out);
        else way.blocks(&unit, width, rounded, out);
        float *to = y + tile.first * pitch + (at - first) * UNIT;
        for (int64_t r = 0; r < tile.count; r++, to += pitch) {
          if (left >= UNIT) UNROLL for (int v = 0; v < 2 * NV; v++) store(to + LANES * v, out[r][v]);
          else memcpy(to, out[r], 4 * (size_t)left);
        }
      }
    }
  }
}

/* ---- one row of the embedding, taken out of its panel element by element */
static int nibble(const uint8_t (*q)[64], int64_t r, int64_t c) { return q[c % 16 / 4][4 * r + c % 4] >> (c / 16 * 4) & 15; }
static int fifth(const uint8_t *h, int64_t r, int64_t c) { return (h[4 * r + c % 4] >> (c % 16 / 4 * 2 + c / 16) & 1) << 4; }
static int sixth(const uint8_t (*h)[64], int64_t r, int64_t c) {
  const int64_t j = c % 16 / 4;
  return (h[j / 2][4 * r + c % 4] >> (j % 2 * 4 + c / 16 * 2) & 3) << 4;
}
static int fp4(int n) { return (int[]){0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}[n]; }

/* element c of block g of row r: the scale times an integer, plus an offset where the format has one */
#define SUPER(type) const struct type *w = (const struct type *)panel + k / 256; const int64_t g = k % 256 / 32
#define BLOCK(type) const struct type *w = (const struct type *)panel + k / 32
static float element(int32_t format, const void *panel, int64_t r, int64_t k) {
  const int64_t c = k % 32;
  switch (format) {
    case FORMAT_F32: return ((const float *)panel)[k * PANEL + r];
    case FORMAT_F16: return half_to_float(((const uint16_t *)panel)[k * PANEL + r]);
    case FORMAT_BF16: { union { uint32_t u; float f; } wide = {(uint32_t)((const uint16_t *)panel)[k * PANEL + r] << 16}; return wide.f; }
    case FORMAT_Q4_0: { BLOCK(q4_0); return half_to_float(w->d[r]) * (float)(nibble(w->q, r, c) - 8); }
    case FORMAT_Q4_1: { BLOCK(q4_1); return half_to_float(w->d[r]) * (float)nibble(w->q, r, c) + half_to_float(w->m[r]); }
    case FORMAT_Q5_0: { BLOCK(q5_0); return half_to_float(w->d[r]) * (float)((nibble(w->q, r, c) | fifth(w->h, r, c)) - 16); }
    case FORMAT_Q5_1: { BLOCK(q5_1); return half_to_float(w->d[r]) * (float)(nibble(w->q, r, c) | fifth(w->h, r, c)) + half_to_float(w->m[r]); }
    case FORMAT_Q4_K: {
      SUPER(q4_k);
      const float d = half_to_float(w->d[r]) * (float)w->scale[g][r], m = half_to_float(w->m[r]) * (float)w->least[g][r];
      return d * (float)nibble(w->q[g], r, c) - m;
    }
    case FORMAT_Q5_K: {
      SUPER(q5_k);
      const float d = half_to_float(w->d[r]) * (float)w->scale[g][r], m = half_to_float(w->m[r]) * (float)w->least[g][r];
      return d * (float)(nibble(w->q[g], r, c) | fifth(w->h[g], r, c)) - m;
    }
    case FORMAT_Q6_K: {
      SUPER(q6_k);
      const float d = half_to_float(w->d[r]) * (float)w->scale[g][c / 16][r];
      return d * (float)((nibble(w->q[g], r, c) | sixth(w->h[g], r, c)) - 32);
    }
    case FORMAT_MXFP4: { BLOCK(mxfp4); return half_power_of_two_1(w->e[r]) * (float)fp4(nibble(w->q, r, c)); }
    default: { BLOCK(q8_0); return half_to_float(w->d[r]) * (float)(w->q[c / 4][4 * r + c % 4] - 128); }
  }
}

/* Ids were checked before, but they may lie in memory that a client shares and changes meanwhile: an id out of range
 * reads nothing. */
static void embed(const struct matrix *w, int64_t id, float *y) {
  if (id < 0 || id >= w->rows) { memset(y, 0, 4 * (size_t)w->width); return; }
  const char *panel = (const char *)w->data + id / PANEL * way_of(w, 0, 1).panel_bytes;
  for (int64_t k = 0; k < w->width; k++) y[k] = element(w->format, panel, id % PANEL, k);
}
