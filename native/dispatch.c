/* Which vector levels this processor has, best first. */
#include <string.h>
#include "twofold.h"

extern const struct level level_portable;
#if defined(__x86_64__)
extern const struct level level_sse2, level_avx2, level_avx512, level_avx512vnni;
#endif

/* The levels that run here, best first; returns how many. */
static int levels(const struct level *found[8]) {
  int n = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) found[n++] = &level_avx512vnni;
  if (avx512) found[n++] = &level_avx512;
  if (avx2) found[n++] = &level_avx2;
  found[n++] = &level_sse2;
#endif
  found[n++] = &level_portable;
  return n;
}

/* Name of the i-th level, best first, or 0 past the last. */
EXPORT const char *tf_level_name(int i) {
  const struct level *found[8];
  return i >= 0 && i < levels(found) ? found[i]->name : 0;
}
/* The level of that name if this processor has it, else 0. */
EXPORT const struct level *tf_level(const char *name) {
  const struct level *found[8];
  const int n = levels(found);
  for (int i = 0; i < n; i++) if (!strcmp(found[i]->name, name)) return found[i];
  return 0;
}
EXPORT void tf_exponential(const struct level *level, const float *x, int64_t width, float *y) { level->exponential(x, width, y); }
