/* SPDX-License-Identifier: MIT */
/* Whose reply a line is that is too long to be kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/pixl.h"
#include "tests/harness.h"

static uint32_t skim(struct vouch_skim *state, const char *text, size_t size) {
    return pixl_skim(NULL, state, (const uint8_t *)text, size);
}

/* In pieces of so many bytes; the number, and in how many bytes it was found. */
static uint32_t skim_pieces(const char *text, size_t piece, size_t *ret_read) {
    struct vouch_skim state = {{0}};
    size_t size = strlen(text);
    uint32_t id = 0;
    for (*ret_read = 0; id == 0 && *ret_read < size;) {
        size_t now = size - *ret_read < piece ? size - *ret_read : piece;
        id = skim(&state, text + *ret_read, now);
        *ret_read += now;
    }
    return id;
}

/* However it is cut. */
static void check(const char *text, uint32_t expected) {
    size_t size = strlen(text), read;
    for (size_t piece = 1; piece <= size; piece++)
        cr_assert_eq(skim_pieces(text, piece, &read), expected, "%s in pieces of %zu", text, piece);
    for (size_t cut = 0; cut <= size; cut++) {
        struct vouch_skim state = {{0}};
        uint32_t id = skim(&state, text, cut);
        if (id == 0)
            id = skim(&state, text + cut, size - cut);
        cr_assert_eq(id, expected, "%s cut at %zu", text, cut);
    }
}

Test(pixl_skim, an_id_anywhere_in_the_object) {
    check("{\"ipcReqID\":\"rq1\",\"data\":1}", 1);
    check("{\"data\":{\"a\":[1,{\"b\":\"c\"}]},\"x\":null,\"ipcReqID\":\"rq4294967295\"}",
          4294967295u);
    check(" \t{ \"data\" : \"a\" , \"ipcReqID\" : \"rq27\" } ", 27);
    check(
        "{\"\\u0069\\u0070\\u0063\\u0052\\u0065\\u0071\\u0049\\u0044\":\"\\u0072\\u0071\\u0037\"}",
        7);
}

Test(pixl_skim, what_is_in_values_does_not_count) {
    check("{\"data\":{\"ipcReqID\":\"rq1\"}}", 0);
    check("{\"data\":{\"ipcReqID\":\"rq1\"},\"ipcReqID\":\"rq2\"}", 2);
    check("{\"data\":[{\"ipcReqID\":\"rq1\"},\"ipcReqID\",\"rq3\"],\"ipcReqID\":\"rq2\"}", 2);
    check("{\"data\":\"\\\"ipcReqID\\\":\\\"rq1\\\"\",\"ipcReqID\":\"rq2\"}", 2);
    check("{\"data\":\"\\\\\",\"ipcReqID\":\"rq2\"}", 2);
    check("{\"data\":\"}{\\\\\\\"]\",\"ipcReqID\":\"rq2\"}", 2);
    check("{\"a\":\"ipcReqID\",\"b\":\"rq1\"}", 0);
    check("{\"ipcReqID\":{\"a\":1},\"b\":\"rq1\"}", 0);
    check("{\"ipcReqID\":[\"rq1\"]}", 0);
}

Test(pixl_skim, what_is_no_id_of_ours) {
    static const char *const bad[] = {
        "1",          "null",     "true",     "\"1\"",    "\"rq\"",
        "\"rq0\"",    "\"rq01\"", "\"xrq1\"", "\"rq1x\"", "\"rq4294967296\"",
        "\"\\ud800\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[100];
        snprintf(text, sizeof(text), "{\"ipcReqID\":%s,\"data\":\"rq9\"}", bad[i]);
        check(text, 0);
    }
    check("{\"ipcReqIDs\":\"rq1\"}", 0);
    check("{\"ipcReqI\":\"rq1\"}", 0);
    check("{\"ipcreqid\":\"rq1\"}", 0);
}

Test(pixl_skim, what_is_no_object) {
    check("", 0);
    check("[{\"ipcReqID\":\"rq1\"}]", 0);
    check("\"ipcReqID\":\"rq1\"", 0);
    check("x{\"ipcReqID\":\"rq1\"}", 0);
    check("{}{\"ipcReqID\":\"rq1\"}", 0);
    check("}{\"ipcReqID\":\"rq1\"}", 0);
}

/* Texts that are longer than what can be kept, at the limit and around it. */
Test(pixl_skim, keys_and_values_of_any_size) {
    for (size_t size = 40; size < 600; size += size < 70 ? 1 : 97) {
        char text[2200], filler[1000] = "";
        memset(filler, 'x', size);
        snprintf(text, sizeof(text), "{\"%s\":\"%s\",\"data\":\"rq3\",\"ipcReqID\":\"rq2\"}",
                 filler, filler);
        check(text, 2);
        snprintf(text, sizeof(text), "{\"ipcReqID%s\":\"rq1\"}", filler);
        check(text, 0);
        memset(filler, '1', size);
        snprintf(text, sizeof(text), "{\"ipcReqID\":\"rq%s\"}", filler);
        check(text, 0);
    }
}

Test(pixl_skim, it_is_found_with_its_last_byte) {
    const char *text = "{\"a\":1,\"ipcReqID\":\"rq12\",\"b\":2}";
    size_t read;
    cr_assert_eq(skim_pieces(text, 1, &read), 12);
    cr_assert_eq(read, (size_t)(strstr(text, "12\"") - text) + 3);
}

Test(pixl_skim, deeply_nested) {
    size_t depth = 100000;
    char *text = malloc(2 * depth + 100);
    cr_assert_not_null(text);
    struct vouch_skim state = {{0}};
    strcpy(text, "{\"data\":");
    memset(text + 8, '[', depth);
    memset(text + 8 + depth, ']', depth);
    strcpy(text + 8 + 2 * depth, ",\"ipcReqID\":\"rq2\"}");
    cr_assert_eq(skim(&state, text, strlen(text)), 2);
    free(text);
}
