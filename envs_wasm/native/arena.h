/* The memory of one call: bytes stacked above the program's own data, dropped when the reply is released.
 *
 * Arguments, texts being written and replies lie here, one after the other. When the host grants no more
 * memory the arena is exhausted: `put` and its kin then write nothing, and the call is answered as such.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that somebody else owns; not terminated. */
typedef struct {
    const char *start;
    size_t length;
} Text;

/* The next free byte: where the next text starts, and where the last one ends. */
char *arena_top(void);

/* So many bytes at the top; NULL when the arena is exhausted. */
char *arena_take(size_t size);

bool arena_is_exhausted(void);

/* Drops everything. */
void arena_reset(void);

void put_byte(uint8_t byte);
void put(const char *terminated);
void put_text(Text text);
void put_whole(int64_t value);

/* Opens a frame: room for its length, a little-endian u32. `frame_close` fills it in and returns the content,
 * which is empty when the arena is exhausted. */
char *frame_open(void);
Text frame_close(char *frame);

/* The frame at `at`, cut where `end` is nearer than it says; `at` moves past it. */
Text frame_next(const char **at, const char *end);

/* What was put since `start`. */
static inline Text text_since(const char *start)
{
    return (Text){start, (size_t)(arena_top() - start)};
}

#endif
