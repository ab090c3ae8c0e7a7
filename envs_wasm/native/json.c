#include "json.h"

#include <string.h>

enum { MAX_DEPTH = 512, MAX_DIGITS = 4300, HEX_DIGITS = 4 };

static const int64_t BEYOND = 100000000000000000; /* 10^17 */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* ---- Judging a text. Each takes where a part must start and gives where it ends, or NULL. ---- */

static const char *past_space(const char *at, const char *end)
{
    while (at < end && is_space(*at)) {
        at++;
    }
    return at;
}

static const char *past_word(const char *at, const char *end, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(end - at) >= length && memcmp(at, word, length) == 0 ? at + length : NULL;
}

static const char *past_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at)) {
        at++;
    }
    return at;
}

static const char *past_number(const char *at, const char *end)
{
    at += *at == '-';
    const char *digits = at;
    at = past_digits(at, end);
    if (at == digits || (*digits == '0' && at - digits > 1)) {
        return NULL;
    }
    bool is_whole = true;
    const char *whole_end = at;
    if (at < end && *at == '.') {
        const char *fraction = at + 1;
        at = past_digits(fraction, end);
        if (at == fraction) {
            return NULL;
        }
        is_whole = false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        const char *exponent = at;
        at = past_digits(exponent, end);
        if (at == exponent) {
            return NULL;
        }
        is_whole = false;
    }
    return is_whole && whole_end - digits > MAX_DIGITS ? NULL : at;
}

static const char *past_escape(const char *at, const char *end)
{
    if (at == end) {
        return NULL;
    }
    if (*at != 'u') {
        return *at != '\0' && strchr("\"\\/bfnrt", *at) != NULL ? at + 1 : NULL;
    }
    at++;
    for (int index = 0; index < HEX_DIGITS; index++, at++) {
        if (at == end || hex_value(*at) < 0) {
            return NULL;
        }
    }
    return at;
}

/* How many bytes a character in UTF-8 has, by its first; 0 if no character starts so. */
static size_t utf8_length(uint8_t first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xC2 && first <= 0xDF) {
        return 2;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        return 3;
    }
    return first >= 0xF0 && first <= 0xF4 ? 4 : 0;
}

/* The character that so many bytes of UTF-8 spell. */
static uint32_t utf8_character(const char *at, size_t length)
{
    static const uint8_t first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t character = (uint8_t)*at & first_bits[length];
    for (size_t index = 1; index < length; index++) {
        character = character << 6 | ((uint8_t)at[index] & 0x3F);
    }
    return character;
}

static const char *past_utf8(const char *at, const char *end)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = utf8_length((uint8_t)*at);
    if (length == 0 || (size_t)(end - at) < length) {
        return NULL;
    }
    for (size_t index = 1; index < length; index++) {
        if (((uint8_t)at[index] & 0xC0) != 0x80) {
            return NULL;
        }
    }
    uint32_t character = utf8_character(at, length);
    bool is_surrogate = character >= 0xD800 && character <= 0xDFFF;
    return character < least[length] || character > 0x10FFFF || is_surrogate ? NULL : at + length;
}

static const char *past_string(const char *at, const char *end)
{
    if (at == end || *at != '"') {
        return NULL;
    }
    at++;
    while (at != NULL && at < end) {
        if (*at == '"') {
            return at + 1;
        }
        if ((uint8_t)*at < ' ') {
            return NULL;
        }
        at = *at == '\\' ? past_escape(at + 1, end) : past_utf8(at, end);
    }
    return NULL;
}

static const char *past_key(const char *at, const char *end)
{
    at = past_string(at, end);
    if (at == NULL) {
        return NULL;
    }
    at = past_space(at, end);
    return at < end && *at == ':' ? at + 1 : NULL;
}

static const char *past_scalar(const char *at, const char *end)
{
    switch (*at) {
    case '"':
        return past_string(at, end);
    case 't':
        return past_word(at, end, "true");
    case 'f':
        return past_word(at, end, "false");
    case 'n':
        return past_word(at, end, "null");
    case 'N':
        return past_word(at, end, "NaN");
    case 'I':
        return past_word(at, end, "Infinity");
    case '-':
        if (at + 1 < end && at[1] == 'I') {
            return past_word(at, end, "-Infinity");
        }
        return past_number(at, end);
    default:
        return past_number(at, end);
    }
}

bool json_is_valid(Text text)
{
    const char *at = text.start, *end = at + text.length;
    char closers[MAX_DEPTH];
    size_t depth = 0;
    for (;;) {
        at = past_space(at, end);
        if (at == end) {
            return false;
        }
        if (*at == '{' || *at == '[') {
            if (depth == MAX_DEPTH) {
                return false;
            }
            char closer = *at == '{' ? '}' : ']';
            at = past_space(at + 1, end);
            if (at == end || *at != closer) {
                closers[depth++] = closer;
                if (closer == '}' && (at = past_key(at, end)) == NULL) {
                    return false;
                }
                continue;
            }
            at++;
        } else if ((at = past_scalar(at, end)) == NULL) {
            return false;
        }
        /* A value has ended; so may the containers around it. */
        at = past_space(at, end);
        while (depth > 0 && at < end && *at == closers[depth - 1]) {
            depth--;
            at = past_space(at + 1, end);
        }
        if (depth == 0) {
            return at == end;
        }
        if (at == end || *at != ',') {
            return false;
        }
        at = past_space(at + 1, end);
        if (closers[depth - 1] == '}' && (at = past_key(at, end)) == NULL) {
            return false;
        }
    }
}

/* ---- Reading a valid text. ---- */

static const char *skip_space(const char *at)
{
    while (is_space(*at)) {
        at++;
    }
    return at;
}

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++) {
        at += *at == '\\';
    }
    return at + 1;
}

static const char *skip_value(const char *at)
{
    size_t depth = 0;
    do {
        switch (*at) {
        case '"':
            at = skip_string(at);
            break;
        case '{':
        case '[':
            depth++;
            at++;
            break;
        case '}':
        case ']':
            depth--;
            at++;
            break;
        default:
            /* A bare word or number ends where its container goes on; inside a value, any byte may pass. */
            at++;
            while (depth == 0 && strchr(" \t\n\r,]}", *at) == NULL) {
                at++;
            }
        }
    } while (depth > 0);
    return at;
}

const char *json_value(Text text)
{
    return past_space(text.start, text.start + text.length);
}

Text json_text(const char *value)
{
    return (Text){value, (size_t)(skip_value(value) - value)};
}

JsonWalk json_walk(const char *container)
{
    return (JsonWalk){.at = container + 1, .in_object = *container == '{'};
}

bool json_next(JsonWalk *walk)
{
    const char *at = skip_space(walk->at);
    at = *at == ',' ? skip_space(at + 1) : at;
    if (*at == '}' || *at == ']') {
        return false;
    }
    if (walk->in_object) {
        walk->key = at;
        const char *colon = skip_space(skip_string(at));
        at = skip_space(colon + 1);
    }
    walk->value = at;
    walk->at = skip_value(at);
    return true;
}

const char *json_member(const char *object, const char *key)
{
    const char *found = NULL;
    for (JsonWalk walk = json_walk(object); json_next(&walk);) {
        if (json_string_is(walk.key, key)) {
            found = walk.value;
        }
    }
    return found;
}

bool json_whole(const char *value, int64_t *whole)
{
    bool is_negative = *value == '-';
    const char *at = value + is_negative;
    if (!is_digit(*at)) {
        return false;
    }
    int64_t sum = 0;
    for (; is_digit(*at); at++) {
        sum = sum < BEYOND ? 10 * sum + (*at - '0') : sum;
    }
    *whole = is_negative ? -sum : sum;
    return *at != '.' && *at != 'e' && *at != 'E';
}

static uint32_t hex_unit(const char *digits)
{
    uint32_t unit = 0;
    for (int index = 0; index < HEX_DIGITS; index++) {
        unit = unit << 4 | (uint32_t)hex_value(digits[index]);
    }
    return unit;
}

static uint32_t escaped_character(const char **at)
{
    char kind = *(*at)++;
    switch (kind) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'u':
        break;
    default:
        return (uint8_t)kind;
    }
    uint32_t unit = hex_unit(*at);
    *at += HEX_DIGITS;
    if (unit >= 0xD800 && unit <= 0xDBFF && (*at)[0] == '\\' && (*at)[1] == 'u') {
        uint32_t low = hex_unit(*at + 2);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *at += 2 + HEX_DIGITS;
            return 0x10000 + ((unit - 0xD800) << 10 | (low - 0xDC00));
        }
    }
    return unit;
}

uint32_t json_character(const char **at)
{
    if (**at == '"') {
        return JSON_STRING_END;
    }
    if (**at == '\\') {
        (*at)++;
        return escaped_character(at);
    }
    size_t length = utf8_length((uint8_t)**at);
    uint32_t character = utf8_character(*at, length);
    *at += length;
    return character;
}

bool json_string_is(const char *string, const char *ascii)
{
    const char *at = string + 1;
    while (*ascii != '\0') {
        if (json_character(&at) != (uint8_t)*ascii++) {
            return false;
        }
    }
    return *at == '"';
}

/* ---- Writing. ---- */

static size_t escape_unit(uint32_t unit, char *escape)
{
    static const char hex[] = "0123456789abcdef";
    *escape++ = '\\';
    *escape++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4) {
        *escape++ = hex[unit >> shift & 0xF];
    }
    return 2 + HEX_DIGITS;
}

size_t json_escape(uint32_t character, char escape[JSON_ESCAPE_BYTES])
{
    static const char special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = character != 0 && character < 0x80 ? strchr(special, (char)character) : NULL;
    if (found != NULL) {
        escape[0] = '\\';
        escape[1] = letters[found - special];
        return 2;
    }
    if (character >= ' ' && character <= '~') {
        escape[0] = (char)character;
        return 1;
    }
    if (character < 0x10000) {
        return escape_unit(character, escape);
    }
    character -= 0x10000;
    size_t high = escape_unit(0xD800 + (character >> 10), escape);
    return high + escape_unit(0xDC00 + (character & 0x3FF), escape + high);
}

void put_json_string(Text text)
{
    const char *at = text.start, *end = at + text.length;
    put_byte('"');
    while (at < end) {
        size_t length = utf8_length((uint8_t)*at);
        char escape[JSON_ESCAPE_BYTES];
        put_text((Text){escape, json_escape(utf8_character(at, length), escape)});
        at += length;
    }
    put_byte('"');
}
