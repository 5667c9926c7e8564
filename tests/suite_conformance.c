/* SPDX-License-Identifier: MIT */
/* What holds for calls of every kind of body: bytes, JSON and protobuf go through the same tests.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/codecs.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

#define LARGEST ((size_t)16 * 1024 * 1024)
#define FITS_LARGEST (LARGEST + 1024)

static struct rpc_stage stage;
static struct vouch_client *client;

/* ---- methods ---- */

static int echo(void *context, const struct codec *codec, struct vouch_call *call, const char *text,
                size_t size) {
    (void)context;
    (void)codec->reply(call, text, size);
    return 0;
}

static int fail(void *context, const struct codec *codec, struct vouch_call *call, const char *text,
                size_t size) {
    (void)context;
    (void)codec;
    (void)size;
    return vouch_call_fail(call, (enum vouch_remote_error)(text[0] - '0'), "as you say: %.1s",
                           text);
}

static int who(void *context, const struct codec *codec, struct vouch_call *call, const char *text,
               size_t size) {
    char uid[32];
    (void)context;
    (void)text;
    (void)size;
    snprintf(uid, sizeof(uid), "%u", (unsigned)vouch_call_get_peer(call)->uid);
    (void)codec->reply(call, uid, strlen(uid));
    return 0;
}

static int wait(void *context, const struct codec *codec, struct vouch_call *call, const char *text,
                size_t size) {
    (void)context;
    (void)codec;
    (void)text;
    (void)size;
    rpc_latch_raise(&stage.entered);
    cr_assert_eq(vouch_call_wait_cancelled(call, vouch_deadline_in(RPC_PATIENCE)), 1);
    rpc_latch_raise(&stage.cancelled);
    return VOUCH_REMOTE_DEADLINE_EXCEEDED;
}

static int keep(void *context, const struct codec *codec, struct vouch_call *call, const char *text,
                size_t size) {
    (void)context;
    (void)codec;
    (void)text;
    (void)size;
    vouch_call_keep(call);
    stage.kept[0] = call;
    rpc_latch_raise(&stage.entered);
    return 0;
}

static int malformed(void *context, struct vouch_call *call) {
    const struct codec *codec = context;
    return vouch_call_reply(call, codec->malformed, strlen(codec->malformed));
}

static const struct {
    const char *name;
    codec_handler handler;
} methods[] = {{"/echo", echo}, {"/fail", fail}, {"/who", who}, {"/wait", wait}, {"/keep", keep}};

#define METHODS (sizeof(methods) / sizeof(methods[0]))

/* A server with its methods in one kind of body, and a client of it. */
static struct codec_method registered[METHODS];

static void open_with(const struct codec *codec) {
    const struct vouch_server_options server = {VOUCH_OPTIONS(server), .max_request = FITS_LARGEST,
                                                .max_reply = FITS_LARGEST};
    const struct vouch_client_options options = {
        VOUCH_OPTIONS(options), .max_request = FITS_LARGEST, .max_reply = FITS_LARGEST};
    support_baseline_begin();
    rpc_stage_init(&stage, &server);
    for (size_t i = 0; i < METHODS; i++) {
        registered[i] = (struct codec_method){codec, methods[i].handler, NULL};
        cr_assert_eq(codec->add(stage.server, methods[i].name, &registered[i]), 0);
    }
    cr_assert_eq(
        vouch_server_add_method(stage.server, &(struct vouch_method){.name = "/malformed",
                                                                     .handler = malformed,
                                                                     .context = (void *)codec}),
        0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, &options);
}

static void close_all(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

#define FOR_EACH_CODEC(codec)                                                                      \
    for (const struct codec *codec = codecs; codec->name && (open_with(codec), true);              \
         close_all(), codec++)

/* ---- calls ---- */

/* `expected` NULL: what was sent. */
static void check(const struct codec *codec, const char *method, const char *text, int result,
                  const char *expected) {
    struct codec_outcome outcome;
    codec->call(client, method, text, strlen(text), NULL, &outcome);
    cr_assert_eq(outcome.result, result, "%s %s: %d", codec->name, method, outcome.result);
    if (result == 0)
        cr_assert_str_eq(outcome.text, expected ? expected : text);
    else if (expected)
        cr_assert_str_eq(outcome.error.message, expected);
    if (result != 0)
        cr_assert_eq(outcome.error.code, result);
    free(outcome.text);
}

Test(conformance, echo_of_all_sizes, .timeout = 120) {
    static const size_t sizes[] = {0,    1,    2,    127,   128,   500,   1000,    1021,   1022,
                                   1023, 1024, 1025, 65535, 65536, 65537, 1 << 20, LARGEST};
    char *text = malloc(LARGEST);
    cr_assert_not_null(text);
    memset(text, 'v', LARGEST);
    FOR_EACH_CODEC(codec) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct codec_outcome outcome;
            codec->call(client, "/echo", text, sizes[i], NULL, &outcome);
            cr_assert_eq(outcome.result, 0, "%s, %zu bytes: %s", codec->name, sizes[i],
                         outcome.error.message);
            cr_assert_eq(outcome.size, sizes[i]);
            cr_assert_eq(memcmp(outcome.text, text, sizes[i]), 0);
            free(outcome.text);
        }
    }
    free(text);
}

Test(conformance, one_byte_more_than_the_maximum) {
    char *text = malloc(FITS_LARGEST);
    cr_assert_not_null(text);
    memset(text, 'v', FITS_LARGEST);
    FOR_EACH_CODEC(codec) {
        struct codec_outcome outcome;
        codec->call(client, "/echo", text, FITS_LARGEST, NULL, &outcome);
        cr_assert_eq(outcome.result, -EMSGSIZE, "%s: %d", codec->name, outcome.result);
        check(codec, "/echo", "still here", 0, NULL);
    }
    free(text);
}

Test(conformance, errors_of_each_type) {
    FOR_EACH_CODEC(codec) {
        for (int i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
            char text[2] = {(char)('0' + i), '\0'}, said[32];
            snprintf(said, sizeof(said), "as you say: %d", i);
            check(codec, "/fail", text, i, said);
        }
        check(codec, "/none", "", VOUCH_REMOTE_METHOD_NOT_FOUND, "there is no method '/none'");
        check(codec, "/echo", "still here", 0, NULL);
    }
}

Test(conformance, identity_in_the_handler) {
    char uid[32];
    snprintf(uid, sizeof(uid), "%u", (unsigned)geteuid());
    FOR_EACH_CODEC(codec) {
        check(codec, "/who", "", 0, uid);
    }
}

static void *caller(void *context) {
    const struct codec *codec = context;
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200, 30); i++) {
        char text[64];
        snprintf(text, sizeof(text), "%p %d", (void *)&text, i);
        check(codec, "/echo", text, 0, NULL);
    }
    return NULL;
}

Test(conformance, many_at_a_time) {
    FOR_EACH_CODEC(codec) {
        pthread_t threads[6];
        for (int i = 0; i < 6; i++)
            threads[i] = support_thread_start(caller, (void *)codec);
        for (int i = 0; i < 6; i++)
            support_thread_join(threads[i]);
    }
}

Test(conformance, many_at_a_time_without_waiting) {
    enum { CALLS = 100 };
    static struct codec_outcome outcomes[CALLS];
    FOR_EACH_CODEC(codec) {
        for (int i = 0; i < CALLS; i++) {
            char text[16];
            int size = snprintf(text, sizeof(text), "%d", i);
            cr_assert_eq(codec->call_async(client, "/echo", text, (size_t)size, NULL, &outcomes[i]),
                         0);
        }
        rpc_wait_callbacks(client, CALLS);
        for (int i = 0; i < CALLS; i++) {
            cr_assert_eq(outcomes[i].ends, 1);
            cr_assert_eq(outcomes[i].result, 0);
            cr_assert_eq(atoi(outcomes[i].text), i);
            free(outcomes[i].text);
        }
    }
}

/* ---- how calls end ---- */

Test(conformance, deadline) {
    const struct vouch_call_options options = {VOUCH_OPTIONS(options),
                                               .timeout = VOUCH_MILLISECONDS(10)};
    FOR_EACH_CODEC(codec) {
        struct codec_outcome outcome;
        codec->call(client, "/wait", "", 0, &options, &outcome);
        cr_assert(rpc_timed_out(outcome.result), "%s: %d", codec->name, outcome.result);
        check(codec, "/echo", "still here", 0, NULL);
    }
}

Test(conformance, cancel) {
    const struct vouch_call_options options = {VOUCH_OPTIONS(options), .tag = 7};
    FOR_EACH_CODEC(codec) {
        struct codec_outcome outcome;
        check(codec, "/echo", "so that it is known whom cancels can be told", 0, NULL);
        cr_assert_eq(codec->call_async(client, "/wait", "", 0, &options, &outcome), 0);
        rpc_latch_wait(&stage.entered, 1);
        cr_assert_eq(vouch_client_cancel(client, 7), 1);
        rpc_wait_callbacks(client, 1);
        cr_assert_eq(outcome.result, -ECANCELED);
        rpc_latch_wait(&stage.cancelled, 1);
        check(codec, "/echo", "still here", 0, NULL);
    }
}

Test(conformance, answered_later) {
    FOR_EACH_CODEC(codec) {
        struct codec_outcome outcome;
        cr_assert_eq(codec->call_async(client, "/keep", "", 0, NULL, &outcome), 0);
        rpc_latch_wait(&stage.entered, 1);
        cr_assert_eq(codec->reply(stage.kept[0], "later", 5), 0);
        rpc_wait_callbacks(client, 1);
        cr_assert_eq(outcome.result, 0);
        cr_assert_str_eq(outcome.text, "later");
        free(outcome.text);
    }
}

Test(conformance, the_server_dies) {
    FOR_EACH_CODEC(codec) {
        struct codec_outcome outcome;
        struct rpc_received received;
        int fd;
        struct vouch_client *lonely = rpc_raw_client(&fd, NULL);
        cr_assert_eq(codec->call_async(lonely, "/echo", "x", 1, NULL, &outcome), 0);
        rpc_raw_expect(fd, &received);
        rpc_received_free(&received);
        close(fd);
        rpc_wait_callbacks(lonely, 1);
        cr_assert_eq(outcome.result, -ECONNRESET);
        codec->call(lonely, "/echo", "x", 1, NULL, &outcome);
        cr_assert_eq(outcome.result, -ECONNRESET);
        vouch_client_free(lonely);
    }
}

Test(conformance, the_client_dies) {
    FOR_EACH_CODEC(codec) {
        struct codec_outcome outcome;
        struct vouch_client *lonely = rpc_stage_client(&stage, NULL);
        cr_assert_eq(codec->call_async(lonely, "/wait", "", 0, NULL, &outcome), 0);
        rpc_latch_wait(&stage.entered, 1);
        vouch_client_free(lonely);
        cr_assert_eq(outcome.result, -ESHUTDOWN);
        rpc_latch_wait(&stage.cancelled, 1); /* its handler is told */
        check(codec, "/echo", "still here", 0, NULL);
    }
}

/* ---- what is no such body ---- */

Test(conformance, malformed_both_ways) {
    FOR_EACH_CODEC(codec) {
        struct vouch_error error;
        struct vouch_reply reply;
        if (!codec->malformed)
            continue;
        cr_assert_eq(vouch_client_call(client, "/echo", codec->malformed, strlen(codec->malformed),
                                       NULL, &reply, &error),
                     VOUCH_REMOTE_BAD_DATA);
        cr_assert_neq(error.message[0], '\0');
        check(codec, "/malformed", "", -EPROTO, NULL);
        check(codec, "/echo", "still here", 0, NULL);
    }
}
