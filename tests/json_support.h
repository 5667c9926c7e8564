/* SPDX-License-Identifier: MIT */
/* What tests of libvouch-json share: documents with a verdict, cJSON's memory counted and failing.
 */
#ifndef TESTS_JSON_SUPPORT_H
#define TESTS_JSON_SUPPORT_H

#include <vouch/json.h>

/* A document, and where and why it is refused. */
struct json_document {
    const char *text;
    size_t size, offset;
    const char *reason;
};

extern const struct json_document json_accepted[], json_refused[];
extern const size_t json_accepted_count, json_refused_count;

/* Between them cJSON's allocations are counted; end asserts that all were given back. */
void json_memory_begin(void);
void json_memory_end(void);
/* Counts from now on again; the `call`th allocation fails (from 1; 0: none). */
void json_memory_fail(uint64_t call);
bool json_memory_failed(void); /* whether it came to that */

/* The tree of a text; asserts that it is taken. */
cJSON *json_tree(const char *text);
/* Asserts what a tree is printed as. */
void json_check_print(const cJSON *tree, const char *expected);

#endif
