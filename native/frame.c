/* Frames: their checksum, what is wrong with one, and the planes in and out of a payload. */
#include "frame.h"
#include <string.h>
#include "twofold.h"

/* CRC-32C (Castagnoli, RFC 3720 section 12.1), reflected, by table: eight bytes a step. */
static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    table[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int t = 1; t < 8; t++) table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 255];
}

static uint32_t crc_by_table(uint32_t crc, const uint8_t *data, uint64_t length) {
  for (; length >= 8; data += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    word ^= crc;
    crc = 0;
    for (int t = 0; t < 8; t++) crc ^= table[7 - t][word >> 8 * t & 255];
  }
  while (length--) crc = crc >> 8 ^ table[0][(crc ^ *data++) & 255];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *data, uint64_t length) {
  uint64_t wide = crc;
  for (; length >= 8; data += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = (uint32_t)wide;
  while (length--) crc = __builtin_ia32_crc32qi(crc, *data++);
  return crc;
}
#endif

uint32_t frame_crc(uint32_t crc, const void *data, uint64_t length) {
  crc = ~crc;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~crc_by_instruction(crc, data, length);
#endif
  return ~crc_by_table(crc, data, length);
}

EXPORT uint32_t tf_crc32c(uint32_t crc, const void *data, uint64_t length) { return frame_crc(crc, data, length); }

/* of the header with its checksum 0, then of the payload */
uint32_t frame_checksum(const struct head *head, const void *payload) {
  struct head clear = *head;
  clear.checksum = 0;
  return frame_crc(frame_crc(0, &clear, sizeof clear), payload, head->length);
}

/* the payload of a CALL or REPLY, in bytes */
uint64_t frame_length(const struct layout *layout, uint16_t kind, uint32_t segment, uint32_t rows) {
  const struct cut *cut = &layout->cut[segment];
  const struct plane *plane = cut->plane + (kind == FRAME_REPLY ? cut->takes : 0);
  uint64_t bytes = 0;
  for (uint32_t p = 0; p < (kind == FRAME_REPLY ? cut->gives : cut->takes); p++) bytes += plane[p].row_bytes;
  return bytes * rows;
}

/* All but the checksum, before memory is given to the payload: `room` is what there is. Without a layout (before the
 * handshake) only messages are expected. */
enum fault frame_fault(const struct head *head, const struct layout *layout, uint64_t room) {
  if (memcmp(head->magic, "2FLD", 4)) return FAULT_MAGIC;
  if (head->version != FRAME_VERSION) return FAULT_VERSION;
  if (head->kind < FRAME_CALL || head->kind > FRAME_CONTROL) return FAULT_KIND;
  if (head->flags || head->reserved) return FAULT_FLAGS;
  if (head->kind == FRAME_CONTROL) return head->length > room ? FAULT_LENGTH : FAULT_NONE;
  if (!layout) return FAULT_KIND;
  if (memcmp(head->model, layout->model, sizeof head->model)) return FAULT_MODEL;
  if (head->segment >= layout->segments) return FAULT_SEGMENT;
  if (head->rows < 1 || head->rows > layout->cut[head->segment].limit) return FAULT_ROWS;
  const uint64_t length = frame_length(layout, head->kind, head->segment, head->rows);
  return head->length != length || length > room ? FAULT_LENGTH : FAULT_NONE;
}

/* rows first .. first + count - 1 of the planes that a segment takes or gives, one plane after the other */
void frame_pack(const struct cut *cut, int gives, const char *rows, uint64_t first, uint64_t count, char *payload) {
  const struct plane *plane = cut->plane + (gives ? cut->takes : 0);
  for (uint32_t p = 0; p < (gives ? cut->gives : cut->takes); p++) {
    memcpy(payload, rows + plane[p].offset + first * plane[p].row_bytes, count * plane[p].row_bytes);
    payload += count * plane[p].row_bytes;
  }
}

void frame_unpack(const struct cut *cut, int gives, char *rows, uint64_t first, uint64_t count, const char *payload) {
  const struct plane *plane = cut->plane + (gives ? cut->takes : 0);
  for (uint32_t p = 0; p < (gives ? cut->gives : cut->takes); p++) {
    memcpy(rows + plane[p].offset + first * plane[p].row_bytes, payload, count * plane[p].row_bytes);
    payload += count * plane[p].row_bytes;
  }
}
