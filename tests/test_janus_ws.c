/* SPDX-License-Identifier: MIT */
/*
 * The WebSocket link, with a server by hand that says what a gateway should and what it should not:
 * fragments, messages that are too large, nonsense in the place of an upgrade.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc/janus_link.h"
#include "tests/harness.h"
#include "tests/janus_support.h"

/* ---- SHA-1 and base64, for the handshake (RFC 6455, 4.2.2) ---- */

static uint32_t rotate(uint32_t v, int n) {
    return v << n | v >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t *p) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++)
        w[i] = i < 16 ? (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
                            (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3]
                      : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999u
                     : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1u
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu
                              : (b ^ c ^ d) + 0xca62c1d6u;
        uint32_t next = rotate(a, 5) + f + e + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Of a text of 60 bytes, which a key and the protocol's number are. */
static void accept_key(const char *text, char ret_base64[29]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
    uint8_t blocks[128] = {0}, sum[21] = {0};
    cr_assert_eq(strlen(text), 60);
    memcpy(blocks, text, 60);
    blocks[60] = 0x80;
    blocks[126] = 60 * 8 >> 8;
    blocks[127] = 60 * 8 & 255;
    sha1_block(h, blocks);
    sha1_block(h, blocks + 64);
    for (int i = 0; i < 20; i++)
        sum[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t v = (uint32_t)sum[3 * i] << 16 | (uint32_t)sum[3 * i + 1] << 8 | sum[3 * i + 2];
        for (int j = 0; j < 4; j++)
            ret_base64[4 * i + j] = digits[v >> (18 - 6 * j) & 63];
    }
    ret_base64[27] = '=';
    ret_base64[28] = '\0';
}

/* ---- the server ---- */

static int listener, fd;
static char address[SUPPORT_PATH_MAX + 32], request[4096];
static struct vouch_janus *janus;
static struct janus_outcome opening;

static void on_open(void *context, int result, const struct vouch_error *error) {
    (void)context;
    opening.callbacks++;
    opening.result = result;
    snprintf(opening.text, sizeof(opening.text), "%.250s", error->message);
}

/* Turns the client until there is something to read for us. */
static void turn_until(int readable) {
    for (;;) {
        struct pollfd p[2] = {
            {.fd = readable, .events = POLLIN},
            {.fd = vouch_janus_get_fd(janus), .events = vouch_janus_get_events(janus)}};
        int64_t timeout = vouch_janus_get_timeout(janus);
        cr_assert_geq(poll(p, 2, timeout > VOUCH_SECONDS(1) ? 1000 : (int)(timeout / 1000000)), 0);
        if (p[0].revents)
            return;
        (void)vouch_janus_process(janus);
    }
}

static void listen_at(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char path[SUPPORT_PATH_MAX];
    support_temp_path(path, "ws");
    strcpy(a.sun_path, path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    cr_assert_eq(listen(listener, 5), 0);
    snprintf(address, sizeof(address), "ws+unix://%s:/the/path", path);
    fd = -1;
}

static bool begin(const struct vouch_janus_options *options) {
    if (!janus_ws_ops) {
        cr_skip_test("built without libwebsockets");
        return false;
    }
    support_baseline_begin();
    json_memory_begin();
    opening = (struct janus_outcome){0};
    listen_at();
    const char *addresses[] = {address};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, options, on_open, NULL, &janus, NULL), 0);
    return true;
}

static void end(void) {
    vouch_janus_free(janus);
    if (fd >= 0)
        close(fd);
    close(listener);
    json_memory_end();
    support_baseline_end();
}

static void put(const void *bytes, size_t size) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            cr_assert_eq(errno, EAGAIN);
            (void)vouch_janus_process(janus);
            continue;
        }
        at += n;
        size -= (size_t)n;
    }
}

static void take_request(void) {
    size_t used = 0;
    turn_until(listener);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(fd, 0);
    request[0] = '\0';
    while (!strstr(request, "\r\n\r\n")) {
        turn_until(fd);
        ssize_t n = recv(fd, request + used, sizeof(request) - 1 - used, 0);
        cr_assert_gt(n, 0);
        used += (size_t)n;
        request[used] = '\0';
    }
}

static void upgrade(void) {
    char text[64], key[29], answer[512];
    take_request();
    const char *at = strstr(request, "Sec-WebSocket-Key: ");
    cr_assert_not_null(at);
    snprintf(text, sizeof(text), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", at + 19);
    accept_key(text, key);
    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                     "Sec-WebSocket-Protocol: janus-protocol\r\n\r\n",
                     key);
    put(answer, (size_t)n);
    while (opening.callbacks == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(JANUS_PATIENCE));
}

/* One frame; `first` is FIN and the opcode. */
static void frame(uint8_t first, const void *data, size_t size) {
    uint8_t head[10] = {first, (uint8_t)size};
    size_t head_size = 2;
    if (size > 125) {
        head[1] = size > 65535 ? 127 : 126;
        head_size = size > 65535 ? 10 : 4;
        for (size_t i = 2; i < head_size; i++)
            head[i] = (uint8_t)((uint64_t)size >> (8 * (head_size - 1 - i)));
    }
    put(head, head_size);
    put(data, size);
}

static void get(uint8_t *bytes, size_t size) {
    while (size > 0) {
        turn_until(fd);
        ssize_t n = recv(fd, bytes, size, 0);
        cr_assert_gt(n, 0);
        bytes += n;
        size -= (size_t)n;
    }
}

/* The client's next frame, unmasked; returns its first byte. */
static uint8_t read_frame(char *text, size_t room) {
    uint8_t head[2], length[8] = {0}, mask[4];
    get(head, 2);
    cr_assert(head[1] & 0x80, "a client masks");
    size_t size = head[1] & 127u;
    if (size >= 126) {
        size_t bytes = size == 126 ? 2 : 8;
        get(length, bytes);
        size = 0;
        for (size_t i = 0; i < bytes; i++)
            size = size << 8 | length[i];
    }
    cr_assert_lt(size, room);
    get(mask, 4);
    get((uint8_t *)text, size);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)(text[i] ^ mask[i % 4]);
    text[size] = '\0';
    return head[0];
}

/* ---- tests ---- */

static const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};

/* Begins a ping; what has to be answered. */
static void begin_ping(struct janus_outcome *outcome, char answer[128]) {
    char text[512];
    *outcome = (struct janus_outcome){0};
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, outcome, NULL),
                 0);
    cr_assert_eq(read_frame(text, sizeof(text)), 0x81);
    cJSON *tree = json_tree(text);
    snprintf(answer, 128, "{\"janus\":\"pong\",\"transaction\":\"%s\"}",
             cJSON_GetObjectItem(tree, "transaction")->valuestring);
    cJSON_Delete(tree);
}

Test(janus_ws, a_call) {
    struct janus_outcome outcome;
    char answer[128];
    if (!begin(NULL))
        return;
    upgrade();
    cr_assert_eq(opening.result, 0, "%s", opening.text);
    cr_assert_eq(strncmp(request, "GET /the/path HTTP/1.1\r\n", 24), 0);
    cr_assert_not_null(strstr(request, "Sec-WebSocket-Protocol: janus-protocol\r\n"));
    begin_ping(&outcome, answer);
    frame(0x81, answer, strlen(answer));
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(vouch_janus_process(janus), 0);
    cr_assert_gt(vouch_janus_get_timeout(janus), VOUCH_MILLISECONDS(100), "a loop may sleep");
    cr_assert_eq(vouch_janus_get_events(janus), POLLIN);
    end();
}

/* A message in pieces, with a ping of the WebSocket's own between them, which is answered. */
Test(janus_ws, fragments) {
    struct janus_outcome outcome;
    char answer[128], text[512];
    if (!begin(NULL))
        return;
    upgrade();
    begin_ping(&outcome, answer);
    frame(0x01, answer, 3);
    frame(0x89, "are you there", 13);
    frame(0x00, answer + 3, 10);
    frame(0x00, "", 0);
    cr_assert_eq(read_frame(text, sizeof(text)), 0x8a);
    cr_assert_str_eq(text, "are you there");
    cr_assert_eq(outcome.callbacks, 0);
    frame(0x80, answer + 13, strlen(answer) - 13);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    end();
}

static void say_padded(const char *answer, size_t size) {
    static char text[300000];
    cr_assert_lt(size, sizeof(text));
    memset(text, ' ', size);
    memcpy(text, answer, strlen(answer));
    frame(0x81, text, size);
}

Test(janus_ws, as_large_as_the_limit) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .max_message = 200000};
    struct janus_outcome outcome;
    char answer[128];
    if (!begin(&options))
        return;
    upgrade();
    begin_ping(&outcome, answer);
    say_padded(answer, 200000);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    begin_ping(&outcome, answer);
    say_padded(answer, 200001);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -EMSGSIZE);
    cr_assert_str_eq(outcome.text, "a message of the gateway is larger than the limit");
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), -EMSGSIZE);
    end();
}

/* A large request, to a server that reads slowly. */
Test(janus_ws, a_large_request) {
    static char text[300000];
    struct janus_outcome outcome = {0};
    if (!begin(NULL))
        return;
    upgrade();
    memset(text, 'x', 250000);
    text[250000] = '\0';
    cJSON *more = cJSON_CreateObject();
    cJSON_AddStringToObject(more, "pad", text);
    struct vouch_janus_request large = {VOUCH_OPTIONS(large), .verb = VOUCH_JANUS_DO_PING,
                                        .more = more};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(
            vouch_janus_call_async(janus, &large, NULL, janus_outcome_callback, &outcome, NULL), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(read_frame(text, sizeof(text)), 0x81);
        cJSON *tree = json_tree(text);
        cr_assert_eq(strlen(cJSON_GetObjectItem(tree, "pad")->valuestring), 250000);
        cJSON_Delete(tree);
    }
    cJSON_Delete(more);
    end();
    cr_assert_eq(outcome.callbacks, 3);
}

/* Many messages in one piece: none is lost, and none waits for an event of the socket. */
Test(janus_ws, many_at_once) {
    struct janus_outcome outcome;
    char answer[128];
    struct vouch_janus_stats stats;
    if (!begin(NULL))
        return;
    upgrade();
    begin_ping(&outcome, answer);
    for (int i = 0; i < 500; i++)
        frame(0x81, "{\"janus\":\"webrtcup\"}", 20);
    frame(0x81, answer, strlen(answer));
    janus_wait_for(janus, &outcome.callbacks, 1);
    vouch_janus_get_stats(janus, &stats);
    cr_assert_eq(stats.messages, 501);
    end();
}

Test(janus_ws, the_gateway_closes) {
    struct janus_outcome outcome;
    char answer[128];
    if (!begin(NULL))
        return;
    upgrade();
    begin_ping(&outcome, answer);
    frame(0x81, answer, strlen(answer)); /* counts, though the end is there as well */
    frame(0x88, "\x03\xe8", 2);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), -ECONNRESET);
    end();
}

Test(janus_ws, cut_in_the_middle) {
    struct janus_outcome outcome;
    char answer[128];
    if (!begin(NULL))
        return;
    upgrade();
    begin_ping(&outcome, answer);
    frame(0x01, answer, 10);
    shutdown(fd, SHUT_RDWR);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -ECONNRESET);
    end();
}

Test(janus_ws, bytes_that_are_no_frames) {
    struct janus_outcome outcome;
    char answer[128];
    if (!begin(NULL))
        return;
    upgrade();
    begin_ping(&outcome, answer);
    put("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_lt(outcome.result, 0);
    end();
}

/* libwebsockets waits for the rest of what is no HTTP: it is our own timeout that ends that. */
Test(janus_ws, no_http) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .connect_timeout = VOUCH_MILLISECONDS(50)};
    if (!begin(&options))
        return;
    take_request();
    put("SSH-2.0-OpenSSH\r\n\r\n", 19);
    while (opening.callbacks == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(JANUS_PATIENCE));
    cr_assert(opening.result == -ETIMEDOUT || opening.result == -ECONNREFUSED);
    end();
}

static void refused(const char *answer) {
    if (!begin(NULL))
        return;
    take_request();
    if (answer)
        put(answer, strlen(answer));
    else
        shutdown(fd, SHUT_RDWR);
    while (opening.callbacks == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(JANUS_PATIENCE));
    cr_assert_eq(opening.result, -ECONNREFUSED, "%d", opening.result);
    cr_assert_eq(strncmp(opening.text, address, strlen(address)), 0);
    end();
}

Test(janus_ws, no_upgrade) {
    refused("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

Test(janus_ws, a_wrong_key) {
    refused("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"
            "Sec-WebSocket-Protocol: janus-protocol\r\n\r\n");
}

Test(janus_ws, hung_up) {
    refused(NULL);
}

static int listen_on_tcp(int *ret_port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(tcp, (struct sockaddr *)&a, sizeof(a)), 0);
    cr_assert_eq(listen(tcp, 1), 0);
    cr_assert_eq(getsockname(tcp, (struct sockaddr *)&a, &size), 0);
    *ret_port = ntohs(a.sin_port);
    return tcp;
}

/* Where the program wanted to go is where it goes: the secret is not for another's ears. */
Test(janus_ws, redirections_are_not_followed) {
    const char *addresses[] = {address};
    char answer[128];
    int port;
    if (!begin(NULL))
        return;
    vouch_janus_free(janus); /* again, on TCP */
    close(listener);
    listener = listen_on_tcp(&port);
    snprintf(address, sizeof(address), "ws://127.0.0.1:%d/", port);
    opening = (struct janus_outcome){0};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, NULL, on_open, NULL, &janus, NULL), 0);
    int elsewhere = listen_on_tcp(&port);
    take_request();
    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\n"
                     "Content-Length: 0\r\n\r\n",
                     port);
    put(answer, (size_t)n);
    while (opening.callbacks == 0) {
        struct pollfd p = {.fd = elsewhere, .events = POLLIN};
        (void)vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(10)));
        cr_assert_eq(poll(&p, 1, 0), 0, "it went there");
    }
    cr_assert_eq(opening.result, -ECONNREFUSED, "%d", opening.result);
    close(elsewhere);
    end();
}

/* A proxy of the environment is for the web; libwebsockets would ask it for local sockets too. */
Test(janus_ws, proxies_are_not_asked) {
    if (!janus_ws_ops)
        return;
    cr_assert_eq(setenv("http_proxy", "127.0.0.1:1", 1), 0);
    if (!begin(NULL))
        return;
    upgrade();
    cr_assert_eq(opening.result, 0, "%s", opening.text);
    cr_assert_eq(strncmp(request, "GET /the/path HTTP/1.1\r\n", 24), 0);
    end();
    unsetenv("http_proxy");
}

/* A path that a socket cannot have is none of another socket's. */
Test(janus_ws, a_path_that_is_too_long) {
    struct vouch_janus *none;
    struct vouch_error error;
    char text[200] = "ws+unix:///";
    if (!janus_ws_ops)
        return;
    const char *addresses[] = {text};
    size_t room = sizeof(((struct sockaddr_un *)0)->sun_path), head = strlen("ws+unix://");
    memset(text + head + 1, 'a', room - 1);
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), VOUCH_E_PATH_TOO_LONG);
    text[head + room - 1] = '\0';
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), -ENOENT);
}

/* What it does to the process: SIGPIPE is as it was. */
Test(janus_ws, the_process_is_left_alone) {
    struct sigaction action;
    if (!begin(NULL))
        return;
    upgrade();
    cr_assert_eq(sigaction(SIGPIPE, NULL, &action), 0);
    cr_assert_eq(action.sa_handler, SIG_DFL);
    end();
}

Test(janus_ws, nobody_there) {
    struct vouch_janus *none;
    struct vouch_error error;
    if (!janus_ws_ops)
        return;
    const char *addresses[] = {"ws+unix:///nonexistent/socket"};
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), -ENOENT);
    cr_assert_str_eq(error.message,
                     "ws+unix:///nonexistent/socket: looking at the socket file: does not exist");
    addresses[0] = "ws+unix:///";
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), VOUCH_E_NOT_SOCKET);
    cr_assert_str_eq(error.message, "ws+unix:///: not a socket");
    addresses[0] = "ws://127.0.0.1:1/";
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), -ECONNREFUSED);
    cr_assert_eq(strncmp(error.message, "ws://127.0.0.1:1/: ", 19), 0);
}

/* The socket of a gateway that was killed. */
Test(janus_ws, a_socket_that_was_left_behind) {
    struct vouch_janus *none;
    struct vouch_error error;
    if (!janus_ws_ops)
        return;
    char path[SUPPORT_PATH_MAX];
    support_temp_path(path, "ws");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    int left = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(left, (struct sockaddr *)&a, sizeof(a)), 0);
    close(left);
    char text[200], expected[300];
    snprintf(text, sizeof(text), "ws+unix://%s", path);
    snprintf(expected, sizeof(expected), "%s: no WebSocket is answered there", text);
    const char *addresses[] = {text};
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), -ECONNREFUSED);
    cr_assert_str_eq(error.message, expected);
}

/* It accepts and says nothing. */
Test(janus_ws, a_server_that_is_mute) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .connect_timeout = VOUCH_MILLISECONDS(50)};
    if (!begin(&options))
        return;
    while (opening.callbacks == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(JANUS_PATIENCE));
    cr_assert_eq(opening.result, -ETIMEDOUT);
    end();
}

/* libwebsockets would give up after 5 s. */
Test(janus_ws, a_server_that_is_mute_for_as_long_as_the_program_waits) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .connect_timeout = VOUCH_SECONDS(7)};
    if (!begin(&options))
        return;
    while (opening.callbacks == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(JANUS_PATIENCE));
    cr_assert_eq(opening.result, -ETIMEDOUT);
    end();
}

/* Each of them takes the connection and says nothing: all of them together are waited for no longer
 * than that. */
Test(janus_ws, servers_that_are_mute_one_after_the_other) {
    const struct vouch_janus_options options = {
        VOUCH_OPTIONS(options), .connect_timeout = VOUCH_MILLISECONDS(20), .retries = UINT_MAX,
        .retry_pause = VOUCH_MILLISECONDS(1), .connect_total_timeout = VOUCH_MILLISECONDS(100)};
    struct vouch_janus *none;
    struct vouch_error error;
    if (!begin(&options))
        return;
    const char *addresses[] = {address, address, address};
    int64_t before = vouch_now();
    cr_assert_eq(vouch_janus_connect(addresses, 3, &options, &none, &error), -ETIMEDOUT);
    cr_assert_lt(vouch_now() - before, VOUCH_SECONDS(15));
    cr_assert(strstr(error.message, "connect_total_timeout"), "%s", error.message);
    while (opening.callbacks == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(JANUS_PATIENCE));
    cr_assert_eq(opening.result, -ETIMEDOUT);
    end();
}
