#ifndef EXPORTS_H
#define EXPORTS_H

#include "arena.h"

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(name)))
#else
#define EXPORT(name)
#endif

EXPORT("cabi_realloc")
void *guest_realloc(void *old, size_t old_size, size_t alignment, size_t size);

EXPORT("compile") const Text *guest_compile(const char *source, size_t length);

EXPORT("run")
const Text *guest_run(const char *code, size_t code_length, const char *function, size_t function_length,
                      const char *argument, size_t argument_length);

EXPORT("load")
const Text *guest_load(const char *code, size_t code_length, const char *name, size_t name_length,
                       const char *config, size_t config_length);

EXPORT("step") const Text *guest_step(const char *action, size_t length);
EXPORT("step-many") const Text *guest_step_many(const char *actions, size_t length);
EXPORT("solve") const Text *guest_solve(uint32_t max_calls);
EXPORT("answer") const Text *guest_answer(void);
EXPORT("reward") const Text *guest_reward(void);

/* Drops the reply and all else that the call left; the same for every export. */
EXPORT("cabi_post_compile") void guest_release_compile(const Text *reply);
EXPORT("cabi_post_run") void guest_release_run(const Text *reply);
EXPORT("cabi_post_load") void guest_release_load(const Text *reply);
EXPORT("cabi_post_step") void guest_release_step(const Text *reply);
EXPORT("cabi_post_step-many") void guest_release_step_many(const Text *reply);
EXPORT("cabi_post_solve") void guest_release_solve(const Text *reply);
EXPORT("cabi_post_answer") void guest_release_answer(const Text *reply);
EXPORT("cabi_post_reward") void guest_release_reward(const Text *reply);

#endif
