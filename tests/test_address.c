/* SPDX-License-Identifier: MIT */
/* Addresses as text, and as the kernel takes them. */
#include "lib/address.h"

#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

TestSuite(address, .init = support_baseline_begin, .fini = support_baseline_end);

static struct address address;
static struct vouch_error error;

static void expect_path(const char *text, const char *directory, const char *name) {
    cr_assert_eq(address_parse(text, &address, NULL), 0);
    cr_expect_not(address.abstract);
    cr_expect_eq(address.text, text);
    cr_expect_str_eq(address.directory, directory);
    cr_expect_str_eq(address.name, name);
}

static void expect_refused(const char *text, int code) {
    cr_expect_eq(address_parse(text, &address, &error), code);
    cr_expect_eq(error.code, code);
    cr_expect_neq(error.message[0], 0);
}

/* `size` bytes of 'x' after `prefix`, in a static buffer. */
static const char *long_text(const char *prefix, size_t size) {
    static char text[2 * ADDRESS_PATH_MAX];
    size_t length = strlen(prefix);
    memcpy(text, prefix, length);
    memset(text + length, 'x', size - length);
    text[size] = 0;
    return text;
}

Test(address, path_is_split_at_the_last_slash) {
    expect_path("/run/user/1000/x.sock", "/run/user/1000", "x.sock");
    expect_path("x", ".", "x");
    expect_path("/x", "/", "x");
    expect_path("./x", ".", "x");
    expect_path("a//x", "a/", "x");
    expect_path("./@x", ".", "@x");
    expect_path("a/...", "a", "...");
    expect_path(".x", ".", ".x");
}

Test(address, path_without_a_name) {
    expect_refused("", VOUCH_E_PATH_EMPTY);
    expect_refused("/", VOUCH_E_PATH_EMPTY);
    expect_refused("a/", VOUCH_E_PATH_EMPTY);
    expect_refused(".", VOUCH_E_PATH_EMPTY);
    expect_refused("..", VOUCH_E_PATH_EMPTY);
    expect_refused("a/.", VOUCH_E_PATH_EMPTY);
    expect_refused("a/..", VOUCH_E_PATH_EMPTY);
    expect_refused("@", VOUCH_E_PATH_EMPTY);
    cr_assert_eq(address_parse(NULL, &address, &error), -EINVAL);
}

Test(address, longest_path) {
    cr_assert_eq(address_parse(long_text("/d/", ADDRESS_PATH_MAX - 1), &address, NULL), 0);
    cr_assert_eq(strlen(address.name), ADDRESS_PATH_MAX - 4);
    expect_refused(long_text("/d/", ADDRESS_PATH_MAX), VOUCH_E_PATH_TOO_LONG);
    cr_assert_not_null(strstr(error.message, "4096 bytes"));
    cr_assert_not_null(strstr(error.message, "at most 4095"));
    cr_assert_not_null(strstr(error.message, "/d/xxxx"));
}

Test(address, abstract) {
    cr_assert_eq(address_parse("@name/with/slashes", &address, NULL), 0);
    cr_assert(address.abstract);
    cr_assert_str_eq(address.name, "name/with/slashes");
    cr_assert_eq(address_parse(long_text("@", ADDRESS_SUN_MAX + 1), &address, NULL), 0);
    expect_refused(long_text("@", ADDRESS_SUN_MAX + 2), VOUCH_E_PATH_TOO_LONG);
    cr_assert_not_null(strstr(error.message, "@xxxx"));
}

Test(address, socket_address_of_a_path) {
    struct address_sockaddr to;
    cr_assert_eq(address_of_path("/a", &to), 0);
    cr_assert_eq(to.un.sun_family, AF_UNIX);
    cr_assert_str_eq(to.un.sun_path, "/a");
    cr_assert_eq(to.length, offsetof(struct sockaddr_un, sun_path) + 3);
    cr_assert_eq(address_of_path(long_text("/", ADDRESS_SUN_MAX), &to), 0);
    cr_assert_eq(strlen(to.un.sun_path), ADDRESS_SUN_MAX);
    cr_assert_eq(to.length, sizeof(struct sockaddr_un));
    cr_assert_eq(address_of_path(long_text("/", ADDRESS_SUN_MAX + 1), &to), VOUCH_E_PATH_TOO_LONG);
}

Test(address, socket_address_of_an_abstract_name) {
    struct address_sockaddr to;
    cr_assert_eq(address_parse("@ab", &address, NULL), 0);
    address_of_abstract(&address, &to);
    cr_assert_eq(to.un.sun_family, AF_UNIX);
    cr_assert_arr_eq(to.un.sun_path, "\0ab", 3);
    cr_assert_eq(to.length, offsetof(struct sockaddr_un, sun_path) + 3, "no NUL at its end");
    cr_assert_eq(address_parse(long_text("@", ADDRESS_SUN_MAX + 1), &address, NULL), 0);
    address_of_abstract(&address, &to);
    cr_assert_eq(to.length, sizeof(struct sockaddr_un));
}
