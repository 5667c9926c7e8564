/* SPDX-License-Identifier: MIT */
/*
 * Addresses of datagrams: text for people and programs, exact both ways. An abstract name is
 * written with an "@", and so a relative path that begins with one is written with "./" before it:
 * neither can be taken for the other.
 */
#include "lib/datagram.h"

#include <errno.h>
#include <string.h>

#include "lib/error.h"
#include "lib/sockfile.h"

#define SUN_ROOM sizeof(((struct sockaddr_un *)NULL)->sun_path)
#define SUN_HEAD offsetof(struct sockaddr_un, sun_path)

static int pack_abstract(const char *name, size_t size, struct address_sockaddr *ret_sockaddr) {
    if (size == 0)
        return -EINVAL;
    if (size > SUN_ROOM - 1)
        return VOUCH_E_PATH_TOO_LONG;
    memcpy(ret_sockaddr->un.sun_path + 1, name, size);
    ret_sockaddr->length = (socklen_t)(SUN_HEAD + 1 + size);
    return 0;
}

/* Without the "./" that we may have put there: with it a path of full length would not fit. Linux
 * takes one that leaves no room for its NUL. */
static int pack_path(const char *path, size_t size, struct address_sockaddr *ret_sockaddr) {
    if (size > 2 && memcmp(path, "./@", 3) == 0) {
        path += 2;
        size -= 2;
    }
    if (memchr(path, 0, size))
        return -EINVAL;
    if (size > SUN_ROOM)
        return VOUCH_E_PATH_TOO_LONG;
    memcpy(ret_sockaddr->un.sun_path, path, size);
    ret_sockaddr->length = (socklen_t)(SUN_HEAD + size + (size < SUN_ROOM));
    return 0;
}

int datagram_address_pack(const struct vouch_datagram_address *address,
                          struct address_sockaddr *ret_sockaddr) {
    size_t size = address->size;
    if (size == 0 || size > VOUCH_DATAGRAM_ADDRESS_MAX)
        return -EINVAL;
    *ret_sockaddr = (struct address_sockaddr){.un.sun_family = AF_UNIX};
    return address->text[0] == '@' ? pack_abstract(address->text + 1, size - 1, ret_sockaddr)
                                   : pack_path(address->text, size, ret_sockaddr);
}

void datagram_address_unpack(const struct sockaddr_un *un, socklen_t length,
                             struct vouch_datagram_address *ret_address) {
    *ret_address = (struct vouch_datagram_address){0};
    if (length <= SUN_HEAD || un->sun_family != AF_UNIX)
        return;
    size_t size = length - SUN_HEAD < SUN_ROOM ? length - SUN_HEAD : SUN_ROOM;
    char *text = ret_address->text;
    if (un->sun_path[0] == 0) {
        /* macOS names a socket without a name by zeros only. */
        if (size == 1 || !sockfile_has_abstract)
            return;
        text[0] = '@';
        memcpy(text + 1, un->sun_path + 1, size - 1);
        ret_address->size = size;
        return;
    }
    size = strnlen(un->sun_path, size);
    if (un->sun_path[0] == '@') {
        *text++ = '.';
        *text++ = '/';
    }
    memcpy(text, un->sun_path, size);
    ret_address->size = (size_t)(text - ret_address->text) + size;
}

int vouch_datagram_address_of(const char *text, struct vouch_datagram_address *ret_address,
                              struct vouch_error *ret_error) {
    struct address address;
    int r = address_parse(text, &address, ret_error);
    if (r < 0)
        return r;
    size_t size = strlen(text);
    if (size > ADDRESS_SUN_MAX + (address.abstract ? 1 : 0))
        return error_set(ret_error, VOUCH_E_PATH_TOO_LONG,
                         "a path of %zu bytes, at most %zu are possible for datagrams: %s", size,
                         ADDRESS_SUN_MAX, text);
    *ret_address = (struct vouch_datagram_address){.size = size};
    memcpy(ret_address->text, text, size);
    return 0;
}

int datagram_check_destination(const struct vouch_datagram *datagram,
                               const struct vouch_datagram_address *to,
                               struct address_sockaddr *ret_sockaddr, struct vouch_error *error) {
    int r = datagram_address_pack(to, ret_sockaddr);
    if (r == -EINVAL)
        return error_set(error, r, "an address that is empty or none");
    if (r < 0)
        return error_set(error, r, "%s: %s", vouch_strerror(r), to->text);
    if (to->text[0] != '@')
        return 0;
    if (!sockfile_has_abstract)
        return error_set(error, -ENOTSUP, "this system has no abstract names: %s", to->text);
    if (!datagram->allow_abstract)
        return error_set(
            error, VOUCH_E_ABSTRACT_OFF,
            "any user can take an abstract name, and the option to allow it is not set: %s",
            to->text);
    return 0;
}
