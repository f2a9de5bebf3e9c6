/* A session that is kept on one processor and goes on at another: `moved keep FILE` feeds it its first positions and writes
 * its pages, `moved go-on FILE` reads them into other places and feeds the rest, `moved` does all without stopping. The last
 * two print lines `level moved hash` of what the rest gave, for every level (test_moved_contexts.py). */
#include <stdio.h>
#include "inputs.h"
#include "twofold.h"

enum { KEPT = 100, ALL = 150, AT_ONCE = 10, PAGES = 3, PLACES = 5 };
static const struct attention shape = {6, 2, 64, 0, 0, 0, 0.125f, 0, 1, 64};
static const int32_t here[PAGES] = {4, 0, 2}, there[PAGES] = {1, 3, 0};
enum { WIDTH = 6 * 64, KV = 2 * 64, PAGE_BYTES = PAGE * KV * 2 * 2 };

static int copy(const char *file, const char *mode, char *pool, const int32_t *places) {
  FILE *f = fopen(file, mode);
  int whole = f != 0;
  for (int64_t i = 0; whole && i * PAGE < KEPT; i++) {
    char *page = pool + places[i] * PAGE_BYTES;
    whole = (*mode == 'w' ? fwrite(page, PAGE_BYTES, 1, f) : fread(page, PAGE_BYTES, 1, f)) == 1;
  }
  return f && !fclose(f) && whole;
}

/* what positions KEPT .. ALL - 1 give; `keep`: stop before them and write the file; `file`: begin with them, from the file */
static uint64_t fed(const struct level *level, struct pool *threads, int keep, const char *file) {
  static uint16_t q[AT_ONCE * WIDTH], k[AT_ONCE * KV], v[AT_ONCE * KV], attended[AT_ONCE * WIDTH];
  static float frequency[32], cosine[AT_ONCE * 64], sine[AT_ONCE * 64], rotated[AT_ONCE * WIDTH];
  const int32_t *places = file && !keep ? there : here, *table[AT_ONCE];
  int64_t position[AT_ONCE];
  const int64_t floats = tf_context_scratch(level, &shape, 2, PAGES);
  char *pool = room(PLACES * PAGE_BYTES);
  float *scratch = room(floats * 4);
  state = EMPTY;
  for (int i = 0; i < 32; i++) frequency[i] = (float)(1 + draw() % 65535) * 0x1p-16f;
  if (file && !keep && !copy(file, "rb", pool, places)) exit(2);
  uint64_t hash = EMPTY;
  for (int64_t done = 0; done < (keep ? KEPT : ALL); done += AT_ONCE) {
    halves(q, AT_ONCE * WIDTH), halves(k, AT_ONCE * KV), halves(v, AT_ONCE * KV);
    if (file && !keep && done < KEPT) continue; /* its pages are there */
    for (int64_t i = 0; i < AT_ONCE; i++) position[i] = done + i, table[i] = places;
    tf_rotary(&(struct rotary){frequency, 32, 1, 1}, position, AT_ONCE, cosine, sine);
    const struct attend_call rows = {AT_ONCE, position, table, pool, PAGE_BYTES, cosine, sine, q, k, v, attended, rotated};
    tf_context(&(struct context_call){threads, level, &shape, &rows, 2, scratch, floats});
    if (done >= KEPT) hash = hashed(hash, attended, sizeof attended);
  }
  if (keep && !copy(file, "wb", pool, places)) exit(2);
  free(pool), free(scratch);
  return hash;
}

int main(int count, char **argument) {
  struct pool *threads = tf_pool_new(2);
  const char *name, *file = count == 3 ? argument[2] : 0;
  const int keep = file && !strcmp(argument[1], "keep");
  if (!threads) return 1;
  for (int i = 0; (name = tf_level_name(i)) && !(keep && i); i++) {
    const uint64_t hash = fed(tf_level(name), threads, keep, file);
    if (!keep) printf("%s moved %016llx\n", name, (unsigned long long)hash);
  }
  tf_pool_free(threads);
  return 0;
}
