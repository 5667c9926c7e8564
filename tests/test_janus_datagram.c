/* SPDX-License-Identifier: MIT */
/* The link of datagrams: its own socket, strangers, a gateway that goes. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static int gateway;
static const char *temporary; /* TMPDIR as it was */
static char address[SUPPORT_PATH_MAX + 40], path[SUPPORT_PATH_MAX], directory[SUPPORT_PATH_MAX];
static struct vouch_janus *janus;
static struct sockaddr_un client;
static socklen_t client_size;

static void bind_gateway(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    (void)unlink(path);
    gateway = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(gateway, 0);
    cr_assert_eq(bind(gateway, (struct sockaddr *)&a, sizeof(a)), 0);
}

static unsigned files_in(const char *where) {
    unsigned count = 0;
    DIR *dir = opendir(where);
    cr_assert_not_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void begin(const struct vouch_janus_options *set, bool own_directory) {
    struct vouch_janus_options options = {VOUCH_OPTIONS(options)};
    struct vouch_error error = {.code = 0};
    const char *addresses[] = {address};
    if (set)
        options = *set;
    support_baseline_begin();
    json_memory_begin();
    support_temp_path(path, "gateway");
    support_temp_path(directory, "sockets");
    cr_assert_eq(mkdir(directory, 0700), 0);
    snprintf(address, sizeof(address), "file://%s?type=SOCK_DGRAM", path);
    bind_gateway();
    temporary = getenv("TMPDIR");
    cr_assert_eq(setenv("TMPDIR", directory, 1), 0);
    options.datagram_directory = own_directory ? NULL : directory;
    cr_assert_eq(vouch_janus_connect(addresses, 1, &options, &janus, &error), 0, "%s",
                 error.message);
    cr_assert_geq(files_in(directory), 1);
}

static void end(void) {
    vouch_janus_free(janus);
    cr_assert_eq(files_in(directory), 0);
    close(gateway);
    if (temporary)
        cr_assert_eq(setenv("TMPDIR", temporary, 1), 0);
    else
        unsetenv("TMPDIR");
    json_memory_end();
    support_baseline_end();
}

/* Reads a request and answers whoever sent it. */
static void answer(const char *format) {
    char text[4096], out[4096];
    client_size = sizeof(client);
    ssize_t size =
        recvfrom(gateway, text, sizeof(text) - 1, 0, (struct sockaddr *)&client, &client_size);
    cr_assert_gt(size, 0);
    text[size] = '\0';
    cJSON *request = json_tree(text);
    int n = snprintf(out, sizeof(out), format,
                     cJSON_GetObjectItem(request, "transaction")->valuestring);
    cJSON_Delete(request);
    cr_assert_eq(sendto(gateway, out, (size_t)n, 0, (struct sockaddr *)&client, client_size), n);
}

static void ping(struct janus_outcome *outcome) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_PING};
    *outcome = (struct janus_outcome){0};
    cr_assert_eq(
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, outcome, NULL), 0);
}

#define PONG "{\"janus\":\"pong\",\"transaction\":\"%s\"}"

Test(janus_datagram, there_and_back) {
    struct janus_outcome outcome;
    begin(NULL, false);
    ping(&outcome);
    answer(PONG);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    end();
}

Test(janus_datagram, in_a_directory_of_its_own) {
    struct janus_outcome outcome;
    begin(NULL, true);
    ping(&outcome);
    answer(PONG);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(strncmp(client.sun_path, directory, strlen(directory)), 0);
    end();
}

/* What is no message is dropped and counted, and so is what is too large. */
Test(janus_datagram, nonsense) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .max_message = 100};
    struct janus_outcome outcome;
    struct vouch_janus_stats stats;
    char large[101];
    begin(&options, false);
    ping(&outcome);
    answer("{%.0s");
    memset(large, 'x', sizeof(large));
    cr_assert_eq(sendto(gateway, large, sizeof(large), 0, (struct sockaddr *)&client, client_size),
                 101);
    cr_assert_eq(sendto(gateway, "", 0, 0, (struct sockaddr *)&client, client_size), 0);
    while (vouch_janus_get_stats(janus, &stats), stats.malformed < 3)
        cr_assert_geq(vouch_janus_process(janus), 0);
    cr_assert_eq(outcome.callbacks, 0);
    ping(&outcome);
    answer(PONG);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    end();
}

/* The kernel lets nobody in but the gateway that we are connected to. */
Test(janus_datagram, a_stranger) {
    struct janus_outcome outcome;
    begin(NULL, false);
    ping(&outcome);
    answer(PONG);
    janus_wait_for(janus, &outcome.callbacks, 1);
    int stranger = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(sendto(stranger, "{}", 2, 0, (struct sockaddr *)&client, client_size), -1);
    cr_assert_eq(errno, EPERM);
    close(stranger);
    end();
}

/* Nothing tells that it is gone but what cannot be sent. */
Test(janus_datagram, the_gateway_goes) {
    struct janus_outcome outcome;
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_PING};
    begin(NULL, false);
    close(gateway);
    cr_assert_eq(vouch_janus_process(janus), 0);
    outcome = (struct janus_outcome){0};
    int result =
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, &outcome, NULL);
    cr_assert_eq(result, 0);
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), 1);
    cr_assert_eq(outcome.result, -ECONNRESET);
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), -ECONNRESET);
    bind_gateway();
    const char *addresses[] = {address};
    vouch_janus_free(janus);
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &janus, NULL), 0);
    ping(&outcome);
    answer(PONG);
    janus_wait_for(janus, &outcome.callbacks, 1);
    end();
}

/* Its queue has a handful of places: what does not fit is sent later. */
Test(janus_datagram, a_full_queue) {
    enum { CALLS = 100 };
    struct janus_outcome outcomes[CALLS];
    begin(NULL, false);
    for (int i = 0; i < CALLS; i++)
        ping(&outcomes[i]);
    for (int i = 0; i < CALLS; i++) {
        cr_assert_geq(vouch_janus_process(janus), 0);
        answer(PONG);
    }
    for (int i = 0; i < CALLS; i++) {
        janus_wait_for(janus, &outcomes[i].callbacks, 1);
        cr_assert_eq(outcomes[i].result, 0);
    }
    end();
}

/* Once nothing waits to be sent any more nobody has to look whether there is a place. */
Test(janus_datagram, a_full_queue_and_calls_that_are_cancelled) {
    enum { CALLS = 2000 };
    static struct janus_outcome outcomes[CALLS];
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .max_calls = CALLS};
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_PING};
    const struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .timeout = VOUCH_FOREVER,
                                              .tag = 1};
    begin(&options, false);
    for (int i = 0; i < CALLS; i++)
        cr_assert_eq(vouch_janus_call_async(janus, &request, &tagged, janus_outcome_callback,
                                            &outcomes[i], NULL),
                     0);
    cr_assert_lt(vouch_janus_get_timeout(janus), VOUCH_SECONDS(1));
    cr_assert_eq(vouch_janus_cancel(janus, 1), CALLS);
    janus_wait_for(janus, &outcomes[0].callbacks, 1);
    while (vouch_janus_process(janus) > 0)
        ;
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER);
    end();
}

Test(janus_datagram, directories_that_do_not_do) {
    struct vouch_janus *none;
    struct vouch_error error;
    char long_path[200];
    const char *addresses[] = {address};
    begin(NULL, false);
    memset(long_path, 'a', sizeof(long_path) - 1);
    long_path[0] = '/';
    long_path[sizeof(long_path) - 1] = '\0';
    struct vouch_janus_options options = {VOUCH_OPTIONS(options), .datagram_directory = long_path};
    cr_assert_eq(vouch_janus_connect(addresses, 1, &options, &none, &error), VOUCH_E_PATH_TOO_LONG);
    options.datagram_directory = "/nonexistent";
    cr_assert_eq(vouch_janus_connect(addresses, 1, &options, &none, &error), -ENOENT);
    cr_assert_eq(setenv("TMPDIR", long_path, 1), 0);
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), VOUCH_E_PATH_TOO_LONG);
    cr_assert_eq(setenv("TMPDIR", "/nonexistent", 1), 0);
    cr_assert_eq(vouch_janus_connect(addresses, 1, NULL, &none, &error), -ENOENT);
    end();
}
