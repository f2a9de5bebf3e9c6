/* Packed weights from and to a file: read by all threads, chunk by chunk, each summed while it is in the cache. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "twofold.h"

enum { CHUNK = 1 << 20, LANES_64 = 8 };

/* A sum that every changed word changes: eight lanes of 64 bits, (h xor word) · odd, which loses nothing. `bytes` is a
 * multiple of 64. It guards against damage, not against forgery. */
static uint64_t sum_of(const char *data, int64_t bytes) {
  uint64_t h[LANES_64], all = 0, word[LANES_64];
  for (int i = 0; i < LANES_64; i++) h[i] = 0x9E3779B97F4A7C15u + (uint64_t)i;
  for (int64_t at = 0; at < bytes; at += LANES_64 * 8) {
    memcpy(word, data + at, sizeof word);
    for (int i = 0; i < LANES_64; i++) {
      h[i] = (h[i] ^ word[i]) * 0xD6E8FEB86659FD93u;
      h[i] ^= h[i] >> 32;
    }
  }
  for (int i = 0; i < LANES_64; i++) all = (all ^ h[i]) * 0xD6E8FEB86659FD93u;
  return all;
}

struct chunk_call {
  int file;
  int64_t offset, bytes;
  char *memory;
  uint64_t *sum;
  atomic_int failed;
};
static int read_chunk(const struct chunk_call *c, int64_t at, int64_t bytes) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n = pread(c->file, c->memory + at + done, (size_t)(bytes - done), c->offset + at + done);
    if (n <= 0) return 0;
    done += n;
  }
  return 1;
}
static void run_chunks(void *argument, int thread, int threads) {
  struct chunk_call *c = argument;
  const int64_t chunks = (c->bytes + CHUNK - 1) / CHUNK;
  for (int64_t i = chunks * thread / threads; i < chunks * (thread + 1) / threads; i++) {
    const int64_t at = i * CHUNK, bytes = c->bytes - at < CHUNK ? c->bytes - at : CHUNK;
    if (c->file >= 0 && !read_chunk(c, at, bytes)) { atomic_store(&c->failed, 1); return; }
    c->sum[i] = sum_of(c->memory + at, bytes);
  }
}
/* The sum of every 1 MiB of `memory`, which is first filled from `file` at `offset` unless file is -1. `bytes` is a
 * multiple of 64. Returns 0, or 1 if the file could not be read or is too short. */
EXPORT int32_t tf_chunk_sums(struct pool *pool, int32_t file, int64_t offset, char *memory, int64_t bytes, uint64_t *sum) {
  struct chunk_call call = {file, offset, bytes, memory, sum, 0};
  pool_run(pool, run_chunks, &call);
  return atomic_load(&call.failed);
}
