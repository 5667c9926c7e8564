/* SPDX-License-Identifier: MIT */
/* What is let through, and where and why the rest is not. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

static int scan(const char *text, const struct vouch_json_rules *rules,
                struct vouch_json_fault *ret_fault) {
    return vouch_json_scan(text, strlen(text), rules, ret_fault);
}

/* Each in an allocation of its own, so that a byte read past the end shows. */
static int scan_exact(const struct json_document *document, struct vouch_json_fault *ret_fault) {
    char *text = malloc(document->size ? document->size : 1);
    cr_assert_not_null(text);
    memcpy(text, document->text, document->size);
    int result = vouch_json_scan(document->size ? text : NULL, document->size, NULL, ret_fault);
    free(text);
    return result;
}

Test(json_scan, takes_what_is_json) {
    for (size_t i = 0; i < json_accepted_count; i++)
        cr_assert_eq(scan_exact(&json_accepted[i], NULL), 0, "%s", json_accepted[i].text);
}

Test(json_scan, refuses_what_is_not_and_says_where_and_why) {
    cr_assert_geq(json_refused_count + json_accepted_count, 400);
    for (size_t i = 0; i < json_refused_count; i++) {
        const struct json_document *document = &json_refused[i];
        struct vouch_json_fault fault;
        cr_assert_eq(scan_exact(document, &fault), -EPROTO, "%s", document->text);
        cr_assert_eq(fault.offset, document->offset, "%s: %zu", document->text, fault.offset);
        cr_assert_str_eq(fault.reason, document->reason, "%s", document->text);
    }
}

/* Cut short at any byte, nothing but numbers and white space at the end is whole. */
Test(json_scan, no_part_of_a_document_is_one) {
    const char *text = "{\"a\":[1,true,null,\"\\ud83d\\ude00\",{\"b\":-1.5e3}],\"c\":\"\xc3\xa9\"}";
    for (size_t size = 0; size < strlen(text); size++) {
        struct vouch_json_fault fault;
        cr_assert_eq(vouch_json_scan(text, size, NULL, &fault), -EPROTO);
        cr_assert_leq(fault.offset, size);
    }
    cr_assert_eq(scan(text, NULL, NULL), 0);
}

/* ---- limits ---- */

/* `depth` arrays, objects when `pattern` says so, around a value. */
static char *nested(unsigned depth, bool objects) {
    static char text[8 * VOUCH_JSON_DEPTH_BOUND + 8];
    char *p = text;
    for (unsigned i = 0; i < depth; i++)
        p += strlen(strcpy(p, objects ? "{\"k\":" : "["));
    *p++ = '7';
    memset(p, objects ? '}' : ']', depth);
    p[depth] = '\0';
    return text;
}

static void check_depth(unsigned depth, const struct vouch_json_rules *rules, bool objects) {
    struct vouch_json_fault fault;
    cr_assert_eq(scan(nested(depth, objects), rules, NULL), 0);
    cr_assert_eq(scan(nested(depth + 1, objects), rules, &fault), -EPROTO);
    cr_assert_eq(fault.offset, objects ? 5 * depth : depth);
    cr_assert_str_eq(fault.reason, "arrays and objects nested too deeply");
}

Test(json_scan, depth) {
    check_depth(VOUCH_JSON_DEPTH_DEFAULT, NULL, false);
    check_depth(VOUCH_JSON_DEPTH_DEFAULT, NULL, true);
    check_depth(1, &(struct vouch_json_rules){.max_depth = 1}, false);
    check_depth(VOUCH_JSON_DEPTH_BOUND,
                &(struct vouch_json_rules){.max_depth = VOUCH_JSON_DEPTH_BOUND}, true);
    cr_assert_eq(
        scan("1", &(struct vouch_json_rules){.max_depth = VOUCH_JSON_DEPTH_BOUND + 1}, NULL),
        -EINVAL);
}

/* An array and `count` - 1 zeros in it. */
static char *many(size_t count) {
    char *text = malloc(2 * count + 2), *p = text;
    cr_assert_not_null(text);
    *p++ = '[';
    for (size_t i = 1; i < count; i++) {
        *p++ = '0';
        *p++ = ',';
    }
    p[-1] = ']';
    *p = '\0';
    return text;
}

Test(json_scan, values) {
    struct vouch_json_fault fault;
    char *text = many(VOUCH_JSON_VALUES_DEFAULT);
    cr_assert_eq(scan(text, NULL, NULL), 0);
    free(text);
    text = many(VOUCH_JSON_VALUES_DEFAULT + 1);
    cr_assert_eq(scan(text, NULL, &fault), -EPROTO);
    cr_assert_eq(fault.offset, strlen(text) - 2);
    cr_assert_str_eq(fault.reason, "too many values");
    cr_assert_eq(scan(text, &(struct vouch_json_rules){.max_values = SIZE_MAX}, NULL), 0);
    free(text);

    const struct vouch_json_rules three = {.max_values = 3};
    cr_assert_eq(scan("[[],{}]", &three, NULL), 0);
    cr_assert_eq(scan("{\"a\":1,\"b\":2}", &three, NULL), 0);
    cr_assert_eq(scan("{\"a\":1,\"b\":[2]}", &three, &fault), -EPROTO);
    cr_assert_eq(fault.offset, 12);
}

Test(json_scan, length_of_numbers) {
    char text[VOUCH_JSON_NUMBER_MAX + 2];
    struct vouch_json_fault fault;
    memset(text, '1', sizeof(text));
    cr_assert_eq(vouch_json_scan(text, VOUCH_JSON_NUMBER_MAX, NULL, NULL), 0);
    cr_assert_eq(vouch_json_scan(text, VOUCH_JSON_NUMBER_MAX + 1, NULL, &fault), -EPROTO);
    cr_assert_eq(fault.offset, 0);
    cr_assert_str_eq(fault.reason, "a number that is too long");
    text[0] = '-';
    text[10] = '.';
    cr_assert_eq(vouch_json_scan(text, VOUCH_JSON_NUMBER_MAX, NULL, NULL), 0);
    cr_assert_eq(vouch_json_scan(text, VOUCH_JSON_NUMBER_MAX + 1, NULL, NULL), -EPROTO);
}

/* No memory, no recursion: a hostile megabyte is refused where its limit is passed. */
Test(json_scan, a_megabyte_of_brackets) {
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE);
    struct vouch_json_fault fault;
    cr_assert_not_null(text);
    memset(text, '[', SIZE);
    json_memory_begin();
    json_memory_fail(1);
    cr_assert_eq(vouch_json_scan(text, SIZE, NULL, &fault), -EPROTO);
    cr_assert_eq(fault.offset, VOUCH_JSON_DEPTH_DEFAULT);
    cr_assert(!json_memory_failed());
    json_memory_end();
    free(text);
}

/* Rules of a program that was compiled when the struct was shorter. */
Test(json_scan, rules_have_a_size) {
    const struct vouch_json_rules rules = {
        .size = offsetof(struct vouch_json_rules, max_values), .max_depth = 1, .max_values = 1};
    cr_assert_eq(scan("[1]", &rules, NULL), 0);
    cr_assert_eq(scan("[[1]]", &rules, NULL), -EPROTO);
}
