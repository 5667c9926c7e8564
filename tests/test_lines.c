/* SPDX-License-Identifier: MIT */
#include "plugin/lines.h"

#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

static struct lines lines;
static struct support_allocator allocator;

static void begin(void) {
    support_allocator_init(&allocator);
    cr_assert_eq(lines_init(&lines, 8, 3, &allocator.allocator), 0);
}

static void end(void) {
    lines_deinit(&lines);
    lines_deinit(&lines);
    support_allocator_check(&allocator);
}

TestSuite(lines, .init = begin, .fini = end);

/* The next line of the text; NULL: all is taken. */
static const char *next(const char **text, size_t *size, int64_t now, struct lines_line *line) {
    return lines_next(&lines, text, size, now, line) ? line->text : NULL;
}

Test(lines, are_put_together) {
    struct lines_line line;
    const char *text = "one\ntw";
    size_t size = 6;
    cr_assert_str_eq(next(&text, &size, 0, &line), "one");
    cr_assert_eq(line.size, 3);
    cr_assert_null(next(&text, &size, 0, &line));
    text = "o\r\n\n";
    size = 4;
    cr_assert_str_eq(next(&text, &size, 0, &line), "two");
    cr_assert_str_eq(next(&text, &size, 0, &line), "");
    cr_assert_null(next(&text, &size, 0, &line));
    cr_assert_not(lines_last(&lines, 0, &line));
}

Test(lines, that_are_too_long_are_cut) {
    struct lines_line line;
    const char *text = "12345678\n123456789 and so on\nx";
    size_t size = strlen(text);
    cr_assert_str_eq(next(&text, &size, 0, &line), "12345678");
    cr_assert_not(line.cut);
    cr_assert_str_eq(next(&text, &size, 0, &line), "12345678");
    cr_assert(line.cut);
    cr_assert_null(next(&text, &size, 0, &line));
    cr_assert(lines_last(&lines, 0, &line));
    cr_assert_str_eq(line.text, "x");
    cr_assert_not(line.cut);
}

Test(lines, beyond_the_rate_are_dropped_and_counted) {
    struct lines_line line;
    const char *text = "1\n2\n3\n4\n5\n";
    size_t size = strlen(text);
    for (int i = 0; i < 3; i++)
        cr_assert_not_null(next(&text, &size, VOUCH_SECONDS(5), &line));
    cr_assert_null(next(&text, &size, VOUCH_SECONDS(5), &line));
    cr_assert_eq(lines.lost, 2);
    text = "6\n";
    size = 2;
    cr_assert_str_eq(next(&text, &size, VOUCH_SECONDS(6), &line), "6");
    cr_assert_eq(line.dropped, 2);
}

Test(lines, without_memory_there_are_none) {
    struct lines poor;
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_eq(lines_init(&poor, 8, 3, &allocator.allocator), -ENOMEM);
    lines_deinit(&poor);
}
