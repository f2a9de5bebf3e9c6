/* Which vector levels this processor has, best first. */
#include <string.h>
#if defined(__aarch64__) || defined(__riscv)
#include <sys/auxv.h>
#endif
#include "twofold.h"

extern const struct level level_portable;
#if defined(__x86_64__)
extern const struct level level_sse2, level_avx2, level_avx512, level_avx512vnni;
#elif defined(__aarch64__)
extern const struct level level_neon, level_neondot;
enum { HAS_DOTPROD = 1 << 20 }; /* HWCAP_ASIMDDP of Linux */
#elif defined(__riscv)
extern const struct level level_rvv;
enum { HAS_V = 1 << ('v' - 'a') }; /* COMPAT_HWCAP_ISA_V of Linux: version 1.0 */
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
#elif defined(__aarch64__)
  if (getauxval(AT_HWCAP) & HAS_DOTPROD) found[n++] = &level_neondot;
  found[n++] = &level_neon;
#elif defined(__riscv)
  if (getauxval(AT_HWCAP) & HAS_V) found[n++] = &level_rvv;
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
struct limit_call { const struct level *level; const char *data; int64_t amount, done[MAX_THREADS]; };
static void run_read(void *argument, int thread, int threads) {
  struct limit_call *c = argument;
  const int64_t from = c->amount / threads / 4096 * 4096 * thread, each = c->amount / threads / 4096 * 4096;
  c->done[thread] = c->level->read_all(c->data + from, each);
}
static void run_multiply(void *argument, int thread, int threads) {
  struct limit_call *c = argument;
  static const int8_t x[128];
  (void)threads;
  c->done[thread] = c->level->multiply(c->amount, x);
}
/* Read `bytes` at `data` once, shared out over the threads. */
EXPORT void tf_read(struct pool *pool, const struct level *level, const char *data, int64_t bytes) {
  struct limit_call call = {level, data, bytes, {0}};
  pool_run(pool, run_read, &call);
}
/* Every thread multiplies bytes in registers for `rounds`; returns how many multiplications each did. */
EXPORT int64_t tf_multiply(struct pool *pool, const struct level *level, int64_t rounds) {
  struct limit_call call = {level, 0, rounds, {0}};
  pool_run(pool, run_multiply, &call);
  return call.done[0];
}
EXPORT void tf_exponential(const struct level *level, const float *x, int64_t width, float *y) { level->exponential(x, width, y); }
EXPORT double tf_log_partition(const struct level *level, const float *x, int64_t width, float most, float *w) {
  return level->log_partition(x, width, most, w);
}
EXPORT int64_t tf_choose(const struct level *level, const struct choice *c, const float *x, float *w, int32_t *ids) {
  return level->choose(c, x, w, ids);
}
EXPORT void tf_top(const struct level *level, const float *x, int64_t width, int64_t k, int32_t *ids) { level->top(x, width, k, ids); }
EXPORT void tf_mask(const struct level *level, const float *x, int64_t width, const uint32_t *allowed, float *y) {
  level->mask(x, width, allowed, y);
}
