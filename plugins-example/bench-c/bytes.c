#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

string_t borrow(const char *text) {
    return (string_t){(uint8_t *)text, strlen(text)};
}

bool is_utf8(string_t s) {
    size_t at = 0;
    while (at < s.len) {
        uint8_t first = s.ptr[at];
        size_t more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        if ((first >= 0x80 && first < 0xC2) || first > 0xF4 || s.len - at <= more) {
            return false;
        }
        // The second byte rules out long forms, surrogates and what is past U+10FFFF.
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        for (size_t i = 1; i <= more; i++) {
            uint8_t byte = s.ptr[at + i];
            if (byte < low || byte > high) {
                return false;
            }
            low = 0x80;
            high = 0xBF;
        }
        at += more + 1;
    }
    return true;
}

bool cut(string_t from, string_t *name, string_t *rest) {
    uint8_t *colon = from.len > 0 ? memchr(from.ptr, ':', from.len) : NULL;
    if (colon == NULL) {
        return false;
    }
    size_t at = (size_t)(colon - from.ptr);
    *name = (string_t){from.ptr, at};
    *rest = (string_t){colon + 1, from.len - at - 1};
    return true;
}

bool equals(string_t bytes, const char *text) {
    return bytes.len == strlen(text) && memcmp(bytes.ptr, text, bytes.len) == 0;
}

void append(text_t *text, string_t bytes) {
    if (bytes.len == 0) {
        return;
    }
    if (text->room - text->len < bytes.len) {
        text->room = 2 * text->room + bytes.len;
        text->ptr = realloc(text->ptr, text->room);
        if (text->ptr == NULL) {
            __builtin_trap();
        }
    }
    memcpy(text->ptr + text->len, bytes.ptr, bytes.len);
    text->len += bytes.len;
}

void append_c(text_t *text, const char *bytes) {
    append(text, borrow(bytes));
}

void append_number(text_t *text, uint64_t number) {
    char digits[21];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    append_c(text, digits);
}

void append_json(text_t *text, string_t bytes) {
    append_c(text, "\"");
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t byte = bytes.ptr[i];
        if (byte == '"' || byte == '\\' || byte < 0x20) {
            char escape[7];
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            append_c(text, escape);
        } else {
            append(text, (string_t){bytes.ptr + i, 1});
        }
    }
    append_c(text, "\"");
}

string_t as_string(const text_t *text) {
    return (string_t){text->ptr, text->len};
}
