/* SPDX-License-Identifier: MIT */
/* Has a math_json_server add integers: math_json_client SOCKET INTEGER... */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <vouch/json.h>
#include <vouch/vouch.h>

static int failed(const char *why) {
    fprintf(stderr, "math_json_client: %s\n", why);
    return 1;
}

/* {"Ints":[…]}, or NULL. */
static cJSON *request_of(char **words, int count) {
    cJSON *request = cJSON_CreateObject();
    cJSON *ints = cJSON_AddArrayToObject(request, "Ints");
    for (int i = 0; i < count; i++) {
        char *end;
        errno = 0;
        int64_t value = strtoll(words[i], &end, 10);
        cJSON *item = vouch_json_new_int64(value);
        if (errno || end == words[i] || *end || !cJSON_AddItemToArray(ints, item)) {
            cJSON_Delete(item);
            cJSON_Delete(request);
            return NULL;
        }
    }
    return request;
}

static int add_up(struct vouch_client *client, const cJSON *request) {
    struct vouch_error error;
    cJSON *reply;
    int64_t sum;
    if (vouch_json_call(client, "/math/sum", request, NULL, &reply, &error) != 0)
        return failed(error.message);
    int r = vouch_json_get_int64(cJSON_GetObjectItemCaseSensitive(reply, "Sum"), &sum);
    cJSON_Delete(reply);
    if (r < 0)
        return failed("the reply has no 'Sum'");
    printf("%" PRId64 "\n", sum);
    return 0;
}

int main(int argc, char **argv) {
    struct vouch_client *client;
    struct vouch_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: math_json_client SOCKET INTEGER...\n");
        return 2;
    }
    cJSON *request = request_of(argv + 2, argc - 2);
    if (!request)
        return failed("integers of 64 bits, please");
    int r = 1;
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        failed(error.message);
    } else {
        r = add_up(client, request);
        vouch_client_free(client);
    }
    cJSON_Delete(request);
    return r;
}
