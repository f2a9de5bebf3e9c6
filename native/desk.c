/*
 * The desk: where a server waits for frames on many ports at once.
 *
 * Every descriptor (sockets, listeners, the eventfds of shared memory) is in one epoll; the words of shared memory
 * are looked at in turn. It spins for a short time first: a sleeper wakes tens of microseconds late.
 */
#define _GNU_SOURCE
#include "frame.h"
#include <errno.h>
#include <stdatomic.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include "twofold.h"

/* `port[i]` is 0 where i is no port (a listener) or free; `shared` lists the ports of shared memory. */
struct desk {
  int32_t epoll, shared_count;
  struct port **port;
  const int32_t *shared;
  struct calm calm;
};

enum { EVENTS = 64, BELL = 1 << 30, PAUSES_PER_CLOCK = 8, NAP_NS = 10000 };

/* Watch `descriptor` as number `index`; `events`: 1 to read, 2 to write, 4 it is the eventfd of the port, 0 no more. */
EXPORT int tf_desk_watch(int epoll, int descriptor, int32_t index, int events, int fresh) {
  struct epoll_event event = {.events = (events & 5 ? EPOLLIN | EPOLLRDHUP : 0) | (events & 2 ? EPOLLOUT : 0),
                              .data.u64 = (uint64_t)(index | (events & 4 ? BELL : 0))};
  const int how = !events ? EPOLL_CTL_DEL : fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  return epoll_ctl(epoll, how, descriptor, &event) ? errno : 0;
}

static void note(struct arrival *out, int index, enum what what, const struct port *port) {
  *out = (struct arrival){index, (int32_t)what, 0, 0, 0};
  if (what == CALL) out->segment = port->call.segment, out->rows = port->call.rows, out->nanoseconds = port->call.nanoseconds;
}

static int look_at_shared(struct desk *desk, struct arrival *out, int most) {
  int found = 0;
  for (int i = 0; i < desk->shared_count && found < most; i++) {
    struct port *port = desk->port[desk->shared[i]];
    const enum what what = port_pull(port);
    if (what) note(&out[found++], desk->shared[i], what, port);
  }
  return found;
}

static int look_at_event(struct desk *desk, const struct epoll_event *event, struct arrival *out) {
  const int index = (int)event->data.u64;
  if (index & BELL) {
    uint64_t count;
    struct port *port = desk->port[index & ~BELL];
    if (port && read((int)port->bell, &count, sizeof count) < 0) return 0;
    return 0;
  }
  struct port *port = desk->port[index];
  if (!port || port->kind != PORT_SOCKET) {
    note(out, index, READY, port);
    return 1;
  }
  int found = 0;
  if (event->events & EPOLLOUT) note(&out[found++], index, WRITABLE, port);
  if (event->events & ~EPOLLOUT) {
    const enum what what = port_pull(port);
    if (what) note(&out[found++], index, what, port);
  }
  return found;
}

static int look_at_events(struct desk *desk, int timeout_ms, struct arrival *out, int most) {
  struct epoll_event event[EVENTS];
  int found = 0, count = epoll_wait(desk->epoll, event, most / 2 < EVENTS ? most / 2 : EVENTS, timeout_ms);
  for (int i = 0; i < count; i++) found += look_at_event(desk, &event[i], out + found);
  return found;
}

static int look(struct desk *desk, struct arrival *out, int most) {
  const int found = look_at_shared(desk, out, most / 2);
  return found + look_at_events(desk, 0, out + found, most - found);
}

static void say_asleep(struct desk *desk, uint32_t asleep) {
  for (int i = 0; i < desk->shared_count; i++) atomic_store(&desk->port[desk->shared[i]]->mine->asleep, asleep);
}

/* This thread's naps are to end in time: the system may stretch them by 50 us otherwise. */
EXPORT void tf_desk_own(void) { prctl(PR_SET_TIMERSLACK, 1000); }

/* What arrived, at most `most` of it (at least 4), once there is anything: looks until spin_ns have passed, then sleeps
 * for about timeout_ns at most. */
int desk_wait(struct desk *desk, int64_t spin_ns, int64_t timeout_ns, struct arrival *out, int most) {
  int found = look(desk, out, most);
  if (found || timeout_ns <= 0) return found;
  struct spinning spinning = begin_to_spin(spin_ns, &desk->calm);
  while (go_on_spinning(&spinning, &desk->calm, found)) {
    for (int i = 0; !found && i < PAUSES_PER_CLOCK; i++) {
      pause_core();
      found = look_at_shared(desk, out, most / 2);
    }
    found += look_at_events(desk, 0, out + found, most - found);
  }
  if (!found) {
    say_asleep(desk, 1);
    found = look_at_shared(desk, out, most / 2);
    if (!found) found = look_at_events(desk, (int)((timeout_ns + 999999) / 1000000), out, most);
    say_asleep(desk, 0);
    if (!found) found = look_at_shared(desk, out, most / 2);
  }
  return found;
}

/* The same for a short time, in which others are let go first: those that are waited for may need this processor. */
int desk_linger(struct desk *desk, int64_t nanoseconds, struct arrival *out, int most) {
  const int64_t start = clock_ns();
  const int calm = start < desk->calm.until;
  int found = look(desk, out, most);
  while (!found && clock_ns() - start < nanoseconds) {
    if (calm) nanosleep(&(struct timespec){0, NAP_NS}, 0); else sched_yield();
    found = look(desk, out, most);
  }
  return found;
}
