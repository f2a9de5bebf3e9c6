/* One vector instruction set: every kernel compiled once with the flags of that set, behind one table.
 * The build compiles this file once a level with -DLEVEL=name (setup.py). */
#include "simd.h"
#include "twofold.h"

/* What fits the registers (AVX-512 and NEON have 32; the others 16, RVV's are taken in pairs): rows of a tile and vectors
 * of a unit beside each other (linear.c), and sums of attention side by side (attend.c). */
#if LANES == 16 || defined(NEON)
enum { TILE = 6, BESIDE = 2, GROUP = 12 };
#define EACH_ROWS(sized, name) \
  sized(name, 1) sized(name, 2) sized(name, 3) sized(name, 4) sized(name, 5) sized(name, 6)
#define ROWS_LIST(name) {0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}
#define EACH_GROUP(sized, name) EACH_ROWS(sized, name) \
  sized(name, 7) sized(name, 8) sized(name, 9) sized(name, 10) sized(name, 11) sized(name, 12)
#define GROUP_LIST(name) {0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6,                           \
                          name##_7, name##_8, name##_9, name##_10, name##_11, name##_12}
#else
enum { TILE = 4, BESIDE = 1, GROUP = 4 };
#define EACH_ROWS(sized, name) sized(name, 1) sized(name, 2) sized(name, 3) sized(name, 4)
#define ROWS_LIST(name) {0, name##_1, name##_2, name##_3, name##_4}
#define EACH_GROUP EACH_ROWS
#define GROUP_LIST ROWS_LIST
#endif
/* one function for each number of rows or queries, so that sums stay in registers */

#include "attend.c"
#include "head.c"
#include "choose.c"
#include "limits.c"
#include "linear.c"
#include "route.c"
#include "rows.c"

#define NAME_(level) level_##level
#define NAME(level) NAME_(level)
#define TEXT_(level) #level
#define TEXT(level) TEXT_(level)

extern const struct level NAME(LEVEL);
const struct level NAME(LEVEL) = {
    .name = TEXT(LEVEL), .tile = TILE, .group = GROUP, .embed = embed, .rms_norm = rms_norm, .layer_norm = layer_norm, .quantise = quantise,
    .swiglu = swiglu, .geglu = geglu, .clamped_swiglu = clamped_swiglu, .add = add, .scale = scale, .widen = widen, .narrow = narrow, .linear = linear,
    .rotate_append = rotate_append, .attend = attend, .conclude = conclude, .exponential = exponential,
    .route = route, .shares = shares, .mix = mix,
    .top = top, .gather = gather, .log_sum_exp = log_sum_exp,
    .log_partition = log_partition, .choose = choose, .mask = mask,
    .read_all = read_all, .multiply = multiply,
};
