/* JSON read in place, as Python's `json.loads` reads it, and written as `json.dumps` writes it.
 *
 * A text is judged whole by `json_is_valid` first. Everything else takes a value inside an object or array
 * of a text that passed, points at its first byte, and so needs no end: the closing bracket is there.
 */
#ifndef JSON_H
#define JSON_H

#include "arena.h"

/* Whether the text is one value of what `json.loads` accepts: NaN and infinities too, whole numbers of at
 * most 4300 digits. Nesting deeper than 512 is refused, long before a Python guest's stack gives out. */
bool json_is_valid(Text text);

/* The value of a valid text. */
const char *json_value(Text text);

/* The value's own bytes. */
Text json_text(const char *value);

/* A walk over the members of an object, repeated keys included, or the elements of an array. */
typedef struct {
    const char *at;
    bool in_object;
    const char *key; /* the member's, a string */
    const char *value;
} JsonWalk;

JsonWalk json_walk(const char *container);

/* Moves on to the next one, if there is one. */
bool json_next(JsonWalk *walk);

/* The value of a key, the last one if the key is repeated; NULL if the object lacks it. */
const char *json_member(const char *object, const char *key);

/* Whether the value is a number without fraction and exponent, and which; beyond 10^17 it is only known to be
 * beyond. */
bool json_whole(const char *value, int64_t *whole);

/* The next character of a string, escapes resolved, or JSON_STRING_END. `at` starts behind the opening
 * quote. */
enum { JSON_STRING_END = 0x110000 };
uint32_t json_character(const char **at);

bool json_string_is(const char *string, const char *ascii);

/* A character as `json.dumps` writes it inside a string; returns how many bytes that are. */
enum { JSON_ESCAPE_BYTES = 12 };
size_t json_escape(uint32_t character, char escape[JSON_ESCAPE_BYTES]);

/* Any text in UTF-8 as a JSON string. */
void put_json_string(Text text);

#endif
