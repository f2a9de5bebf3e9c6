/*
 * Ports: the two ends of a link, as memory that holds one frame each way.
 *
 *     caller    tf_port_begin ── CALL ──▶  port_pull, tf_port_take    server
 *               tf_port_finish ◀─ REPLY ── tf_port_give
 *
 * SHARED: both ends map the frames; a word in a mailbox says that one is there. SOCKET: the frames cross a stream
 * socket, inside TLS if the port has a session (tls.c). FED: Python moves the bytes (WebSocket; TLS where OpenSSL cannot
 * be called from here), and the rest is as for a socket. HERE: nothing moves, `finish` works on the rows where they are. A
 * caller's rows are written
 * only when all of the reply is there and right, so a call that failed can be made again elsewhere. What a call
 * carried is wiped as soon as it has been answered.
 */
#define _GNU_SOURCE
#include "frame.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "twofold.h"

enum { PAUSES_PER_CLOCK = 16, TRIES_PER_CLOCK = 4 };
static const int64_t GAP_NS = 50000; /* a spinning thread that sees the clock jump by so much was not running */
/* How long not to spin after spinning in vain, and after another thread wanted the processor: twice as long each time in
 * a row, up to the last. */
static const int64_t VAIN_NS = 100000, WANTED_NS = 2000000, MOST_CALM_NS = 200000000;

void pause_core(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb"); /* "yield" is a no-op on most cores and would hog the memory port */
#elif defined(__riscv)
  __asm__ __volatile__(".insn i 0x0f, 0, x0, x0, 0x010"); /* pause (Zihintpause), a hint elsewhere */
#endif
}

long clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

static long times_preempted(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nivcsw;
}

/* Spinning is for a processor that nobody else wants. */
struct spinning begin_to_spin(int64_t spin_ns, const struct calm *calm) {
  const int64_t now = clock_ns();
  const int spins = spin_ns > 0 && now >= calm->until;
  return (struct spinning){spins ? now + spin_ns : now, now, spins ? times_preempted() : 0};
}

static void be_calm(struct calm *calm, int64_t now, int64_t least) {
  const int64_t twice = 2 * calm->length < MOST_CALM_NS ? 2 * calm->length : MOST_CALM_NS;
  calm->length = twice > least ? twice : least;
  calm->until = now + calm->length;
}

/* Whether to look again; `found`: what was waited for is there. */
int go_on_spinning(struct spinning *spinning, struct calm *calm, int found) {
  if (found) {
    calm->length /= 2;
    return 0;
  }
  const int64_t before = spinning->last, now = spinning->last = clock_ns();
  if (before >= spinning->end) return 0;
  /* a virtual machine that was paused as a whole shows as a gap too, but not as a preemption */
  const int wanted = now - before > GAP_NS && times_preempted() > spinning->preempted;
  if (!wanted && now < spinning->end) return 1;
  be_calm(calm, now, wanted ? WANTED_NS : VAIN_NS);
  return 0;
}

static enum what damaged(struct port *port, enum fault fault) {
  port->fault = (uint32_t)fault;
  return DAMAGED;
}

static enum what lost(struct port *port) {
  port->fault = (uint32_t)errno;
  return LOST;
}

static enum what arrived(const struct port *port) { return port->call.kind == FRAME_CONTROL ? MESSAGE : CALL; }

/* what is wrong with the header of the frame that arrives */
static enum fault fault_of(const struct port *port) {
  const enum fault fault = frame_fault(&port->call, port->layout, port->in_room - sizeof(struct head));
  if (fault) return fault;
  return port->call.kind == (port->serves ? FRAME_REPLY : FRAME_CALL) ? FAULT_KIND : FAULT_NONE;
}

static enum what pull_shared(struct port *port) {
  const uint32_t word = atomic_load_explicit(&port->mine->word, memory_order_acquire);
  if (word == port->seen) return NOTHING;
  port->seen = word;
  memcpy(&port->call, port->in, sizeof port->call); /* one copy: the other side can change the page at any time */
  const enum fault fault = fault_of(port);
  if (fault) return damaged(port, fault);
  return (uint32_t)port->call.sequence == word ? arrived(port) : damaged(port, FAULT_LENGTH);
}

/* what has arrived in `in` so far, as a frame: NOTHING if it is not whole */
static enum what parse(struct port *port) {
  if (port->filled < sizeof(struct head)) return NOTHING;
  memcpy(&port->call, port->in, sizeof port->call);
  const enum fault fault = fault_of(port);
  if (fault) return damaged(port, fault);
  const uint64_t whole = sizeof(struct head) + port->call.length;
  if (port->filled < whole) return NOTHING;
  if (port->filled > whole) return damaged(port, FAULT_LENGTH);
  if (frame_checksum(&port->call, port->in + sizeof(struct head)) != port->call.checksum)
    return damaged(port, FAULT_CHECKSUM);
  port->filled = 0;
  return arrived(port);
}

static int64_t receive(struct port *port, char *data, uint64_t room) {
  return port->tls ? tls_receive(port->tls, data, room) : recv(port->descriptor, data, room, MSG_DONTWAIT);
}

static int64_t transmit(struct port *port, const char *data, uint64_t length) {
  return port->tls ? tls_send(port->tls, data, length) : send(port->descriptor, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static enum what pull_socket(struct port *port) {
  for (;;) {
    if (port->filled == port->in_room) return damaged(port, FAULT_LENGTH);
    const int64_t got = receive(port, port->in + port->filled, port->in_room - port->filled);
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? NOTHING : lost(port);
    }
    if (got == 0) {
      errno = 0;
      return lost(port);
    }
    port->filled += (uint64_t)got;
    const enum what what = parse(port);
    if (what) return what;
  }
}

/* The next frame that has arrived whole and right; never waits. */
enum what port_pull(struct port *port) {
  switch (port->kind) {
  case PORT_SHARED: return pull_shared(port);
  case PORT_SOCKET: return pull_socket(port);
  default: return NOTHING;
  }
}

EXPORT int tf_port_pull(struct port *port) { return (int)port_pull(port); }

/* `count` bytes were put behind what has arrived of a FED port */
EXPORT int tf_port_fed(struct port *port, uint64_t count) {
  port->filled += count;
  return (int)parse(port);
}

/* Whoever waits for `box` sees a new word; who sleeps is woken, by its eventfd if it has one. */
static void ring(struct mailbox *box, uint32_t word, int descriptor) {
  atomic_store(&box->word, word);
  if (!atomic_load(&box->asleep)) return;
  if (descriptor < 0) {
    syscall(SYS_futex, &box->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return;
  }
  const uint64_t one = 1;
  if (write(descriptor, &one, sizeof one) < 0) return; /* full: it is being rung already */
}

/* send what is left of `out`: WRITABLE when all has left, NOTHING if the socket takes no more now */
static enum what flush(struct port *port) {
  while (port->left < port->leaving) {
    const int64_t sent = transmit(port, port->out + port->left, port->leaving - port->left);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? NOTHING : lost(port);
    }
    port->left += (uint64_t)sent;
  }
  memset(port->out, 0, port->leaving);
  port->leaving = port->left = 0;
  return WRITABLE;
}

EXPORT int tf_port_flush(struct port *port) { return (int)flush(port); }

/* A FED port's frame has been handed on. */
EXPORT void tf_port_left(struct port *port) {
  memset(port->out, 0, port->leaving);
  port->leaving = port->left = 0;
}

/* the frame in `out`, whose header and planes are written, leaves */
static enum what leave(struct port *port, struct head *head) {
  char *const payload = port->out + sizeof *head;
  if (port->kind != PORT_SHARED) head->checksum = frame_checksum(head, payload);
  memcpy(port->out, head, sizeof *head);
  if (port->kind == PORT_SHARED) {
    ring(port->theirs, (uint32_t)head->sequence, port->descriptor);
    return WRITABLE;
  }
  port->leaving = sizeof *head + head->length;
  port->left = 0;
  return port->kind == PORT_SOCKET ? flush(port) : NOTHING;
}

static struct head head_of(const struct port *port, uint16_t kind, uint32_t segment, uint32_t rows, uint64_t sequence, uint64_t nanoseconds) {
  struct head head = {{'2', 'F', 'L', 'D'}, FRAME_VERSION, kind, {0}, segment, rows, sequence, nanoseconds,
                      frame_length(port->layout, kind, segment, rows), 0, 0, 0};
  memcpy(head.model, port->layout->model, sizeof head.model);
  return head;
}

/* ---- the calling end ---- */

/* Send a call of `count` rows from the front of `rows`. */
EXPORT int tf_port_begin(struct port *port, const struct layout *layout, const char *rows, uint32_t segment, uint32_t count, uint64_t nanoseconds) {
  if (port->kind == PORT_HERE) return NOTHING;
  struct head head = head_of(port, FRAME_CALL, segment, count, ++port->sequence, nanoseconds);
  frame_pack(&layout->cut[segment], 0, rows, 0, count, port->out + sizeof head);
  return (int)leave(port, &head);
}

static int is_answer(const struct port *port, uint32_t segment, uint32_t count) {
  const struct head *head = &port->call;
  return head->kind == FRAME_REPLY && head->segment == segment && head->rows == count && head->sequence == port->sequence;
}

/* look for a frame, spinning for at most spin_ns unless the processor is wanted by others */
static enum what spin(struct port *port, int64_t spin_ns) {
  enum what what = port_pull(port);
  if (what) return what;
  struct spinning spinning = begin_to_spin(spin_ns, &port->calm);
  while (go_on_spinning(&spinning, &port->calm, what != NOTHING))
    for (int i = 0; !what && i < (port->kind == PORT_SHARED ? PAUSES_PER_CLOCK : TRIES_PER_CLOCK); i++) {
      pause_core();
      what = port_pull(port);
    }
  return what;
}

static void sleep_for(struct port *port, int64_t timeout_ns) {
  if (port->kind == PORT_SHARED) {
    struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    /* sequentially consistent with the ring: either it sees `asleep`, or the futex sees the new word */
    atomic_store(&port->mine->asleep, 1);
    syscall(SYS_futex, &port->mine->word, FUTEX_WAIT, port->seen, &limit, NULL, 0);
    atomic_store(&port->mine->asleep, 0);
  } else {
    struct pollfd wanted = {port->descriptor, (short)(POLLIN | (port->kind == PORT_SOCKET && port->leaving ? POLLOUT : 0)), 0};
    struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    ppoll(&wanted, 1, &limit, NULL);
  }
}

static int readable(const struct port *port) {
  struct pollfd wanted = {port->descriptor, POLLIN, 0};
  return poll(&wanted, 1, 0) > 0;
}

/* Until the descriptor of a FED port can be read, or for about timeout_ns. */
EXPORT void tf_port_await(struct port *port, int64_t spin_ns, int64_t timeout_ns) {
  int found = readable(port);
  if (found) return;
  struct spinning spinning = begin_to_spin(spin_ns, &port->calm);
  while (go_on_spinning(&spinning, &port->calm, found))
    for (int i = 0; !found && i < TRIES_PER_CLOCK; i++) found = readable(port);
  if (!found && timeout_ns > 0) sleep_for(port, timeout_ns);
}

/* Wait for the answer to the call begun last, for about timeout_ns: CALL if it is in the front of `rows`, and the
 * nanoseconds worked in *worked; MESSAGE if a message came instead; NOTHING if none came yet: a signal ends the wait
 * early, so that the caller can look around and wait again. */
EXPORT int tf_port_finish(struct port *port, const struct layout *layout, char *rows, uint32_t segment, uint32_t count, int64_t spin_ns, int64_t timeout_ns, uint64_t *worked) {
  if (port->kind == PORT_HERE)
    return work_here(port->native, layout, port->vocabulary, rows, segment, count, worked) ? NOTHING : CALL;
  enum what what = CALL; /* a FED port's reply is parsed already */
  if (port->kind != PORT_FED) {
    if (port->leaving && flush(port) == LOST) return LOST;
    what = spin(port, spin_ns);
    if (!what && timeout_ns > 0) {
      sleep_for(port, timeout_ns);
      what = port_pull(port);
    }
  }
  if (what != CALL) return (int)what;
  if (!is_answer(port, segment, count)) return (int)damaged(port, FAULT_ROWS);
  char *const payload = port->in + sizeof(struct head);
  frame_unpack(&layout->cut[segment], 1, rows, 0, count, payload);
  memset(payload, 0, port->call.length);
  *worked = port->call.nanoseconds;
  return CALL;
}

/* `tf_port_begin` and `tf_port_finish` in one. */
EXPORT int tf_port_call(struct port *port, const struct layout *layout, char *rows, uint32_t segment, uint32_t count, uint64_t nanoseconds, int64_t spin_ns, int64_t timeout_ns, uint64_t *worked) {
  const int begun = tf_port_begin(port, layout, rows, segment, count, nanoseconds);
  return begun == LOST ? LOST : tf_port_finish(port, layout, rows, segment, count, spin_ns, timeout_ns, worked);
}

/* ---- the serving end ---- */

/* Copy the planes of the calls that were pulled on `count` ports into `rows`, one call behind the other. */
EXPORT void tf_ports_take(struct port **ports, uint32_t count, const struct layout *layout, char *rows) {
  uint64_t first = 0;
  for (uint32_t i = 0; i < count; i++) {
    const struct head *head = &ports[i]->call;
    frame_unpack(&layout->cut[head->segment], 0, rows, first, head->rows, ports[i]->in + sizeof *head);
    first += head->rows;
  }
}

static enum what give(struct port *port, const struct layout *layout, const char *rows, uint64_t first, uint64_t worked) {
  const struct head *call = &port->call;
  struct head head = head_of(port, FRAME_REPLY, call->segment, call->rows, call->sequence, worked);
  frame_pack(&layout->cut[call->segment], 1, rows, first, call->rows, port->out + sizeof head);
  memset(port->in + sizeof head, 0, call->length);
  return leave(port, &head);
}

/* Answer those calls with the planes that their segment gives, and wipe the rows; `what` has, of each port, WRITABLE if
 * the answer has left, NOTHING if not all of it has, LOST. */
EXPORT void tf_ports_give(struct port **ports, uint32_t count, const struct layout *layout, char *rows, uint64_t worked, int32_t *what) {
  const struct cut *cut = &layout->cut[ports[0]->call.segment];
  uint64_t first = 0;
  for (uint32_t i = 0; i < count; i++) {
    what[i] = (int32_t)give(ports[i], layout, rows, first, worked);
    first += ports[i]->call.rows;
  }
  for (uint32_t p = 0; p < cut->takes + cut->gives; p++) memset(rows + cut->plane[p].offset, 0, first * cut->plane[p].row_bytes);
}

/* Wipe the planes of the call that was pulled. */
EXPORT void tf_port_forget(struct port *port) { memset(port->in + sizeof(struct head), 0, port->call.length); }

/* Answer the call that was pulled with a message, over shared memory. */
EXPORT void tf_port_fail(struct port *port, const char *message, uint64_t length) {
  struct head head = {.magic = {'2', 'F', 'L', 'D'}, .version = FRAME_VERSION, .kind = FRAME_CONTROL, .sequence = port->call.sequence, .length = length};
  tf_port_forget(port);
  memcpy(port->out + sizeof head, message, length);
  leave(port, &head);
}
