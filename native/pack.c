/* Memory for weights, and the repacking of a file's rows into panels of 16 output rows (layouts: twofold.h). */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include "twofold.h"

enum { HUGE_PAGE = 2 << 20, SMALL_PAGE = 4096, LANE = 16 };
static const int64_t TOUCHED = 512 << 20, LEFT = 8 << 20; /* most that is touched ahead, and what is left in any case */

static void *take(int64_t bytes) {
  void *p = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return 0;
  if (bytes >= HUGE_PAGE) madvise(p, (size_t)bytes, MADV_HUGEPAGE);
  return p;
}
EXPORT void tf_free(void *memory, int64_t bytes) { munmap(memory, (size_t)bytes); }

/* Memory that is taken before it is asked for, while Python still loads: a page that is fresh to the system is cleared
 * when it is first touched, and one that is fresh to the host of a virtual machine costs milliseconds. What has not been
 * touched by the time it is asked for is left to the threads that fill it; and the last of it, since before the weights are
 * packed the tokenizer is made, whose pages of the file are given back by then. */
static struct { pthread_t thread; atomic_int wanted; char *memory; int64_t bytes; } ahead;

static void *touch(void *unused) {
  for (int64_t at = 0; at < ahead.bytes - LEFT && at < TOUCHED && !atomic_load_explicit(&ahead.wanted, memory_order_relaxed); at += SMALL_PAGE)
    *(volatile char *)(ahead.memory + at) = 0;
  return unused;
}
/* Begin to take `bytes` for the next tf_alloc, in a thread of its own. */
EXPORT void tf_expect(int64_t bytes) {
  if (ahead.memory || bytes <= 0 || !(ahead.memory = take(bytes))) return;
  ahead.bytes = bytes;
  atomic_store(&ahead.wanted, 0);
  if (pthread_create(&ahead.thread, 0, touch, 0)) { tf_free(ahead.memory, bytes); ahead.memory = 0; }
}

/* Zeroed memory of at least `bytes`, in huge pages where the kernel gives them; 0 if there is none. */
EXPORT void *tf_alloc(int64_t bytes) {
  char *memory = ahead.memory;
  const int64_t kept = (bytes + SMALL_PAGE - 1) / SMALL_PAGE * SMALL_PAGE;
  if (!memory) return take(bytes);
  atomic_store(&ahead.wanted, 1);
  pthread_join(ahead.thread, 0);
  ahead.memory = 0;
  if (ahead.bytes < bytes) { tf_free(memory, ahead.bytes); return take(bytes); }
  if (ahead.bytes > kept) tf_free(memory + kept, ahead.bytes - kept);
  return memory;
}

/* Bytes of 16 rows of `width`, or 0 for a format or width we do not pack. */
static int64_t panel_bytes(int32_t format, int64_t width) {
  switch (format) {
    case FORMAT_F32: return width * LANE * 4;
    case FORMAT_F16:
    case FORMAT_BF16: return width * LANE * 2;
    case FORMAT_Q4_0: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q4_0);
    case FORMAT_Q4_1: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q4_1);
    case FORMAT_Q5_0: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q5_0);
    case FORMAT_Q5_1: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q5_1);
    case FORMAT_Q8_0: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q8_0);
    case FORMAT_MXFP4: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct mxfp4);
    case FORMAT_Q4_K: return width % 256 ? 0 : width / 256 * (int64_t)sizeof(struct q4_k);
    case FORMAT_Q5_K: return width % 256 ? 0 : width / 256 * (int64_t)sizeof(struct q5_k);
    case FORMAT_Q6_K: return width % 256 ? 0 : width / 256 * (int64_t)sizeof(struct q6_k);
    default: return 0;
  }
}
/* Bytes of a packed matrix, or 0 for a format we do not pack. */
EXPORT int64_t tf_packed_bytes(int32_t format, int64_t rows, int64_t width) {
  return (rows + LANE - 1) / LANE * panel_bytes(format, width);
}

static void pack_floats(const uint8_t *row, int64_t width, int64_t size, int64_t r, uint8_t *panel) {
  for (int64_t k = 0; k < width; k++) memcpy(panel + (k * LANE + r) * size, row + k * size, (size_t)size);
}
/* 16 bytes of nibbles, element i low and element 16 + i high, as four groups of four bytes */
static void nibbles(const uint8_t *source, uint8_t (*q)[64], int64_t r) {
  for (int j = 0; j < 4; j++) memcpy(q[j] + 4 * r, source + 4 * j, 4);
}
/* 32 values of up to 4 bits, one a byte */
static void values(const uint8_t *value, uint8_t (*q)[64], int64_t r) {
  for (int i = 0; i < 16; i++) q[i / 4][4 * r + i % 4] = (uint8_t)(value[i] | value[16 + i] << 4);
}
/* bit i of `bits` is the fifth bit of element i */
static void fifth_bits(uint32_t bits, uint8_t *h, int64_t r) {
  for (int i = 0; i < 16; i++) h[4 * r + i % 4] |= (uint8_t)(((bits >> i & 1) | (bits >> (16 + i) & 1) << 1) << (i / 4 * 2));
}
/* the eight 6-bit scales and 6-bit minima of a Q4_K or Q5_K super-block, packed in 12 bytes */
static void scales_k(const uint8_t *s, uint8_t (*scale)[16], uint8_t (*least)[16], int64_t r) {
  for (int g = 0; g < 4; g++) {
    scale[g][r] = s[g] & 63;
    least[g][r] = s[4 + g] & 63;
    scale[4 + g][r] = (uint8_t)((s[8 + g] & 15) | (s[g] >> 6) << 4);
    least[4 + g][r] = (uint8_t)(s[8 + g] >> 4 | (s[4 + g] >> 6) << 4);
  }
}
/* block g of a Q4_K or Q5_K super-block: a nibble of 32 bytes that it shares with its neighbour */
static void nibbles_k(const uint8_t *source, int g, uint8_t (*q)[64], int64_t r) {
  uint8_t value[32];
  for (int i = 0; i < 32; i++) value[i] = source[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
  values(value, q, r);
}

static void pack_q4_0(const uint8_t *s, struct q4_0 *w, int64_t r) { memcpy(&w->d[r], s, 2); nibbles(s + 2, w->q, r); }
static void pack_q4_1(const uint8_t *s, struct q4_1 *w, int64_t r) {
  memcpy(&w->d[r], s, 2);
  memcpy(&w->m[r], s + 2, 2);
  nibbles(s + 4, w->q, r);
}
static void pack_q5_0(const uint8_t *s, struct q5_0 *w, int64_t r) {
  uint32_t bits;
  memcpy(&w->d[r], s, 2);
  memcpy(&bits, s + 2, 4);
  fifth_bits(bits, w->h, r);
  nibbles(s + 6, w->q, r);
}
static void pack_q5_1(const uint8_t *s, struct q5_1 *w, int64_t r) {
  uint32_t bits;
  memcpy(&w->d[r], s, 2);
  memcpy(&w->m[r], s + 2, 2);
  memcpy(&bits, s + 4, 4);
  fifth_bits(bits, w->h, r);
  nibbles(s + 8, w->q, r);
}
static void pack_q8_0(const uint8_t *s, struct q8_0 *w, int64_t r) {
  memcpy(&w->d[r], s, 2);
  for (int k = 0; k < 32; k++) w->q[k / 4][4 * r + k % 4] = (uint8_t)(s[2 + k] + 128);
}
static void pack_q4_k(const uint8_t *s, struct q4_k *w, int64_t r) {
  memcpy(&w->d[r], s, 2);
  memcpy(&w->m[r], s + 2, 2);
  scales_k(s + 4, w->scale, w->least, r);
  for (int g = 0; g < 8; g++) nibbles_k(s + 16, g, w->q[g], r);
}
static void pack_q5_k(const uint8_t *s, struct q5_k *w, int64_t r) {
  memcpy(&w->d[r], s, 2);
  memcpy(&w->m[r], s + 2, 2);
  scales_k(s + 4, w->scale, w->least, r);
  for (int g = 0; g < 8; g++) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint32_t)(s[16 + i] >> g & 1) << i;
    fifth_bits(bits, w->h[g], r);
    nibbles_k(s + 48, g, w->q[g], r);
  }
}
static void pack_q6_k(const uint8_t *s, struct q6_k *w, int64_t r) {
  const uint8_t *low = s, *high = s + 128;
  memcpy(&w->d[r], s + 208, 2);
  for (int g = 0; g < 8; g++) {
    const int half = g / 4, part = g % 4; /* each half of 128 elements lies in four runs of 32 */
    uint8_t value[32];
    for (int i = 0; i < 32; i++) {
      const int top = high[32 * half + i] >> (2 * part) & 3, c = i % 16;
      value[i] = low[64 * half + 32 * (part % 2) + i] >> (part / 2 * 4) & 15;
      w->h[g][c / 8][4 * r + c % 4] |= (uint8_t)(top << (c / 4 % 2 * 4 + i / 16 * 2));
    }
    values(value, w->q[g], r);
    for (int i = 0; i < 2; i++) w->scale[g][i][r] = (int8_t)s[192 + 2 * g + i];
  }
}
static void pack_mxfp4(const uint8_t *s, struct mxfp4 *w, int64_t r) { w->e[r] = s[0]; nibbles(s + 1, w->q, r); }

#define EACH_BLOCK(name, elements, bytes)                                                                  \
  for (int64_t g = 0; g < width / (elements); g++) pack_##name(row + (bytes) * g, (struct name *)panel + g, r); \
  break
static void pack_row(int32_t format, const uint8_t *row, int64_t width, int64_t r, void *panel) {
  switch (format) {
    case FORMAT_Q4_0: EACH_BLOCK(q4_0, 32, 18);
    case FORMAT_Q4_1: EACH_BLOCK(q4_1, 32, 20);
    case FORMAT_Q5_0: EACH_BLOCK(q5_0, 32, 22);
    case FORMAT_Q5_1: EACH_BLOCK(q5_1, 32, 24);
    case FORMAT_Q8_0: EACH_BLOCK(q8_0, 32, 34);
    case FORMAT_Q4_K: EACH_BLOCK(q4_k, 256, 144);
    case FORMAT_Q5_K: EACH_BLOCK(q5_k, 256, 176);
    case FORMAT_Q6_K: EACH_BLOCK(q6_k, 256, 210);
    case FORMAT_MXFP4: EACH_BLOCK(mxfp4, 32, 17);
    default: pack_floats(row, width, format == FORMAT_F32 ? 4 : 2, r, panel);
  }
}

/* Where the floats of a format are: in every `bytes` bytes of a row the two that hold the exponent at `first` and, if
 * not negative, at `second`. All ones in `exponent` mean NaN or infinity. */
struct floats { int64_t bytes, first, second; uint16_t exponent; };
static struct floats floats_of(int32_t format) {
  switch (format) {
    case FORMAT_F32: return (struct floats){4, 2, -1, 0x7f80};
    case FORMAT_F16: return (struct floats){2, 0, -1, 0x7c00};
    case FORMAT_BF16: return (struct floats){2, 0, -1, 0x7f80};
    case FORMAT_Q4_0: return (struct floats){18, 0, -1, 0x7c00};
    case FORMAT_Q4_1: return (struct floats){20, 0, 2, 0x7c00};
    case FORMAT_Q5_0: return (struct floats){22, 0, -1, 0x7c00};
    case FORMAT_Q5_1: return (struct floats){24, 0, 2, 0x7c00};
    case FORMAT_Q8_0: return (struct floats){34, 0, -1, 0x7c00};
    case FORMAT_Q4_K: return (struct floats){144, 0, 2, 0x7c00};
    case FORMAT_Q5_K: return (struct floats){176, 0, 2, 0x7c00};
    case FORMAT_Q6_K: return (struct floats){210, 208, -1, 0x7c00};
    default: return (struct floats){0, 0, -1, 0}; /* MXFP4: scales are powers of two */
  }
}
static int all_finite(struct floats f, const uint8_t *row, int64_t row_bytes) {
  unsigned found = 0;
  if (!f.bytes) return 1;
  for (int64_t at = 0; at < row_bytes; at += f.bytes) {
    uint16_t a, b = 0;
    memcpy(&a, row + at + f.first, 2);
    if (f.second >= 0) memcpy(&b, row + at + f.second, 2);
    found |= (a & f.exponent) == f.exponent || (b & f.exponent) == f.exponent;
  }
  return !found;
}

struct pack_call { struct pack_job *job; int64_t jobs; _Atomic int64_t next; };

enum { PIECE_BYTES = 1 << 16 }; /* of source, that a thread takes at a time: few enough to share, many enough to be rare */
static int64_t panels_of(const struct pack_job *j) { return (j->rows + LANE - 1) / LANE; }
static int64_t piece_panels(const struct pack_job *j) { return 1 + PIECE_BYTES / (LANE * j->row_bytes); }
static int64_t pieces_of(const struct pack_job *j) { return (panels_of(j) + piece_panels(j) - 1) / piece_panels(j); }

static void pack_piece(struct pack_job *j, int64_t piece) {
  const struct floats floats = floats_of(j->format);
  const int64_t bytes = panel_bytes(j->format, j->width), first = piece * piece_panels(j) * LANE;
  const int64_t last = first + piece_panels(j) * LANE < j->rows ? first + piece_panels(j) * LANE : j->rows;
  for (int64_t r = first; r < last; r++) {
    const uint8_t *row = (const uint8_t *)j->source + r * j->row_bytes;
    if (!all_finite(floats, row, j->row_bytes)) __atomic_store_n(&j->damaged, 1, __ATOMIC_RELAXED);
    pack_row(j->format, row, j->width, r % LANE, (char *)j->packed + r / LANE * bytes);
  }
}
/* Pieces are taken by whoever is free, so that a thread that another program holds up holds up nobody. */
static void run_pack(void *argument, int thread, int threads) {
  struct pack_call *c = argument;
  struct pack_job *job = c->job;
  (void)thread, (void)threads;
  for (int64_t before = 0;;) { /* pieces of the jobs in front of `job` */
    const int64_t piece = atomic_fetch_add(&c->next, 1);
    for (; job < c->job + c->jobs && piece - before >= pieces_of(job); job++) before += pieces_of(job);
    if (job == c->job + c->jobs) return;
    pack_piece(job, piece - before);
  }
}
EXPORT int32_t tf_pack(struct pool *pool, struct pack_job *job, int64_t jobs) {
  struct pack_call call = {job, jobs, 0};
  int damaged = 0;
  pool_run(pool, run_pack, &call);
  for (int64_t i = 0; i < jobs; i++) damaged |= job[i].damaged;
  return damaged;
}
