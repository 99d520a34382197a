// The bench plugin in C. Its protocol is in ../bench/README.md; the Rust and JavaScript plugins
// speak it too. It keeps nothing between events.

#include <stdlib.h>
#include <string.h>

#include "bytes.h"

typedef tidegate_plugin_types_message_t message_t;
typedef tidegate_plugin_types_error_t error_t;
typedef tidegate_plugin_gateway_list_client_id_t clients_t;

// What one command needs; everything in it is borrowed from the event.
typedef struct {
    string_t client;
    uint8_t letter;
    uint8_t kind;   // of the message, and so of a payload that goes on
    string_t rest;  // what follows the colon
    string_t *err;  // where the text of a failure goes
} command_t;

static clients_t nobody = {NULL, 0};

// Every failure of an event ends here: the caller of the export frees the text.
static bool fail(string_t *err, const char *why, string_t what) {
    text_t text = {0};
    append_c(&text, why);
    append(&text, what);
    *err = as_string(&text);
    return false;
}

// The host's answer to a call, as the event's answer.
static bool done(bool ok, error_t *error, string_t *err) {
    if (ok) {
        return true;
    }
    static const char *names[] = {"invalid argument: ", "offline", "timeout", "quota exceeded: ",
                                  "not permitted: ", "conflict", ""};
    static const bool has_text[] = {true, false, false, true, true, false, true};
    string_t nothing = {NULL, 0};
    uint8_t tag = error->tag <= TIDEGATE_PLUGIN_TYPES_ERROR_OTHER ? error->tag : 1;
    fail(err, names[tag], has_text[tag] ? error->val.other : nothing);
    tidegate_plugin_types_error_free(error);
    return false;
}

static message_t message(uint8_t kind, string_t bytes) {
    message_t message = {.tag = kind};
    if (kind == TIDEGATE_PLUGIN_TYPES_MESSAGE_TEXT) {
        message.val.text = bytes;
    } else {
        message.val.binary = (handler_list_u8_t){bytes.ptr, bytes.len};
    }
    return message;
}

static bool answer_as(string_t client, uint8_t kind, string_t bytes, string_t *err) {
    message_t m = message(kind, bytes);
    error_t error;
    return done(tidegate_plugin_gateway_send_to_client(&client, &m, &error), &error, err);
}

static bool answer(string_t client, string_t text, string_t *err) {
    return answer_as(client, TIDEGATE_PLUGIN_TYPES_MESSAGE_TEXT, text, err);
}

static bool send_to_group(string_t group, message_t *m, string_t *err) {
    tidegate_plugin_gateway_list_group_t groups = {&group, 1};
    error_t error;
    bool ok = tidegate_plugin_gateway_send_to_groups(&groups, m, &nobody, &error);
    return done(ok, &error, err);
}

static bool send_to_all(message_t *m, string_t *err) {
    error_t error;
    return done(tidegate_plugin_gateway_send_to_all(m, &nobody, &error), &error, err);
}

static bool join(string_t client, string_t group, string_t *err) {
    error_t error;
    return done(tidegate_plugin_gateway_join_group(&client, &group, &error), &error, err);
}

static bool unknown(command_t *c) {
    string_t letter = {&c->letter, is_utf8((string_t){&c->letter, 1}) ? 1 : 0};
    return fail(c->err, "unknown command; the bench's README lists them: ", letter);
}

// G:, P:, C: and Y:, which name a recipient or a topic before the payload.
static bool pass_on(command_t *c) {
    string_t to, payload;
    if (!cut(c->rest, &to, &payload)) {
        return fail(c->err, "a second colon is expected", (string_t){NULL, 0});
    }
    if (!is_utf8(to)) {
        return fail(c->err, "a name is not UTF-8", (string_t){NULL, 0});
    }
    message_t m = message(c->kind, payload);
    if (c->letter == 'G') {
        return send_to_group(to, &m, c->err);
    }
    if (c->letter == 'C') {
        return answer_as(to, c->kind, payload, c->err);
    }
    error_t error;
    if (c->letter == 'Y') {
        handler_list_u8_t bytes = {payload.ptr, payload.len};
        return done(tidegate_plugin_peers_send(&to, &bytes, &error), &error, c->err);
    }
    tidegate_plugin_gateway_list_uid_t uids = {&to, 1};
    bool ok = tidegate_plugin_gateway_send_to_uids(&uids, &m, &nobody, &error);
    return done(ok, &error, c->err);
}

static bool read_key(command_t *c) {
    tidegate_plugin_session_option_json_t json;
    error_t error;
    if (!tidegate_plugin_session_get(&c->rest, &json, &error)) {
        return done(false, &error, c->err);
    }
    bool ok = answer(c->client, json.is_some ? json.val : borrow("null"), c->err);
    tidegate_plugin_session_option_json_free(&json);
    return ok;
}

// S:, T: and M:.
static bool write_session(command_t *c) {
    string_t first, rest;
    error_t error;
    tidegate_plugin_gateway_tuple2_string_json_t entry;
    bool own = c->letter == 'S';
    if (!cut(c->rest, &first, &rest) || (!own && !cut(rest, &entry.f0, &entry.f1))) {
        return fail(c->err, "a further colon is expected", (string_t){NULL, 0});
    }
    if (own) {
        return done(tidegate_plugin_session_set(&first, &rest, &error), &error, c->err);
    }
    tidegate_plugin_gateway_list_tuple2_string_json_t entries = {&entry, 1};
    bool deep = c->letter == 'M';
    bool ok = tidegate_plugin_gateway_update_session(&first, &entries, deep, &error);
    return done(ok, &error, c->err);
}

static void append_member(text_t *text, const char *name, string_t value) {
    append_c(text, name);
    append_json(text, value);
    handler_string_free(&value);
}

static bool whoami(command_t *c) {
    string_t tenant, worker, version, event;
    tidegate_plugin_worker_tenant(&tenant);
    tidegate_plugin_worker_worker_name(&worker);
    tidegate_plugin_worker_plugin_version(&version);
    tidegate_plugin_worker_event_id(&event);
    text_t text = {0};
    append_member(&text, "{\"tenant\":", tenant);
    append_member(&text, ",\"worker\":", worker);
    append_c(&text, ",\"instance\":");
    append_number(&text, tidegate_plugin_worker_instance());
    append_member(&text, ",\"version\":", version);
    append_member(&text, ",\"event-id\":", event);
    append_c(&text, ",\"attempt\":");
    append_number(&text, tidegate_plugin_worker_attempt());
    append_c(&text, "}");
    bool ok = answer(c->client, as_string(&text), c->err);
    free(text.ptr);
    return ok;
}

static bool is_online(command_t *c) {
    bool online;
    error_t error;
    if (!tidegate_plugin_directory_is_online(&c->rest, &online, &error)) {
        return done(false, &error, c->err);
    }
    return answer(c->client, borrow(online ? "true" : "false"), c->err);
}

// Members of a group, or all clients.
static bool count(command_t *c) {
    tidegate_plugin_directory_selector_t of = {.tag = TIDEGATE_PLUGIN_DIRECTORY_SELECTOR_EVERYONE};
    if (c->rest.len > 0) {
        of.tag = TIDEGATE_PLUGIN_DIRECTORY_SELECTOR_GROUPS;
        of.val.groups = (tidegate_plugin_directory_list_group_t){&c->rest, 1};
    }
    tidegate_plugin_directory_list_selector_t selectors = {&of, 1};
    tidegate_plugin_directory_count_t found;
    error_t error;
    if (!tidegate_plugin_directory_client_count(&selectors, &found, &error)) {
        return done(false, &error, c->err);
    }
    text_t text = {0};
    append_number(&text, found.value);
    append_c(&text, found.coverage.missing.len > 0 ? "+" : "");
    bool ok = answer(c->client, as_string(&text), c->err);
    free(text.ptr);
    tidegate_plugin_directory_count_free(&found);
    return ok;
}

static bool misbehave(command_t *c) {
    if (equals(c->rest, "trap")) {
        __builtin_trap();
    } else if (equals(c->rest, "spin")) {
        for (volatile unsigned turns = 0;; turns++) {
        }
    } else if (equals(c->rest, "grow")) {
        for (;;) {
            // Touched, so that it costs memory and not only addresses.
            uint8_t *more = malloc(1 << 20);
            if (more == NULL) {
                __builtin_trap();
            }
            memset(more, 0xA5, 1 << 20);
            *(volatile uint8_t *)more;
        }
    } else if (equals(c->rest, "err")) {
        message_t m = message(TIDEGATE_PLUGIN_TYPES_MESSAGE_TEXT, borrow("leak"));
        return send_to_all(&m, c->err) && join(c->client, borrow("leak"), c->err) &&
               fail(c->err, "failing on purpose, after a send and a join", (string_t){NULL, 0});
    }
    return fail(c->err, "unknown command X: trap, spin, grow or err is expected, not ", c->rest);
}

static bool send_raw_to_itself(command_t *c) {
    tidegate_plugin_gateway_recipients_t to = {
        .tag = TIDEGATE_PLUGIN_GATEWAY_RECIPIENTS_CLIENTS, .val.clients = {&c->client, 1}};
    handler_list_u8_t bytes = {c->rest.ptr, c->rest.len};
    error_t error;
    return done(tidegate_plugin_gateway_send_raw(&to, &bytes, &nobody, &error), &error, c->err);
}

// The commands whose whole argument is one name.
static bool run_named(command_t *c) {
    error_t e;
    message_t bye = message(TIDEGATE_PLUGIN_TYPES_MESSAGE_TEXT, borrow("bye"));
    switch (c->letter) {
    case 'J': return join(c->client, c->rest, c->err);
    case 'L': return done(tidegate_plugin_gateway_leave_group(&c->client, &c->rest, &e), &e, c->err);
    case 'U': return done(tidegate_plugin_gateway_bind_uid(&c->client, &c->rest, &e), &e, c->err);
    case 'R': return done(tidegate_plugin_gateway_close_uid(&c->rest, &bye, &e), &e, c->err);
    case 'K': return done(tidegate_plugin_gateway_close_client(&c->rest, &bye, &e), &e, c->err);
    case 'D': return done(tidegate_plugin_gateway_destroy_client(&c->rest, &e), &e, c->err);
    case 'N': return done(tidegate_plugin_gateway_ungroup(&c->rest, &e), &e, c->err);
    case 'O': return is_online(c);
    case '#': return count(c);
    case '?': return read_key(c);
    case 'X': return misbehave(c);
    default: return write_session(c);
    }
}

static bool run(command_t *c) {
    error_t error;
    message_t m;
    switch (c->letter) {
    case 'E': return answer_as(c->client, c->kind, c->rest, c->err);
    case 'G':
    case 'P':
    case 'Y':
    case 'C': return pass_on(c);
    case 'B':
        m = message(c->kind, c->rest);
        return send_to_all(&m, c->err);
    case 'u': return done(tidegate_plugin_gateway_unbind_uid(&c->client, &error), &error, c->err);
    case 'I': return answer(c->client, c->client, c->err);
    case 'W': return whoami(c);
    case 'F': return send_raw_to_itself(c);
    default: break;
    }
    if (c->letter == 0 || strchr("JLURKDNO#?XSTM", c->letter) == NULL) {
        return unknown(c);
    }
    if (!is_utf8(c->rest)) {
        return fail(c->err, "the argument is not UTF-8", (string_t){NULL, 0});
    }
    return run_named(c);
}

bool exports_tidegate_plugin_client_events_on_connect(
    string_t *client, exports_tidegate_plugin_client_events_peer_t *peer,
    exports_tidegate_plugin_client_events_http_request_t *request, string_t *err) {
    bool ok = true;
    for (size_t i = 0; request != NULL && i < request->query.len; i++) {
        if (equals(request->query.ptr[i].f0, "hello")) {
            ok = answer(*client, request->query.ptr[i].f1, err);
            break;
        }
    }
    tidegate_plugin_types_peer_free(peer);
    if (request != NULL) {
        tidegate_plugin_types_http_request_free(request);
    }
    handler_string_free(client);
    return ok;
}

bool exports_tidegate_plugin_client_events_on_message(string_t *client, message_t *m,
                                                      string_t *err) {
    // Text and binary are laid out alike.
    string_t bytes = m->val.text;
    bool ok;
    if (bytes.len < 2 || bytes.ptr[1] != ':') {
        ok = fail(err, "unknown command; the bench's README lists them", (string_t){NULL, 0});
    } else {
        command_t command = {.client = *client,
                             .letter = bytes.ptr[0],
                             .kind = m->tag,
                             .rest = {bytes.ptr + 2, bytes.len - 2},
                             .err = err};
        ok = run(&command);
    }
    tidegate_plugin_types_message_free(m);
    handler_string_free(client);
    return ok;
}

bool exports_tidegate_plugin_client_events_on_close(
    string_t *client, exports_tidegate_plugin_client_events_closed_t *closed, string_t *err) {
    static const char *reasons[] = {"client",   "server",     "idle",        "slow",
                                    "protocol", "going-away", "gateway-lost"};
    string_t key = borrow("k");
    tidegate_plugin_session_option_json_t json;
    error_t error;
    bool ok = tidegate_plugin_session_get(&key, &json, &error);
    if (!ok) {
        done(false, &error, err);
    } else {
        text_t text = {0};
        append_c(&text, "closed:");
        append(&text, *client);
        append_c(&text, ":");
        append_c(&text, closed->reason < 7 ? reasons[closed->reason] : "unknown");
        append_c(&text, ":");
        append(&text, closed->uid.is_some ? closed->uid.val : borrow("-"));
        append_c(&text, ":");
        for (size_t i = 0; i < closed->groups.len; i++) {
            append_c(&text, i > 0 ? "," : "");
            append(&text, closed->groups.ptr[i]);
        }
        append_c(&text, ":");
        append(&text, json.is_some ? json.val : borrow("null"));
        message_t m = message(TIDEGATE_PLUGIN_TYPES_MESSAGE_TEXT, as_string(&text));
        ok = send_to_group(borrow("watchers"), &m, err);
        free(text.ptr);
        tidegate_plugin_session_option_json_free(&json);
    }
    exports_tidegate_plugin_client_events_closed_free(closed);
    handler_string_free(client);
    return ok;
}
