/* Operations on one row: norms, rounding to int8 blocks, gating, residual, half precision. Widths are multiples
 * of 32. */
#include "elementary.h"
#include "simd.h"
#include "twofold.h"

INLINE float sum_of(const f32v *half) { /* of 32 lanes: the halves added, then the tree */
  f32v lanes[NV];
  for (int v = 0; v < NV; v++) lanes[v] = half[v] + half[v + NV];
  return tree_sum(lanes);
}

/* sums of squares in 32 lanes (element k in lane k mod 32), the halves added, then the tree */
static void rms_norm(const float *x, const float *w, float epsilon, int64_t width, float *y) {
  f32v square[2 * NV];
  for (int v = 0; v < 2 * NV; v++) square[v] = (f32v){0};
  for (int64_t k = 0; k < width; k += 32)
    UNROLL for (int v = 0; v < 2 * NV; v++) { f32v a = load(x + k + LANES * v); square[v] = square[v] + a * a; }
  const float inverse = 1.0f / __builtin_sqrtf(sum_of(square) / (float)width + epsilon);
  for (int64_t k = 0; k < width; k += LANES) store(y + k, (load(x + k) * inverse) * load(w + k));
}

/* mean and variance in 32 lanes each, the variance of the differences from the mean */
static void layer_norm(const float *x, const float *w, float epsilon, int64_t width, float *y) {
  f32v sum[2 * NV], square[2 * NV];
  for (int v = 0; v < 2 * NV; v++) sum[v] = square[v] = (f32v){0};
  for (int64_t k = 0; k < width; k += 32)
    UNROLL for (int v = 0; v < 2 * NV; v++) sum[v] = sum[v] + load(x + k + LANES * v);
  const f32v mean = splat(sum_of(sum) / (float)width);
  for (int64_t k = 0; k < width; k += 32)
    UNROLL for (int v = 0; v < 2 * NV; v++) { f32v a = load(x + k + LANES * v) - mean; square[v] = square[v] + a * a; }
  const float inverse = 1.0f / __builtin_sqrtf(sum_of(square) / (float)width + epsilon);
  for (int64_t k = 0; k < width; k += LANES) store(y + k, ((load(x + k) - mean) * inverse) * load(w + k));
}

static void quantise(const float *x, int64_t from, int64_t to, int64_t blocks, struct activations out, int fine, int zero, int64_t row, struct tile tile) {
  const float levels = fine ? 32512.0f : 127.0f;
  for (int64_t g = from; g < to; g++, x += 32) {
    const int64_t at = tile.first * blocks + g * tile.count + (row - tile.first);
    f32v top = (f32v){0};
    UNROLL for (int v = 0; v < 2 * NV; v++) top = max_of(abs_of(load(x + LANES * v)), top);
    const float most = top_lane(top);
    const float inverse = most > 0x1p-100f ? levels / most : 0.0f, d = most > 0x1p-100f ? most / levels : 0.0f;
    i32v sums[2] = {(i32v){0}, (i32v){0}}; /* of the first and the last 16 */
    UNROLL for (int v = 0; v < 2 * NV; v++) { /* adding 1.5 · 2^23 rounds to nearest, ties to even */
      i32v q = (i32v)(load(x + LANES * v) * inverse + 12582912.0f) - 0x4b400000;
      i32v high = (q + 128) >> 8;
      if (fine) {
        store_bytes(out.q + 64 * at + LANES * v, high);
        store_bytes(out.q + 64 * at + 32 + LANES * v, q - (high << 8));
      } else {
        store_bytes(out.q + 32 * at + LANES * v, q);
      }
      sums[v / NV] = sums[v / NV] + q;
    }
    const int32_t low = lane_sum(sums[0]), sum = low + lane_sum(sums[1]);
    out.scale[at] = (struct scale){d, d * (float)sum, -zero * sum, -zero * low};
  }
}

INLINE void swiglu_part(const int count, const float *gate, const float *up, float *y) {
  f32v e[4];
  UNROLL for (int v = 0; v < count; v++) e[v] = -load(gate + LANES * v);
  exp_of_each(count, e);
  UNROLL for (int v = 0; v < count; v++)
    store(y + LANES * v, load(gate + LANES * v) / (e[v] + 1.0f) * load(up + LANES * v));
}
static void swiglu(const float *gate, const float *up, int64_t width, float *y) {
  int64_t k = 0;
  for (; k + 4 * LANES <= width; k += 4 * LANES) swiglu_part(4, gate + k, up + k, y + k);
  for (; k < width; k += LANES) swiglu_part(1, gate + k, up + k, y + k);
}
static void clamped_swiglu(const float *gate, const float *up, float limit, float slope, int64_t width, float *y) {
  const f32v most = splat(limit), least = splat(-limit);
  for (int64_t k = 0; k < width; k += LANES) {
    f32v g = load(gate + k), u = load(up + k);
    g = pick(g > most, most, g), u = pick(u > most, most, u);
    u = pick(u < least, least, u);
    store(y + k, g / (exp_of(-(g * slope)) + 1.0f) * (u + 1.0f));
  }
}
/* the tanh form of GELU, gating */
static void geglu(const float *gate, const float *up, int64_t width, float *y) {
  for (int64_t k = 0; k < width; k += LANES) {
    const f32v g = load(gate + k), inner = (g + ((g * g) * g) * 0.044715f) * 0.7978845608f;
    store(y + k, ((g * 0.5f) * (tanh_of(inner) + 1.0f)) * load(up + k));
  }
}
static void add(const float *a, const float *b, int64_t width, float *y) {
  for (int64_t k = 0; k < width; k += LANES) store(y + k, load(a + k) + load(b + k));
}
static void scale(const float *x, float factor, int64_t width, float *y) {
  for (int64_t k = 0; k < width; k += LANES) store(y + k, load(x + k) * factor);
}
static void widen(const uint16_t *x, int64_t width, float *y) {
  for (int64_t k = 0; k < width; k += LANES) store(y + k, load_half(x + k));
}
static void narrow(const float *x, int64_t width, uint16_t *y) {
  for (int64_t k = 0; k < width; k += LANES) store_half(y + k, load(x + k));
}
static void exponential(const float *x, int64_t width, float *y) {
  for (int64_t k = 0; k < width; k += LANES) store(y + k, exp_of(load(x + k)));
}
