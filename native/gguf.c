/* The string arrays of a GGUF file, whose vocabularies are a hundred thousand strings. */
#include <string.h>
#include "twofold.h"

/* Reads `count` strings, each a u64 length and its bytes, from the `size` bytes at `data`, and writes their bytes to `out`,
 * one after another, and where each ends there to `end`. Returns the bytes read, or -1 if the strings do not end within
 * `size` or do not fit `room`; then `out` and `end` are of no use. `room` is less than 2^31. */
EXPORT int64_t tf_join_strings(const uint8_t *data, int64_t size, int64_t count, uint8_t *out, int64_t room, int32_t *end) {
  int64_t at = 0, used = 0;
  for (int64_t i = 0; i < count; i++) {
    uint64_t length;
    if (size - at < (int64_t)sizeof length) return -1;
    memcpy(&length, data + at, sizeof length);
    at += (int64_t)sizeof length;
    if (length > (uint64_t)(size - at) || length > (uint64_t)(room - used)) return -1;
    memcpy(out + used, data + at, length);
    at += (int64_t)length;
    used += (int64_t)length;
    end[i] = (int32_t)used;
  }
  return at;
}
