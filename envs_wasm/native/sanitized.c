/* The guest as a program of this machine, for the compiler's sanitizers: calls from stdin, replies to stdout.
 *
 * A call is the export's number and its arguments, each framed by its length, a little-endian u32; so is a
 * reply. `solve` may make as many calls as its argument has bytes. Arguments lie in blocks of just their
 * size, so that reading beyond one is caught. See `sanitize.py`.
 */
#include <stdio.h>
#include <stdlib.h>

#include "exports.h"

enum { LOAD, STEP, STEP_MANY, SOLVE, ANSWER, REWARD, MAX_ARGUMENTS = 3, FRAME_BYTES = 4 };

typedef struct {
    char *start;
    size_t length;
} Block;

static void read_exactly(void *place, size_t size)
{
    if (size > 0 && fread(place, 1, size, stdin) != size) {
        exit(2);
    }
}

static uint32_t read_word(void)
{
    uint8_t bytes[FRAME_BYTES];
    read_exactly(bytes, sizeof bytes);
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static Block read_block(void)
{
    size_t length = read_word();
    Block block = {malloc(length > 0 ? length : 1), length};
    if (block.start == NULL) {
        exit(2);
    }
    read_exactly(block.start, length);
    return block;
}

static void write_block(const char *start, size_t length)
{
    for (int shift = 0; shift < 32; shift += 8) {
        putchar((int)(length >> shift & 0xFF));
    }
    fwrite(start, 1, length, stdout);
}

static const Text *make_call(int export, const Block *arguments)
{
    const Block *first = &arguments[0], *second = &arguments[1], *third = &arguments[2];
    switch (export) {
    case LOAD:
        return guest_load(first->start, first->length, second->start, second->length, third->start,
                          third->length);
    case STEP:
        return guest_step(first->start, first->length);
    case STEP_MANY:
        return guest_step_many(first->start, first->length);
    case SOLVE:
        return guest_solve((uint32_t)first->length);
    case ANSWER:
        return guest_answer();
    case REWARD:
        return guest_reward();
    default:
        exit(2);
    }
}

int main(void)
{
    static const int argument_counts[] = {3, 1, 1, 1, 0, 0};
    for (int export; (export = getchar()) != EOF;) {
        Block arguments[MAX_ARGUMENTS] = {{NULL, 0}};
        for (int index = 0; index < argument_counts[export]; index++) {
            arguments[index] = read_block();
        }
        const Text *reply = make_call(export, arguments);
        write_block(reply->start, reply->length);
        guest_release_step(reply);
        for (int index = 0; index < MAX_ARGUMENTS; index++) {
            free(arguments[index].start);
        }
    }
    return 0;
}
