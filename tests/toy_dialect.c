/* SPDX-License-Identifier: MIT */
#include "tests/toy_dialect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool begins(void *context, uint8_t first) {
    (void)context;
    return first == 'c';
}

struct words {
    char *at;
    size_t left;
};

static char *take_word(struct words *words, size_t *ret_size) {
    char *word = words->at;
    const char *end = words->left > 0 ? memchr(words->at, ' ', words->left) : NULL;
    *ret_size = end ? (size_t)(end - word) : words->left;
    size_t gone = *ret_size + (end ? 1 : 0);
    words->at += gone;
    words->left -= gone;
    return word;
}

static bool is(const char *word, size_t size, const char *text) {
    return size == strlen(text) && memcmp(word, text, size) == 0;
}

static int read_call(struct words *words, struct vouch_message *m) {
    m->kind = VOUCH_MESSAGE_CALL;
    m->tag = (const uint8_t *)take_word(words, &m->tag_size);
    m->target = take_word(words, &m->target_size);
    m->data = (const uint8_t *)words->at;
    m->size = words->left;
    if (is(m->target, m->target_size, "fatal"))
        return -EPROTO;
    if (is(m->target, m->target_size, "nonsense")) {
        m->result = VOUCH_REMOTE_BAD_DATA;
        m->text = "that is nonsense";
        m->text_size = strlen(m->text);
    }
    if (is(m->target, m->target_size, "refuse")) {
        m->result = VOUCH_REMOTE_REFUSED;
        m->text = words->at;
        m->text_size = words->left;
    }
    if (is(m->target, m->target_size, "mistake"))
        m->result = -EINVAL;
    if (m->target_size > 3 && memcmp(m->target, "or/", 3) == 0) {
        m->fallback = m->target + 3;
        m->fallback_size = m->target_size - 3;
    }
    if (m->target_size > 4 && memcmp(m->target, "try/", 4) == 0) {
        m->fallback = "echo";
        m->fallback_size = 4;
    }
    if (m->target_size > 6 && memcmp(m->target, "alias/", 6) == 0) {
        m->method = "echo";
        m->method_size = 4;
    }
    return 0;
}

static uint32_t read_id(struct words *words) {
    char digits[16] = "";
    size_t size;
    const char *word = take_word(words, &size);
    memcpy(digits, word, size < sizeof(digits) - 1 ? size : sizeof(digits) - 1);
    return (uint32_t)strtoul(digits, NULL, 10);
}

static int read_line(void *context, uint8_t *bytes, size_t size, uint64_t oversize,
                     struct vouch_message *m) {
    struct words words = {(char *)bytes, size};
    size_t kind_size;
    (void)context;
    (void)oversize;
    const char *kind = take_word(&words, &kind_size);
    if (is(kind, kind_size, "call"))
        return read_call(&words, m);
    if (is(kind, kind_size, "ok") || is(kind, kind_size, "err")) {
        m->kind = VOUCH_MESSAGE_REPLY;
        m->id = read_id(&words);
        if (kind[0] == 'e') {
            m->result = (int)read_id(&words);
            m->text = words.at;
            m->text_size = words.left;
        }
    } else if (is(kind, kind_size, "note")) {
        m->kind = VOUCH_MESSAGE_NOTICE;
    }
    m->data = (const uint8_t *)words.at;
    m->size = words.left;
    return 0;
}

static int prepare(void *context, uint8_t *data, size_t size) {
    (void)context;
    if (size > 0 && memchr(data, '\n', size))
        return -EINVAL;
    for (size_t i = 0; i < size; i++)
        if (data[i] == '\t')
            data[i] = ' ';
    return 0;
}

static void wrap(void *context, const struct vouch_message *m, struct vouch_wrapping *w) {
    const struct toy *toy = context;
    char before[2048];
    int size = 0;
    if (m->kind == VOUCH_MESSAGE_NOTICE && toy->mute)
        return;
    if (m->kind == VOUCH_MESSAGE_CALL)
        size = snprintf(before, sizeof(before), "call %u %.*s ", m->id, (int)m->target_size,
                        m->target);
    else if (m->kind == VOUCH_MESSAGE_NOTICE)
        size = snprintf(before, sizeof(before), "note ");
    else if (m->result != 0)
        size = snprintf(before, sizeof(before), "err %.*s %d %.*s", (int)m->tag_size,
                        m->tag ? (const char *)m->tag : "", m->result, (int)m->text_size, m->text);
    else
        size = snprintf(before, sizeof(before), "ok %.*s ", (int)m->tag_size,
                        m->tag ? (const char *)m->tag : "");
    w->before_size = (size_t)size;
    w->after_size = 1;
    if (w->before)
        memcpy(w->before, before, w->before_size);
    if (w->after)
        *w->after = '\n';
}

static void observe(void *context, enum vouch_dialect_event event, int64_t value) {
    struct toy *toy = context;
    (void)value;
    atomic_fetch_add(&toy->events[event], 1);
}

void toy_init(struct toy *toy) {
    *toy = (struct toy){.dialect = {.size = sizeof(struct vouch_dialect),
                                    .name = "toy",
                                    .context = toy,
                                    .begins = begins,
                                    .read = read_line,
                                    .prepare = prepare,
                                    .wrap = wrap,
                                    .observe = observe}};
}
