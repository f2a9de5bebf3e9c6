/* The string arrays of a GGUF file, whose vocabularies are a hundred thousand strings. */
#include <string.h>
#include "twofold.h"

/* Reads `count` strings, each a u64 length and its bytes, from the `size` bytes at `data`, and writes them to `out`, a NUL
 * behind each: 7 bytes fewer for every string. Returns the bytes read, or -1 if the strings do not end within `size`, do
 * not fit `room`, or hold a NUL of their own; then `out` is of no use. */
EXPORT int64_t tf_join_strings(const uint8_t *data, int64_t size, int64_t count, uint8_t *out, int64_t room) {
  int64_t at = 0, used = 0;
  for (int64_t i = 0; i < count; i++) {
    uint64_t length;
    if (size - at < (int64_t)sizeof length) return -1;
    memcpy(&length, data + at, sizeof length);
    at += (int64_t)sizeof length;
    if (length > (uint64_t)(size - at) || length >= (uint64_t)(room - used) || memchr(data + at, 0, length)) return -1;
    memcpy(out + used, data + at, length);
    at += (int64_t)length;
    used += (int64_t)length;
    out[used++] = 0;
  }
  return at;
}
