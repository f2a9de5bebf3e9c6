/* What this processor can do at most: reading memory, and multiplying bytes in registers. Benchmarks state their
 * figures as shares of these. */
#include "simd.h"
#include "twofold.h"

#if defined(__x86_64__) && LANES == 16
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__x86_64__)
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#else
#define KEEP(v) __asm__ volatile("" : "+m"(v))
#endif

/* reads every byte once; the result only keeps the compiler from leaving the reading out */
static int64_t read_all(const char *data, int64_t bytes) {
  enum { STREAMS = 4 };
  u8v sum[STREAMS];
  for (int i = 0; i < STREAMS; i++) sum[i] = (u8v){0};
  for (int64_t at = 0; at + STREAMS * (int64_t)sizeof(u8v) <= bytes; at += STREAMS * (int64_t)sizeof(u8v))
    UNROLL for (int i = 0; i < STREAMS; i++) sum[i] = sum[i] ^ load_bytes(data + at + i * (int64_t)sizeof(u8v));
  const u8v all = (sum[0] ^ sum[1]) ^ (sum[2] ^ sum[3]);
  return all[0] + all[LANES];
}

/* `rounds` times a block of 32 columns for GROUP rows and 16 lanes, all in registers; returns multiplications done */
NOINLINE int64_t multiply(int64_t rounds, const int8_t *x) {
  i32v sum[GROUP];
  u8v w = load_bytes(x);
  for (int n = 0; n < GROUP; n++) sum[n] = (i32v){0};
  for (int64_t r = 0; r < rounds; r++) {
    UNROLL for (int j = 0; j < 8 * NV; j++) {
      UNROLL for (int n = 0; n < GROUP; n++) sum[n] = dot_u7(sum[n], w, splat4(x + 4 * n));
      KEEP(w); /* each step is new to the compiler, so nothing is hoisted */
    }
  }
  i32v all = sum[0];
  for (int n = 1; n < GROUP; n++) all = all + sum[n];
  return rounds * 32 * PANEL * GROUP + (all[0] == 12345);
}
