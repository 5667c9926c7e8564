/* SPDX-License-Identifier: MIT */
#include "tests/json_support.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"

/* ---- documents ---- */

#define T(text)                                                                                    \
    { text, sizeof(text) - 1, 0, NULL }

const struct json_document json_accepted[] = {T("null"),
                                              T("true"),
                                              T("false"),
                                              T("0"),
                                              T("-0"),
                                              T("1"),
                                              T("-1"),
                                              T("10"),
                                              T("1234567890"),
                                              T("0.5"),
                                              T("-0.5"),
                                              T("0.0"),
                                              T("1.0"),
                                              T("1e1"),
                                              T("1E1"),
                                              T("1e+1"),
                                              T("1e-1"),
                                              T("1E+1"),
                                              T("1E-1"),
                                              T("0e0"),
                                              T("0e+1"),
                                              T("0e-1"),
                                              T("-0e1"),
                                              T("1.5e3"),
                                              T("123.456e-7"),
                                              T("1e308"),
                                              T("-1e308"),
                                              T("1e-400"),
                                              T("1e0000000001"),
                                              T("0.000000000000000000001"),
                                              T("9007199254740991"),
                                              T("9007199254740992"),
                                              T("9007199254740993"),
                                              T("9223372036854775807"),
                                              T("-9223372036854775808"),
                                              T("9223372036854775808"),
                                              T("18446744073709551615"),
                                              T("18446744073709551616"),
                                              T("1000000000000000"),
                                              T("123456789012345678901234567890"),
                                              T("\"\""),
                                              T("\"a\""),
                                              T("\" \""),
                                              T("\"a b\""),
                                              T("\"/\""),
                                              T("\"\\/\""),
                                              T("\"\\\\\""),
                                              T("\"\\\"\""),
                                              T("\"\\b\\f\\n\\r\\t\""),
                                              T("\"\\u0001\""),
                                              T("\"\\u001f\""),
                                              T("\"\\u0020\""),
                                              T("\"\\u007f\""),
                                              T("\"\\u0080\""),
                                              T("\"\\u00e9\""),
                                              T("\"\\u00E9\""),
                                              T("\"\\u0800\""),
                                              T("\"\\uffff\""),
                                              T("\"\\uFFFE\""),
                                              T("\"\\uFDD0\""),
                                              T("\"\\ud800\\udc00\""),
                                              T("\"\\uD83D\\uDE00\""),
                                              T("\"\\udbff\\udfff\""),
                                              T("\"\\ud7ff\""),
                                              T("\"\\ue000\""),
                                              T("\"\\u2028\""),
                                              T("\"\\u2029\""),
                                              T("\"\\\\u0000\""),
                                              T("\"\\\\n\""),
                                              T("\"null\""),
                                              T("\"'\""),
                                              T("\"[1,2]\""),
                                              T("\"{\\\"a\\\":1}\""),
                                              T("[]"),
                                              T("[ ]"),
                                              T("[[]]"),
                                              T("[[],[]]"),
                                              T("[{}]"),
                                              T("[1]"),
                                              T("[1,2]"),
                                              T("[ 1 , 2 ]"),
                                              T("[null]"),
                                              T("[true,false,null]"),
                                              T("[\"\"]"),
                                              T("[\"a\",\"b\"]"),
                                              T("[1,[2,[3]]]"),
                                              T("[[[[[]]]]]"),
                                              T("[-1]"),
                                              T("[1e1]"),
                                              T("[0,0]"),
                                              T("[1,\"a\",{},[],null]"),
                                              T("[\"\",\"\"]"),
                                              T("[[],{}]"),
                                              T("{}"),
                                              T("{ }"),
                                              T("{\"\":0}"),
                                              T("{\"a\":1}"),
                                              T("{ \"a\" : 1 }"),
                                              T("{\"a\":1,\"b\":2}"),
                                              T("{\"a\":{\"b\":{}}}"),
                                              T("{\"a\":[]}"),
                                              T("{\"a\":[1,{\"b\":2}]}"),
                                              T("{\"a\":1,\"a\":2}"),
                                              T("{\"\\u0061\":1}"),
                                              T("{\"a\":null}"),
                                              T("{\"a\":\"b\"}"),
                                              T("{\"\\\"\":1}"),
                                              T("{\"\\\\\":1}"),
                                              T("{\"/\":1}"),
                                              T("{\"a b\":1}"),
                                              T("{\"1\":1}"),
                                              T("{\"{\":\"}\"}"),
                                              T("{\"[\":\"]\"}"),
                                              T("{\"a\":true,\"b\":false}"),
                                              T(" null"),
                                              T("null "),
                                              T("  0  "),
                                              T("\t[]"),
                                              T("[]\n"),
                                              T("\r\n{}\r\n"),
                                              T("\n1"),
                                              T("\"a\" "),
                                              T("[1,\n2]"),
                                              T("{\"a\":\t1}"),
                                              T("\"\177\""),
                                              T("\"\302\200\""),
                                              T("\"\303\251\""),
                                              T("\"\337\277\""),
                                              T("\"\340\240\200\""),
                                              T("\"\342\200\250\""),
                                              T("\"\355\237\277\""),
                                              T("\"\356\200\200\""),
                                              T("\"\357\277\275\""),
                                              T("\"\357\273\277\""),
                                              T("\"\360\220\200\200\""),
                                              T("\"\364\217\277\277\""),
                                              T("{\"\303\251\":1}")};
const size_t json_accepted_count = sizeof(json_accepted) / sizeof(json_accepted[0]);

#undef T
#define T(offset, text)                                                                            \
    { text, sizeof(text) - 1, offset, REASON }

const struct json_document json_refused[] = {
#define REASON "the text ends where a value has to be"
    T(0, ""),
    T(1, " "),
    T(4, "\t\n\r "),
    T(1, "["),
    T(3, "[1,"),
    T(2, "[["),
    T(4, "[1,\n"),
    T(5, "{\"a\":"),
#undef REASON
#define REASON "neither true, false nor null"
    T(0, "nul"),
    T(0, "nulL"),
    T(0, "tru"),
    T(0, "fals"),
    T(0, "nil"),
    T(0, "nan"),
    T(0, "t"),
    T(0, "f"),
    T(0, "n"),
    T(1, "[nul]"),
    T(1, "[tru]"),
    T(5, "{\"a\":tru}"),
    T(0, "tru\000"),
#undef REASON
#define REASON "no value where one has to be"
    T(0, "Null"),
    T(0, "NULL"),
    T(0, "True"),
    T(0, "TRUE"),
    T(0, "False"),
    T(0, "undefined"),
    T(0, "NaN"),
    T(0, "Infinity"),
    T(0, "inf"),
    T(0, "+1"),
    T(0, ".5"),
    T(0, "."),
    T(0, "\331\241"),
    T(0, "'a'"),
    T(0, "`a`"),
    T(0, "a"),
    T(0, "]"),
    T(3, "[1,]"),
    T(1, "[,]"),
    T(1, "[,1]"),
    T(3, "[1,,2]"),
    T(1, "[}"),
    T(5, "[1,2,]"),
    T(2, "[ , ]"),
    T(8, "[1,null,]"),
    T(1, "[a]"),
    T(1, "[']"),
    T(0, "(1)"),
    T(0, "<1>"),
    T(1, "[\\]"),
    T(1, "[*]"),
    T(0, "}"),
    T(5, "{\"a\":}"),
    T(5, "{\"a\"::1}"),
    T(6, "{\"a\":[}"),
    T(8, "{ \"a\" : }"),
    T(5, "{\"a\":undefined}"),
    T(11, "{\"a\":1,\"b\":}"),
    T(0, "/**/1"),
    T(0, "//a\n1"),
    T(0, "#1"),
    T(0, ","),
    T(0, ":"),
    T(0, ",null"),
    T(0, ";"),
    T(0, "\\\\"),
    T(0, "\\\n"),
    T(0, "*"),
    T(0, "&"),
    T(0, "^"),
    T(0, "%"),
    T(0, "$"),
    T(0, "@"),
    T(0, "!"),
    T(0, "~"),
    T(0, "\?"),
    T(0, "="),
    T(0, "\357\273\2771"),
    T(0, "\377"),
    T(0, "\303\251"),
    T(1, "[\0131]"),
    T(1, "[\0141]"),
    T(1, "[\302\2401]"),
    T(0, "\0001"),
    T(1, "[\000]"),
    T(0, "\0131"),
#undef REASON
#define REASON "a number without digits"
    T(1, "-Infinity"),
    T(1, "-"),
    T(1, "--1"),
    T(1, "-+1"),
    T(1, "-a"),
    T(1, "-.5"),
    T(1, "- 1"),
    T(2, "[-]"),
    T(1, "-\000"),
#undef REASON
#define REASON "something after the value"
    T(4, "truee"),
    T(4, "nullnull"),
    T(4, "true1"),
    T(5, "falsefalse"),
    T(3, "1.2.3"),
    T(3, "1e1.5"),
    T(3, "1e1e1"),
    T(1, "0x10"),
    T(1, "0X1"),
    T(1, "1a"),
    T(1, "1_000"),
    T(1, "1,000"),
    T(2, "1 2"),
    T(2, "-0x1"),
    T(1, "0b1"),
    T(1, "0o7"),
    T(1, "1f"),
    T(1, "1L"),
    T(2, "1 .5"),
    T(2, "1 e1"),
    T(4, "\"a\" \"b\""),
    T(3, "\"a\"b"),
    T(2, "\"\"\" "),
    T(3, "[1]]"),
    T(3, "[1]1"),
    T(3, "[1][2]"),
    T(2, "[]{}"),
    T(2, "[]]"),
    T(3, "[1]x"),
    T(4, "[[]],"),
    T(7, "{\"a\":1}}"),
    T(7, "{\"a\":1}{}"),
    T(7, "{\"a\":1},"),
    T(7, "{\"a\":1}1"),
    T(1, "1/**/"),
    T(1, "1//"),
    T(3, "[1]//"),
    T(1, "1,"),
    T(1, "1:"),
    T(4, "null,"),
    T(3, "[1],"),
    T(2, "{}:"),
    T(1, "1;"),
    T(3, "\"a\","),
    T(1, "1\000"),
    T(4, "null\000"),
    T(1, "1\014"),
#undef REASON
#define REASON "a number that begins with a zero"
    T(0, "01"),
    T(1, "-01"),
    T(0, "00"),
    T(0, "000"),
    T(0, "007"),
    T(1, "[01]"),
    T(5, "{\"a\":01}"),
#undef REASON
#define REASON "a fraction without digits"
    T(2, "1."),
    T(3, "-1."),
    T(2, "1.e1"),
    T(2, "1..2"),
    T(2, "0.e1"),
    T(2, "2.e3"),
    T(2, "1. 5"),
    T(3, "[1.]"),
#undef REASON
#define REASON "an exponent without digits"
    T(2, "1e"),
    T(2, "1E"),
    T(3, "1e+"),
    T(3, "1e-"),
    T(3, "1e++1"),
    T(2, "0e"),
    T(4, "1.0e"),
    T(3, "1e+a"),
    T(3, "[1e]"),
#undef REASON
#define REASON "the text ends in a string"
    T(1, "\""),
    T(2, "\"a"),
    T(2, "\"\\"),
    T(3, "\"\\\""),
    T(3, "\"a\\"),
    T(7, "\"\\u0041"),
    T(3, "[\"a"),
    T(3, "{\"a"),
    T(4, "{\"a\\"),
    T(8, "{\"a\":\"b}"),
#undef REASON
#define REASON "an escape that JSON does not have"
    T(1, "\"\\a\""),
    T(1, "\"\\x41\""),
    T(1, "\"\\0\""),
    T(1, "\"\\'\""),
    T(1, "\"\\U0041\""),
    T(1, "\"\\ "),
    T(1, "\"\\\000\""),
    T(1, "\"\\\n\""),
    T(1, "\"\\\303\251\""),
#undef REASON
#define REASON "\\u without four hexadecimal digits"
    T(1, "\"\\u\""),
    T(1, "\"\\u0\""),
    T(1, "\"\\u00\""),
    T(1, "\"\\u004\""),
    T(1, "\"\\u004g\""),
    T(1, "\"\\uzzzz\""),
    T(1, "\"\\u 041\""),
    T(1, "\"\\u+041\""),
    T(1, "\"\\u-041\""),
    T(1, "\"\\u00"),
#undef REASON
#define REASON "\\u0000, which a C string cannot hold"
    T(1, "\"\\u0000\""),
    T(2, "\"a\\u0000b\""),
    T(2, "{\"\\u0000\":1}"),
#undef REASON
#define REASON "half of a surrogate pair"
    T(1, "\"\\ud800\""),
    T(1, "\"\\udc00\""),
    T(1, "\"\\ud800a\""),
    T(1, "\"\\ud800\\n\""),
    T(1, "\"\\ud800\\ud800\""),
    T(1, "\"\\ud800\\u0041\""),
    T(1, "\"\\udc00\\ud800\""),
    T(1, "\"\\udfff\""),
    T(1, "\"\\ud83d\\u\""),
    T(1, "\"\\ud83d\\ude\""),
    T(2, "{\"\\ud800\":1}"),
#undef REASON
#define REASON "neither , nor ] after an element"
    T(2, "[1"),
    T(3, "[1 2]"),
    T(2, "[1}"),
    T(3, "[[]"),
    T(4, "[1,2"),
    T(4, "[\"a\""),
    T(2, "[1;2]"),
    T(2, "[1:2]"),
    T(4, "[\"a\":1]"),
    T(4, "[[1]"),
    T(2, "[1\000]"),
#undef REASON
#define REASON "no key where one has to be"
    T(1, "{"),
    T(7, "{\"a\":1,"),
    T(7, "{\"a\":1,}"),
    T(1, "{,}"),
    T(1, "{,\"a\":1}"),
    T(7, "{\"a\":1,,\"b\":2}"),
    T(1, "{1:1}"),
    T(1, "{null:1}"),
    T(1, "{true:1}"),
    T(1, "{a:1}"),
    T(1, "{'a':1}"),
    T(1, "{[]:1}"),
    T(1, "{{}:1}"),
    T(6, "{\"a\":{]}"),
    T(1, "{:1}"),
    T(1, "{]"),
#undef REASON
#define REASON "no colon after a key"
    T(4, "{\"a\""),
    T(4, "{\"a\"}"),
    T(5, "{\"a\" 1}"),
    T(4, "{\"a\",1}"),
    T(4, "{\"a\"=1}"),
    T(4, "{\"a\"=>1}"),
    T(10, "{\"a\":1,\"b\"}"),
#undef REASON
#define REASON "neither , nor } after a member"
    T(6, "{\"a\":1"),
    T(6, "{\"a\":1:2}"),
    T(7, "{\"a\":1 \"b\":2}"),
    T(6, "{\"a\":1]"),
    T(6, "{\"a\":1;\"b\":2}"),
#undef REASON
#define REASON "a control character in a string"
    T(1, "\"\000\""),
    T(1, "\"\037\""),
    T(1, "\"\001\""),
    T(1, "\"\n\""),
    T(1, "\"\t\""),
    T(1, "\"\r\""),
    T(2, "\"a\nb\""),
    T(2, "{\"\n\":1}"),
    T(2, "\"a\000b\""),
    T(3, "{\"a\000\":1}"),
#undef REASON
#define REASON "a string that is not UTF-8"
    T(1, "\"\200\""),
    T(1, "\"\277\""),
    T(1, "\"\300\200\""),
    T(1, "\"\301\277\""),
    T(1, "\"\302\""),
    T(1, "\"\302A\""),
    T(1, "\"\340\200\200\""),
    T(1, "\"\340\237\277\""),
    T(1, "\"\342\200\""),
    T(1, "\"\355\240\200\""),
    T(1, "\"\355\277\277\""),
    T(1, "\"\360\200\200\200\""),
    T(1, "\"\360\217\277\277\""),
    T(1, "\"\360\220\200\""),
    T(1, "\"\364\220\200\200\""),
    T(1, "\"\365\200\200\200\""),
    T(1, "\"\370\210\200\200\200\""),
    T(1, "\"\376\""),
    T(1, "\"\377\""),
    T(1, "\"\303"),
    T(1, "\"\342\200"),
    T(1, "\"\360\237\230"),
    T(2, "{\"\377\":1}"),
#undef REASON
};
const size_t json_refused_count = sizeof(json_refused) / sizeof(json_refused[0]);

/* ---- memory of cJSON ---- */

static atomic_uint_fast64_t calls, blocks;
static uint64_t fail_at;

static void *hook_malloc(size_t size) {
    if (atomic_fetch_add(&calls, 1) + 1 == fail_at)
        return NULL;
    void *memory = malloc(size);
    if (memory)
        atomic_fetch_add(&blocks, 1);
    return memory;
}

static void hook_free(void *memory) {
    if (memory)
        atomic_fetch_sub(&blocks, 1);
    free(memory);
}

void json_memory_begin(void) {
    cJSON_Hooks hooks = {hook_malloc, hook_free};
    cJSON_InitHooks(&hooks);
    json_memory_fail(0);
}

void json_memory_fail(uint64_t call) {
    atomic_store(&calls, 0);
    fail_at = call;
}

bool json_memory_failed(void) {
    return fail_at != 0 && atomic_load(&calls) >= fail_at;
}

void json_memory_end(void) {
    fail_at = 0;
    cr_assert_eq(atomic_load(&blocks), 0, "a tree was not deleted");
    cJSON_InitHooks(NULL);
}

/* ---- trees ---- */

cJSON *json_tree(const char *text) {
    struct vouch_error error;
    cJSON *tree;
    cr_assert_eq(vouch_json_parse(text, strlen(text), NULL, &tree, &error), 0, "%s", text);
    return tree;
}

void json_check_print(const cJSON *tree, const char *expected) {
    char text[4096];
    ssize_t size = vouch_json_print(tree, text, sizeof(text));
    cr_assert(size >= 0 && (size_t)size <= sizeof(text));
    cr_assert_eq((size_t)size, strlen(expected), "%.*s, not %s", (int)size, text, expected);
    cr_assert_eq(memcmp(text, expected, (size_t)size), 0, "%.*s, not %s", (int)size, text,
                 expected);
}
