/* SPDX-License-Identifier: MIT */
/*
 * Addresses. A path is split into directory and file name, because both listening and dialling look
 * at the name from its directory. It is never normalised, and never cut: one that does not fit is
 * an error.
 */
#include "lib/address.h"

#include <errno.h>
#include <string.h>

#include "lib/error.h"

static int parse_abstract(struct address *address, struct vouch_error *error) {
    address->abstract = true;
    address->name = address->text + 1;
    size_t length = strlen(address->name);
    if (length == 0)
        return error_set(error, VOUCH_E_PATH_EMPTY, "\"@\": an abstract address without a name");
    if (length > ADDRESS_SUN_MAX)
        return error_set(error, VOUCH_E_PATH_TOO_LONG,
                         "an abstract name of %zu bytes, at most %zu are possible: %s", length,
                         ADDRESS_SUN_MAX, address->text);
    return 0;
}

static int parse_path(struct address *address, struct vouch_error *error) {
    size_t length = strlen(address->text);
    if (length >= ADDRESS_PATH_MAX)
        return error_set(error, VOUCH_E_PATH_TOO_LONG,
                         "a path of %zu bytes, at most %d are possible: %s", length,
                         ADDRESS_PATH_MAX - 1, address->text);

    const char *slash = strrchr(address->text, '/');
    address->name = slash ? slash + 1 : address->text;
    if (!*address->name || strcmp(address->name, ".") == 0 || strcmp(address->name, "..") == 0)
        return error_set(error, VOUCH_E_PATH_EMPTY, "\"%s\": a path without a file name",
                         address->text);

    if (!slash) {
        strcpy(address->directory, ".");
        return 0;
    }
    size_t directory_length = slash == address->text ? 1 : (size_t)(slash - address->text);
    memcpy(address->directory, address->text, directory_length);
    address->directory[directory_length] = 0;
    return 0;
}

int address_parse(const char *text, struct address *ret_address, struct vouch_error *error) {
    if (!text)
        return error_set(error, -EINVAL, "no address");
    ret_address->text = text;
    ret_address->abstract = false;
    return *text == '@' ? parse_abstract(ret_address, error) : parse_path(ret_address, error);
}

int address_of_path(const char *path, struct address_sockaddr *ret_sockaddr) {
    size_t length = strlen(path);
    if (length > ADDRESS_SUN_MAX)
        return VOUCH_E_PATH_TOO_LONG;
    *ret_sockaddr = (struct address_sockaddr){.un.sun_family = AF_UNIX};
    memcpy(ret_sockaddr->un.sun_path, path, length + 1);
    ret_sockaddr->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return 0;
}

/* An abstract name begins with a NUL and is as long as the address says: no NUL at its end. */
void address_of_abstract(const struct address *address, struct address_sockaddr *ret_sockaddr) {
    size_t length = strlen(address->name);
    *ret_sockaddr = (struct address_sockaddr){.un.sun_family = AF_UNIX};
    memcpy(ret_sockaddr->un.sun_path + 1, address->name, length);
    ret_sockaddr->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}
