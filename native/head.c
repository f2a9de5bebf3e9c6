/* The head's top k and log-sum-exp, one row at a time, for networks that should not carry a vocabulary per token. */
#include "simd.h"
#include "twofold.h"

/* whether id a stands after id b: a lower value, or the same value and a higher id */
INLINE int after(const float *x, int32_t a, int32_t b) { return x[a] < x[b] || (x[a] == x[b] && a > b); }

/* heap[at] sinks until none of its children stands after it; the root of a heap stands after all others */
static void sink(const float *x, int32_t *heap, int64_t size, int64_t at) {
  for (int64_t child; (child = 2 * at + 1) < size; at = child) {
    if (child + 1 < size && after(x, heap[child + 1], heap[child])) child++;
    if (!after(x, heap[child], heap[at])) return;
    const int32_t id = heap[at];
    heap[at] = heap[child];
    heap[child] = id;
  }
}

/* ids of the k <= width largest values: by falling value, then by rising id */
static void top(const float *x, int64_t width, int64_t k, int32_t *ids) {
  enum { STRIDE = 4 * PANEL };
  for (int64_t i = 0; i < k; i++) ids[i] = (int32_t)i;
  for (int64_t i = k / 2; i-- > 0;) sink(x, ids, k, i);
  for (int64_t i = k; i < width;) {
    if (i + STRIDE <= width) { /* most values are below all k so far */
      const f32v least = splat(x[ids[0]]);
      i32v any = (i32v){0};
      UNROLL for (int v = 0; v < 4 * NV; v++) any = any | (load(x + i + LANES * v) > least);
      int32_t found = 0;
      for (int lane = 0; lane < LANES; lane++) found |= any[lane];
      if (!found) { i += STRIDE; continue; }
    }
    for (const int64_t end = i + STRIDE < width ? i + STRIDE : width; i < end; i++)
      if (x[i] > x[ids[0]]) { ids[0] = (int32_t)i; sink(x, ids, k, 0); }
  }
  for (int64_t size = k; size-- > 1;) { /* the last of the remaining goes to the end */
    const int32_t id = ids[0];
    ids[0] = ids[size];
    ids[size] = id;
    sink(x, ids, size, 0);
  }
}
/* y[i] = x[ids[i]]; ids outside the row read nothing */
static void gather(const float *x, int64_t width, const int32_t *ids, int64_t k, float *y) {
  for (int64_t i = 0; i < k; i++) y[i] = ids[i] >= 0 && ids[i] < width ? x[ids[i]] : 0;
}

/* natural logarithm of x >= 1, in double: 2 atanh((m - 1) / (m + 1)) for x = 2^e · m */
static double logarithm(double x) {
  union { double d; uint64_t u; } m = {x};
  int64_t e = (int64_t)(m.u >> 52) - 1023;
  m.u = (m.u & 0xfffffffffffffu) | (uint64_t)1023 << 52;
  if (m.d > 1.4142135623730951) { m.d = m.d * 0.5; e++; }
  const double s = (m.d - 1.0) / (m.d + 1.0), z = s * s;
  double p = 1.0 / 17.0;
  for (int n = 15; n > 1; n -= 2) p = p * z + 1.0 / n;
  return (double)e * 0.6931471805599453 + (2.0 * s + 2.0 * s * (z * p));
}
/* PANEL values of a row from i on, as so many vectors; past its end, -infinity */
INLINE void panel(const float *x, int64_t width, int64_t i, f32v *v) {
  float part[PANEL];
  if (i + PANEL > width)
    for (int64_t j = 0; j < PANEL; j++) part[j] = i + j < width ? x[i + j] : -__builtin_inff();
  const float *from = i + PANEL > width ? part : x + i;
  UNROLL for (int k = 0; k < NV; k++) v[k] = load(from + LANES * k);
}
/* the largest value, of any order; NaN if one is */
static float largest(const float *x, int64_t width) {
  f32v most[NV], v[NV];
  i32v odd = (i32v){0};
  for (int k = 0; k < NV; k++) most[k] = splat(-__builtin_inff());
  for (int64_t i = 0; i < width; i += PANEL) {
    panel(x, width, i, v);
    UNROLL for (int k = 0; k < NV; k++) {
      most[k] = pick(v[k] > most[k], v[k], most[k]);
      odd = odd | (v[k] != v[k]);
    }
  }
  float found = most[0][0];
  for (int k = 0; k < NV; k++)
    for (int lane = 0; lane < LANES; lane++) {
      if (odd[lane]) return __builtin_nanf("");
      if (most[k][lane] > found) found = most[k][lane];
    }
  return found;
}
/* y[0] = log of the sum of exp(x); NaN if a value is */
static void log_sum_exp(const float *x, int64_t width, float *y) {
  const float most = largest(x, width);
  f32v sum[NV], v[NV];
  for (int k = 0; k < NV; k++) sum[k] = (f32v){0};
  for (int64_t i = 0; i < width; i += PANEL) {
    panel(x, width, i, v);
    UNROLL for (int k = 0; k < NV; k++) sum[k] = sum[k] + exp_of(v[k] - splat(most));
  }
  y[0] = most + (float)logarithm((double)tree_sum(sum));
}
