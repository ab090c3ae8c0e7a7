#include "arena.h"

#include <string.h>

enum { PAGE_BYTES = 65536, FRAME_BYTES = 4 };

static char *top, *limit;
static bool exhausted;

#ifdef __wasm__

extern char __heap_base;

static char *base(void)
{
    return &__heap_base;
}

static char *first_limit(void)
{
    return (char *)(__builtin_wasm_memory_size(0) * PAGE_BYTES);
}

static bool grow(size_t pages)
{
    return __builtin_wasm_memory_grow(0, pages) != (size_t)-1;
}

static void guard(char *start, size_t size, bool is_taken)
{
    (void)start, (void)size, (void)is_taken;
}

#else /* A program of this machine, built with sanitizers: see sanitized.c. */

#include <sanitizer/asan_interface.h>

enum { HOST_BYTES = 256 * PAGE_BYTES };

static char host_memory[HOST_BYTES];

static char *base(void)
{
    return host_memory;
}

static char *first_limit(void)
{
    return host_memory + PAGE_BYTES;
}

static bool grow(size_t pages)
{
    return pages <= (size_t)(host_memory + HOST_BYTES - limit) / PAGE_BYTES;
}

/* Whoever touches what was not taken is caught. */
static void guard(char *start, size_t size, bool is_taken)
{
    if (is_taken) {
        __asan_unpoison_memory_region(start, size);
    } else {
        __asan_poison_memory_region(start, size);
    }
}

#endif

char *arena_top(void)
{
    if (top == NULL) {
        top = base();
        limit = first_limit();
        guard(top, (size_t)(limit - top), false);
    }
    return top;
}

char *arena_take(size_t size)
{
    char *start = arena_top();
    size_t room = (size_t)(limit - start);
    if (exhausted) {
        return NULL;
    }
    if (size > room) {
        size_t lacking = size - room;
        size_t pages = lacking / PAGE_BYTES + (lacking % PAGE_BYTES != 0);
        if (!grow(pages)) {
            exhausted = true;
            return NULL;
        }
        guard(limit, pages * PAGE_BYTES, false);
        limit += pages * PAGE_BYTES;
    }
    top = start + size;
    guard(start, size, true);
    return start;
}

bool arena_is_exhausted(void)
{
    return exhausted;
}

void arena_reset(void)
{
    if (top != NULL) {
        top = base();
        guard(top, (size_t)(limit - top), false);
    }
    exhausted = false;
}

void put_byte(uint8_t byte)
{
    char *place = arena_take(1);
    if (place != NULL) {
        *place = (char)byte;
    }
}

void put_text(Text text)
{
    char *place = arena_take(text.length);
    if (place != NULL && text.length > 0) {
        memcpy(place, text.start, text.length);
    }
}

void put(const char *terminated)
{
    put_text((Text){terminated, strlen(terminated)});
}

void put_whole(int64_t value)
{
    char digits[20];
    size_t first = sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        digits[--first] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0) {
        digits[--first] = '-';
    }
    put_text((Text){digits + first, sizeof digits - first});
}

char *frame_open(void)
{
    return arena_take(FRAME_BYTES);
}

Text frame_close(char *frame)
{
    if (arena_is_exhausted()) {
        return (Text){NULL, 0};
    }
    Text content = text_since(frame + FRAME_BYTES);
    for (int index = 0; index < FRAME_BYTES; index++) {
        frame[index] = (char)(uint8_t)(content.length >> (8 * index));
    }
    return content;
}

Text frame_next(const char **at, const char *end)
{
    uint32_t length = 0;
    for (int index = 0; index < FRAME_BYTES && *at < end; index++) {
        length |= (uint32_t)(uint8_t)*(*at)++ << (8 * index);
    }
    size_t left = (size_t)(end - *at);
    Text content = {*at, length < left ? length : left};
    *at += content.length;
    return content;
}
