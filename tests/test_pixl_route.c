/* SPDX-License-Identifier: MIT */
/* Routes: order, kinds, JavaScript's ways, and patterns that would take for ever. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/pixl.h"
#include "tests/harness.h"
#include "tests/support.h"

static struct support_allocator memory;
static struct vouch_pool *pool;
static struct pixl_routes routes;

static void begin(void) {
    support_allocator_init(&memory);
    const struct vouch_pool_options options = {VOUCH_OPTIONS(options),
                                               .allocator = &memory.allocator};
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
    cr_assert_eq(pixl_routes_init(&routes, pool), 0);
}

static void end(void) {
    pixl_routes_deinit(&routes);
    vouch_pool_unref(pool);
    support_allocator_check(&memory);
}

static void add(enum vouch_pixl_route_kind kind, const char *text, const char *method) {
    struct vouch_error error = {.code = 0};
    cr_assert_eq(pixl_routes_add(&routes, kind, text, 0, method, &error), 0, "%s", error.message);
}

static void leads(const char *uri, const char *method) {
    struct vouch_pixl_match match;
    int r = pixl_routes_find(&routes, uri, strlen(uri), &match);
    cr_assert_eq(r, method ? 1 : 0, "%s: %d", uri, r);
    if (method)
        cr_assert_str_eq(match.method, method, "%s", uri);
    else
        cr_assert_null(match.method);
}

Test(pixl_route, the_first_that_fits_counts) {
    begin();
    leads("/a", NULL);
    add(VOUCH_PIXL_LITERAL, "/a", "one");
    add(VOUCH_PIXL_PREFIX, "/a", "two");
    add(VOUCH_PIXL_PATTERN, "b+$", "three");
    add(VOUCH_PIXL_LITERAL, "/cb", "never");
    add(VOUCH_PIXL_PATTERN, "", "rest");
    leads("/a", "one");
    leads("/a/", "two");
    leads("/ab", "two");
    leads("/cb", "three");
    leads("/A", "rest");
    leads("", "rest");
    cr_assert_eq(routes.count, 5);
    end();
}

Test(pixl_route, literals_and_prefixes_are_compared_byte_by_byte) {
    begin();
    add(VOUCH_PIXL_LITERAL, "/a.c", "literal");
    add(VOUCH_PIXL_PREFIX, "/p\xc3\xa9", "prefix");
    leads("/a.c", "literal");
    leads("/abc", NULL);
    leads("/a.", NULL);
    leads("/a.cd", NULL);
    leads("/p\xc3\xa9", "prefix");
    leads("/p\xc3\xa9/x", "prefix");
    leads("/p\xc3\xa8", NULL);
    leads("/p", NULL);
    end();
}

Test(pixl_route, patterns_read_as_javascript_has_them) {
    begin();
    add(VOUCH_PIXL_PATTERN, "^/end$", "end");        /* not before a last line break */
    add(VOUCH_PIXL_PATTERN, "^/\\u00e9$", "letter"); /* \uXXXX */
    add(VOUCH_PIXL_PATTERN, "^/.[^]$", "any");       /* an empty class, and what is not in it */
    add(VOUCH_PIXL_PATTERN, "^/x\\/(\\d+)\\/\\w+$", "slashes");
    add(VOUCH_PIXL_PATTERN, "^/(?<name>b)\\1\\k<name>$", "named");
    leads("/end", "end");
    leads("/end\n", NULL);
    leads("/\xc3\xa9", "letter");
    leads("/\xe2\x82\xac\xf0\x9f\x98\x80", "any");
    leads("/x/12/ab", "slashes");
    leads("/x//ab", NULL);
    leads("/bbb", "named");
    end();
}

Test(pixl_route, caseless_where_it_is_said) {
    begin();
    cr_assert_eq(pixl_routes_add(&routes, VOUCH_PIXL_PATTERN, "^/\xc3\xa9t", VOUCH_PIXL_CASELESS,
                                 "one", NULL),
                 0);
    leads("/\xc3\x89T\xc3\x89", "one");
    cr_assert_eq(
        pixl_routes_add(&routes, VOUCH_PIXL_LITERAL, "/x", VOUCH_PIXL_CASELESS, "one", NULL),
        -EINVAL);
    cr_assert_eq(pixl_routes_add(&routes, VOUCH_PIXL_PATTERN, "/x", 2, "one", NULL), -EINVAL);
    end();
}

/* ---- groups ---- */

static void check_group(const struct vouch_pixl_match *match, size_t at, const char *expected) {
    cr_assert_lt(at, match->group_count);
    cr_assert_eq(match->groups[at].size, strlen(expected));
    cr_assert_eq(memcmp(match->groups[at].text, expected, strlen(expected)), 0);
}

Test(pixl_route, groups) {
    struct vouch_pixl_match match;
    const char *uri = "/user/joe/7";
    begin();
    add(VOUCH_PIXL_PATTERN, "user/(\\w+)(x)?/(\\d*)$", "user");
    cr_assert_eq(pixl_routes_find(&routes, uri, strlen(uri), &match), 1);
    cr_assert_eq(match.group_count, 4);
    check_group(&match, 0, "user/joe/7");
    check_group(&match, 1, "joe");
    cr_assert_null(match.groups[2].text);
    check_group(&match, 3, "7");
    add(VOUCH_PIXL_LITERAL, "/l", "literal");
    cr_assert_eq(pixl_routes_find(&routes, "/l", 2, &match), 1);
    cr_assert_eq(match.group_count, 0);
    end();
}

Test(pixl_route, as_many_groups_as_there_is_room_for) {
    struct vouch_pixl_match match;
    begin();
    add(VOUCH_PIXL_PATTERN, "^(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)$", "fits");
    add(VOUCH_PIXL_PATTERN, "^(b)(b)(b)(b)(b)(b)(b)(b)(b)(b)(b)(b)(b)(b)(b)(c)$", "more");
    cr_assert_eq(pixl_routes_find(&routes, "aaaaaaaaaaaaaaa", 15, &match), 1);
    cr_assert_eq(match.group_count, VOUCH_PIXL_GROUPS_MAX);
    cr_assert_eq(pixl_routes_find(&routes, "bbbbbbbbbbbbbbbc", 16, &match), 1);
    cr_assert_eq(match.group_count, VOUCH_PIXL_GROUPS_MAX);
    check_group(&match, 0, "bbbbbbbbbbbbbbbc");
    check_group(&match, 15, "b");
    end();
}

/* ---- what is refused ---- */

static void refuse(enum vouch_pixl_route_kind kind, const char *text, const char *method,
                   int result, const char *message) {
    struct vouch_error error = {.code = 0};
    cr_assert_eq(pixl_routes_add(&routes, kind, text, 0, method, &error), result, "%s: %s", text,
                 error.message);
    cr_assert_eq(error.code, result);
    cr_assert_not_null(strstr(error.message, message), "%s", error.message);
    cr_assert_eq(pixl_routes_add(&routes, kind, text, 0, method, NULL), result);
}

Test(pixl_route, bad_routes) {
    char uri[VOUCH_PIXL_URI_MAX + 2];
    begin();
    refuse(VOUCH_PIXL_LITERAL, NULL, "x", -EINVAL, "without a text");
    refuse(VOUCH_PIXL_LITERAL, "/x", NULL, -EINVAL, "without a text");
    refuse((enum vouch_pixl_route_kind)3, "/x", "x", -EINVAL, "a known kind");
    refuse(VOUCH_PIXL_LITERAL, "/x", "", VOUCH_E_METHOD_NAME, "/x leads to");
    refuse(VOUCH_PIXL_LITERAL, "/x", "a b", VOUCH_E_METHOD_NAME, "a b");
    refuse(VOUCH_PIXL_LITERAL, "", "x", -EINVAL, "empty");
    refuse(VOUCH_PIXL_PREFIX, "\xff", "x", -EINVAL, "not UTF-8");
    memset(uri, 'u', sizeof(uri));
    uri[VOUCH_PIXL_URI_MAX + 1] = '\0';
    refuse(VOUCH_PIXL_LITERAL, uri, "x", -EINVAL, "longer than 255 bytes");
    uri[VOUCH_PIXL_URI_MAX] = '\0';
    add(VOUCH_PIXL_LITERAL, uri, "longest");
    leads(uri, "longest");
    uri[VOUCH_METHOD_NAME_MAX] = '\0';
    add(VOUCH_PIXL_LITERAL, "/m", uri);
    leads("/m", uri);
    end();
}

Test(pixl_route, a_bad_pattern_is_named_with_offset_and_reason) {
    begin();
    refuse(VOUCH_PIXL_PATTERN, "^/a(b", "x", -EINVAL,
           "pattern ^/a(b, at offset 5: missing closing parenthesis");
    refuse(VOUCH_PIXL_PATTERN, "*", "x", -EINVAL, "pattern *, at offset 0: quantifier");
    refuse(VOUCH_PIXL_PATTERN, "\xff", "x", -EINVAL, "at offset 0: UTF-8 error");
    refuse(VOUCH_PIXL_PATTERN, "\\C", "x", -EINVAL, "at offset 2: using \\C is disabled");
    cr_assert_eq(routes.count, 0);
    leads("/a", NULL);
    end();
}

/* ---- limits ---- */

Test(pixl_route, a_pattern_that_takes_too_long_is_an_error_and_not_no_match) {
    struct vouch_pixl_match match;
    char uri[VOUCH_PIXL_URI_MAX];
    begin();
    add(VOUCH_PIXL_LITERAL, "/before", "before");
    add(VOUCH_PIXL_PATTERN, "^(a+)+$", "slow");
    add(VOUCH_PIXL_PREFIX, "a", "behind");
    memset(uri, 'a', sizeof(uri));
    int64_t begun = vouch_now();
    uri[sizeof(uri) - 1] = 'b';
    cr_assert_eq(pixl_routes_find(&routes, uri, sizeof(uri), &match), -E2BIG);
    cr_assert_lt(vouch_now() - begun, VOUCH_SECONDS(15));
    leads("/before", "before");
    leads("aaaa", "slow");
    leads("aaab", "behind");
    end();
}

/* Each of its steps that can be taken back keeps all of its groups. */
Test(pixl_route, a_pattern_may_not_take_more_memory_than_it_is_given) {
    struct vouch_pixl_match match;
    char uri[VOUCH_PIXL_URI_MAX], pattern[1024] = "^(?:a|";
    begin();
    for (int i = 0; i < 300; i++)
        strcat(pattern, "(z)");
    strcat(pattern, ")*[xy]");
    add(VOUCH_PIXL_PATTERN, pattern, "large");
    memset(uri, 'a', sizeof(uri));
    cr_assert_eq(pixl_routes_find(&routes, uri, sizeof(uri), &match), -E2BIG);
    cr_assert_lt(atomic_load(&memory.live_bytes), (uint64_t)4 * VOUCH_PIXL_HEAP_LIMIT * 1024);
    cr_assert_eq(pixl_routes_find(&routes, uri, 8, &match), 0);
    end();
}

Test(pixl_route, without_memory) {
    for (uint64_t n = 1; n < 40; n++) {
        struct vouch_pixl_match match;
        begin();
        support_allocator_fail(&memory, n, SUPPORT_FAIL_ALWAYS);
        int r = pixl_routes_add(&routes, VOUCH_PIXL_PATTERN, "^/(a|b)+$", 0, "x", NULL);
        cr_assert(r == 0 || r == -ENOMEM, "%d", r);
        if (r == 0) {
            r = pixl_routes_find(&routes, "/ab", 3, &match);
            cr_assert(r == 1 || r == -ENOMEM, "%d", r);
        }
        support_allocator_fail(&memory, 0, 0);
        cr_assert_eq(pixl_routes_add(&routes, VOUCH_PIXL_PATTERN, "^/c$", 0, "x", NULL), 0);
        leads("/c", "x");
        end();
    }
}
