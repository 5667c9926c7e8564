/* SPDX-License-Identifier: MIT */
/* Text to tree and back. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

static void round_trip(const char *text, const char *printed) {
    cJSON *tree = json_tree(text);
    json_check_print(tree, printed);
    cJSON_Delete(tree);
}

static void prints(cJSON *tree, const char *expected) {
    cr_assert_not_null(tree);
    json_check_print(tree, expected);
    cJSON_Delete(tree);
}

static void does_not_print(cJSON *tree, int result) {
    char text[64];
    cr_assert_eq(vouch_json_print(tree, text, sizeof(text)), result);
    cr_assert_eq(vouch_json_print(tree, NULL, 0), result);
    cJSON_Delete(tree);
}

/* ---- both ways ---- */

Test(json_text, what_is_taken_comes_back_and_then_stays) {
    json_memory_begin();
    for (size_t i = 0; i < json_accepted_count; i++) {
        const struct json_document *document = &json_accepted[i];
        char once[512], twice[512];
        cJSON *tree;
        cr_assert_eq(vouch_json_parse(document->text, document->size, NULL, &tree, NULL), 0);
        ssize_t size = vouch_json_print(tree, once, sizeof(once));
        cr_assert(size > 0 && (size_t)size < sizeof(once), "%s", document->text);
        cJSON_Delete(tree);

        cr_assert_eq(vouch_json_parse(once, (size_t)size, NULL, &tree, NULL), 0, "%s", once);
        cr_assert_eq(vouch_json_print(tree, twice, sizeof(twice)), size, "%.*s", (int)size, once);
        cr_assert_arr_eq(once, twice, (size_t)size);
        cJSON_Delete(tree);
    }
    json_memory_end();
}

Test(json_text, numbers_are_printed_as_they_were_written) {
    static const char *const numbers[] = {
        "0",
        "-0",
        "1",
        "-1",
        "1.0",
        "1.50",
        "-12.5e3",
        "1e3",
        "1E+03",
        "0.1",
        "1e-400",
        "999999999999999",
        "1000000000000000",
        "9007199254740991",
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890123456789012345678901234567890123",
        "3.14159265358979323846264338327950288419716939937510582097494",
    };
    char list[2048] = "[";
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        round_trip(numbers[i], numbers[i]);
        strcat(strcat(list, i ? "," : ""), numbers[i]);
    }
    strcat(list, "]");
    round_trip(list, list);
    round_trip("{\"7\":[\"8\\\"9\",10000000000000001],\"1e5\":\"-\",\"x\":{\"y\":2.50}}",
               "{\"7\":[\"8\\\"9\",10000000000000001],\"1e5\":\"-\",\"x\":{\"y\":2.50}}");
}

Test(json_text, a_number_that_is_changed_is_printed_as_what_it_became) {
    cJSON *tree = json_tree("[9007199254740993,2.50,1]");
    cJSON_SetNumberValue(cJSON_GetArrayItem(tree, 0), 9007199254740991.0);
    cJSON_SetNumberValue(cJSON_GetArrayItem(tree, 1), 0.25);
    cJSON_SetNumberValue(cJSON_GetArrayItem(tree, 2), 2);
    prints(tree, "[9007199254740991,0.25,2]");
}

Test(json_text, copies_keep_the_text_of_numbers) {
    cJSON *tree = json_tree("{\"a\":[18446744073709551615,1.0]}");
    cJSON *copy = cJSON_Duplicate(tree, true);
    cJSON_Delete(tree);
    prints(copy, "{\"a\":[18446744073709551615,1.0]}");
}

Test(json_text, strings) {
    round_trip("\"\\u00e9\\/\\u0041\"", "\"\xc3\xa9/A\"");
    round_trip("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"");
    round_trip("\"\\b\\f\\n\\r\\t\\\"\\\\\"", "\"\\b\\f\\n\\r\\t\\\"\\\\\"");
    round_trip("\"\\u0001\\u001F\\u007f\"", "\"\\u0001\\u001f\x7f\"");
    round_trip("\"<a href='x'>&amp;\"", "\"\\u003ca href='x'\\u003e\\u0026amp;\"");
    round_trip("\"a\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa\"", "\"a\\u2028\\u2029\xe2\x80\xaa\"");
    round_trip("{\"<\\n\":\"\"}", "{\"\\u003c\\n\":\"\"}");
}

Test(json_text, structure) {
    round_trip(" [ ] ", "[]");
    round_trip("{ }", "{}");
    round_trip(" { \"a\" : [ 1 , { } , null ] , \"b\" : true , \"b\" : false } ",
               "{\"a\":[1,{},null],\"b\":true,\"b\":false}");
}

/* ---- trees that a program makes ---- */

Test(json_text, doubles) {
    prints(cJSON_CreateNumber(0), "0");
    prints(cJSON_CreateNumber(-0.0), "-0");
    prints(cJSON_CreateNumber(9007199254740991.0), "9007199254740991");
    prints(cJSON_CreateNumber(1e15), "1000000000000000");
    prints(cJSON_CreateNumber(-1e18), "-1000000000000000000");
    prints(cJSON_CreateNumber(1e20), "100000000000000000000");
    prints(cJSON_CreateNumber(1e21), "1e+21");
    prints(cJSON_CreateNumber(0.1), "0.1");
    prints(cJSON_CreateNumber(0.1 + 0.2), "0.30000000000000004");
    prints(cJSON_CreateNumber(1.0 / 3), "0.3333333333333333");
    prints(cJSON_CreateNumber(1.7976931348623157e308), "1.7976931348623157e+308");
    prints(cJSON_CreateNumber(5e-324), "4.94065645841247e-324");
    does_not_print(cJSON_CreateNumber(INFINITY), -EINVAL);
    does_not_print(cJSON_CreateNumber(-INFINITY), -EINVAL);
    does_not_print(cJSON_CreateNumber(NAN), -EINVAL);
}

/* All doubles that are printed come back as the same. */
Test(json_text, doubles_come_back) {
    struct support_random random;
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(20000, 1000); i++) {
        uint64_t bits = support_random_next(&random);
        double value;
        char text[64];
        memcpy(&value, &bits, sizeof(value));
        if (!isfinite(value))
            continue;
        cJSON item = {.type = cJSON_Number, .valuedouble = value};
        ssize_t size = vouch_json_print(&item, text, sizeof(text) - 1);
        cr_assert(size > 0 && size < 40);
        text[size] = '\0';
        cr_assert_eq(vouch_json_scan(text, (size_t)size, NULL, NULL), 0);
        cr_assert_eq(strtod(text, NULL), value, "%s", text);
    }
}

/* cJSON 1.7.15 prints one in five of them wrongly. */
Test(json_text, integers_below_2_to_the_53) {
    for (int64_t i = 0; i < 20001; i++) {
        cJSON *item = cJSON_CreateNumber((double)(INT64_C(9007199254740991) - i));
        char text[32];
        ssize_t size = vouch_json_print(item, text, sizeof(text) - 1);
        cr_assert_eq(size, 16);
        text[size] = '\0';
        cr_assert_eq(strtoll(text, NULL, 10), INT64_C(9007199254740991) - i);
        cJSON_Delete(item);
    }
}

Test(json_text, a_locale_with_a_comma) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    const char *found = NULL;
    for (size_t i = 0; i < 4 && !found; i++)
        found = setlocale(LC_NUMERIC, names[i]);
    prints(cJSON_CreateNumber(0.5), "0.5");
    prints(cJSON_CreateNumber(-1.25e-7), "-1.25e-07");
    prints(json_tree("[1.5,10000000000000001]"), "[1.5,10000000000000001]");
    setlocale(LC_NUMERIC, "C");
}

Test(json_text, raw_items_have_to_be_json) {
    prints(cJSON_CreateRaw("18446744073709551615"), "18446744073709551615");
    prints(cJSON_CreateRaw("{\"a\": 1}"), "{\"a\": 1}");
    does_not_print(cJSON_CreateRaw("1,2"), -EINVAL);
    does_not_print(cJSON_CreateRaw(""), -EINVAL);
}

Test(json_text, what_is_not_json) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(object, cJSON_CreateNull()); /* a member without a name */
    does_not_print(object, -EINVAL);
    does_not_print(cJSON_CreateString("\xff"), -EINVAL);
    does_not_print(cJSON_CreateString("a\xc3"), -EINVAL);
    object = cJSON_CreateObject();
    cJSON_AddNullToObject(object, "\xed\xa0\x80");
    does_not_print(object, -EINVAL);
    cJSON invalid = {.type = cJSON_Invalid};
    cr_assert_eq(vouch_json_print(&invalid, NULL, 0), -EINVAL);
    cJSON string = {.type = cJSON_String};
    cr_assert_eq(vouch_json_print(&string, NULL, 0), -EINVAL);
    cr_assert_eq(vouch_json_print(NULL, NULL, 0), -EINVAL);
    /* Rubbish where the text of a number may be is not trusted. */
    cJSON number = {.type = cJSON_Number, .valuedouble = 1, .valuestring = (char[]){"1,2"}};
    json_check_print(&number, "1");
}

static cJSON *nested(unsigned depth) {
    cJSON *tree = cJSON_CreateNull();
    for (unsigned i = 0; i < depth; i++) {
        cJSON *array = cJSON_CreateArray();
        cJSON_AddItemToArray(array, tree);
        tree = array;
    }
    return tree;
}

Test(json_text, depth_of_what_is_printed) {
    cJSON *tree = nested(VOUCH_JSON_DEPTH_BOUND);
    cr_assert_eq(vouch_json_print(tree, NULL, 0), 2 * VOUCH_JSON_DEPTH_BOUND + 4);
    cJSON_Delete(tree);
    does_not_print(nested(VOUCH_JSON_DEPTH_BOUND + 1), -EMSGSIZE);
}

Test(json_text, room) {
    const char *text = "{\"a\":[1,\"\\u003c\"]}";
    size_t size = strlen(text);
    cJSON *tree = json_tree(text);
    for (size_t room = 0; room <= size + 1; room++) {
        char *to = malloc(room ? room : 1);
        cr_assert_not_null(to);
        cr_assert_eq(vouch_json_print(tree, to, room), (ssize_t)size);
        if (room >= size)
            cr_assert_arr_eq(to, text, size);
        free(to);
    }
    cr_assert_eq(vouch_json_print(tree, NULL, 0), (ssize_t)size);
    cJSON_Delete(tree);
}

/* ---- what is refused ---- */

static void refused(const char *text, const struct vouch_json_rules *rules, const char *message) {
    struct vouch_error error;
    cJSON *tree = NULL;
    cr_assert_eq(vouch_json_parse(text, strlen(text), rules, &tree, &error), -EPROTO);
    cr_assert_eq(error.code, -EPROTO);
    cr_assert_str_eq(error.message, message);
    cr_assert_null(tree);
    cr_assert_eq(vouch_json_parse(text, strlen(text), rules, &tree, NULL), -EPROTO);
}

Test(json_text, the_message_says_where_and_why) {
    json_memory_begin();
    refused("[1,]", NULL, "JSON: at byte 3: no value where one has to be");
    refused("{\"a\":1,\"a\":2}", &(struct vouch_json_rules){.unique_keys = true},
            "JSON: at byte 7: a key for the second time");
    refused("[\"1e999\",1e308, 1e309]", NULL,
            "JSON: at byte 16: a number that is too large for a double");
    refused("-1e999", NULL, "JSON: at byte 0: a number that is too large for a double");
    struct vouch_error error;
    cJSON *tree;
    cr_assert_eq(
        vouch_json_parse("1", 1, &(struct vouch_json_rules){.max_depth = 513}, &tree, &error),
        -EINVAL);
    json_memory_end();
}

/* The deepest that can be allowed, parsed and deleted on a small stack. */
static void *deep(void *context) {
    char text[2 * VOUCH_JSON_DEPTH_BOUND];
    const struct vouch_json_rules rules = {.max_depth = VOUCH_JSON_DEPTH_BOUND};
    cJSON *tree;
    (void)context;
    memset(text, '[', VOUCH_JSON_DEPTH_BOUND);
    memset(text + VOUCH_JSON_DEPTH_BOUND, ']', VOUCH_JSON_DEPTH_BOUND);
    cr_assert_eq(vouch_json_parse(text, sizeof(text), &rules, &tree, NULL), 0);
    cr_assert_eq(vouch_json_print(tree, text, sizeof(text)), (ssize_t)sizeof(text));
    cJSON_Delete(tree);
    return NULL;
}

Test(json_text, the_deepest_fits_a_small_stack) {
    pthread_attr_t attributes;
    pthread_t thread;
    cr_assert_eq(pthread_attr_init(&attributes), 0);
    cr_assert_eq(
        pthread_attr_setstacksize(&attributes, (size_t)(VOUCH_TEST_SLOW ? 1024 : 256) * 1024), 0);
    cr_assert_eq(pthread_create(&thread, &attributes, deep, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
}

Test(json_text, without_memory) {
    const char *text = "{\"a\":[1,2.50,\"x\",{\"b\":10000000000000001}],\"c\":null}";
    unsigned failures = 0;
    json_memory_begin();
    for (;; failures++) {
        struct vouch_error error;
        cJSON *tree = NULL;
        json_memory_fail(failures + 1);
        int result = vouch_json_parse(text, strlen(text), NULL, &tree, &error);
        if (result == 0) {
            cr_assert(!json_memory_failed());
            json_check_print(tree, text);
            cJSON_Delete(tree);
            break;
        }
        cr_assert_eq(result, -ENOMEM);
        cr_assert_null(tree);
    }
    cr_assert_geq(failures, 10);
    json_memory_end();
}
