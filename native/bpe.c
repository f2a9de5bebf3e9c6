/* Byte pair encoding (Sennrich et al. 2016; over bytes: Radford et al. 2019; by scores: Kudo & Richardson 2018, SentencePiece).
 *
 *   merge    best first: two tokens that lie side by side, and the token they become
 *   word     text → token; pair: two tokens → merge. Open addressing, a slot holds what it leads to + 1, 0 if it is free
 *   rank     of a token: -1 if text never becomes it. Without merges any two neighbours whose text is a token become it, least first
 *
 * Words come in the vocabulary's own writing (GPT-2's letters for bytes, or characters with U+2581 for spaces) and begin as their
 * characters. The strings, ranks and byte tokens stay the caller's; the tables are ours. */
#include <stdlib.h>
#include <string.h>
#include "twofold.h"

enum problem { OUT_OF_MEMORY = 1, TWICE, EMPTY, NO_PAIR, NO_LEFT, NO_RIGHT, NO_WHOLE };

struct strings { const uint8_t *text; const int32_t *end; int32_t count; };
struct merge { int32_t left, right, whole; };
struct bpe {
  struct strings tokens;
  const int32_t *rank, *byte_token; /* byte_token: of each byte, or null */
  int32_t unknown;                  /* the token for what no token stands for, or -1 */
  int32_t by_rank, whole_words;
  uint32_t word_mask, pair_mask;
  int32_t *word, *pair;
  struct merge *merge;
};

static const uint8_t *string_at(const struct strings *s, int32_t i, int32_t *bytes) {
  const int32_t start = i ? s->end[i - 1] : 0;
  *bytes = s->end[i] - start;
  return s->text + start;
}

/* FNV-1a; `spread` lets all its bits decide about the lower ones, which name the slot */
static const uint32_t HASH_START = 2166136261u;
static uint32_t hash_on(uint32_t h, const uint8_t *text, int32_t bytes) {
  for (int32_t i = 0; i < bytes; i++) h = (h ^ text[i]) * 16777619u;
  return h;
}
static uint32_t spread(uint32_t h) { h = (h ^ h >> 15) * 0x2C1B3C6Du; return h ^ h >> 13; }

/* the slot of the text `a` followed by `b`: the one that holds its token, or the free one where it would be */
static int32_t *word_slot(const struct bpe *t, uint32_t hash, const uint8_t *a, int32_t a_bytes, const uint8_t *b, int32_t b_bytes) {
  for (uint32_t i = spread(hash);; i++) {
    int32_t *slot = t->word + (i & t->word_mask), bytes;
    if (!*slot) return slot;
    const uint8_t *text = string_at(&t->tokens, *slot - 1, &bytes);
    if (bytes == a_bytes + b_bytes && !memcmp(text, a, (size_t)a_bytes) && !memcmp(text + a_bytes, b, (size_t)b_bytes)) return slot;
  }
}
/* the token of a text, -1 if there is none */
static int32_t token_of(const struct bpe *t, const uint8_t *text, int32_t bytes) {
  return *word_slot(t, hash_on(HASH_START, text, bytes), text, bytes, text, 0) - 1;
}
/* the token that a text may become, -1 if there is none */
static int32_t made_of(const struct bpe *t, const uint8_t *text, int32_t bytes) {
  const int32_t token = token_of(t, text, bytes);
  return token >= 0 && t->rank[token] >= 0 ? token : -1;
}
/* the slot of a pair, or the free one where it would be */
static int32_t *pair_slot(const struct bpe *t, int32_t left, int32_t right) {
  for (uint32_t i = spread((uint32_t)left * 0x9E3779B1u ^ (uint32_t)right);; i++) {
    int32_t *slot = t->pair + (i & t->pair_mask);
    if (!*slot) return slot;
    const struct merge *merge = t->merge + *slot - 1;
    if (merge->left == left && merge->right == right) return slot;
  }
}

static enum problem add_tokens(struct bpe *t, int32_t *where) {
  for (int32_t i = 0, bytes; i < t->tokens.count; i++) {
    const uint8_t *text = string_at(&t->tokens, i, &bytes);
    int32_t *slot = word_slot(t, hash_on(HASH_START, text, bytes), text, bytes, text, 0);
    *where = i;
    if (*slot) return TWICE;
    if (!bytes) return EMPTY;
    *slot = i + 1;
  }
  return 0;
}
/* merges are "left right", best first; of one that is there twice, the last counts */
static enum problem add_pairs(struct bpe *t, const struct strings *merges, int32_t *where) {
  for (int32_t i = 0, bytes; i < merges->count; i++) {
    const uint8_t *left = string_at(merges, i, &bytes), *space = memchr(left, ' ', (size_t)bytes);
    const int32_t left_bytes = space ? (int32_t)(space - left) : 0, right_bytes = bytes - left_bytes - 1;
    const uint8_t *right = left + left_bytes + 1;
    *where = i;
    if (left_bytes < 1 || right_bytes < 1 || memchr(right, ' ', (size_t)right_bytes)) return NO_PAIR;
    const uint32_t hash = hash_on(HASH_START, left, left_bytes);
    const int32_t a = *word_slot(t, hash, left, left_bytes, left, 0) - 1, b = token_of(t, right, right_bytes);
    const int32_t whole = *word_slot(t, hash_on(hash, right, right_bytes), left, left_bytes, right, right_bytes) - 1;
    if (a < 0) return NO_LEFT;
    if (b < 0) return NO_RIGHT;
    if (whole < 0) return NO_WHOLE;
    t->merge[i] = (struct merge){a, b, whole};
    *pair_slot(t, a, b) = i + 1;
  }
  return 0;
}

/* one less than a power of two that is at least twice `count` */
static uint32_t mask_for(int32_t count) {
  uint32_t slots = 2;
  while (slots < 2 * (uint32_t)count) slots *= 2;
  return slots - 1;
}

EXPORT void tf_bpe_free(struct bpe *t) {
  free(t->word);
  free(t->pair);
  free(t->merge);
  free(t);
}
/* A tokenizer of the `tokens` strings that end at `token_end` in `text`, of their ranks, and of the merges (merge_text 0: it goes
 * by rank); all stay the caller's and are there until tf_bpe_free. 0 if it cannot be made: then problem[0] says why (enum
 * problem), problem[1] which token or merge. */
EXPORT struct bpe *tf_bpe_new(const uint8_t *text, const int32_t *token_end, int32_t tokens, const int32_t *rank,
                              const uint8_t *merge_text, const int32_t *merge_end, int32_t merges, const int32_t *byte_token,
                              int32_t unknown, int32_t whole_words, int32_t *problem) {
  const struct strings all = {merge_text, merge_end, merges};
  struct bpe *t = calloc(1, sizeof *t);
  problem[0] = OUT_OF_MEMORY;
  if (!t) return 0;
  *t = (struct bpe){.tokens = {text, token_end, tokens}, .rank = rank, .byte_token = byte_token, .unknown = unknown, .by_rank = !merge_text,
                    .whole_words = whole_words, .word_mask = mask_for(tokens), .pair_mask = mask_for(merges)};
  t->word = calloc(t->word_mask + (size_t)1, sizeof *t->word);
  t->pair = calloc(t->pair_mask + (size_t)1, sizeof *t->pair);
  t->merge = malloc(((size_t)merges + 1) * sizeof *t->merge);
  if (t->word && t->pair && t->merge) {
    problem[0] = add_tokens(t, problem + 1);
    if (!problem[0]) problem[0] = add_pairs(t, &all, problem + 1);
  }
  if (problem[0]) { tf_bpe_free(t); return 0; }
  return t;
}

/* One word under way: at each place a token, or -1 for a character without one, and where in the word its text starts. A place that
 * was merged into the one before it is GONE. A heap entry is rank << 32 | place; it counts only if that is still the rank there. */
enum { LAST = -1, GONE = -2 };
struct work { const uint8_t *text; int32_t bytes, *token, *start, *next, *before; uint64_t *heap; int64_t heaped; };

static void push(struct work *w, uint64_t entry) {
  int64_t i = w->heaped++;
  for (; i && w->heap[(i - 1) / 2] > entry; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
  w->heap[i] = entry;
}
static uint64_t pop(struct work *w) {
  const uint64_t least = w->heap[0], last = w->heap[--w->heaped];
  int64_t i = 0;
  for (int64_t child; (child = 2 * i + 1) < w->heaped; i = child) {
    if (child + 1 < w->heaped && w->heap[child + 1] < w->heap[child]) child++;
    if (w->heap[child] >= last) break;
    w->heap[i] = w->heap[child];
  }
  w->heap[i] = last;
  return least;
}
/* bytes of the text at `place`, and of the places after it that are merged into it */
static int32_t span(const struct work *w, int32_t place) {
  return (w->next[place] < 0 ? w->bytes : w->start[w->next[place]]) - w->start[place];
}
/* the token that `place` and the next one become and its rank, -1 if there is none */
static int32_t merged(const struct bpe *t, const struct work *w, int32_t place, int32_t *whole) {
  if (place < 0 || w->next[place] < 0) return -1;
  const int32_t next = w->next[place];
  if (t->by_rank) {
    *whole = made_of(t, w->text + w->start[place], span(w, place) + span(w, next));
    return *whole < 0 ? -1 : t->rank[*whole];
  }
  if (w->token[place] < 0 || w->token[next] < 0) return -1;
  const int32_t rank = *pair_slot(t, w->token[place], w->token[next]) - 1;
  if (rank >= 0) *whole = t->merge[rank].whole;
  return rank;
}
static void consider(const struct bpe *t, struct work *w, int32_t place) {
  int32_t whole;
  const int32_t rank = merged(t, w, place, &whole);
  if (rank >= 0) push(w, (uint64_t)rank << 32 | (uint32_t)place);
}

/* bytes of the character that begins with `lead` in UTF-8 */
static int32_t character(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }
/* The word as its characters. Where nothing stands for one that is no token, it is left out, and its neighbours are neighbours. */
static int32_t lay_out(const struct bpe *t, struct work *w) {
  int32_t n = 0;
  for (int32_t i = 0, bytes; i < w->bytes; i += bytes) {
    bytes = character(w->text[i]);
    if (bytes > w->bytes - i) bytes = w->bytes - i;
    w->token[n] = made_of(t, w->text + i, bytes);
    if (w->token[n] < 0 && !t->byte_token && t->unknown < 0) continue;
    w->start[n] = i;
    w->before[n] = n - 1;
    w->next[n] = n + 1;
    n++;
  }
  if (n) w->next[n - 1] = LAST;
  return n;
}
/* Tokens of a character that is none itself: its bytes, or the unknown token, once for many in a row. How many there are now. */
static int64_t spell(const struct bpe *t, const uint8_t *text, int32_t bytes, int32_t *out, int64_t used) {
  int32_t known = 0;
  while (t->byte_token && known < bytes && t->byte_token[text[known]] >= 0) known++;
  if (known == bytes)
    for (int32_t i = 0; i < bytes; i++) out[used++] = t->byte_token[text[i]];
  else if (t->unknown >= 0 && !(used && out[used - 1] == t->unknown))
    out[used++] = t->unknown;
  return used;
}
/* Tokens of one word to `out`; how many. */
static int64_t encode_word(const struct bpe *t, struct work *w, int32_t *out) {
  const int32_t n = lay_out(t, w);
  if (!n) return 0;
  for (int32_t i = 0; i + 1 < n; i++) consider(t, w, i);
  while (w->heaped) {
    const uint64_t entry = pop(w);
    const int32_t place = (int32_t)(uint32_t)entry;
    int32_t whole;
    const int32_t rank = merged(t, w, place, &whole);
    if (rank < 0 || (uint64_t)rank != entry >> 32) continue;
    const int32_t gone = w->next[place];
    w->token[place] = whole;
    w->next[place] = w->next[gone];
    if (w->next[gone] >= 0) w->before[w->next[gone]] = place;
    w->next[gone] = GONE;
    consider(t, w, w->before[place]);
    consider(t, w, place);
  }
  int64_t used = 0;
  for (int32_t i = 0; i >= 0; i = w->next[i]) {
    if (w->token[i] >= 0) out[used++] = w->token[i];
    else used = spell(t, w->text + w->start[i], span(w, i), out, used);
  }
  return used;
}

static int64_t encode_words(const struct bpe *t, struct work *w, const uint8_t *text, const int32_t *end, const int32_t *token,
                            int64_t words, int32_t *out) {
  int64_t used = 0;
  for (int64_t i = 0, start = 0; i < words; start = end[i++]) {
    w->text = text + start;
    w->bytes = end[i] - (int32_t)start;
    const int32_t known = token[i] >= 0 ? token[i] : t->whole_words ? made_of(t, w->text, w->bytes) : -1;
    if (known >= 0) out[used++] = known;
    else used += encode_word(t, w, out + used);
  }
  return used;
}
/* Token ids of a text that is cut into `words`, one after another, ends in `end`; a word with token[i] >= 0 is that token.
 * `out` has room for an id a byte and an id a word. Returns how many, or -1 if there was no memory. */
EXPORT int64_t tf_bpe_encode(const struct bpe *t, const uint8_t *text, const int32_t *end, const int32_t *token, int64_t words, int32_t *out) {
  size_t longest = 1;
  for (int64_t i = 0, start = 0; i < words; start = end[i++])
    if ((size_t)(end[i] - start) > longest) longest = (size_t)(end[i] - start);
  char *memory = malloc(longest * (3 * sizeof(uint64_t) + 4 * sizeof(int32_t))); /* a merge takes one entry and pushes two */
  if (!memory) return -1;
  struct work w = {.heap = (uint64_t *)memory, .heaped = 0};
  w.token = (int32_t *)(w.heap + 3 * longest);
  w.start = w.token + longest;
  w.next = w.start + longest;
  w.before = w.next + longest;
  const int64_t used = encode_words(t, &w, text, end, token, words, out);
  free(memory);
  return used;
}
