/* Choosing a token from a row of logits: what `sample` of engine/sampling.py says, without sorting a vocabulary and without
 * summing it one after the other.
 *
 * The definition's sums over all tokens run in order; those here run in 16 lanes and differ from them by less than a known
 * bound. Where the choice depends on less than that, which is one in a million or rarer, there is no answer, and the caller
 * asks the definition. All other sums are the definition's own. */
#include "simd.h"
#include "twofold.h"

enum { PARTS = 64, MOST_KEPT = 1024 };

/* sums in f64, element i in lane i mod 16 */
typedef double f64v __attribute__((vector_size(4 * LANES)));
typedef float f32h __attribute__((vector_size(2 * LANES)));
struct lanes { f64v part[2 * NV]; };
INLINE double tree_of(struct lanes sums) {
  double a[PANEL];
  memcpy(a, sums.part, sizeof a);
  for (int apart = PANEL / 2; apart; apart /= 2)
    for (int i = 0; i < apart; i++) a[i] = a[i] + a[i + apart];
  return a[0];
}
/* one panel of `weigh` */
INLINE void weigh_panel(const float *x, f32v temperature, f32v most, float *w, struct lanes *sums) {
  UNROLL for (int v = 0; v < NV; v++) store(w + LANES * v, exp_of(load(x + LANES * v) / temperature - most));
  UNROLL for (int v = 0; v < 2 * NV; v++) {
    f32h half;
    memcpy(&half, w + LANES / 2 * v, sizeof half);
    sums->part[v] = sums->part[v] + __builtin_convertvector(half, f64v);
  }
}
/* w[i] = exp(x[i] / temperature - most); w has room for whole panels. Returns the sum of all in 16 lanes, then the tree.
 * before[p]: the same over the first p parts of `part` elements, which are whole panels. */
static double weigh(const float *x, int64_t width, float temperature, float most, float *w, int64_t part, double *before) {
  struct lanes sums = {0};
  float last[PANEL];
  const int64_t whole = width / PANEL * PANEL;
  for (int64_t j = 0; j < PANEL; j++) last[j] = whole + j < width ? x[whole + j] : -__builtin_inff();
  for (int64_t from = 0; from < width; from += part) {
    if (before) *before++ = tree_of(sums);
    const int64_t to = from + part < whole ? from + part : whole;
    for (int64_t i = from; i < to; i += PANEL) weigh_panel(x + i, splat(temperature), splat(most), w + i, &sums);
  }
  weigh_panel(last, splat(temperature), splat(most), w + whole, &sums);
  return tree_of(sums);
}
/* log of the sum of exp(x - most), for log-probabilities */
static double log_partition(const float *x, int64_t width, float most, float *w) {
  return logarithm(weigh(x, width, 1, most, w, width, 0));
}

/* ids, rising, of the elements that are at least `least` */
static int64_t at_least(const float *w, int64_t width, double least, int32_t *ids) {
  float below = (float)least;
  if ((double)below > least) below = below - below * 0x1p-20f; /* only what is positive gets here inexact */
  int64_t n = 0;
  for (int64_t i = 0; i < width; i += PANEL) {
    i32v any = (i32v){0};
    UNROLL for (int v = 0; v < NV; v++) any = any | (load(w + i + LANES * v) >= splat(below));
    if (!any_of(any)) continue;
    for (int64_t j = i; j < i + PANEL && j < width; j++)
      if ((double)w[j] >= least) ids[n++] = (int32_t)j;
  }
  return n;
}
INLINE double mass(const float *w, const int32_t *ids, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum = sum + (double)w[ids[i]];
  return sum;
}
/* ids, rising, of the k largest x / temperature, lower ids first at the border; in w the weights of these */
static int64_t likeliest(const struct choice *c, const float *x, float *w, int32_t *ids) {
  for (int64_t i = 0; i < c->width; i++) w[i] = x[i] / c->temperature;
  top(w, c->width, c->top_k, ids);
  const int32_t last = ids[c->top_k - 1];
  const float border = w[last], most = c->most / c->temperature;
  const int64_t found = at_least(w, c->width, (double)border, ids);
  int64_t n = 0;
  for (int64_t i = 0; i < found; i++)
    if (w[ids[i]] > border || ids[i] <= last) ids[n++] = ids[i];
  for (int64_t i = 0; i < n; i++) w[ids[i]] = exp_of(splat(w[ids[i]] - most))[0];
  return n;
}

/* heap[at] sinks until it stands after none of its children: those of larger weight, or of the same and a lower id, go up */
static void sink_late(const float *w, int32_t *heap, int64_t size, int64_t at) {
  for (int64_t child; (child = 2 * at + 1) < size; at = child) {
    if (child + 1 < size && after(w, heap[child], heap[child + 1])) child++;
    if (!after(w, heap[at], heap[child])) return;
    const int32_t id = heap[at];
    heap[at] = heap[child];
    heap[child] = id;
  }
}
/* How many of n ids, put in order of falling weight, then of rising id, it takes until their sum reaches `share`; 0 if that
 * depends on less than `slack`. */
static int64_t nucleus(const float *w, int32_t *ids, int64_t n, double share, double slack) {
  double sum = 0;
  int64_t size = n;
  for (int64_t i = n / 2; i-- > 0;) sink_late(w, ids, n, i);
  while (size > 0 && sum < share - slack) { /* the first of the heap goes to its end */
    const int32_t id = ids[0];
    ids[0] = ids[--size];
    ids[size] = id;
    sink_late(w, ids, size, 0);
    sum = sum + (double)w[id];
  }
  for (int64_t i = 0, j = n - 1; i < j; i++, j--) {
    const int32_t id = ids[i];
    ids[i] = ids[j];
    ids[j] = id;
  }
  return sum >= share + slack ? n - size : 0;
}
/* the first of n ids whose cumulative weight exceeds this share of all, or the last */
static int32_t drawn(const float *w, const int32_t *ids, int64_t n, double uniform) {
  const double all = mass(w, ids, n);
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum = sum + (double)w[ids[i]];
    if (sum > uniform * all) return ids[i];
  }
  return ids[n - 1];
}
/* the first of all tokens whose cumulative weight exceeds `target`; -1 if that depends on less than `slack` */
static int64_t drawn_of_all(const float *w, int64_t width, double target, double slack, int64_t part, const double *before) {
  int64_t p = (width - 1) / part;
  while (p > 0 && before[p] > target - slack) p--;
  double sum = before[p];
  for (int64_t i = p * part; i < width; i++) {
    sum = sum + (double)w[i];
    if (sum > target - slack) return sum > target + slack ? i : -1;
  }
  return -1;
}

/* At least the ids that a nucleus takes, rising: first those of a share that makes them few. Below the smallest share nothing
 * is needed, as all that together is less than 1 - top_p. */
static int64_t enough(const struct choice *c, const float *w, double total, double slack, int32_t *ids) {
  const double smallest = (1.0 - c->top_p) / (double)c->width * 0.5;
  for (double share = 0x1p-8;; share = share * 0x1p-4) {
    const int64_t n = at_least(w, c->width, (share > smallest ? share : smallest) * total, ids);
    if (share <= smallest || mass(w, ids, n) >= c->top_p * total + slack) return n;
  }
}

/* The token, or -1: ask the definition. `w` has room for width + 16 elements, `ids` for width. */
static int64_t choose(const struct choice *c, const float *x, float *w, int32_t *ids) {
  int64_t n;
  double total = 0, slack = 0;
  if (c->top_k > MOST_KEPT && c->top_k < c->width) return -1;
  if (c->top_k > 0 && c->top_k < c->width) {
    n = likeliest(c, x, w, ids);
    total = mass(w, ids, n);
  } else {
    const int64_t part = ((c->width + PARTS - 1) / PARTS + PANEL - 1) / PANEL * PANEL;
    double before[PARTS];
    total = weigh(x, c->width, c->temperature, c->most / c->temperature, w, part, before);
    slack = total * (double)c->width * 0x1p-50; /* four such sums take part, each within width · 2^-53 of the truth */
    if (c->top_p == 1.0 && c->min_p == 0.0) return drawn_of_all(w, c->width, c->uniform * total, slack, part, before);
    n = c->top_p < 1.0 ? enough(c, w, total, slack, ids) : at_least(w, c->width, c->min_p, ids);
  }
  if (c->top_p < 1.0 && !(n = nucleus(w, ids, n, c->top_p * total, slack))) return -1;
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++)
    if ((double)w[ids[i]] >= c->min_p) ids[kept++] = ids[i]; /* the largest weight is 1 */
  return drawn(w, ids, kept, c->uniform);
}

/* y[i] = x[i] where bit i mod 32 of allowed[i / 32] is set, else -infinity */
static void mask(const float *x, int64_t width, const uint32_t *allowed, float *y) {
  int64_t i = 0;
  u32v lane;
  for (int j = 0; j < LANES; j++) lane[j] = 1u << j;
  for (; i + LANES <= width; i += LANES) {
    const uint32_t bits = allowed[i / 32] >> i % 32;
    store(y + i, pick((i32v)(((u32v)isplat((int32_t)bits) & lane) != 0), load(x + i), splat(-__builtin_inff())));
  }
  for (; i < width; i++) y[i] = allowed[i / 32] >> i % 32 & 1 ? x[i] : -__builtin_inff();
}
