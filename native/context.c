/* Context memory's work: one layer, one call, and the rotary tables of a step.
 *
 * The rows are cut into tiles, a tile's work into units of one chunk and one KV head, in the order in which they lie in
 * memory. The threads share the units of all tiles evenly, each a run of neighbours. A tile that one thread has to itself
 * is done at once. Of a tile that several share, the first merges as it goes and the others keep the records of their
 * units; when all are there, they are merged in order, as if one had done it alone. */
#include "twofold.h"

/* Below this many positions read by all heads, waking threads costs more than it saves; a row costs as much as so many
 * positions before it reads any. */
enum { ALONE = 5120, OF_A_ROW = 128 };
enum { MAX_ROWS = 1024 }; /* of one call; kernels/native.py asks for no more */

/* A tile of several threads: `owner` is the first of them; what the others keep begins at record `kept`. */
struct split { int64_t tile, owner, unit, kept; };
/* one call under way */
struct layer_work {
  const struct context_call *call;
  int64_t tiles, splits, threads; /* as many threads as take part */
  int32_t first[MAX_ROWS + 1];     /* tile i is rows first[i] .. first[i + 1] - 1 */
  int64_t begin[MAX_ROWS + 1];     /* its units are begin[i] .. begin[i + 1] - 1 of all */
  int64_t border[MAX_THREADS + 1]; /* thread t does units border[t] .. border[t + 1] - 1 */
  struct split split[MAX_THREADS];
};

static struct tile rows_of(const struct layer_work *w, int64_t i) {
  return (struct tile){w->first[i], w->first[i + 1] - w->first[i]};
}

/* Consecutive positions of one session share readings of its KV cache, as many as the level sums side by side. */
static void cut_tiles(struct layer_work *w) {
  const struct attention *a = w->call->attention;
  const struct attend_call *rows = w->call->rows;
  const int64_t most = TOGETHER * group_rows(w->call->level->group, a);
  int64_t start = 0;
  w->tiles = 0;
  for (int64_t r = 0; r < rows->count; r++) {
    const int joins = r && r - start < most && rows->table[r] == rows->table[start] &&
                      rows->position[r] == rows->position[start] + (r - start);
    if (!joins) w->first[w->tiles++] = (int32_t)(start = r);
  }
  w->first[w->tiles] = (int32_t)rows->count;
  w->begin[0] = 0;
  for (int64_t i = 0; i < w->tiles; i++) {
    const int64_t chunks = rows->position[w->first[i + 1] - 1] / PAGE + 1 - first_chunk(a, rows, w->first[i]);
    w->begin[i + 1] = w->begin[i] + chunks * a->kv_heads;
  }
}

/* floats of one thread: the records of the largest tile and of a group, a chunk widened, and the tile's queries in groups */
static int64_t state_floats(const struct level *level, const struct attention *a) {
  const int64_t rows = TOGETHER * group_rows(level->group, a), groups = TOGETHER * group_count(level->group, a->heads / a->kv_heads);
  return (rows * a->heads + level->group) * (RECORD + a->head_dim) + 2 * PAGE * a->head_dim +
         groups * a->kv_heads * level->group * a->head_dim;
}
static int64_t record_floats(const struct context_call *c) { return RECORD + c->attention->head_dim; }
static float *state_of(const struct context_call *c, int64_t thread) {
  return c->scratch + thread * state_floats(c->level, c->attention);
}
static float *kept_of(const struct context_call *c, int64_t record) { return state_of(c, c->threads) + record * record_floats(c); }

/* Shares the units out. Where the records that a split tile's later threads must keep find no room, the border moves
 * to the end of the tile: less even, the same bits. */
static void cut_runs(struct layer_work *w, int64_t threads) {
  const struct context_call *c = w->call;
  const int64_t total = w->begin[w->tiles], share = c->attention->heads / c->attention->kv_heads;
  const int64_t room = (c->scratch_floats - c->threads * state_floats(c->level, c->attention)) / record_floats(c);
  int64_t i = 0, kept = 0;
  w->threads = threads;
  w->splits = w->border[0] = 0;
  for (int64_t t = 1; t < threads; t++) {
    const int64_t even = total * t / threads;
    int64_t border = even > w->border[t - 1] ? even : w->border[t - 1];
    while (i < w->tiles && w->begin[i + 1] <= border) i++;
    const int new = i < w->tiles && border > w->begin[i] && !(w->splits && w->split[w->splits - 1].tile == i);
    if (new) {
      const int64_t records = (w->begin[i + 1] - border) * (w->first[i + 1] - w->first[i]) * share;
      if (kept + records <= room) {
        w->split[w->splits++] = (struct split){i, t - 1, border - w->begin[i], kept};
        kept += records;
      } else {
        border = w->begin[i + 1];
      }
    }
    w->border[t] = border;
  }
  w->border[threads] = total;
}

/* thread's part of tile i; a part that does not begin the tile is kept */
static void run_tile(const struct layer_work *w, int64_t thread, int64_t i) {
  const struct context_call *c = w->call;
  const int64_t begin = w->begin[i], end = w->begin[i + 1], share = c->attention->heads / c->attention->kv_heads;
  const int64_t from = w->border[thread] > begin ? w->border[thread] : begin, to = w->border[thread + 1] < end ? w->border[thread + 1] : end;
  struct run run = {rows_of(w, i), first_chunk(c->attention, c->rows, w->first[i]), from - begin, to - begin, state_of(c, thread), 0};
  for (int64_t s = 0; s < w->splits; s++)
    if (w->split[s].tile == i && from > begin)
      run.kept = kept_of(c, w->split[s].kept + (run.from - w->split[s].unit) * run.rows.count * share);
  c->level->attend(c->attention, c->rows, &run);
  if (from == begin && to == end) c->level->conclude(c->attention, c->rows, &run, 0, run.rows.count * c->attention->heads);
}

/* thread's part of the records of a split tile */
static void conclude_split(const struct layer_work *w, int64_t thread, const struct split *s) {
  const struct context_call *c = w->call;
  const struct run run = {rows_of(w, s->tile), first_chunk(c->attention, c->rows, w->first[s->tile]), s->unit,
                          w->begin[s->tile + 1] - w->begin[s->tile], state_of(c, s->owner), kept_of(c, s->kept)};
  const int64_t records = run.rows.count * c->attention->heads;
  c->level->conclude(c->attention, c->rows, &run, records * thread / w->threads, records * (thread + 1) / w->threads);
}

static void run_layer(void *argument, int thread, int threads) {
  const struct layer_work *w = argument;
  const struct context_call *c = w->call;
  const int64_t count = c->rows->count;
  for (int64_t r = count * thread / threads; r < count * (thread + 1) / threads; r++)
    c->level->rotate_append(c->attention, c->rows, r);
  if (threads > 1) pool_barrier(c->pool); /* a row attends to the rows before it */
  for (int64_t i = 0; i < w->tiles; i++)
    if (w->begin[i + 1] > w->border[thread] && w->begin[i] < w->border[thread + 1]) run_tile(w, thread, i);
  if (!w->splits) return;
  pool_barrier(c->pool); /* every part is there */
  for (int64_t s = 0; s < w->splits; s++) conclude_split(w, thread, &w->split[s]);
}

/* Rotate, append and attend for the rows of one layer. */
EXPORT void tf_context(const struct context_call *call) {
  struct layer_work work;
  work.call = call;
  cut_tiles(&work);
  int64_t read = call->rows->count * OF_A_ROW;
  for (int64_t r = 0; r < call->rows->count; r++)
    read += call->rows->position[r] + 1 - first_chunk(call->attention, call->rows, r) * PAGE;
  const int alone = read * call->attention->heads < ALONE;
  cut_runs(&work, alone ? 1 : pool_team(call->pool));
  if (alone) run_layer(&work, 0, 1);
  else pool_run(call->pool, run_layer, &work);
}

/* Floats of scratch that calls of this layer need on so many threads if `chunks` chunks of one tile are to be shared. */
EXPORT int64_t tf_context_scratch(const struct level *level, const struct attention *a, int64_t threads, int64_t chunks) {
  const int64_t records = TOGETHER * group_rows(level->group, a) * a->heads;
  return threads * state_floats(level, a) + chunks * records * (RECORD + a->head_dim);
}

/* sine and cosine of |x| < 2^26: reduction by pi/2 in three parts, then Cephes' polynomials, all in double */
static void sine_cosine(double x, double *sine, double *cosine) {
  const double magic = 6755399441055744.0; /* 1.5 · 2^52 rounds to an integer */
  union { double d; uint64_t u; } k = {x * 0.63661977236758134 + magic};
  const double n = k.d - magic;
  double r = x - n * 1.5707963109016418;
  r = r - n * 1.5893254712295857e-8;
  r = r - n * 6.1232339957367660e-17;
  const double z = r * r;
  double s = 1.58969099521155010221e-10;
  s = s * z + -2.50507602534068634195e-08;
  s = s * z + 2.75573137070700676789e-06;
  s = s * z + -1.98412698298579493134e-04;
  s = s * z + 8.33333333332248946124e-03;
  s = s * z + -1.66666666666666324348e-01;
  s = r + r * z * s;
  double c = -1.13596475577881948265e-11;
  c = c * z + 2.08757232129817482790e-09;
  c = c * z + -2.75573143513906633035e-07;
  c = c * z + 2.48015872894767294178e-05;
  c = c * z + -1.38888888888741095749e-03;
  c = c * z + 4.16666666666666019037e-02;
  c = (1.0 - 0.5 * z) + z * z * c;
  switch (k.u & 3) {
    case 0: *sine = s; *cosine = c; break;
    case 1: *sine = c; *cosine = -s; break;
    case 2: *sine = -s; *cosine = -c; break;
    default: *sine = -c; *cosine = s;
  }
}

/* cosine, sine [count][2 · pairs] of position · frequency, the product rounded to f32 first, times the magnitude: for
 * each element of a head, the sine of a pair's first element negated. */
EXPORT void tf_rotary(const struct rotary *rotary, const int64_t *position, int64_t count, float *cosine, float *sine) {
  const int64_t pairs = rotary->pairs, step = rotary->interleaved ? 2 : 1, apart = rotary->interleaved ? 1 : pairs;
  for (int64_t r = 0; r < count; r++, cosine += 2 * pairs, sine += 2 * pairs)
    for (int64_t i = 0; i < pairs; i++) {
      const float angle = (float)position[r] * rotary->frequency[i];
      double s, c;
      sine_cosine((double)angle, &s, &c);
      cosine[i * step] = cosine[i * step + apart] = (float)c * rotary->magnitude;
      sine[i * step + apart] = (float)s * rotary->magnitude;
      sine[i * step] = -sine[i * step + apart];
    }
}
