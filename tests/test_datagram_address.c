/* SPDX-License-Identifier: MIT */
/* Addresses of datagrams: what the kernel says comes out as text and goes back as the same bytes.
 */
#include "lib/datagram.h"

#include <errno.h>
#include <string.h>

#include "lib/sockfile.h"
#include "tests/harness.h"

#define SUN_HEAD offsetof(struct sockaddr_un, sun_path)
#define SUN_ROOM sizeof(((struct sockaddr_un *)NULL)->sun_path)

static struct vouch_datagram_address address;
static struct address_sockaddr at;
static struct vouch_error error;

static void unpack(const void *path, size_t size) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path, path, size);
    datagram_address_unpack(&un, (socklen_t)(SUN_HEAD + size), &address);
}

/* Back to what unpack was given; a path gets the NUL that it may lack. */
static void expect_packs_to(const void *path, size_t size) {
    cr_assert_eq(datagram_address_pack(&address, &at), 0);
    cr_assert_eq(at.length, SUN_HEAD + size);
    cr_assert_eq(memcmp(at.un.sun_path, path, size), 0);
    cr_assert_eq(at.un.sun_family, AF_UNIX);
}

Test(datagram_address, paths) {
    unpack("/run/x", 7);
    cr_assert_str_eq(address.text, "/run/x");
    cr_assert_eq(address.size, 6);
    expect_packs_to("/run/x", 7);
    unpack("/run/x", 6); /* without the NUL */
    cr_assert_str_eq(address.text, "/run/x");
    expect_packs_to("/run/x", 7);
    unpack("x\0garbage", 9);
    cr_assert_str_eq(address.text, "x");
    expect_packs_to("x", 2);
}

Test(datagram_address, abstract_names_may_have_any_bytes) {
    if (!sockfile_has_abstract)
        cr_skip_test("no abstract names on this system");
    unpack("\0name", 5);
    cr_assert_str_eq(address.text, "@name");
    cr_assert_eq(address.size, 5);
    expect_packs_to("\0name", 5);
    unpack("\0a\0b\0", 5);
    cr_assert_eq(address.size, 5);
    cr_assert_arr_eq(address.text, "@a\0b\0", 5);
    expect_packs_to("\0a\0b\0", 5);
    char longest[SUN_ROOM] = {0};
    memset(longest + 1, 'n', sizeof(longest) - 1);
    unpack(longest, sizeof(longest));
    cr_assert_eq(address.size, SUN_ROOM);
    expect_packs_to(longest, sizeof(longest));
}

Test(datagram_address, a_relative_path_with_an_at_is_no_abstract_name) {
    unpack("@name", 6);
    cr_assert_str_eq(address.text, "./@name");
    expect_packs_to("@name", 6);
    char longest[SUN_ROOM];
    memset(longest, 'p', sizeof(longest));
    longest[0] = '@';
    unpack(longest, sizeof(longest));
    cr_assert_eq(address.size, SUN_ROOM + 2);
    cr_assert_leq(address.size, VOUCH_DATAGRAM_ADDRESS_MAX);
    expect_packs_to(longest, sizeof(longest));
}

Test(datagram_address, none) {
    unpack("", 0);
    cr_assert_eq(address.size, 0);
    cr_assert_eq(datagram_address_pack(&address, &at), -EINVAL);
    unpack("", 1);
    cr_assert_eq(address.size, 0, "an empty abstract name");
    const struct sockaddr_un other = {.sun_family = AF_UNSPEC, .sun_path = "/x"};
    datagram_address_unpack(&other, sizeof(other), &address);
    cr_assert_eq(address.size, 0);
}

Test(datagram_address, packing_believes_nothing) {
    address = (struct vouch_datagram_address){.size = VOUCH_DATAGRAM_ADDRESS_MAX + 1};
    cr_assert_eq(datagram_address_pack(&address, &at), -EINVAL);
    memset(address.text, 'p', VOUCH_DATAGRAM_ADDRESS_MAX);
    address.size = SUN_ROOM + 1;
    cr_assert_eq(datagram_address_pack(&address, &at), VOUCH_E_PATH_TOO_LONG);
    address.size = SUN_ROOM;
    cr_assert_eq(datagram_address_pack(&address, &at), 0);
    cr_assert_eq(at.length, SUN_HEAD + SUN_ROOM);
    address.text[2] = 0;
    cr_assert_eq(datagram_address_pack(&address, &at), -EINVAL, "a path with a NUL in it");
    address.text[0] = '@';
    cr_assert_eq(datagram_address_pack(&address, &at), 0);
    address.size = SUN_ROOM + 1;
    cr_assert_eq(datagram_address_pack(&address, &at), VOUCH_E_PATH_TOO_LONG);
    address.size = 1;
    cr_assert_eq(datagram_address_pack(&address, &at), -EINVAL);
}

static void expect_refused(const char *text, int code) {
    cr_assert_eq(vouch_datagram_address_of(text, &address, &error), code);
    cr_assert_eq(error.code, code);
    cr_assert_eq(vouch_datagram_address_of(text, &address, NULL), code);
}

Test(datagram_address, of_text) {
    cr_assert_eq(vouch_datagram_address_of("/run/x", &address, NULL), 0);
    expect_packs_to("/run/x", 7);
    cr_assert_eq(vouch_datagram_address_of("@x", &address, NULL), 0);
    expect_packs_to("\0x", 2);
    cr_assert_eq(vouch_datagram_address_of("./@x", &address, NULL), 0);
    expect_packs_to("@x", 3);
    expect_refused(NULL, -EINVAL);
    expect_refused("", VOUCH_E_PATH_EMPTY);
    expect_refused("@", VOUCH_E_PATH_EMPTY);
    expect_refused("/run/", VOUCH_E_PATH_EMPTY);
    char path[SUN_ROOM + 1] = "";
    memset(path, 'p', SUN_ROOM);
    expect_refused(path, VOUCH_E_PATH_TOO_LONG);
    path[SUN_ROOM - 1] = 0;
    cr_assert_eq(vouch_datagram_address_of(path, &address, NULL), 0);
    expect_packs_to(path, SUN_ROOM);
}
