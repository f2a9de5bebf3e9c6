/* A step's walk through the layers, in one native call: the same as `step` and `together` of engine/step.py, where every
 * segment is called through a port. Lanes take turns; while one's rows are away at weight memory, the context operations
 * of the others are done:
 *
 *     lane 0  ── call ──▶ away ────────── finish, context, call ──▶ away ────── ...
 *     lane 1             ── call ──▶ away ──────────────── finish, context, call ──▶ ...
 */
#include <string.h>
#include "frame.h"
#include "twofold.h"


struct lane {
  struct port *const *port;                  /* of each segment */
  const struct context_call *const *context; /* of each layer */
  char *rows;
  const uint32_t *wanted;                    /* which rows go on to the end, rising */
  uint32_t count, wanted_count;              /* rows of a layer, and of the end; none: there is no end */
  uint32_t stage;                            /* segments answered */
  uint32_t begun;                            /* the call of the next is on its way */
};
struct walk {
  const struct layout *layout;
  struct lane *lane;
  uint64_t *segment_ns; /* of each segment, added up: how long weight memory worked on it */
  uint64_t *layer_ns;   /* of each layer, added up: its context operations */
  uint64_t context_ns, worked_ns; /* of this walk */
  uint32_t calls;       /* answered in it */
  uint32_t lanes, layers;
  uint32_t end;         /* the segment that ends the step */
  uint32_t turn;        /* whose turn it is */
};

static int done(const struct walk *walk, const struct lane *lane) {
  return lane->stage >= walk->layers + (lane->wanted_count > 0);
}
static uint32_t segment_of(const struct walk *walk, const struct lane *lane) { return lane->stage < walk->layers ? lane->stage : walk->end; }
static uint32_t count_of(const struct walk *walk, const struct lane *lane) { return lane->stage < walk->layers ? lane->count : lane->wanted_count; }

/* the wanted rows of the planes that the end takes move to the front */
static void keep(const struct walk *walk, const struct lane *lane) {
  const struct cut *cut = &walk->layout->cut[walk->end];
  for (uint32_t p = 0; p < cut->takes; p++) {
    char *const plane = lane->rows + cut->plane[p].offset;
    const uint64_t row_bytes = cut->plane[p].row_bytes;
    for (uint32_t i = 0; i < lane->wanted_count; i++)
      if (lane->wanted[i] != i) memcpy(plane + i * row_bytes, plane + lane->wanted[i] * row_bytes, row_bytes);
  }
}

/* the lane's next call leaves, if there is one */
static int begin(const struct walk *walk, struct lane *lane, uint64_t nanoseconds) {
  if (lane->begun || done(walk, lane)) return CALL;
  if (lane->stage == walk->layers) keep(walk, lane);
  lane->begun = 1;
  const uint32_t segment = segment_of(walk, lane);
  return tf_port_begin(lane->port[segment], walk->layout, lane->rows, segment, count_of(walk, lane), nanoseconds) == LOST ? LOST : CALL;
}

/* wait for the lane's call, do what follows, and let the next one leave */
static int advance(struct walk *walk, struct lane *lane, uint64_t nanoseconds, int64_t spin_ns, int64_t timeout_ns) {
  uint64_t worked = 0;
  const uint32_t segment = segment_of(walk, lane);
  const int what = tf_port_finish(lane->port[segment], walk->layout, lane->rows, segment, count_of(walk, lane), spin_ns, timeout_ns, &worked);
  if (what != CALL) return what;
  lane->begun = 0;
  walk->worked_ns += worked;
  walk->calls++;
  walk->segment_ns[segment] += worked;
  if (lane->stage < walk->layers) {
    const long start = clock_ns();
    tf_context(lane->context[lane->stage]);
    const uint64_t took = (uint64_t)(clock_ns() - start);
    walk->context_ns += took;
    walk->layer_ns[lane->stage] += took;
  }
  lane->stage++;
  return begin(walk, lane, nanoseconds);
}

/* calls that a socket did not take whole go on leaving */
static void flush(const struct walk *walk) {
  for (uint32_t i = 0; i < walk->lanes; i++) {
    const struct lane *lane = &walk->lane[i];
    struct port *port = lane->begun ? lane->port[segment_of(walk, lane)] : NULL;
    if (port && port->kind == PORT_SOCKET && port->leaving) tf_port_flush(port); /* a loss shows at its turn */
  }
}

/* Go on until all lanes are at their ends: CALL. Anything else is what the call of the lane whose turn it is came to
 * (`tf_port_finish`), or NOTHING after `most_ns`: whoever asked takes the lanes over as they stand. Lanes keep their order at every layer, so a lane
 * may hold the positions that follow another's. */
EXPORT int tf_walk(struct walk *walk, uint64_t nanoseconds, int64_t spin_ns, int64_t timeout_ns, int64_t most_ns) {
  const long start = clock_ns();
  uint32_t left = 0;
  walk->context_ns = walk->worked_ns = walk->calls = 0;
  for (walk->turn = 0; walk->turn < walk->lanes; walk->turn++) {
    if (begin(walk, &walk->lane[walk->turn], nanoseconds) != CALL) return LOST;
    left += !done(walk, &walk->lane[walk->turn]);
  }
  for (walk->turn = 0; left; walk->turn = (walk->turn + 1) % walk->lanes) {
    struct lane *lane = &walk->lane[walk->turn];
    if (done(walk, lane)) continue;
    flush(walk);
    const int what = advance(walk, lane, nanoseconds, spin_ns, timeout_ns);
    if (what != CALL) return what;
    if (clock_ns() - start > most_ns) return NOTHING;
    left -= (uint32_t)done(walk, lane);
  }
  return CALL;
}
