/* Which experts a row goes to, and what each weighs: one row at a time. */
#include <string.h>
#include "elementary.h"
#include "simd.h"
#include "twofold.h"

/* y = 1 / (exp(-x) + 1), or e^(x - most): of `width` values, in room for whole vectors */
static void scored(const float *x, int64_t width, int sigmoid, float most, float *y) {
  memcpy(y, x, 4 * (size_t)width);
  for (int64_t k = width; k % LANES; k++) y[k] = 0;
  for (int64_t k = 0; k < width; k += LANES) {
    const f32v v = load(y + k);
    store(y + k, sigmoid ? splat(1.0f) / (exp_of(-v) + 1.0f) : exp_of(v - splat(most)));
  }
}
static float number(float x) { return x == x ? x : -__builtin_inff(); }

/* where the largest value stands that was not taken yet, the first among equals */
static int64_t largest_left(const float *x, const char *taken, int64_t width) {
  int64_t best = -1;
  for (int64_t i = 0; i < width; i++)
    if (!taken[i] && (best < 0 || x[i] > x[best])) best = i;
  return best;
}
/* takes what is not in the `kept` groups whose best two have the largest sum */
static void leave_groups(const float *x, int64_t width, const struct chosen *how, char *taken) {
  const int64_t size = width / how->groups;
  float sum[MAX_EXPERTS];
  char chosen[MAX_EXPERTS] = {0};
  for (int64_t g = 0; g < how->groups; g++) {
    float first = -__builtin_inff(), second = first;
    for (const float *v = x + g * size; v < x + (g + 1) * size; v++) {
      if (*v > first) { second = first; first = *v; }
      else if (*v > second) second = *v;
    }
    sum[g] = number(first + second);
  }
  for (int i = 0; i < how->kept; i++) chosen[largest_left(sum, chosen, how->groups)] = 1;
  for (int64_t i = 0; i < width; i++) taken[i] = !chosen[i / size];
}
static void route(const float *x, const float *bias, int64_t width, const struct chosen *how, int64_t k, int32_t *ids) {
  float value[MAX_EXPERTS + LANES];
  char taken[MAX_EXPERTS] = {0}, picked[MAX_EXPERTS] = {0};
  if (how->sigmoid) scored(x, width, 1, 0, value);
  else memcpy(value, x, 4 * (size_t)width);
  for (int64_t i = 0; i < width; i++) value[i] = number(bias ? value[i] + bias[i] : value[i]);
  if (how->groups > 1) leave_groups(value, width, how, taken);
  for (int64_t i = 0; i < k; i++) {
    const int64_t best = largest_left(value, taken, width);
    taken[best] = picked[best] = 1;
  }
  for (int64_t i = 0; i < width; i++) if (picked[i]) *ids++ = (int32_t)i;
}
/* ids may lie in memory that a client shares and changes meanwhile: one that is no expert reads nothing */
static float of(const float *x, int64_t width, int32_t id) { return id >= 0 && id < width ? x[id] : 0; }
static void shares(const float *x, int64_t width, const int32_t *ids, int64_t k, const struct chosen *how, float scale, float *y) {
  float weight[MAX_EXPERTS + LANES], most = -__builtin_inff(), total = 0;
  if (how->normalised) { for (int64_t i = 0; i < k; i++) if (of(x, width, ids[i]) > most) most = of(x, width, ids[i]); }
  else { for (int64_t i = 0; i < width; i++) if (x[i] > most) most = x[i]; }
  scored(x, width, how->sigmoid, most, weight);
  if (how->normalised) { for (int64_t i = 0; i < k; i++) total = total + of(weight, width, ids[i]); }
  else if (how->sigmoid) { total = 1; }
  else { for (int64_t i = 0; i < width; i++) total = total + weight[i]; }
  for (int64_t i = 0; i < k; i++) y[i] = ids[i] >= 0 && ids[i] < width ? weight[ids[i]] / total * scale : 0;
}
static void mix(const float *x, float share, int64_t width, float *y) {
  for (int64_t k = 0; k < width; k += LANES) store(y + k, load(y + k) + load(x + k) * share);
}
