/* What the programs of this folder share: inputs from an integer generator, and hashes of what is made of them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;
static uint32_t draw(void) { /* SplitMix64 */
  uint64_t x = state += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return (uint32_t)(x >> 32);
}
/* zero, subnormal, and normal halves below 8 */
static uint16_t half(void) { const uint32_t r = draw(); return (uint16_t)((r & 0x83ff) | (r >> 16) % 18 << 10); }
static void halves(uint16_t *x, int64_t n) { for (int64_t i = 0; i < n; i++) x[i] = half(); }

static const uint64_t EMPTY = 0xcbf29ce484222325u; /* FNV-1a */
static uint64_t hashed(uint64_t hash, const void *data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
  return hash;
}
static void *room(int64_t bytes) {
  void *p = aligned_alloc(64, (size_t)(bytes + 127) / 64 * 64);
  if (!p) abort();
  return memset(p, 0, (size_t)(bytes + 127) / 64 * 64);
}
