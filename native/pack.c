/* Memory for weights, and the repacking of a file's rows into panels of 16 output rows (layouts: twofold.h). */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include "twofold.h"

enum { HUGE_PAGE = 2 << 20, LANE = 16 };

/* Zeroed memory of at least `bytes`, in huge pages where the kernel gives them; 0 if there is none. */
EXPORT void *tf_alloc(int64_t bytes) {
  void *p = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return 0;
  if (bytes >= HUGE_PAGE) madvise(p, (size_t)bytes, MADV_HUGEPAGE);
  return p;
}
EXPORT void tf_free(void *memory, int64_t bytes) { munmap(memory, (size_t)bytes); }

/* Bytes of 16 rows of `width`, or 0 for a format or width we do not pack. */
static int64_t panel_bytes(int32_t format, int64_t width) {
  switch (format) {
    case FORMAT_F32: return width * LANE * 4;
    case FORMAT_F16:
    case FORMAT_BF16: return width * LANE * 2;
    case FORMAT_Q4_0: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q4_0);
    case FORMAT_Q4_1: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q4_1);
    case FORMAT_Q8_0: return width % 32 ? 0 : width / 32 * (int64_t)sizeof(struct q8_0);
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
static void nibbles(const uint8_t *source, uint8_t (*q)[64], int64_t r) {
  for (int j = 0; j < 4; j++) memcpy(q[j] + 4 * r, source + 4 * j, 4);
}
static void pack_row(int32_t format, const uint8_t *row, int64_t width, int64_t r, void *panel) {
  struct q4_0 *q40 = panel;
  struct q4_1 *q41 = panel;
  struct q8_0 *q80 = panel;
  for (int64_t g = 0; g < width / 32; g++) {
    if (format == FORMAT_Q4_0) {
      memcpy(&q40[g].d[r], row + 18 * g, 2);
      nibbles(row + 18 * g + 2, q40[g].q, r);
    } else if (format == FORMAT_Q4_1) {
      memcpy(&q41[g].d[r], row + 20 * g, 2);
      memcpy(&q41[g].m[r], row + 20 * g + 2, 2);
      nibbles(row + 20 * g + 4, q41[g].q, r);
    } else {
      memcpy(&q80[g].d[r], row + 34 * g, 2);
      for (int k = 0; k < 32; k++) q80[g].q[k / 4][4 * r + k % 4] = (uint8_t)(row[34 * g + 2 + k] + 128);
    }
  }
}

struct pack_call {
  int32_t format;
  const uint8_t *source;
  int64_t rows, width, row_bytes;
  char *packed;
};
static void run_pack(void *argument, int thread, int threads) {
  const struct pack_call *c = argument;
  const int64_t panels = (c->rows + LANE - 1) / LANE, bytes = panel_bytes(c->format, c->width);
  const int64_t element = c->format == FORMAT_F32 ? 4 : 2;
  for (int64_t p = panels * thread / threads; p < panels * (thread + 1) / threads; p++)
    for (int64_t r = 0; r < LANE && p * LANE + r < c->rows; r++) {
      const uint8_t *row = c->source + (p * LANE + r) * c->row_bytes;
      if (c->format == FORMAT_F32 || c->format == FORMAT_F16 || c->format == FORMAT_BF16)
        pack_floats(row, c->width, element, r, (uint8_t *)c->packed + p * bytes);
      else
        pack_row(c->format, row, c->width, r, c->packed + p * bytes);
    }
}
/* Repack rows · width of `format`, `row_bytes` a row, into zeroed memory of tf_packed_bytes. */
EXPORT void tf_pack(struct pool *pool, int32_t format, const void *source, int64_t rows, int64_t width, int64_t row_bytes, void *packed) {
  struct pack_call call = {format, source, rows, width, row_bytes, packed};
  pool_run(pool, run_pack, &call);
}
