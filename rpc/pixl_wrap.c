/* SPDX-License-Identifier: MIT */
/*
 * Writes lines: what goes around a body, and errors, which have none. Everything is written twice
 * by the same code, once to know its size.
 *
 * Texts come from peers (a URI that nobody handles) and from handlers; what is not UTF-8 in them
 * becomes U+FFFD, so that a line of ours is JSON whatever it is made of.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/utf8.h"
#include "rpc/pixl.h"

struct writer {
    uint8_t *to; /* NULL: only counts */
    size_t size;
};

static void put(struct writer *w, const void *bytes, size_t size) {
    if (w->to && size > 0)
        memcpy(w->to + w->size, bytes, size);
    w->size += size;
}

static void put_text(struct writer *w, const char *text) {
    put(w, text, strlen(text));
}

static void put_escaped(struct writer *w, uint8_t byte) {
    char text[8];
    if (byte == '"' || byte == '\\')
        snprintf(text, sizeof(text), "\\%c", byte);
    else
        snprintf(text, sizeof(text), "\\u%04x", byte);
    put_text(w, text);
}

/* Between quotes. */
static void put_string(struct writer *w, const char *text, size_t size) {
    const uint8_t *at = (const uint8_t *)text, *end = at + size;
    while (at < end) {
        size_t length = utf8_char(at, (size_t)(end - at));
        if (length == 0)
            put_text(w, "\xef\xbf\xbd");
        else if (*at < 0x20 || *at == 0x7f || *at == '"' || *at == '\\')
            put_escaped(w, *at);
        else
            put(w, at, length);
        at += length > 0 ? length : 1;
    }
}

/* ---- codes ---- */

static const char *const codes[] = {
    [VOUCH_REMOTE_METHOD_NOT_FOUND] = "no_handler_found",
    [VOUCH_REMOTE_DEADLINE_EXCEEDED] = "deadline_exceeded",
    [VOUCH_REMOTE_BAD_DATA] = "bad_data",
    [VOUCH_REMOTE_SERVER] = "server_error",
    [VOUCH_REMOTE_REFUSED] = "refused",
    [VOUCH_REMOTE_TOO_LARGE] = "too_large",
    [VOUCH_REMOTE_CANCELLED] = "cancelled",
    [VOUCH_REMOTE_UNAVAILABLE] = "unavailable",
    [VOUCH_REMOTE_UNKNOWN] = "unknown",
};
#define NO_URI "no_uri"

const char *pixl_code_of(int result) {
    bool known = result > 0 && result <= VOUCH_REMOTE_UNKNOWN;
    return codes[known ? result : VOUCH_REMOTE_UNKNOWN];
}

int pixl_result_of(const char *code) {
    if (strcmp(code, NO_URI) == 0)
        return VOUCH_REMOTE_BAD_DATA;
    for (int i = 1; i < VOUCH_REMOTE_UNKNOWN; i++)
        if (strcmp(code, codes[i]) == 0)
            return i;
    return VOUCH_REMOTE_UNKNOWN;
}

/* ---- bodies ---- */

/* In an envelope it is one deeper. */
static const struct vouch_json_rules body_rules = {
    .size = sizeof(body_rules), .max_depth = VOUCH_JSON_DEPTH_BOUND - 1, .max_values = SIZE_MAX};

int pixl_prepare(void *context, uint8_t *data, size_t size) {
    (void)context;
    if (size == 0)
        return 0;
    if (vouch_json_scan(data, size, &body_rules, NULL) < 0)
        return -EINVAL;
    /* A line break can only be between values: in a string it would not have been let through. */
    for (uint8_t *end = data + size; (data = memchr(data, '\n', (size_t)(end - data)));)
        *data++ = ' ';
    return 0;
}

/* ---- replies and notices ---- */

static void put_error(struct writer *w, const struct vouch_message *m) {
    const char *text = m->text;
    size_t size = m->text_size;
    if (size == 0) {
        text = vouch_strerror(m->result);
        size = strlen(text);
    }
    /* Only a call that names nothing is refused before it has come to a method for being bad. */
    bool no_uri = m->result == VOUCH_REMOTE_BAD_DATA && m->target_size == 0;
    put_text(w, no_uri ? ",\"code\":\"" : ",\"data\":{\"code\":\"");
    put_text(w, no_uri ? NO_URI : pixl_code_of(m->result));
    put_text(w, "\",\"message\":\"");
    if (m->result == VOUCH_REMOTE_METHOD_NOT_FOUND && m->target_size > 0) {
        put_text(w, "No handler found for ");
        put_string(w, m->target, m->target_size);
    } else {
        put_string(w, text, size);
    }
    put_text(w, no_uri ? "\"}\n" : "\"}}\n");
}

static void put_before_reply(struct writer *w, const struct vouch_message *m) {
    if (m->kind == VOUCH_MESSAGE_NOTICE)
        return;
    put_text(w, "{\"ipcReqID\":");
    if (m->tag_size > 0)
        put(w, m->tag, m->tag_size);
    else
        put_text(w, "null");
    if (m->result != 0)
        put_error(w, m);
    else
        put_text(w, m->size > 0 ? ",\"data\":" : ",\"data\":null");
}

void pixl_wrap_reply(const struct vouch_message *message, struct vouch_wrapping *wrapping) {
    struct writer before = {.to = wrapping->before}, after = {.to = wrapping->after};
    put_before_reply(&before, message);
    if (message->kind == VOUCH_MESSAGE_NOTICE)
        put_text(&after, "\n");
    else if (message->result == 0)
        put_text(&after, "}\n");
    wrapping->before_size = before.size;
    wrapping->after_size = after.size;
}

/* ---- calls ---- */

void pixl_wrap_call(const struct vouch_message *message, const struct pixl_text *tail,
                    struct vouch_wrapping *wrapping) {
    struct writer before = {.to = wrapping->before}, after = {.to = wrapping->after};
    char id[40];
    snprintf(id, sizeof(id), "{\"ipcReqID\":\"rq%lu\",\"uri\":\"", (unsigned long)message->id);
    put_text(&before, id);
    put_string(&before, message->target, message->target_size);
    put_text(&before, message->size > 0 ? "\",\"data\":" : "\"");
    put(&after, tail->at, tail->size);
    wrapping->before_size = before.size;
    wrapping->after_size = after.size;
}

size_t pixl_wrap_tail(uint8_t *to, long pid, const char *user_agent) {
    struct writer w = {.to = to};
    char number[32];
    snprintf(number, sizeof(number), ",\"pid\":%ld", pid);
    put_text(&w, number);
    put_text(&w, ",\"userAgent\":\"");
    put_string(&w, user_agent, strlen(user_agent));
    put_text(&w, "\"}\n");
    return w.size;
}
