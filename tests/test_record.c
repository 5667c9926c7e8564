/* SPDX-License-Identifier: MIT */
#include "plugin/record.h"

#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

/* On the heap, without a NUL, so that a checker sees every byte beyond. */
static void check(const char *text, int level, const char *message) {
    struct record record;
    size_t size = strlen(text);
    char *line = malloc(size ? size : 1);
    memcpy(line, text, size);
    bool is = record_parse(line, size, &record);
    cr_assert_eq(is, level >= 0, "%s", text);
    if (is) {
        cr_assert_eq((int)record.level, level, "%s", text);
        cr_assert_eq(record.message != NULL, message != NULL, "%s", text);
    }
    if (is && message) {
        cr_assert_eq(record.message_size, strlen(message), "%s", text);
        cr_assert_eq(memcmp(record.message, message, record.message_size), 0, "%s", text);
    }
    if (!is)
        cr_assert_eq(memcmp(line, text, size), 0, "it is to be left alone: %s", text);
    free(line);
}

Test(record, levels_and_messages) {
    check("{\"level\":\"info\",\"message\":\"m\"}", VOUCH_PLUGIN_LEVEL_INFO, "m");
    check(" { \"@message\" : \"x\" , \"@level\" : \"TRACE\" } ", VOUCH_PLUGIN_LEVEL_TRACE, "x");
    check("{\"msg\":\"\",\"lvl\":\"Warning\"}", VOUCH_PLUGIN_LEVEL_WARN, "");
    check("{\"severity\":\"CRITICAL\"}", VOUCH_PLUGIN_LEVEL_FATAL, NULL);
    check("{\"a\":1.5e3,\"b\":[1,{\"level\":\"x\"},\"]\"],\"c\":null,\"level\":\"error\","
          "\"message\":\"m\"}",
          VOUCH_PLUGIN_LEVEL_ERROR, "m");
}

Test(record, what_is_plain) {
    static const char *const lines[] = {
        "",
        "plain",
        "{",
        "{}",
        "[1]",
        "\"level\"",
        "{\"level\"}",
        "{\"level\":}",
        "{\"level\":\"info\"",
        "{\"level\":\"info\"}x",
        "{\"level\":\"loud\"}",
        "{\"level\":3}",
        "{\"message\":\"no level\"}",
        "{\"level\":\"info\",}",
        "{\"level\":\"info",
        "{\"level\":\"info\\",
        "{\"a\":[[[[[[[[[[[[[[[[[[1]]]",
        "{\"a\":]}",
        "{level:\"info\"}",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        check(lines[i], -1, NULL);
}

Test(record, escapes) {
#define MESSAGE(escaped) "{\"level\":\"info\",\"message\":\"" escaped "\"}"
    check(MESSAGE("\\\"\\\\\\/\\n\\t"), VOUCH_PLUGIN_LEVEL_INFO, "\"\\/\n\t");
    check(MESSAGE("\\u0041\\u00e4\\u20AC\\ud83d\\ude00"), VOUCH_PLUGIN_LEVEL_INFO,
          "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    check(MESSAGE("\\ud83d!\\ude00\\u0000"), VOUCH_PLUGIN_LEVEL_INFO, "?!??");
    check(MESSAGE("\\u12"), VOUCH_PLUGIN_LEVEL_INFO, "?12");
}

/* Whatever it is, nothing outside of the line is touched. */
Test(record, of_chance) {
    static const char alphabet[] = "{}[]\",:\\ulevel message1";
    struct support_random random;
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200000, 5000); i++) {
        struct record record;
        size_t size = (size_t)support_random_below(&random, 40);
        char *line = malloc(size + 1);
        for (size_t j = 0; j < size; j++)
            line[j] = alphabet[support_random_below(&random, sizeof(alphabet) - 1)];
        if (record_parse(line, size, &record) && record.message)
            cr_assert(record.message >= line &&
                      record.message + record.message_size <= line + size);
        free(line);
    }
}
