/* The contract of `wit/codegym.wit`, spelled out as the component model's canonical ABI.
 *
 * A string or list comes as address and length, in memory that `cabi_realloc` gave; a reply goes out as the
 * address of its own address and length, and is good until the export's `cabi_post_` is called.
 */
#include "exports.h"

#include <string.h>

#include "oracle.h"
#include "warehouse.h"

enum { OK, FINISHED, RAISED, OUT_OF_MEMORY };

void *guest_realloc(void *old, size_t old_size, size_t alignment, size_t size)
{
    size_t misplaced = (uintptr_t)arena_top() & (alignment - 1);
    arena_take(misplaced == 0 ? 0 : alignment - misplaced);
    char *place = arena_take(size);
    if (place == NULL) {
        __builtin_trap();
    }
    if (old_size > 0) {
        memcpy(place, old, old_size < size ? old_size : size);
    }
    return place;
}

static const char *start_reply(int status)
{
    const char *start = arena_top();
    put_byte((uint8_t)status);
    return start;
}

static const Text *end_reply(const char *start)
{
    static const char out_of_memory[] = "\3MemoryError";
    static Text reply;
    reply = text_since(start);
    if (arena_is_exhausted()) {
        reply = (Text){out_of_memory, sizeof out_of_memory - 1};
    }
    return &reply;
}

static const Text *raise(const char *message)
{
    const char *start = start_reply(RAISED);
    put(message);
    return end_reply(start);
}

static const char UNLOADED[] = "RuntimeError: no environment is loaded";

const Text *guest_compile(const char *source, size_t length)
{
    (void)source, (void)length;
    return end_reply(start_reply(OK)); /* there is one environment, and it is compiled */
}

const Text *guest_run(const char *code, size_t code_length, const char *function, size_t function_length,
                      const char *argument, size_t argument_length)
{
    (void)code, (void)code_length, (void)function, (void)function_length;
    (void)argument, (void)argument_length;
    return raise("NotImplementedError: this guest is one environment and runs no programs");
}

const Text *guest_load(const char *code, size_t code_length, const char *name, size_t name_length,
                       const char *config, size_t config_length)
{
    (void)code, (void)code_length;
    if (name_length != strlen(WAREHOUSE_CLASS) || memcmp(name, WAREHOUSE_CLASS, name_length) != 0) {
        const char *start = start_reply(RAISED);
        put("AttributeError: module 'environment' has no attribute '");
        put_text((Text){name, name_length});
        put("'");
        return end_reply(start);
    }
    const char *problem = warehouse_reset((Text){config, config_length});
    const char *start = start_reply(problem == NULL ? OK : RAISED);
    put(problem == NULL ? "" : "ValueError: ");
    put(problem == NULL ? "" : problem);
    return end_reply(start);
}

/* Puts the reply to one action; returns its status. */
static int put_step(Text action)
{
    char *status = arena_take(1);
    if (status == NULL) {
        return OUT_OF_MEMORY;
    }
    if (!warehouse_is_loaded()) {
        put(UNLOADED);
        return *status = RAISED;
    }
    warehouse_step(action);
    return *status = warehouse_is_finished() ? FINISHED : OK;
}

const Text *guest_step(const char *action, size_t length)
{
    const char *start = arena_top();
    put_step((Text){action, length});
    return end_reply(start);
}

const Text *guest_step_many(const char *actions, size_t length)
{
    const char *start = start_reply(OK), *at = actions, *end = actions + length;
    int status = OK;
    while ((status == OK || status == RAISED) && at < end) {
        Text action = frame_next(&at, end);
        char *frame = frame_open();
        status = put_step(action);
        frame_close(frame);
    }
    return end_reply(start);
}

const Text *guest_solve(uint32_t max_calls)
{
    if (!warehouse_is_loaded()) {
        return raise(UNLOADED);
    }
    Text record;
    bool is_played = oracle_play(max_calls, &record);
    const char *start = start_reply(is_played ? OK : RAISED);
    if (is_played) {
        put_record(record);
    } else {
        put("_TooManyCalls: solve made more than ");
        put_whole(max_calls);
        put(" calls");
    }
    return end_reply(start);
}

const Text *guest_answer(void)
{
    if (!warehouse_is_loaded()) {
        return raise(UNLOADED);
    }
    const char *start = start_reply(OK);
    put_whole(warehouse_answer());
    return end_reply(start);
}

const Text *guest_reward(void)
{
    if (!warehouse_is_loaded()) {
        return raise(UNLOADED);
    }
    const char *start = start_reply(OK);
    put(warehouse_reward() == 1 ? "1.0" : "0.0");
    return end_reply(start);
}

#define RELEASE(export) \
    void guest_release_##export(const Text *reply) \
    { \
        (void)reply; \
        arena_reset(); \
    }

RELEASE(compile)
RELEASE(run)
RELEASE(load)
RELEASE(step)
RELEASE(step_many)
RELEASE(solve)
RELEASE(answer)
RELEASE(reward)
