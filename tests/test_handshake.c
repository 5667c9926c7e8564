/* SPDX-License-Identifier: MIT */
/* The lines of the handshake: coded, decoded, and everything that is not quite such a line. */
#include "plugin/handshake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

Test(handshake, a_hello_there_and_back) {
    struct handshake_hello hello = {
        .token = TOKEN, .versions = {{1, 7, UINT32_MAX}, 3}, .name = "a.b-c_9"};
    struct handshake_hello parsed;
    char line[HANDSHAKE_LINE_MAX];
    size_t size = handshake_format_hello(&hello, line);
    cr_assert_str_eq(line, "vouch-plugin 1 " TOKEN " 1,7,4294967295 a.b-c_9\n");
    cr_assert_eq(handshake_parse_hello(line, size, &parsed), 0);
    cr_assert_str_eq(parsed.token, TOKEN);
    cr_assert_str_eq(parsed.name, "a.b-c_9");
    cr_assert_eq(parsed.versions.count, 3);
    cr_assert_eq(parsed.versions.numbers[2], UINT32_MAX);
}

static int parse(const char *line) {
    struct handshake_hello hello;
    return handshake_parse_hello(line, strlen(line), &hello);
}

Test(handshake, what_is_no_hello) {
    static const char *const lines[] = {
        "",
        "\n",
        "vouch-plugin",
        "vouch-plugin 1\n",
        "vouch-plugin 1 " TOKEN "\n",
        "vouch-plugin 1 " TOKEN " 1\n",
        "vouch-plugin 1 " TOKEN " 1 name",
        "vouch-plugin 1 " TOKEN " 1 \n",
        "vouch-plugin 1 " TOKEN " 1 name \n",
        "vouch-plugin 1 " TOKEN " 1 name more\n",
        "vouch-plugin 1  " TOKEN " 1 name\n",
        " vouch-plugin 1 " TOKEN " 1 name\n",
        "vouch-plugin 1 " TOKEN "0 1 name\n",
        "vouch-plugin 1 " TOKEN " 0 name\n",
        "vouch-plugin 1 " TOKEN " 01 name\n",
        "vouch-plugin 1 " TOKEN " 1, name\n",
        "vouch-plugin 1 " TOKEN " ,1 name\n",
        "vouch-plugin 1 " TOKEN " 4294967296 name\n",
        "vouch-plugin 1 " TOKEN " -1 name\n",
        "vouch-plugin 1 " TOKEN " 1 na/me\n",
        "vouch-plugin one " TOKEN " 1 name\n",
        "vouch-plugin 1 " TOKEN " 1 name\nx\n",
        "vouch-plugin 1 " TOKEN " 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17 name\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        cr_assert_eq(parse(lines[i]), VOUCH_E_PLUGIN_HANDSHAKE, "%s", lines[i]);
    cr_assert_eq(parse("vouch-plugin 2 whatever it says\n"), VOUCH_E_PLUGIN_PROTOCOL);
    cr_assert_eq(parse("vouch-plugin 1 " TOKEN " 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 name\n"),
                 0);
    struct handshake_hello hello;
    cr_assert_eq(handshake_parse_hello("vouch-plugin 1 " TOKEN " 1 na\0me\n", 57, &hello),
                 VOUCH_E_PLUGIN_HANDSHAKE);
}

Test(handshake, answers_there_and_back) {
    char line[HANDSHAKE_LINE_MAX], text[HANDSHAKE_LINE_MAX];
    uint32_t version;
    size_t size = handshake_format_ok(12, line);
    cr_assert_str_eq(line, "vouch-plugin 1 ok 12\n");
    cr_assert_eq(handshake_parse_answer(line, size, &version, text), 0);
    cr_assert_eq(version, 12);
    size = handshake_format_refused(VOUCH_E_PLUGIN_TOKEN, "no\nsuch token", line);
    cr_assert_str_eq(line, "vouch-plugin 1 refused token no?such token\n");
    cr_assert_eq(handshake_parse_answer(line, size, &version, text), VOUCH_E_PLUGIN_TOKEN);
    cr_assert_str_eq(text, "no?such token");
    size = handshake_format_refused(-ENOMEM, "", line);
    cr_assert_eq(handshake_parse_answer(line, size, &version, text), VOUCH_E_PLUGIN_HANDSHAKE);
    static const char *const wrong[] = {
        "vouch-plugin 1 ok\n",      "vouch-plugin 1 ok 0\n",
        "vouch-plugin 1 ok 1 2\n",  "vouch-plugin 1 yes 1\n",
        "vouch-plugin 1 refused\n", "vouch-plugin 1 refused nonsense x\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        cr_assert_eq(handshake_parse_answer(wrong[i], strlen(wrong[i]), &version, text),
                     VOUCH_E_PLUGIN_HANDSHAKE, "%s", wrong[i]);
}

Test(handshake, names) {
    char name[VOUCH_PLUGIN_NAME_MAX + 2];
    memset(name, 'n', sizeof(name));
    name[VOUCH_PLUGIN_NAME_MAX] = '\0';
    cr_assert(handshake_name_valid(name));
    name[VOUCH_PLUGIN_NAME_MAX] = 'n';
    name[VOUCH_PLUGIN_NAME_MAX + 1] = '\0';
    cr_assert_not(handshake_name_valid(name));
    cr_assert_not(handshake_name_valid(""));
    cr_assert_not(handshake_name_valid("a b"));
    cr_assert_not(handshake_name_valid("\xc3\xa4"));
}

Test(handshake, tokens) {
    char a[HANDSHAKE_TOKEN_SIZE + 1], b[HANDSHAKE_TOKEN_SIZE + 1];
    cr_assert_eq(handshake_make_token(a), 0);
    cr_assert_eq(handshake_make_token(b), 0);
    cr_assert_eq(strspn(a, "0123456789abcdef"), HANDSHAKE_TOKEN_SIZE);
    cr_assert_not(handshake_token_equal(a, b));
    cr_assert(handshake_token_equal(a, a));
    cr_assert_not(handshake_token_equal(a, ""));
    cr_assert_not(handshake_token_equal("", ""));
}

Test(handshake, versions) {
    static const uint32_t some[] = {3, 1}, none[] = {1, 0};
    struct handshake_versions a, b;
    char text[HANDSHAKE_VERSIONS_TEXT];
    cr_assert_eq(handshake_copy_versions(NULL, 0, &a), 0);
    cr_assert_str_eq(handshake_format_versions(&a, text), "1");
    cr_assert_eq(handshake_copy_versions(some, 2, &b), 0);
    cr_assert_eq(handshake_choose(&a, &b), 1);
    cr_assert_eq(handshake_choose(&b, &b), 3);
    cr_assert_eq(handshake_copy_versions(none, 2, &b), -EINVAL);
    cr_assert_eq(handshake_copy_versions(some, 0, &b), -EINVAL);
    cr_assert_eq(handshake_copy_versions(some, VOUCH_PLUGIN_VERSIONS_MAX + 1, &b), -EINVAL);
    b = (struct handshake_versions){{2}, 1};
    cr_assert_eq(handshake_choose(&a, &b), 0);
}
