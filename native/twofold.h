/* What the native library shares between its files, and with Python through ctypes (kernels/native.py mirrors
 * every struct field by field). A `level` is one vector instruction set; every level gives the same bits. */
#pragma once
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Storage formats, by their published ids. */
enum format {
  FORMAT_F32 = 0, FORMAT_F16 = 1, FORMAT_Q4_0 = 2, FORMAT_Q4_1 = 3, FORMAT_Q5_0 = 6, FORMAT_Q5_1 = 7, FORMAT_Q8_0 = 8,
  FORMAT_Q4_K = 12, FORMAT_Q5_K = 13, FORMAT_Q6_K = 14, FORMAT_BF16 = 30, FORMAT_MXFP4 = 39
};

/* A weight matrix [rows, width] in panels of 16 output rows, so that lanes are output rows:
 *
 *   F32, F16, BF16   [panel][k]{ w[16] }
 *   Q4_0 .. Q8_0, MXFP4   [panel][k / 32]{ struct below }
 *   Q4_K, Q5_K, Q6_K      [panel][k / 256]{ struct below }: eight blocks of 32 share a scale
 *
 * 4 bit: q[j][4 r + b] holds column 4 j + b of row r in its low and column 16 + 4 j + b in its high nibble.
 * 5th bit: bits 2 j and 2 j + 1 of h[4 r + b] belong to those two columns. 6 bits: bits 4 (j % 2) .. + 1 and + 2 .. + 3
 * of h[j / 2][4 r + b] do. 8 bit: q[j][4 r + b] holds column 4 j + b of row r, plus 128. Rows past the last are zero. */
struct matrix {
  int64_t rows, width;
  const void *data;
  int32_t format, reserved;
};
struct q4_0 { uint16_t d[16]; uint8_t q[4][64]; };
struct q4_1 { uint16_t d[16], m[16]; uint8_t q[4][64]; };
struct q5_0 { uint16_t d[16]; uint8_t h[64], q[4][64]; };
struct q5_1 { uint16_t d[16], m[16]; uint8_t h[64], q[4][64]; };
struct q8_0 { uint16_t d[16]; uint8_t q[8][64]; };
struct q4_k { uint16_t d[16], m[16]; uint8_t scale[8][16], least[8][16], q[8][4][64]; };
struct q5_k { uint16_t d[16], m[16]; uint8_t scale[8][16], least[8][16], h[8][64], q[8][4][64]; };
struct q6_k { uint16_t d[16]; int8_t scale[8][2][16]; uint8_t h[8][2][64], q[8][4][64]; };
struct mxfp4 { uint8_t e[16], q[4][64]; };

/* Activations rounded to integers in blocks of 32, kept in tiles of rows so that one tile's block is contiguous:
 *   q [tile][block][row of tile]{ int8[32] },   scale [tile][block][row of tile]{ below }
 * Where a product of integers starts: minus the zero point of the weights, times the sum of all 32 or the first 16.
 * Fine activations are 16 bits: { int8 high[32], int8 low[32] } with value 256 · high + low. */
struct scale { float d, d_sum; int32_t start, low_start; };
struct activations { int8_t *q; struct scale *scale; };

/* A contiguous set of rows that a kernel treats together: rows first .. first + count - 1. */
struct tile { int64_t first, count; };
/* rows are cut into as few tiles as `most` rows allow, of nearly equal size */
static inline int64_t tile_count(int64_t rows, int64_t most) { return (rows + most - 1) / most; }
static inline struct tile tile_of(int64_t rows, int64_t most, int64_t i) {
  const int64_t n = tile_count(rows, most), first = rows * i / n;
  return (struct tile){first, rows * (i + 1) / n - first};
}
enum { CACHE_LINE = 64 }; /* bytes that memory hands out together */
enum { UNIT = 32 }; /* columns that one thread makes together: two panels, one block of activations */

/* One attention layer: context parameters and where its part of a page lies.
 * Page of 64 positions: [layer][KV head][block of 16 positions]{ K f16[head_dim][16], V f16[16][head_dim] }. */
struct attention {
  int64_t heads, kv_heads, head_dim;
  int64_t page_offset; /* bytes from the start of a page to this layer */
  int64_t window;      /* a row sees its last `window` positions; 0: all */
  const float *sinks;  /* [heads], or 0 */
  float scale, soft_cap;
  int32_t interleaved, dimensions; /* rotary pairs among the first `dimensions`: (2i, 2i+1), else (i, i + dimensions/2) */
};
/* The rows of one context call; `table[r]` lists the pages of row r's session, `position[r]` is its place. */
struct attend_call {
  int64_t count;
  const int64_t *position;
  const int32_t *const *table;
  char *pool;
  int64_t page_bytes;
  const float *cosine, *sine; /* [count][dimensions], of each element; the first of a pair has minus the sine */
  const uint16_t *q, *k, *v;
  uint16_t *attended;
  float *rotated; /* scratch [KV head][count][heads of its group][head_dim] */
};
enum { PAGE = 64, BLOCK = 16, MAX_HEAD_DIM = 256 };

/* How rows of one session share readings of its KV cache, at a level that sums `group` queries side by side: a group's
 * rows, and how many groups the queries of one row (or of as many as fit a group) and one KV head make. */
enum { TOGETHER = 4 }; /* groups that share one widening of a chunk */
static inline int64_t group_rows(int64_t group, const struct attention *a) {
  const int64_t share = a->heads / a->kv_heads;
  return share < group ? group / share : 1;
}
static inline int64_t group_count(int64_t group, int64_t share) { return share < group ? 1 : (share + group - 1) / group; }

/* the first chunk of which a row sees a place */
static inline int64_t first_chunk(const struct attention *a, const struct attend_call *rows, int64_t row) {
  const int64_t unseen = a->window ? rows->position[row] + 1 - a->window : 0;
  return unseen > 0 ? unseen / PAGE : 0;
}

/* What one query gathers over one chunk of 64 positions, or over all chunks so far: f32 { maximum, sum, unused ..,
 * value[head_dim] at RECORD }. A sum of 0: it has seen nothing. Records of a tile: [KV head][row][head of the group]. */
enum { RECORD = 16 };
/* Units `from` .. `to` - 1 of a tile: unit u is KV head u % kv_heads of chunk `chunk` + u / kv_heads, which is the order
 * in memory. Their records are merged into `state` (behind which is room to work in, tile_floats), or, if `kept` is set, each unit's are left there one after the other, to be merged later in the same order. */
struct run {
  struct tile rows;
  int64_t chunk, from, to;
  float *state, *kept;
};

/* How to choose a token from a row of logits (choose.c). */
struct choice {
  int64_t width, top_k; /* 0: all */
  double top_p, min_p, uniform;
  float temperature, most; /* most: the largest logit */
};

/* How experts are chosen and weighed (route.c): by which score, and of which groups. */
struct chosen { int32_t sigmoid, normalised, groups, kept; };
enum { MAX_EXPERTS = 1024 };

struct level {
  const char *name;
  int64_t tile;  /* most rows of a tile */
  int64_t group; /* most queries that attention sums side by side */
  void (*embed)(const struct matrix *w, int64_t id, float *y);
  void (*rms_norm)(const float *x, const float *w, float epsilon, int64_t width, float *y);
  void (*layer_norm)(const float *x, const float *w, float epsilon, int64_t width, float *y);
  /* blocks from .. to - 1 of a row of `blocks`; x begins at block `from`; `zero`: the zero point of the weights they will meet */
  void (*quantise)(const float *x, int64_t from, int64_t to, int64_t blocks, struct activations out, int fine, int zero, int64_t row, struct tile tile);
  void (*swiglu)(const float *gate, const float *up, int64_t width, float *y);
  void (*geglu)(const float *gate, const float *up, int64_t width, float *y);
  void (*clamped_swiglu)(const float *gate, const float *up, float limit, float slope, int64_t width, float *y);
  void (*add)(const float *a, const float *b, int64_t width, float *y);
  void (*scale)(const float *x, float factor, int64_t width, float *y);
  void (*widen)(const uint16_t *x, int64_t width, float *y);
  void (*narrow)(const float *x, int64_t width, uint16_t *y);
  /* of scores x[width] which k <= width experts, by rising number; bias[width], or 0 */
  void (*route)(const float *x, const float *bias, int64_t width, const struct chosen *how, int64_t k, int32_t *ids);
  void (*shares)(const float *x, int64_t width, const int32_t *ids, int64_t k, const struct chosen *how, float scale, float *y);
  void (*mix)(const float *x, float share, int64_t width, float *y); /* y = y + x · share */
  /* x · w for `count` rows and columns of units from .. last - 1, into rows of y that begin with column from · UNIT and are
   * `pitch` floats apart; x is float rows or activations by format; `next`: the weights that the thread reads after these, or 0 */
  void (*linear)(const struct matrix *w, int64_t from, int64_t last, const void *next, const float *x, struct activations xq, int fine, int64_t count, float *y, int64_t pitch);
  void (*rotate_append)(const struct attention *a, const struct attend_call *c, int64_t row);
  void (*attend)(const struct attention *a, const struct attend_call *c, const struct run *run);
  /* merges what was kept into the state and writes `attended`, for records from .. to - 1 of the tile */
  void (*conclude)(const struct attention *a, const struct attend_call *c, const struct run *run, int64_t from, int64_t to);
  void (*exponential)(const float *x, int64_t width, float *y);
  void (*top)(const float *x, int64_t width, int64_t k, int32_t *ids);
  void (*gather)(const float *x, int64_t width, const int32_t *ids, int64_t k, float *y);
  void (*log_sum_exp)(const float *x, int64_t width, float *y);
  double (*log_partition)(const float *x, int64_t width, float most, float *w);
  int64_t (*choose)(const struct choice *c, const float *x, float *w, int32_t *ids);
  void (*mask)(const float *x, int64_t width, const uint32_t *allowed, float *y);
  int64_t (*read_all)(const char *data, int64_t bytes);
  int64_t (*multiply)(int64_t rounds, const int8_t *x);
};

/* A pool of threads: job(argument, thread, threads) runs once on each; the caller is thread 0. */
struct pool;
typedef void job(void *argument, int thread, int threads);
enum { MAX_THREADS = 255 }; /* of a pool */
struct pool *tf_pool_new(int threads);
void tf_pool_free(struct pool *pool);
int pool_team(const struct pool *pool); /* how many threads the next job gets */
void pool_run(struct pool *pool, job *work, void *argument);
void pool_barrier(struct pool *pool);

/* Weight memory's work: the steps of a segment on values (segment.c). */
enum step_kind { STEP_EMBED, STEP_RMS_NORM, STEP_QUANTISE, STEP_LINEAR, STEP_SWIGLU, STEP_ADD, STEP_WIDEN, STEP_NARROW,
                 STEP_TOP, STEP_GATHER, STEP_LOG_SUM_EXP,
                 STEP_LAYER_NORM, STEP_BIAS, STEP_GEGLU, STEP_SCALE, STEP_ROUTE, STEP_SHARES, STEP_EXPERTS,
                 STEP_CLAMPED_SWIGLU };

struct value {
  int64_t offset;      /* of a plane, bytes from the start of the rows; -1: scratch */
  int64_t width;       /* elements a row */
  char *scratch;       /* f32 [rows][width], or int8 tiles */
  struct scale *scale; /* of int8 tiles */
  int64_t part_bytes;  /* of scratch that passes, f32 [thread][rows][PART * UNIT]: from one thread's to the next; else 0 */
};
enum { PART = 4 }; /* units of columns that go through neighbouring steps together */
/* Experts: segments of their own, run on the rows that are routed to them. */
struct segment_call;
struct mixture {
  struct segment_call *const *call; /* of each expert */
  int64_t count, steps;             /* experts, and the most steps of one */
  struct value in, out;             /* planes of an expert */
};
struct step {
  int32_t kind, waits;
  const struct value *a, *b, *c, *out;
  struct matrix weight;
  float constant;  /* the epsilon of a norm, the factor of a scale or of shares, a limit */
  float slope;     /* of a clamped SwiGLU */
  int32_t fine;    /* activations of 16 bits */
  int32_t columns; /* shared out by columns, else by rows */
  int32_t zero;    /* of a rounding: the zero point of the weights that its result will meet */
  struct chosen chosen;
  const struct mixture *mixture;
};
struct segment_call {
  struct pool *pool;
  const struct level *level;
  const struct step *step;
  int64_t steps;
  char *rows;
  int64_t count;
  int64_t total;   /* rows of all runs */
  int64_t touched; /* the most rows that runs wrote in scratch, since whoever wipes it said 0 */
};
void tf_segment(struct segment_call *call);

/* Context memory's work: one layer (context.c). */
struct context_call {
  struct pool *pool;
  const struct level *level;
  const struct attention *attention;
  const struct attend_call *rows;
  int64_t threads; /* of the pool */
  float *scratch;  /* each thread's state, then what is kept */
  int64_t scratch_floats;
};
void tf_context(const struct context_call *call);
int64_t tf_context_scratch(const struct level *level, const struct attention *a, int64_t threads, int64_t chunks);
struct rotary { const float *frequency; int64_t pairs; float magnitude; int32_t interleaved; };
void tf_rotary(const struct rotary *rotary, const int64_t *position, int64_t count, float *cosine, float *sine);

/* Packed weights (pack.c) and levels (dispatch.c). */
int64_t tf_packed_bytes(int32_t format, int64_t rows, int64_t width);
/* Rows · width of `format`, `row_bytes` a row, that become panels at `packed`, in zeroed memory of tf_packed_bytes. */
struct pack_job { const void *source; void *packed; int64_t rows, width, row_bytes; int32_t format, damaged; };
/* Do all jobs. Returns 1 if a weight or a block's scale is NaN or infinite, and sets `damaged` of its job, else 0. */
int32_t tf_pack(struct pool *pool, struct pack_job *job, int64_t jobs);
const char *tf_level_name(int i);
const struct level *tf_level(const char *name);
void tf_exponential(const struct level *level, const float *x, int64_t width, float *y);
double tf_log_partition(const struct level *level, const float *x, int64_t width, float most, float *w);
int64_t tf_choose(const struct level *level, const struct choice *c, const float *x, float *w, int32_t *ids);
void tf_mask(const struct level *level, const float *x, int64_t width, const uint32_t *allowed, float *y);
void tf_top(const struct level *level, const float *x, int64_t width, int64_t k, int32_t *ids);
