/* SPDX-License-Identifier: MIT */
/* Integers of 64 bits: around 2^53, 2^63 and 2^64, in and out. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

#define NEITHER (-1)

/* What a text is as an int64_t and as a uint64_t: those that fit. */
static void check(const char *text, bool fits_signed, int64_t as_signed, bool fits_unsigned,
                  uint64_t as_unsigned) {
    cJSON *item = json_tree(text);
    int64_t i = 77;
    uint64_t u = 77;
    cr_assert_eq(vouch_json_get_int64(item, &i), fits_signed ? 0 : -ERANGE, "%s", text);
    cr_assert_eq(i, fits_signed ? as_signed : 77, "%s", text);
    cr_assert_eq(vouch_json_get_uint64(item, &u), fits_unsigned ? 0 : -ERANGE, "%s", text);
    cr_assert_eq(u, fits_unsigned ? as_unsigned : 77, "%s", text);
    cJSON_Delete(item);
}

Test(json_int, from_text) {
    check("0", true, 0, true, 0);
    check("-0", true, 0, true, 0);
    check("1", true, 1, true, 1);
    check("-1", true, -1, false, 0);
    check("1.0", true, 1, true, 1);
    check("1e3", true, 1000, true, 1000);
    check("-2.5e1", true, -25, false, 0);
    check("999999999999999", true, 999999999999999, true, 999999999999999);
    check("1000000000000000", true, 1000000000000000, true, 1000000000000000);
    check("9007199254740991", true, 9007199254740991, true, 9007199254740991);
    check("9007199254740992", true, 9007199254740992, true, 9007199254740992);
    check("9007199254740993", true, 9007199254740993, true, 9007199254740993);
    check("-9007199254740993", true, -9007199254740993, false, 0);
    check("9223372036854775806", true, INT64_MAX - 1, true, (uint64_t)INT64_MAX - 1);
    check("9223372036854775807", true, INT64_MAX, true, (uint64_t)INT64_MAX);
    check("9223372036854775808", false, 0, true, (uint64_t)INT64_MAX + 1);
    check("-9223372036854775808", true, INT64_MIN, false, 0);
    check("-9223372036854775809", false, 0, false, 0);
    check("18446744073709551614", false, 0, true, UINT64_MAX - 1);
    check("18446744073709551615", false, 0, true, UINT64_MAX);
    check("18446744073709551616", false, 0, false, 0);
    check("-18446744073709551615", false, 0, false, 0);
    check("123456789012345678901234567890", false, 0, false, 0);
}

/* A double that may have been rounded is not taken for an integer, however it looks. */
Test(json_int, not_from_a_double_that_may_be_rounded) {
    check("9007199254740991.0", true, 9007199254740991, true, 9007199254740991);
    check("9007199254740992.0", false, 0, false, 0);
    check("9007199254740993.0", false, 0, false, 0);
    check("1e16", false, 0, false, 0);
    check("1e300", false, 0, false, 0);
    check("0.5", false, 0, false, 0);
    check("-1e-5", false, 0, false, 0);
    cJSON *item = cJSON_CreateNumber(9007199254740992.0);
    int64_t value;
    cr_assert_eq(vouch_json_get_int64(item, &value), -ERANGE);
    cJSON_SetNumberValue(item, -9007199254740991.0);
    cr_assert_eq(vouch_json_get_int64(item, &value), 0);
    cr_assert_eq(value, -9007199254740991);
    cJSON_Delete(item);
}

Test(json_int, only_from_numbers) {
    static const char *const texts[] = {"null", "true", "\"1\"", "[1]", "{\"a\":1}"};
    int64_t i;
    uint64_t u;
    for (size_t k = 0; k < 5; k++) {
        cJSON *item = json_tree(texts[k]);
        cr_assert_eq(vouch_json_get_int64(item, &i), -EINVAL);
        cr_assert_eq(vouch_json_get_uint64(item, &u), -EINVAL);
        cJSON_Delete(item);
    }
    cr_assert_eq(vouch_json_get_int64(NULL, &i), -EINVAL);
    cr_assert_eq(vouch_json_get_uint64(NULL, &u), -EINVAL);
}

/* Made, printed, parsed, read: the same. */
static void signed_there_and_back(int64_t value) {
    char expected[32];
    int64_t back;
    cJSON *item = vouch_json_new_int64(value);
    snprintf(expected, sizeof(expected), "%" PRId64, value);
    json_check_print(item, expected);
    cr_assert_eq(vouch_json_get_int64(item, &back), 0);
    cr_assert_eq(back, value);
    cJSON_Delete(item);
    item = json_tree(expected);
    cr_assert_eq(vouch_json_get_int64(item, &back), 0);
    cr_assert_eq(back, value);
    cJSON_Delete(item);
}

static void unsigned_there_and_back(uint64_t value) {
    char expected[32];
    uint64_t back;
    cJSON *item = vouch_json_new_uint64(value);
    snprintf(expected, sizeof(expected), "%" PRIu64, value);
    json_check_print(item, expected);
    cr_assert_eq(vouch_json_get_uint64(item, &back), 0);
    cr_assert_eq(back, value);
    cJSON_Delete(item);
    item = json_tree(expected);
    cr_assert_eq(vouch_json_get_uint64(item, &back), 0);
    cr_assert_eq(back, value);
    cJSON_Delete(item);
}

Test(json_int, there_and_back) {
    json_memory_begin();
    for (unsigned bit = 0; bit < 64; bit++)
        for (uint64_t step = 0; step < 5; step++) {
            uint64_t value = (UINT64_C(1) << bit) + step - 2;
            unsigned_there_and_back(value);
            signed_there_and_back((int64_t)value);
            signed_there_and_back((int64_t)(0 - value));
        }
    struct support_random random;
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(5000, 200); i++) {
        uint64_t value = support_random_next(&random);
        unsigned_there_and_back(value);
        signed_there_and_back((int64_t)value);
    }
    json_memory_end();
}

Test(json_int, members) {
    cJSON *object = cJSON_CreateObject(), *array = cJSON_CreateArray();
    cr_assert_eq(vouch_json_add_int64(object, "min", INT64_MIN), 0);
    cr_assert_eq(vouch_json_add_uint64(object, "max", UINT64_MAX), 0);
    cr_assert_eq(vouch_json_add_int64(object, "small", -3), 0);
    cr_assert_eq(vouch_json_add_int64(array, "a", 1), -EINVAL);
    cr_assert_eq(vouch_json_add_uint64(NULL, "a", 1), -EINVAL);
    cr_assert_eq(vouch_json_add_uint64(object, NULL, 1), -EINVAL);
    json_check_print(object,
                     "{\"min\":-9223372036854775808,\"max\":18446744073709551615,\"small\":-3}");
    cJSON_Delete(object);
    cJSON_Delete(array);
}

Test(json_int, without_memory) {
    json_memory_begin();
    cJSON *object = cJSON_CreateObject();
    unsigned failures = 0;
    for (;; failures++) {
        json_memory_fail(failures + 1);
        int result = vouch_json_add_uint64(object, "a", UINT64_MAX);
        if (result == 0)
            break;
        cr_assert_eq(result, -ENOMEM);
        cr_assert_null(object->child);
    }
    cr_assert_eq(failures, 3); /* the item, its text, its name */
    json_memory_fail(2);
    cr_assert_null(vouch_json_new_int64(INT64_MIN));
    json_memory_fail(0);
    cJSON_Delete(object);
    json_memory_end();
}
