/* What every operation makes of fixed inputs, as hashes: lines `level case hash`, for every vector level that this
 * processor has; `any` is work that knows no level. Equal bits on two processors are equal lines (test_other_processors.py).
 *
 * Inputs come from an integer generator that starts anew with each case; floats are integers times powers of two, or
 * bit patterns, so that making them rounds nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "inputs.h"
#include "twofold.h"

static float from_bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static float number(float unit) { return (float)((int32_t)(draw() % 65536) - 32768) * unit; }
static void numbers(float *x, int64_t n, float unit) { for (int64_t i = 0; i < n; i++) x[i] = number(unit); }

static struct pool *one, *three;
static const struct level *level; /* 0: any */
static void begin(const char *name) { state = hashed(EMPTY, name, (int64_t)strlen(name)); }
static void say(const char *name, uint64_t hash) { printf("%s %s %016llx\n", level ? level->name : "any", name, (unsigned long long)hash); }

/* ---- weights */
struct kind { const char *name; int32_t format, block, bytes, halves_at[2], zero; };
static const struct kind kinds[] = {
    {"f32", FORMAT_F32, 1, 4, {-1, -1}},      {"f16", FORMAT_F16, 1, 2, {0, -1}},       {"bf16", FORMAT_BF16, 1, 2, {-1, -1}},
    {"q4_0", FORMAT_Q4_0, 32, 18, {0, -1}, 8},   {"q4_1", FORMAT_Q4_1, 32, 20, {0, 2}},    {"q5_0", FORMAT_Q5_0, 32, 22, {0, -1}, 16},
    {"q5_1", FORMAT_Q5_1, 32, 24, {0, 2}},    {"q8_0", FORMAT_Q8_0, 32, 34, {0, -1}, 128},   {"q4_k", FORMAT_Q4_K, 256, 144, {0, 2}},
    {"q5_k", FORMAT_Q5_K, 256, 176, {0, 2}},  {"q6_k", FORMAT_Q6_K, 256, 210, {208, -1}, 32}, {"mxfp4", FORMAT_MXFP4, 32, 17, {-1, -1}, 12},
};
enum { KINDS = sizeof kinds / sizeof *kinds };
static const struct kind *kind_of(int32_t format) {
  for (int i = 0; i < KINDS; i++) if (kinds[i].format == format) return &kinds[i];
  abort();
}
/* one block: any bytes, or all `same`, with scales that are finite */
static void fill_block(const struct kind *k, uint8_t *block, int same) {
  for (int i = 0; i < k->bytes; i++) block[i] = (uint8_t)(same < 0 ? draw() : (uint32_t)same);
  for (int i = 0; i < 2; i++)
    if (k->halves_at[i] >= 0) { const uint16_t h = half(); memcpy(block + k->halves_at[i], &h, 2); }
  if (k->format == FORMAT_F32) { const float f = number(0x1p-14f); memcpy(block, &f, 4); }
  if (k->format == FORMAT_BF16) { const uint32_t r = draw(); const uint16_t b = (uint16_t)((r & 0x807f) | (108 + (r >> 16) % 20) << 7); memcpy(block, &b, 2); }
  if (k->format == FORMAT_MXFP4) block[0] = (uint8_t)(draw() % 4 ? 112 + draw() % 20 : draw() % 3);
}
/* rows 5, 6 and 7 hold the extremes of the integers */
static struct matrix weights(int32_t format, int64_t rows, int64_t width, struct pool *pool) {
  const struct kind *k = kind_of(format);
  const int64_t row_bytes = width / k->block * k->bytes;
  uint8_t *source = room(rows * row_bytes), *packed = room(tf_packed_bytes(format, rows, width));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t b = 0; b < width / k->block; b++)
      fill_block(k, source + r * row_bytes + b * k->bytes, r == 5 ? 0x80 : r == 6 ? 0xff : r == 7 ? 0x7f : -1);
  tf_pack(pool, &(struct pack_job){source, packed, rows, width, row_bytes, format, 0}, 1);
  free(source);
  return (struct matrix){rows, width, packed, format, 0};
}
static void drop(struct matrix w) { free((void *)(uintptr_t)w.data); }

/* ---- weight memory: segments of steps, everything in scratch but what is said to be a plane */
enum { MOST_ROWS = 13, MOST_STEPS = 24, FINE = 1 };
struct program { struct step step[MOST_STEPS]; int64_t steps; };
static struct value *scratch(int64_t width) {
  struct value *v = room(sizeof *v);
  *v = (struct value){-1, width, room(MOST_ROWS * width * 4), room(MOST_ROWS * (width / 32 + 1) * (int64_t)sizeof(struct scale)), 0};
  return v;
}
/* used up by the steps of the group that makes it, of three threads at most */
static struct value *passing(int64_t width) {
  enum { BYTES = MOST_ROWS * PART * UNIT * 4 };
  struct value *v = room(sizeof *v);
  *v = (struct value){-1, width, room(3 * BYTES), 0, BYTES};
  return v;
}
static struct value *plane(int64_t *offset, int64_t width, int64_t element_bytes) {
  struct value *v = room(sizeof *v);
  *v = (struct value){*offset, width, 0, 0, 0};
  *offset += (MOST_ROWS * width * element_bytes + 63) / 64 * 64;
  return v;
}
static void release(struct value *v) { free(v->scratch); free(v->scale); free(v); }
/* whoever needs more than the columns that its own thread has just made, in the same group of steps, waits */
static struct step *then(struct program *p, enum step_kind kind, const struct value *a, const struct value *b, const struct value *out) {
  struct step *s = &p->step[p->steps++];
  const int whole_rows = kind == STEP_EMBED || kind == STEP_RMS_NORM || kind == STEP_LAYER_NORM || kind == STEP_TOP || kind == STEP_LOG_SUM_EXP ||
                         kind == STEP_ROUTE || kind == STEP_SHARES;
  *s = (struct step){.kind = kind, .a = a, .b = b, .out = out, .columns = !whole_rows};
  s->waits = kind == STEP_LINEAR || !s->columns || (p->steps > 1 && (!s[-1].columns || s[-1].out->width != out->width));
  return s;
}
static void then_round(struct program *p, const struct value *x, const struct value *out, int fine, int zero) {
  struct step *s = then(p, STEP_QUANTISE, x, 0, out);
  s->fine = fine, s->zero = zero;
}
static void run(const struct program *p, struct pool *pool, void *rows, int64_t count) {
  struct segment_call call = {pool, level, p->step, p->steps, rows, count};
  tf_segment(&call);
}

static void say_linear(const struct kind *k, int fine) {
  enum { OUT = 37, IN = 256 };
  char name[64];
  snprintf(name, sizeof name, "linear_%s_%s", k->name, k->block == 1 ? "float" : fine ? "fine" : "coarse");
  begin(name);
  const struct matrix w = weights(k->format, OUT, IN, one);
  struct value *x = scratch(IN), *whole = scratch(IN), *y = scratch(OUT);
  numbers((float *)x->scratch, MOST_ROWS * IN, 0x1p-13f);
  for (int i = 0; i < IN; i++) ((float *)x->scratch)[3 * IN + i] = i % 32 ? 128.0f + 256.0f * (float)(i % 32) : 32512.0f; /* low bytes of -128 */
  struct program p = {.steps = 0};
  if (k->block > 1) then_round(&p, x, whole, fine, k->zero);
  struct step *s = then(&p, STEP_LINEAR, k->block > 1 ? whole : x, 0, y);
  s->weight = w, s->fine = fine;
  uint64_t hash = EMPTY;
  for (int64_t n = 1; n <= MOST_ROWS; n++) {
    run(&p, n % 2 ? one : three, 0, n);
    hash = hashed(hash, y->scratch, n * OUT * 4);
  }
  say(name, hash);
  release(x), release(whole), release(y), drop(w);
}

static void say_embed(const struct kind *k) {
  enum { IDS = 37, WIDTH = 256 };
  char name[64];
  snprintf(name, sizeof name, "embed_%s", k->name);
  begin(name);
  const struct matrix w = weights(k->format, IDS, WIDTH, one);
  struct value *id = scratch(1), *y = scratch(WIDTH);
  struct program p = {.steps = 0};
  then(&p, STEP_EMBED, id, 0, y)->weight = w;
  uint64_t hash = EMPTY;
  for (int32_t i = -1; i <= IDS; i++) {
    memcpy(id->scratch, &i, 4);
    run(&p, one, 0, 1);
    hash = hashed(hash, y->scratch, WIDTH * 4);
  }
  say(name, hash);
  release(id), release(y), drop(w);
}

/* an operation on one row of `a` (and `b`), hashed whole: values, then the scales of integers */
static void say_row(const char *name, enum step_kind kind, int fine, const void *a, int64_t width, int64_t result_bytes) {
  struct value *x = scratch(width), *z = scratch(width), *y = scratch(width);
  float *norm = room(width * 4);
  numbers(norm, width, 0x1p-15f);
  numbers((float *)z->scratch, width, 0x1p-14f);
  memcpy(x->scratch, a, (size_t)width * (kind == STEP_WIDEN ? 2 : 4));
  struct program p = {.steps = 0};
  struct step *s = then(&p, kind, x, z, y);
  s->weight = (struct matrix){1, width, norm, FORMAT_F32, 0}, s->constant = kind == STEP_CLAMPED_SWIGLU ? 1.5f : 0x1p-17f, s->slope = 1.75f, s->fine = fine, s->zero = -1;
  run(&p, one, 0, 1);
  uint64_t hash = hashed(EMPTY, y->scratch, width * result_bytes);
  if (kind == STEP_QUANTISE) hash = hashed(hash, y->scale, width / 32 * (int64_t)sizeof(struct scale));
  say(name, hash);
  release(x), release(z), release(y), free(norm);
}
static void say_rows(void) {
  enum { WIDTH = 576, HALVES = 63488 };
  float *x = room(HALVES * 4);
  begin("numbers");
  numbers(x, WIDTH, 0x1p-12f);
  for (int i = 64; i < 96; i++) x[i] = i % 2 ? 0.0f : -0.0f;            /* a block of zeros, */
  for (int i = 96; i < 128; i++) x[i] = number(0x1p-140f);              /* one below 2^-100, */
  for (int i = 128; i < 160; i++) x[i] = (float)(i - 144) + 0.5f;       /* and one of ties: 127 / 127 = 1 */
  x[128] = 127.0f;
  say_row("rms_norm", STEP_RMS_NORM, 0, x, WIDTH, 4);
  say_row("quantise_coarse", STEP_QUANTISE, 0, x, WIDTH, 1);
  say_row("quantise_fine", STEP_QUANTISE, FINE, x, WIDTH, 2);
  say_row("swiglu", STEP_SWIGLU, 0, x, WIDTH, 4);
  say_row("add", STEP_ADD, 0, x, WIDTH, 4);
  uint16_t *h = room(HALVES * 2);
  for (uint32_t i = 0, n = 0; i < 65536; i++) if ((i & 0x7c00) != 0x7c00) h[n++] = (uint16_t)i;
  say_row("widen", STEP_WIDEN, 0, h, HALVES, 4); /* every finite half */
  for (int i = 0; i < HALVES; i++) {             /* from 0 over subnormal halves and ties to what overflows */
    static const uint32_t tails[] = {0x0fff, 0x1000, 0x1001, 0x3000};
    const uint32_t r = draw(), exponent = i % 50 ? 96 + (uint32_t)i % 50 : 0;
    x[i] = from_bits((r & 0x80000000u) | exponent << 23 | (r & 0x7fe000u) | (r & 1 ? tails[r >> 1 & 3] : draw() & 0x1fffu));
  }
  say_row("narrow", STEP_NARROW, 0, x, HALVES, 2);
  numbers(x, WIDTH, 0x1p-12f);
  say_row("layer_norm", STEP_LAYER_NORM, 0, x, WIDTH, 4);
  say_row("bias", STEP_BIAS, 0, x, WIDTH, 4);
  say_row("geglu", STEP_GEGLU, 0, x, WIDTH, 4);
  say_row("scale", STEP_SCALE, 0, x, WIDTH, 4);
  say_row("clamped_swiglu", STEP_CLAMPED_SWIGLU, 0, x, WIDTH, 4);
  say_row("top", STEP_TOP, 0, x, WIDTH, 4); /* all of them, in order */
  say_row("log_sum_exp", STEP_LOG_SUM_EXP, 0, x, WIDTH, 4);
  say_row("scale", STEP_SCALE, 0, x, WIDTH, 4);
  free(x), free(h);
}
/* which experts rows go to, and what those weigh, in the four ways */
static void say_routes(void) {
  enum { EXPERTS = 60, CHOSEN = 5, ROWS = 9 };
  struct value *x = scratch(EXPERTS), *ids = scratch(CHOSEN), *y = scratch(CHOSEN);
  float *bias = room(EXPERTS * 4);
  uint64_t hash = EMPTY;
  begin("routes");
  numbers((float *)x->scratch, ROWS * EXPERTS, 0x1p-13f);
  numbers(bias, EXPERTS, 0x1p-16f);
  ((float *)x->scratch)[3] = ((float *)x->scratch)[40] = 7.0f;                             /* a tie, */
  ((float *)x->scratch)[EXPERTS] = __builtin_nanf("");                                     /* what is no number, */
  for (int i = 0; i < EXPERTS; i++) ((float *)x->scratch)[2 * EXPERTS + i] = i % 7 - 3.0f; /* and many ties */
  for (int way = 0; way < 4; way++) {
    struct program p = {.steps = 0};
    struct step *s = then(&p, STEP_ROUTE, x, 0, ids);
    s->chosen = (struct chosen){way & 1, 1, way & 2 ? 6 : 1, way & 2 ? 2 : 1};
    if (way & 1) s->weight = (struct matrix){1, EXPERTS, bias, FORMAT_F32, 0};
    s = then(&p, STEP_SHARES, x, ids, y);
    s->chosen = (struct chosen){way & 1, way >> 1, 1, 1}, s->constant = 2.5f;
    run(&p, three, 0, ROWS);
    hash = hashed(hashed(hash, ids->scratch, ROWS * CHOSEN * 4), y->scratch, ROWS * CHOSEN * 4);
  }
  say("routes", hash);
  release(x), release(ids), release(y), free(bias);
}
static void say_exponential(void) {
  enum { WIDTH = 4096 };
  static const float edges[] = {0.0f, -0.0f, 88.0f, 88.00001f, 87.99999f, 1e30f, -86.0f, -86.00001f, -85.99999f, -87.5f, -1e30f,
                                0x1p-149f, -0x1p-149f, 0x1p-24f, 0.34657359f, -0.34657359f, 1.0f, -1.0f};
  float *x = room(WIDTH * 4), *y = room(WIDTH * 4);
  begin("exponential");
  numbers(x, WIDTH, 0x1p-8f);
  memcpy(x, edges, sizeof edges);
  x[100] = -__builtin_inff(); /* a score past the last position */
  tf_exponential(level, x, WIDTH, y);
  say("exponential", hashed(EMPTY, y, WIDTH * 4));
  free(x), free(y);
}

static void say_choice(void) {
  enum { WIDTH = 1003, TIMES = 50 };
  static const struct choice ways[] = {{WIDTH, 0, 1.0, 0, 0, 0.75f, 0}, {WIDTH, 0, 0.9, 0, 0, 1.25f, 0}, {WIDTH, 40, 1.0, 0, 0, 1.0f, 0},
                                       {WIDTH, 0, 1.0, 0.05, 0, 1.0f, 0}, {WIDTH, 100, 0.75, 0.01, 0, 2.0f, 0}};
  float *x = room(WIDTH * 4), *w = room((WIDTH + 16) * 4);
  int32_t *ids = room(WIDTH * 4);
  uint64_t hash = EMPTY;
  begin("choice");
  numbers(x, WIDTH, 0x1p-12f);
  x[500] = 8.5f; /* the largest */
  for (int i = 0; i < TIMES; i++) {
    struct choice c = ways[i % 5];
    c.uniform = (double)draw() * 0x1p-32, c.most = x[500];
    const int64_t token = tf_choose(level, &c, x, w, ids);
    hash = hashed(hash, &token, sizeof token);
  }
  say("choice", hash);
  const double all = tf_log_partition(level, x, WIDTH, x[500], w);
  say("log_partition", hashed(EMPTY, &all, sizeof all));
  free(x), free(w), free(ids);
}

/* a layer's end and the next one's beginning, planes as in a model, and the whole rows hashed */
static void linear_step(struct program *p, int32_t format, int fine, const struct value *x, const struct value *out) {
  struct value *whole = scratch(x->width);
  then_round(p, x, whole, fine, kind_of(format)->zero);
  struct step *s = then(p, STEP_LINEAR, whole, 0, out);
  s->weight = weights(format, out->width, x->width, three), s->fine = fine;
}
static void norm_step(struct program *p, const struct value *x, const struct value *out) {
  float *w = room(x->width * 4);
  numbers(w, x->width, 0x1p-15f);
  struct step *s = then(p, STEP_RMS_NORM, x, 0, out);
  s->weight = (struct matrix){1, x->width, w, FORMAT_F32, 0}, s->constant = 0x1p-17f;
}
static void say_segment(void) {
  enum { HIDDEN = 256, FFN = 512, KV = 64, ROWS = 13 };
  int64_t bytes = 0;
  const struct value *attended = plane(&bytes, HIDDEN, 2), *carry = plane(&bytes, HIDDEN, 4), *k = plane(&bytes, KV, 2),
                     *v = plane(&bytes, KV, 2), *q = plane(&bytes, HIDDEN, 2);
  const struct value *wide = passing(HIDDEN), *out = passing(HIDDEN), *normed = scratch(HIDDEN), *gate = scratch(FFN),
                     *up = passing(FFN), *wide_q = scratch(HIDDEN), *wide_k = scratch(KV), *wide_v = scratch(KV);
  struct program p = {.steps = 0};
  begin("segment");
  then(&p, STEP_WIDEN, attended, 0, wide);
  linear_step(&p, FORMAT_Q4_K, 0, wide, out);
  then(&p, STEP_ADD, carry, out, carry);
  norm_step(&p, carry, normed);
  linear_step(&p, FORMAT_Q4_1, 0, normed, gate);
  linear_step(&p, FORMAT_Q5_0, 0, normed, up);
  then(&p, STEP_SWIGLU, gate, up, gate);
  linear_step(&p, FORMAT_Q6_K, 0, gate, out);
  then(&p, STEP_ADD, carry, out, carry);
  norm_step(&p, carry, normed);
  linear_step(&p, FORMAT_MXFP4, 0, normed, wide_q);
  linear_step(&p, FORMAT_Q8_0, FINE, normed, wide_k);
  linear_step(&p, FORMAT_Q5_1, FINE, normed, wide_v);
  then(&p, STEP_NARROW, wide_q, 0, q);
  then(&p, STEP_NARROW, wide_k, 0, k);
  then(&p, STEP_NARROW, wide_v, 0, v);
  char *before = room(bytes), *rows = room(bytes);
  halves((uint16_t *)(before + attended->offset), ROWS * HIDDEN);
  numbers((float *)(before + carry->offset), ROWS * HIDDEN, 0x1p-13f);
  for (int shared = 0; shared < 2; shared++) {
    memcpy(rows, before, (size_t)bytes);
    run(&p, shared ? three : one, rows, ROWS);
    say(shared ? "segment_of_three_threads" : "segment_of_one_thread", hashed(EMPTY, rows, bytes));
  }
}

/* ---- context memory: two sessions fed in pieces, and what the pages hold afterwards */
enum { FIRST = 150, SECOND = 70, MOST_CALL = 16, MOST_PAGES = 8 };
static const int32_t first_table[] = {4, 0, 2}, second_table[] = {1, 3};
struct piece { int64_t first, second; }; /* positions that the sessions have */
static int64_t place(struct piece *at, int64_t call, int64_t *position, const int32_t **table) {
  int64_t n = 0;
  for (int64_t i = 0; i < 1 + call % 11 && at->first < FIRST; i++) position[n] = at->first++, table[n++] = first_table;
  for (int64_t i = 0; i < 1 + call % 5 && at->second < SECOND; i++) position[n] = at->second++, table[n++] = second_table;
  return n;
}
static void say_attention(const char *kind, struct attention a, float magnitude, int threads) {
  char name[96];
  snprintf(name, sizeof name, "attention_%s_%s", kind, threads == 1 ? "one_thread" : "three_threads");
  begin("attention");
  const int64_t dim = a.head_dim, width = a.heads * dim, kv = a.kv_heads * dim, turned = a.dimensions;
  int64_t position[MOST_CALL];
  const int32_t *table[MOST_CALL];
  struct attend_call c = {.position = position, .table = table, .page_bytes = a.page_offset + PAGE * kv * 2 * 2};
  float *cosine = room(MOST_CALL * turned * 4), *sine = room(MOST_CALL * turned * 4), *frequency = room(turned / 2 * 4);
  uint16_t *q = room(MOST_CALL * width * 2), *k = room(MOST_CALL * kv * 2), *v = room(MOST_CALL * kv * 2), *attended = room(MOST_CALL * width * 2);
  c.pool = room(MOST_PAGES * c.page_bytes), c.rotated = room(MOST_CALL * width * 4);
  c.cosine = cosine, c.sine = sine, c.q = q, c.k = k, c.v = v, c.attended = attended;
  for (int64_t i = 0; i < turned / 2; i++) frequency[i] = (float)(1 + draw() % 65535) * 0x1p-16f;
  const struct rotary rotary = {frequency, turned / 2, magnitude, a.interleaved};
  const int64_t floats = tf_context_scratch(level, &a, threads, MOST_PAGES);
  float *kept = room(floats * 4);
  uint64_t hash = EMPTY;
  struct piece at = {0, 0};
  for (int64_t call = 0; (c.count = place(&at, call, position, table)); call++) {
    halves(q, c.count * width), halves(k, c.count * kv), halves(v, c.count * kv);
    tf_rotary(&rotary, position, c.count, cosine, sine);
    tf_context(&(struct context_call){threads == 1 ? one : three, level, &a, &c, threads, kept, floats});
    hash = hashed(hash, attended, c.count * width * 2);
  }
  say(name, hashed(hash, c.pool, MOST_PAGES * c.page_bytes));
  free(cosine), free(sine), free(frequency), free(q), free(k), free(v), free(attended), free(c.pool), free(c.rotated), free(kept);
}
static void say_context(void) {
  static const float sinks[] = {0.5f, -3.0f, 2.0f, 0.0f, 1.0f, -0.25f};
  const struct attention grouped = {6, 2, 64, 128, 0, 0, 0.125f, 0, 1, 64}, single = {3, 3, 32, 0, 0, 0, 0.25f, 0, 0, 32};
  const struct attention many = {14, 1, 32, 64, 0, 0, 0.25f, 0, 0, 32}, all = {6, 2, 64, 128, 70, sinks, 0.125f, 20.0f, 0, 24};
  say_attention("grouped", grouped, 1, 1);
  say_attention("grouped", grouped, 1, 3);
  say_attention("single", single, 1, 3);
  say_attention("many", many, 1, 1);
  say_attention("window_sinks_cap_part_magnitude", all, 1.25f, 1);
  say_attention("window_sinks_cap_part_magnitude", all, 1.25f, 3);
}

/* ---- work that knows no level */
static void say_pack(const struct kind *k) {
  char name[64];
  snprintf(name, sizeof name, "pack_%s", k->name);
  begin(name);
  const struct matrix w = weights(k->format, 37, 512, three);
  say(name, hashed(EMPTY, w.data, tf_packed_bytes(k->format, 37, 512)));
  drop(w);
}
static void say_rotary(void) {
  enum { HALF = 32 };
  static const int64_t position[] = {0, 1, 2, 3, 63, 64, 1000, 4095, 131071, 1 << 20, (1 << 25) - 1};
  enum { COUNT = sizeof position / sizeof *position };
  float frequency[HALF], cosine[COUNT * 2 * HALF], sine[COUNT * 2 * HALF];
  begin("rotary");
  for (int i = 0; i < HALF; i++) frequency[i] = i ? (float)(1 + draw() % 65535) * 0x1p-16f : 1.0f;
  tf_rotary(&(struct rotary){frequency, HALF, 1, 1}, position, COUNT, cosine, sine);
  say("rotary", hashed(hashed(EMPTY, cosine, sizeof cosine), sine, sizeof sine));
}

int main(void) {
  one = tf_pool_new(1), three = tf_pool_new(3);
  if (!one || !three) { fprintf(stderr, "hashes: no threads\n"); return 1; }
  for (int i = 0; i < KINDS; i++) say_pack(&kinds[i]);
  say_rotary();
  for (int l = 0; tf_level_name(l); l++) {
    level = tf_level(tf_level_name(l));
    for (int i = 0; i < KINDS; i++) say_embed(&kinds[i]);
    for (int i = 0; i < KINDS; i++) for (int fine = 0; fine <= (kinds[i].block > 1); fine++) say_linear(&kinds[i], fine);
    say_rows();
    say_routes();
    say_exponential();
    say_choice();
    say_segment();
    say_context();
  }
  tf_pool_free(one), tf_pool_free(three);
  return 0;
}
