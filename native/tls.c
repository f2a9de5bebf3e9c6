/*
 * TLS over a socket: `recv` and `send` through a session of OpenSSL.
 *
 * Nothing of OpenSSL is needed to build this. Its functions are found at run time, in the library that Python's own ssl
 * uses (link/openssl.py, which also makes the sessions). A session does not read ahead: what nobody has taken yet is in the
 * socket, so polling tells of it as it does without TLS.
 */
#include "frame.h"
#include <errno.h>
#include <string.h>
#include "twofold.h"

/* OpenSSL 3: ssl.h and err.h have the names, in this order, SSL_read_ex to ERR_peek_last_error */
struct openssl {
  int (*read)(void *ssl, void *data, size_t room, size_t *got);
  int (*write)(void *ssl, const void *data, size_t length, size_t *written);
  int (*shake)(void *ssl);
  int (*error)(const void *ssl, int returned);
  void (*forget_errors)(void);
  unsigned long (*last_error)(void);
};
struct tls {
  const struct openssl *openssl;
  void *ssl;
  uint64_t why; /* OpenSSL's number of what ended the session; 0: nothing of its own */
};

enum { WANT_READ = 2, WANT_WRITE = 3, SYSTEM = 5, CLOSED = 6 }; /* SSL_ERROR_ZERO_RETURN and its like */
enum { ALPN_CHOSEN = 0, ALPN_IGNORED = 3 };                     /* SSL_TLSEXT_ERR_OK and its like */

static void before(const struct tls *tls) {
  tls->openssl->forget_errors(); /* what is left of them would be taken for an error of what comes now */
  errno = 0;
}

/* what `recv` would return, and its errno: EAGAIN also while the handshake goes on, EPROTO with `why` if TLS is broken */
static int64_t after(struct tls *tls, int returned, size_t count) {
  if (returned > 0) return (int64_t)count;
  switch (tls->openssl->error(tls->ssl, returned)) {
  case WANT_READ:
  case WANT_WRITE: errno = EAGAIN; return -1;
  case CLOSED: return 0;
  case SYSTEM: return errno ? -1 : 0;
  default:
    tls->why = tls->openssl->last_error();
    errno = EPROTO;
    return -1;
  }
}

int64_t tls_receive(struct tls *tls, void *data, uint64_t room) {
  size_t got = 0;
  before(tls);
  const int returned = tls->openssl->read(tls->ssl, data, room, &got);
  return after(tls, returned, got);
}

/* At most a record leaves at once. What was to leave and did not is to be sent again first, from the same byte on. */
int64_t tls_send(struct tls *tls, const void *data, uint64_t length) {
  size_t written = 0;
  before(tls);
  const int returned = tls->openssl->write(tls->ssl, data, length, &written);
  const int64_t sent = after(tls, returned, written);
  if (sent) return sent;
  errno = EPIPE;
  return -1;
}

/* The same for Python, which cannot see errno: it comes negative. */
static int64_t told(int64_t count) { return count < 0 ? -errno : count; }

EXPORT int64_t tf_tls_receive(struct tls *tls, void *data, uint64_t room) { return told(tls_receive(tls, data, room)); }
EXPORT int64_t tf_tls_send(struct tls *tls, const void *data, uint64_t length) { return told(tls_send(tls, data, length)); }

/* Go on with the handshake: 1 once it is done. */
EXPORT int64_t tf_tls_shake(struct tls *tls) {
  before(tls);
  return told(after(tls, tls->openssl->shake(tls->ssl), 1));
}

/* The server's choice among the protocols that a client offers (SSL_CTX_set_alpn_select_cb): `ours`, or none. */
EXPORT int tf_tls_choose(void *ssl, const uint8_t **chosen, uint8_t *length, const uint8_t *offered, unsigned bytes, void *ours) {
  (void)ssl;
  const size_t wanted = strlen(ours);
  for (unsigned at = 0; at < bytes; at += 1u + offered[at])
    if (offered[at] == wanted && at + 1 + wanted <= bytes && !memcmp(offered + at + 1, ours, wanted)) {
      *chosen = offered + at + 1, *length = offered[at];
      return ALPN_CHOSEN;
    }
  return ALPN_IGNORED;
}
