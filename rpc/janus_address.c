/* SPDX-License-Identifier: MIT */
/*
 * Addresses as janode and the gateway's own documentation write them. The gateway's two kinds of
 * UNIX sockets have the same scheme, file://, so the kind is a query, with the names of the
 * gateway's configuration (janus.transport.pfunix.jcfg), and its default.
 */
#include "rpc/janus_address.h"

#include <errno.h>
#include <string.h>

#include "lib/utf8.h"
#include "rpc/janus_link.h"

#define PORT_DEFAULT 80
#define PORT_MAX 65535

static int refuse(struct vouch_error *ret_error, const char *text, const char *why) {
    return janus_fail(ret_error, -EINVAL, "address '%.200s': %s", text, why);
}

static bool is_plain(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

static int parse_file(const char *rest, struct janus_address *a, struct vouch_error *ret_error) {
    const char *query = strchr(rest, '?');
    size_t size = query ? (size_t)(query - rest) : strlen(rest);
    a->kind = JANUS_SEQPACKET;
    if (query && strcmp(query, "?type=SOCK_DGRAM") == 0)
        a->kind = JANUS_DATAGRAM;
    else if (query && strcmp(query, "?type=SOCK_SEQPACKET") != 0)
        return refuse(ret_error, a->text,
                      "after '?' there is type=SOCK_SEQPACKET or type=SOCK_DGRAM");
    if (size == 0)
        return refuse(ret_error, a->text, "there is no path");
    memcpy(a->socket, rest, size);
    return 0;
}

/* A part of the address, so it fits. */
static void set_path(struct janus_address *a, const char *path) {
    memcpy(a->path, path, strlen(path) + 1);
}

static int parse_ws_unix(const char *rest, struct janus_address *a, struct vouch_error *ret_error) {
    const char *path = strstr(rest, ":/");
    size_t size = path ? (size_t)(path - rest) : strlen(rest);
    a->kind = JANUS_WS_UNIX;
    if (size == 0)
        return refuse(ret_error, a->text, "there is no path of a socket");
    memcpy(a->socket, rest, size);
    memcpy(a->host, "localhost", sizeof("localhost"));
    a->port = PORT_DEFAULT;
    set_path(a, path ? path + 1 : "/");
    return 0;
}

static int parse_port(const char *text, size_t size, int *ret_port) {
    int port = 0;
    if (size == 0 || size > 5)
        return -EINVAL;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        port = port * 10 + (text[i] - '0');
    }
    if (port == 0 || port > PORT_MAX)
        return -EINVAL;
    *ret_port = port;
    return 0;
}

/* HOST or [HOST]: the bytes of the host; `ret_rest` is what follows. 0 when it cannot be read. */
static size_t host_of(const char *rest, const char **ret_host, const char **ret_rest) {
    size_t size;
    if (*rest == '[') {
        size = strcspn(rest + 1, "]");
        *ret_host = rest + 1;
        *ret_rest = rest + 1 + size + (rest[1 + size] == ']');
        return rest[1 + size] == ']' ? size : 0;
    }
    size = strcspn(rest, ":/?#");
    *ret_host = rest;
    *ret_rest = rest + size;
    return size;
}

static int parse_ws(const char *rest, struct janus_address *a, struct vouch_error *ret_error) {
    const char *host;
    size_t size = host_of(rest, &host, &rest);
    a->kind = JANUS_WS;
    a->port = PORT_DEFAULT;
    if (size == 0)
        return refuse(ret_error, a->text, "there is no host");
    if (size > JANUS_HOST_MAX)
        return refuse(ret_error, a->text, "the host is longer than 255 bytes");
    memcpy(a->host, host, size);
    if (*rest == ':') {
        size = strcspn(++rest, "/");
        if (parse_port(rest, size, &a->port) < 0)
            return refuse(ret_error, a->text, "the port is not a number from 1 to 65535");
        rest += size;
    }
    if (*rest != '\0' && *rest != '/')
        return refuse(ret_error, a->text, "after host and port there is a path, or nothing");
    set_path(a, *rest ? rest : "/");
    return 0;
}

int janus_address_parse(const char *text, struct janus_address *ret_address,
                        struct vouch_error *ret_error) {
    static const struct {
        const char *scheme;
        int (*parse)(const char *rest, struct janus_address *a, struct vouch_error *ret_error);
    } schemes[] = {
        {"file://", parse_file},
        {"ws+unix://", parse_ws_unix},
        {"ws://", parse_ws},
    };
    struct janus_address address = {.kind = JANUS_SEQPACKET};
    if (!text)
        return janus_fail(ret_error, -EINVAL, "an address is NULL");
    size_t size = strlen(text);
    if (size > JANUS_ADDRESS_MAX)
        return refuse(ret_error, text, "it is longer than 1023 bytes");
    if (!is_plain(text) || !utf8_valid((const uint8_t *)text, size))
        return janus_fail(ret_error, -EINVAL, "an address has control characters, or no UTF-8");
    memcpy(address.text, text, size);
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t scheme = strlen(schemes[i].scheme);
        if (strncmp(text, schemes[i].scheme, scheme) != 0)
            continue;
        int result = schemes[i].parse(text + scheme, &address, ret_error);
        if (result == 0)
            *ret_address = address;
        return result;
    }
    return refuse(ret_error, text, "it begins with none of file://, ws:// and ws+unix://");
}
