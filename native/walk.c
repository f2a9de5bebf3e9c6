/* A step's walk through the layers: for each, the call of weight memory and then the context operation, in one native
 * call. The same as the loop of engine/step.py, where every segment is called through a port. */
#include "frame.h"
#include "twofold.h"

struct context_call;
void tf_context(const struct context_call *call);
int tf_port_call(struct port *port, const struct layout *layout, char *rows, uint32_t segment, uint32_t count, uint64_t nanoseconds, int64_t spin_ns, int64_t timeout_ns, uint64_t *worked);

struct walk {
  struct port *const *port;                    /* of each segment */
  const struct context_call *const *context;   /* of each layer */
  const struct layout *layout;
  char *rows;
  uint64_t worked_ns, context_ns;              /* added up */
  uint32_t segment, count;                     /* where it stands; rows of each call */
};

/* Go on from `segment` through the context operation of the layer before `end`. CALL: done. Anything else is what the
 * call of `segment` came to (`tf_port_finish`): whoever asked waits for its answer or makes it again, does that layer's
 * context operation, and goes on with the next. */
EXPORT int tf_walk(struct walk *walk, uint32_t end, uint64_t nanoseconds, int64_t spin_ns, int64_t timeout_ns) {
  for (; walk->segment < end; walk->segment++) {
    uint64_t worked = 0;
    struct port *port = walk->port[walk->segment];
    const int what = tf_port_call(port, walk->layout, walk->rows, walk->segment, walk->count, nanoseconds, spin_ns, timeout_ns, &worked);
    if (what != CALL) return what;
    const long start = clock_ns();
    tf_context(walk->context[walk->segment]);
    walk->worked_ns += worked;
    walk->context_ns += (uint64_t)(clock_ns() - start);
  }
  return CALL;
}
