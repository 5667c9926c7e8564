/* SPDX-License-Identifier: MIT */
/* Adds its numbers with the service of math.proto: math_proto_client SOCKET NUMBER... */
#include <stdio.h>
#include <stdlib.h>
#include <vouch/proto.h>
#include <vouch/vouch.h>

#include "examples/math.pb-c.h"

#define NUMBERS_MAX 1000

/* NULL when the call has failed; call_failed has said why. */
static void print_sum(const Math__SumReply *reply, void *closure_data) {
    int *done = closure_data;
    if (!reply)
        return;
    printf("%lld\n", (long long)reply->sum);
    *done = 1;
}

static void call_failed(void *context, const char *method, int result,
                        const struct vouch_error *error, void *closure_data) {
    (void)context;
    (void)result;
    (void)closure_data;
    fprintf(stderr, "math_proto_client: %s: %s\n", method, error->message);
}

static int sum(struct vouch_client *client, int64_t *numbers, size_t count) {
    const struct vouch_proto_service_options options = {
        VOUCH_OPTIONS(options), .timeout = VOUCH_SECONDS(5), .failed = call_failed};
    Math__SumRequest request = MATH__SUM_REQUEST__INIT;
    ProtobufCService *math;
    int done = 0;

    int r = vouch_proto_service_new(client, &math__math__descriptor, &options, &math);
    if (r < 0) {
        fprintf(stderr, "math_proto_client: %s\n", vouch_strerror(r));
        return 1;
    }
    request.n_ints = count;
    request.ints = numbers;
    math__math__sum(math, &request, print_sum, &done); /* the generated stub */
    protobuf_c_service_destroy(math);
    return done ? 0 : 1;
}

int main(int argc, char **argv) {
    int64_t numbers[NUMBERS_MAX];
    struct vouch_client *client;
    struct vouch_error error;
    if (argc < 2 || argc - 2 > NUMBERS_MAX) {
        fprintf(stderr, "usage: math_proto_client SOCKET NUMBER...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        numbers[i - 2] = strtoll(argv[i], NULL, 0);
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "math_proto_client: %s\n", error.message);
        return 1;
    }
    int r = sum(client, numbers, (size_t)argc - 2);
    vouch_client_free(client);
    return r;
}
