/* Frames as bytes in memory, and the ends of links that move them (frame.c, port.c, tls.c, desk.c; docs/wire.md). */
#pragma once
#include <stdint.h>

/* The header of a frame as it is on every wire: little endian, 64 bytes. */
struct head {
  uint8_t magic[4];
  uint16_t version, kind;
  uint8_t model[16];
  uint32_t segment, rows;
  uint64_t sequence, nanoseconds, length;
  uint16_t flags, reserved;
  uint32_t checksum;
};
_Static_assert(sizeof(struct head) == 64, "a header has 64 bytes");
enum { FRAME_VERSION = 2, FRAME_CALL = 1, FRAME_REPLY = 2, FRAME_CONTROL = 3 };

/* Where the planes of each cut lie in the memory of rows, those a segment takes first, then those it gives. */
enum { MAX_PLANES = 16 };
struct plane { uint64_t offset; uint32_t row_bytes, unused; };
struct cut { uint32_t takes, gives, limit, unused; struct plane plane[MAX_PLANES]; };
struct layout { uint8_t model[16]; uint32_t segments, unused; const struct cut *cut; };

/* What is wrong with a frame; 0: nothing. Python has the words for each (wire/frame.py, from `FRAME_FAULTS` on). */
enum fault { FAULT_NONE, FAULT_MAGIC, FAULT_VERSION, FAULT_KIND, FAULT_FLAGS, FAULT_MODEL, FAULT_SEGMENT, FAULT_ROWS,
             FAULT_LENGTH, FAULT_CHECKSUM };

uint32_t frame_crc(uint32_t crc, const void *data, uint64_t length);
uint32_t frame_checksum(const struct head *head, const void *payload);
enum fault frame_fault(const struct head *head, const struct layout *layout, uint64_t room);
uint64_t frame_length(const struct layout *layout, uint16_t kind, uint32_t segment, uint32_t rows);
void frame_pack(const struct cut *cut, int gives, const char *rows, uint64_t first, uint64_t count, char *payload);
void frame_unpack(const struct cut *cut, int gives, char *rows, uint64_t first, uint64_t count, const char *payload);

/* Two words that one side rings and the other waits for. */
struct mailbox { _Atomic uint32_t word, asleep; };

/* A TLS session over a socket (tls.c); these return what `recv` and `send` would, and set errno as they would. */
struct tls;
int64_t tls_receive(struct tls *tls, void *data, uint64_t room);
int64_t tls_send(struct tls *tls, const void *data, uint64_t length);

/* Until when a thread does not spin, and for how long it last decided so. */
struct calm { int64_t until, length; };

/* One end of a link. `in` and `out` are frames, header and payload in one piece. HERE has none: its calls are worked on in
 * `tf_port_finish`, on the caller's own rows. */
enum kind { PORT_SHARED, PORT_SOCKET, PORT_FED, PORT_HERE };
struct segment_call;
struct port {
  int32_t kind, descriptor;      /* SOCKET: the socket; SHARED: the eventfd that wakes the other side, or -1: its futex */
  const struct layout *layout;
  struct mailbox *mine, *theirs; /* SHARED: this end waits for the one and rings the other */
  char *in, *out;
  uint64_t in_room, out_room;
  uint64_t filled;               /* bytes of `in` that have arrived */
  uint64_t leaving, left;        /* bytes of `out` that are to leave, and that have left */
  uint64_t sequence;             /* of the last call */
  struct calm calm;              /* no spinning while the processor is wanted by others */
  int32_t bell;                  /* SHARED, serving: the eventfd that wakes this end */
  int32_t serves;                /* calls arrive here; else replies */
  uint32_t seen, fault;
  struct tls *tls;               /* SOCKET: the session that its bytes pass through, or 0 */
  struct head call;              /* a copy of the header that arrived last, checked */
  struct segment_call *const *native; /* HERE: by segment */
  uint64_t vocabulary;           /* HERE: ids are below it */
};

/* What a port reports. */
enum what { NOTHING, CALL, MESSAGE, READY, LOST, DAMAGED, WRITABLE, ANSWERED, FAILED };
/* What happened at a place of a desk; segment, rows and the time to its deadline of a call. */
struct arrival { int32_t index, what; uint32_t segment, rows; uint64_t nanoseconds; };
enum what port_pull(struct port *port);
int tf_port_begin(struct port *port, const struct layout *layout, const char *rows, uint32_t segment, uint32_t count, uint64_t nanoseconds);
int tf_port_finish(struct port *port, const struct layout *layout, char *rows, uint32_t segment, uint32_t count, int64_t spin_ns, int64_t timeout_ns, uint64_t *worked);
int tf_port_flush(struct port *port);
void tf_ports_take(struct port **ports, uint32_t count, const struct layout *layout, char *rows);
void tf_ports_give(struct port **ports, uint32_t count, const struct layout *layout, char *rows, uint64_t worked, int32_t *what);
int work_here(struct segment_call *const *native, const struct layout *layout, uint64_t vocabulary, char *rows, uint32_t segment, uint32_t count, uint64_t *worked);
struct desk;
int desk_wait(struct desk *desk, int64_t spin_ns, int64_t timeout_ns, struct arrival *out, int most);
int desk_linger(struct desk *desk, int64_t nanoseconds, struct arrival *out, int most);
long clock_ns(void);
void pause_core(void);
struct spinning { int64_t end, last; long preempted; };
struct spinning begin_to_spin(int64_t spin_ns, const struct calm *calm);
int go_on_spinning(struct spinning *spinning, struct calm *calm, int found);
