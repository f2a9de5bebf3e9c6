/* One vector instruction set: every kernel compiled once with the flags of that set, behind one table.
 * The build compiles this file once a level with -DLEVEL=name (setup.py). */
#include "simd.h"
#include "twofold.h"

/* rows whose sums fit the registers */
#if LANES == 16
#define TILE 12
#else
#define TILE 4
#endif

#include "attend.c"
#include "linear.c"
#include "rows.c"

#define NAME_(level) level_##level
#define NAME(level) NAME_(level)
#define TEXT_(level) #level
#define TEXT(level) TEXT_(level)

extern const struct level NAME(LEVEL);
const struct level NAME(LEVEL) = {
    .name = TEXT(LEVEL), .tile = TILE, .embed = embed, .rms_norm = rms_norm, .quantise = quantise,
    .swiglu = swiglu, .add = add, .widen = widen, .narrow = narrow, .linear = linear,
    .rotate_append = rotate_append, .attend = attend, .exponential = exponential,
};
