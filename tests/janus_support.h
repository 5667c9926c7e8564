/* SPDX-License-Identifier: MIT */
/*
 * What tests of libvouch-janus share: a gateway that says what the test tells it to, over a UNIX
 * socket of packets, and the real one, where it is installed.
 *
 * The first has no thread: a test makes a call that does not wait, reads the request, says the
 * answer and waits for the callback. For calls that wait there is one that answers by itself.
 */
#ifndef TESTS_JANUS_SUPPORT_H
#define TESTS_JANUS_SUPPORT_H

#include <pthread.h>
#include <sys/types.h>
#include <vouch/janus.h>

#include "tests/json_support.h"
#include "tests/support.h"

#define JANUS_PATIENCE VOUCH_SECONDS(40)

/* ---- a gateway by hand ---- */

struct janus_gateway {
    char path[SUPPORT_PATH_MAX];
    char address[SUPPORT_PATH_MAX + 16]; /* file://… */
    int listener, fd;                    /* fd: the connection that was accepted last */
    pthread_t thread;
    bool answering;
};

void janus_gateway_open(struct janus_gateway *gateway);
void janus_gateway_accept(struct janus_gateway *gateway);
void janus_gateway_hang_up(struct janus_gateway *gateway);
void janus_gateway_close(struct janus_gateway *gateway);
/* Opening and closing with what a test checks around them: descriptors, threads, memory of trees.
 */
void janus_gateway_begin(struct janus_gateway *gateway);
void janus_gateway_end(struct janus_gateway *gateway);
/* The next request; the caller's. NULL at the client's end. */
cJSON *janus_gateway_read(struct janus_gateway *gateway);
/* Sends a text; each '%' in it becomes the transaction, and `'` a double quote. */
void janus_gateway_say(struct janus_gateway *gateway, const char *transaction, const char *text);
void janus_gateway_say_bytes(struct janus_gateway *gateway, const void *bytes, size_t size);
/* Reads a request, asserts its verb, answers with the text. Returns the transaction in `ret`. */
void janus_gateway_expect(struct janus_gateway *gateway, const char *verb, const char *text,
                          char ret_transaction[64]);
/* A thread that accepts once and answers as the gateway would: ids 11, 12, … for sessions and
 * handles; a message is acknowledged and then answered with an event, its data the body, unless the
 * body says {"sync":true}. Ends when the client does. */
void janus_gateway_answer(struct janus_gateway *gateway);

/* A connection to it, with `options`. */
struct vouch_janus *janus_gateway_client(struct janus_gateway *gateway,
                                         const struct vouch_janus_options *options);

/* ---- the end of a call, and events ---- */

struct janus_outcome {
    unsigned callbacks;
    int result;
    enum vouch_janus_kind kind;
    uint64_t id;
    char text[256]; /* of an error */
    char data[256]; /* of the reply, printed */
    struct vouch_janus_session *session;
    struct vouch_janus_handle *handle;
};
void janus_outcome_callback(void *context, int result, const struct vouch_janus_reply *reply,
                            const struct vouch_error *error);

struct janus_seen {
    unsigned count;
    struct {
        enum vouch_janus_kind kind;
        uint64_t session_id, handle_id;
        char text[64]; /* transaction, or reason */
    } events[64];
};
void janus_seen_callback(void *context, const struct vouch_janus_message *message);

/* Waits until a number has come to be. */
void janus_wait_for(struct vouch_janus *janus, const unsigned *number, unsigned value);

/* ---- the real gateway ---- */

struct janus_real {
    pid_t pid;
    char dir[SUPPORT_PATH_MAX], log[128];
    char packets[160], datagrams[160], ws[160], ws_unix[300]; /* addresses, as they would be */
    /* Those that it has: of a UNIX socket and, where there are WebSockets, of one of these. */
    const char *addresses[2];
    size_t address_count;
    int port;
};

struct janus_real_options {
    unsigned session_timeout; /* s; 0: 60 */
    unsigned reclaim_timeout;
    const char *api_secret, *token_secret;
    bool datagrams; /* its UNIX socket is one of these */
    bool tcp;       /* its WebSocket is on TCP, else on a UNIX socket: it has one of the two */
};

/* Whether it is installed; says so in the test's log if not. */
bool janus_real_there(void);
/* Writes its configuration and starts it; returns when it answers on all of its addresses. */
void janus_real_start(struct janus_real *real, const struct janus_real_options *options);
void janus_real_restart(struct janus_real *real);
void janus_real_freeze(const struct janus_real *real); /* it answers nothing from now on */
void janus_real_stop(struct janus_real *real);         /* kills it and waits for that */
struct vouch_janus *janus_real_client(const char *address,
                                      const struct vouch_janus_options *options);

#endif
