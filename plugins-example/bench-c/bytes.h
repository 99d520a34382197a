// Borrowed pieces of a message, a growing text, and a check of UTF-8. What is borrowed points
// into the event's arguments and lives as long as they do.
#ifndef BENCH_BYTES_H
#define BENCH_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "handler.h"

typedef handler_string_t string_t;

// A text that grows; freed by whoever made it.
typedef struct {
    uint8_t *ptr;
    size_t len, room;
} text_t;

// A C string, borrowed.
string_t borrow(const char *text);

// Whether the bytes are well-formed UTF-8. The host traps on a string that is not.
bool is_utf8(string_t bytes);

// Cuts at the first colon. False if there is none.
bool cut(string_t from, string_t *name, string_t *rest);

bool equals(string_t bytes, const char *text);

// Traps when memory ends.
void append(text_t *text, string_t bytes);
void append_c(text_t *text, const char *bytes);
void append_number(text_t *text, uint64_t number);
// As a JSON string with its quotes.
void append_json(text_t *text, string_t bytes);

string_t as_string(const text_t *text);

#endif
