/* SPDX-License-Identifier: MIT */
/* Addresses: what each says, and what is wrong with others. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/janus_address.h"
#include "tests/harness.h"

static struct janus_address parse(const char *text) {
    struct janus_address address;
    struct vouch_error error = {.code = 0};
    cr_assert_eq(janus_address_parse(text, &address, &error), 0, "%s", error.message);
    cr_assert_str_eq(address.text, text);
    return address;
}

static void refuse(const char *text, const char *message) {
    struct janus_address address;
    struct vouch_error error = {.code = 0};
    cr_assert_eq(janus_address_parse(text, &address, &error), -EINVAL, "%s", text);
    cr_assert_eq(error.code, -EINVAL);
    cr_assert_str_eq(error.message, message);
    cr_assert_eq(janus_address_parse(text, &address, NULL), -EINVAL);
}

Test(janus_address, unix_sockets_of_packets) {
    struct janus_address a = parse("file:///run/janus.sock");
    cr_assert_eq(a.kind, JANUS_SEQPACKET);
    cr_assert_str_eq(a.socket, "/run/janus.sock");
    a = parse("file:///run/a?type=SOCK_SEQPACKET");
    cr_assert_eq(a.kind, JANUS_SEQPACKET);
    cr_assert_str_eq(a.socket, "/run/a");
    a = parse("file://relative?type=SOCK_DGRAM");
    cr_assert_eq(a.kind, JANUS_DATAGRAM);
    cr_assert_str_eq(a.socket, "relative");
}

Test(janus_address, websockets) {
    static const struct {
        const char *text, *host;
        int port;
        const char *path;
    } good[] = {
        {"ws://localhost:8188/janus", "localhost", 8188, "/janus"},
        {"ws://192.0.2.1", "192.0.2.1", 80, "/"},
        {"ws://192.0.2.1:1", "192.0.2.1", 1, "/"},
        {"ws://a:65535/", "a", 65535, "/"},
        {"ws://[::1]:8188/a/b?c=d", "::1", 8188, "/a/b?c=d"},
        {"ws://[2001:db8::1]", "2001:db8::1", 80, "/"},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct janus_address a = parse(good[i].text);
        cr_assert_eq(a.kind, JANUS_WS);
        cr_assert_str_eq(a.host, good[i].host);
        cr_assert_eq(a.port, good[i].port);
        cr_assert_str_eq(a.path, good[i].path);
    }
    struct janus_address a = parse("ws+unix:///run/ws.sock");
    cr_assert_eq(a.kind, JANUS_WS_UNIX);
    cr_assert_str_eq(a.socket, "/run/ws.sock");
    cr_assert_str_eq(a.path, "/");
    a = parse("ws+unix:///run/ws.sock:/janus");
    cr_assert_str_eq(a.socket, "/run/ws.sock");
    cr_assert_str_eq(a.path, "/janus");
}

Test(janus_address, what_is_wrong) {
    refuse(NULL, "an address is NULL");
    refuse("", "address '': it begins with none of file://, ws:// and ws+unix://");
    refuse("http://a", "address 'http://a': it begins with none of file://, ws:// and ws+unix://");
    refuse("file://", "address 'file://': there is no path");
    refuse("file://?type=SOCK_DGRAM", "address 'file://?type=SOCK_DGRAM': there is no path");
    refuse("file:///a?type=SOCK_STREAM", "address 'file:///a?type=SOCK_STREAM': after '?' there is "
                                         "type=SOCK_SEQPACKET or type=SOCK_DGRAM");
    refuse("ws+unix://", "address 'ws+unix://': there is no path of a socket");
    refuse("ws+unix://:/a", "address 'ws+unix://:/a': there is no path of a socket");
    refuse("ws://", "address 'ws://': there is no host");
    refuse("ws://:80", "address 'ws://:80': there is no host");
    refuse("ws://[::1", "address 'ws://[::1': there is no host");
    refuse("ws://[]:1", "address 'ws://[]:1': there is no host");
    refuse("ws://a?b", "address 'ws://a?b': after host and port there is a path, or nothing");
    refuse("file:///a\nb", "an address has control characters, or no UTF-8");
    refuse("file:///a\xff", "an address has control characters, or no UTF-8");
    static const char *const ports[] = {"", "0", "65536", "123456", "8a", "-1", "+1", " 1"};
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        char text[64], message[160];
        snprintf(text, sizeof(text), "ws://a:%s/", ports[i]);
        snprintf(message, sizeof(message), "address '%s': the port is not a number from 1 to 65535",
                 text);
        refuse(text, message);
    }
}

Test(janus_address, lengths) {
    struct janus_address address;
    struct vouch_error error;
    char text[JANUS_ADDRESS_MAX + 2] = "file:///";
    memset(text + 8, 'a', sizeof(text) - 9);
    cr_assert_eq(strlen(text), JANUS_ADDRESS_MAX + 1);
    cr_assert_eq(janus_address_parse(text, &address, &error), -EINVAL);
    cr_assert(strstr(error.message, "it is longer than 1023 bytes"));
    text[JANUS_ADDRESS_MAX] = '\0';
    cr_assert_eq(janus_address_parse(text, &address, NULL), 0);
    memcpy(text, "ws://aaa", 8);
    text[5 + JANUS_HOST_MAX] = '\0';
    cr_assert_eq(janus_address_parse(text, &address, NULL), 0);
    text[5 + JANUS_HOST_MAX] = 'a';
    text[5 + JANUS_HOST_MAX + 1] = '\0';
    cr_assert_eq(janus_address_parse(text, &address, &error), -EINVAL);
    cr_assert(strstr(error.message, "the host is longer than 255 bytes"));
}
