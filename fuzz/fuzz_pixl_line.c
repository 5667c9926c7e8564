/* SPDX-License-Identifier: MIT */
/*
 * Lines of the pixl dialect: what is taken from one, whole or cut, is good where it goes next, and
 * what is answered is a line of JSON again.
 *
 * The first byte picks whether the line is whole, the rest is the line, with no NUL behind it.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/utf8.h"
#include "rpc/pixl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds)
        abort();
}

static uint8_t *copy_of(const uint8_t *bytes, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    require(copy);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

static const struct vouch_json_rules all = {
    .size = sizeof(all), .max_depth = VOUCH_JSON_DEPTH_BOUND, .max_values = SIZE_MAX};

/* A reply with an empty body, or an error, to a call that was read. */
static void answer(const struct vouch_message *call, int result) {
    struct vouch_message m = *call;
    struct vouch_wrapping sizes = {0}, bytes = {0};
    m.kind = VOUCH_MESSAGE_REPLY;
    m.result = result;
    m.size = 0;
    pixl_wrap_reply(&m, &sizes);
    uint8_t *line = malloc(sizes.before_size + sizes.after_size);
    require(line);
    bytes.before = line;
    bytes.after = line + sizes.before_size;
    pixl_wrap_reply(&m, &bytes);
    require(bytes.before_size == sizes.before_size && bytes.after_size == sizes.after_size);
    size_t size = sizes.before_size + sizes.after_size;
    require(memchr(line, '\n', size) == line + size - 1);
    require(vouch_json_scan(line, size, &all, NULL) == 0);
    free(line);
}

static void as_call(uint8_t *bytes, size_t size, bool cut) {
    struct vouch_message m;
    if (!pixl_line_call(bytes, size, cut ? size + 1 : 0, &m))
        return;
    require(m.kind == VOUCH_MESSAGE_CALL && m.tag_size <= VOUCH_PIXL_ID_MAX);
    require(vouch_json_scan(m.tag, m.tag_size, &all, NULL) == 0);
    require(utf8_valid((const uint8_t *)m.target, m.target_size));
    require(m.result != 0 || cut || vouch_json_scan(m.data, m.size, &all, NULL) == 0);
    answer(&m, m.result);
    answer(&m, VOUCH_REMOTE_METHOD_NOT_FOUND);
    answer(&m, 0);
}

static void as_reply(uint8_t *bytes, size_t size) {
    struct vouch_message m;
    if (!pixl_line_reply(bytes, size, &m))
        return;
    require(m.data == bytes && m.size == size);
    if (m.kind == VOUCH_MESSAGE_NOTICE)
        require(vouch_json_scan(bytes, size, &all, NULL) == 0);
    else
        require(m.kind == VOUCH_MESSAGE_REPLY && m.id != 0);
}

/* The same number however it is cut. */
static void as_long_reply(const uint8_t *bytes, size_t size) {
    struct vouch_skim whole = {{0}}, cut = {{0}};
    uint32_t id = 0;
    for (size_t i = 0; i < size && id == 0; i++)
        id = pixl_skim(NULL, &cut, bytes + i, 1);
    require(pixl_skim(NULL, &whole, bytes, size) == id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || memchr(data + 1, '\n', size - 1))
        return 0;
    for (int i = 0; i < 2; i++) {
        uint8_t *bytes = copy_of(data + 1, size - 1);
        if (i == 0)
            as_call(bytes, size - 1, data[0] & 1);
        else
            as_reply(bytes, size - 1);
        free(bytes);
    }
    as_long_reply(data + 1, size - 1);
    uint8_t *body = copy_of(data + 1, size - 1);
    if (pixl_prepare(NULL, body, size - 1) == 0)
        require(size == 1 || vouch_json_scan(body, size - 1, &all, NULL) == 0);
    free(body);
    return 0;
}
