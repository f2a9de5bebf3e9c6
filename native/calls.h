/* Which calls a weight memory runs next, together (calls.c). */
#pragma once
#include <stdint.h>

struct calls;
void tf_calls_put(struct calls *calls, int32_t port, int32_t owner, uint32_t segment, uint32_t rows, int64_t arrived, int64_t expiry);
int32_t tf_calls_next(struct calls *calls, int64_t now);
const int32_t *tf_calls_batch(const struct calls *calls, uint32_t *segment, uint32_t *rows);
void tf_calls_ran(struct calls *calls, int64_t now, int64_t took);
int64_t tf_calls_linger(struct calls *calls, int64_t now);
int32_t tf_calls_waiting(const struct calls *calls);
int32_t tf_calls_open(const struct calls *calls, int32_t port);
int64_t tf_calls_arrived(const struct calls *calls, int32_t port);
