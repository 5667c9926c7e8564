/* SPDX-License-Identifier: MIT */
/* Keys that an object has twice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

static const struct vouch_json_rules unique = {.max_values = SIZE_MAX, .unique_keys = true};

static void taken(const char *text) {
    cr_assert_eq(vouch_json_scan(text, strlen(text), &unique, NULL), 0, "%s", text);
}

static void refused(const char *text, size_t offset) {
    struct vouch_json_fault fault;
    cr_assert_eq(vouch_json_scan(text, strlen(text), NULL, NULL), 0, "only by option: %s", text);
    cr_assert_eq(vouch_json_scan(text, strlen(text), &unique, &fault), -EPROTO, "%s", text);
    cr_assert_eq(fault.offset, offset, "%s: %zu", text, fault.offset);
    cr_assert_str_eq(fault.reason, "a key for the second time");
}

Test(json_keys, different_ones_are_taken) {
    taken("1");
    taken("{}");
    taken("{\"a\":1}");
    taken("{\"a\":1,\"b\":2,\"\":3,\"A\":4,\"aa\":5}");
    taken("{\"a\":{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}}");
    taken("[\"a\",\"a\",\"a\"]");
    taken("{\"a\":\"a\",\"b\":\"a\"}");
    taken("{\"\\u00e9\":1,\"e\":2,\"\\u00e8\":3}");
    taken("{\"\\n\":1,\"n\":2,\"\\\\n\":3}");
    taken("{\"e\\u0301\":1,\"\xc3\xa9\":2}"); /* look the same, are not */
}

Test(json_keys, the_first_that_repeats_is_named) {
    refused("{\"a\":1,\"a\":2}", 7);
    refused("{\"\":1,\"\":2}", 6);
    refused("{\"a\":1,\"b\":2,\"b\":3,\"a\":4}", 13);
    refused("{\"a\":1,\"a\":2,\"a\":3,\"a\":4}", 7);
    refused("{\"b\":1,\"a\":2,\"c\":0,\"b\":3}", 19);
    refused("[{\"a\":1},{\"a\":1,\"a\":1}]", 16);
    refused("{\"x\":{\"a\":1},\"y\":[],\"x\":2}", 20);
    refused("{\"a\":{\"k\":1,\"k\":2},\"a\":2}", 12);
}

Test(json_keys, spelling_does_not_matter) {
    refused("{\"a\":1,\"\\u0061\":2}", 7);
    refused("{\"\\u0061\":1,\"a\":2}", 12);
    refused("{\"/\":1,\"\\/\":2}", 7);
    refused("{\"\\u000A\":1,\"\\n\":2}", 12);
    refused(
        "{\"\\b\\f\\n\\r\\t\\\"\\\\\":1,\"\\u0008\\u000c\\u000a\\u000d\\u0009\\u0022\\u005C\":2}",
        20);
    refused("{\"\xc3\xa9\":1,\"\\u00E9\":2}", 8);
    refused("{\"\xe2\x82\xac\":1,\"\\u20ac\":2}", 9);
    refused("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\uDE00\":2}", 10);
}

/* All keys of an object that is as large as the limit of values, with the last one twice. */
Test(json_keys, many) {
    enum { COUNT = VOUCH_JSON_VALUES_DEFAULT - 1 };
    char *text = malloc(COUNT * 24), *p = text;
    cr_assert_not_null(text);
    *p++ = '{';
    for (unsigned i = 0; i < COUNT - 1; i++)
        p += sprintf(p, "\"prefix%u\":0,", i * 40503u % 65521u + (i >= 65521u ? 100000u : 0u));
    size_t last = (size_t)(p - text);
    strcpy(p, "\"prefix\":0}");
    taken(text);
    strcpy(p, "\"prefix7\":0}");
    refused(text, last);
    free(text);
}

Test(json_keys, without_memory) {
    json_memory_begin();
    json_memory_fail(1);
    cr_assert_eq(vouch_json_scan("{\"a\":1,\"b\":1}", 13, &unique, NULL), -ENOMEM);
    cr_assert(json_memory_failed());
    json_memory_end();
}
