/* Context memory's work: one layer, one call, and the rotary tables of a step. */
#include "twofold.h"

enum { ALONE = 4096 }; /* below this many positions read, waking threads costs more than it saves */

enum { MAX_ROWS = 1024 }; /* of one call; kernels/native.py asks for no more */

/* one call under way: its rows cut into tiles; tile i is rows first[i] .. first[i + 1] - 1 */
struct layer_work {
  const struct context_call *call;
  int64_t tiles;
  int32_t first[MAX_ROWS + 1];
};

/* Consecutive positions of one session share readings of its KV cache, as many as the level sums side by side. */
static void cut_tiles(struct layer_work *work) {
  const struct context_call *c = work->call;
  const struct attend_call *rows = c->rows;
  const int64_t share = c->attention->heads / c->attention->kv_heads, most = share < c->level->tile ? c->level->tile / share : 1;
  int64_t start = 0;
  work->tiles = 0;
  for (int64_t r = 0; r < rows->count; r++) {
    const int joins = r && r - start < most && rows->table[r] == rows->table[start] &&
                      rows->position[r] == rows->position[start] + (r - start);
    if (!joins) work->first[work->tiles++] = (int32_t)(start = r);
  }
  work->first[work->tiles] = (int32_t)rows->count;
}

static void run_layer(void *argument, int thread, int threads) {
  const struct layer_work *work = argument;
  const struct context_call *c = work->call;
  const int64_t count = c->rows->count, heads = c->attention->kv_heads;
  for (int64_t r = count * thread / threads; r < count * (thread + 1) / threads; r++)
    c->level->rotate_append(c->attention, c->rows, r);
  if (threads > 1) pool_barrier(c->pool); /* a row attends to the rows before it */
  for (int64_t i = thread; i < work->tiles * heads; i += threads) {
    const int32_t *tile = work->first + i / heads;
    c->level->attend(c->attention, c->rows, tile[0], tile[1] - tile[0], i % heads);
  }
}

/* Rotate, append and attend for the rows of one layer. */
EXPORT void tf_context(const struct context_call *call) {
  struct layer_work work;
  work.call = call;
  int64_t read = 0;
  for (int64_t r = 0; r < call->rows->count; r++) read += call->rows->position[r] + 1;
  cut_tiles(&work);
  if (read * call->attention->heads < ALONE) run_layer(&work, 0, 1);
  else pool_run(call->pool, run_layer, &work);
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

/* cosine, sine [count][half] f32 of position · frequency, the product rounded to f32 first. */
EXPORT void tf_rotary(const int64_t *position, int64_t count, const float *frequency, int64_t half, float *cosine, float *sine) {
  for (int64_t r = 0; r < count; r++)
    for (int64_t i = 0; i < half; i++) {
      const float angle = (float)position[r] * frequency[i];
      double s, c;
      sine_cosine((double)angle, &s, &c);
      cosine[r * half + i] = (float)c;
      sine[r * half + i] = (float)s;
    }
}
