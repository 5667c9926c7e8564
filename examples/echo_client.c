/* SPDX-License-Identifier: MIT */
/* Calls `echo` with each of its words and prints what comes back: echo_client SOCKET WORD... */
#include <stdio.h>
#include <string.h>
#include <vouch/vouch.h>

static int echo(struct vouch_client *client, const char *word) {
    const struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_SECONDS(5)};
    struct vouch_reply reply;
    struct vouch_error error;
    int r = vouch_client_call(client, "echo", word, strlen(word), &options, &reply, &error);
    if (r != 0) { /* > 0: the server's error, < 0: there was no answer */
        fprintf(stderr, "echo_client: %s\n", error.message);
        return r;
    }
    /* The bytes are used where they were received, until the reply is released. */
    if (reply.size > 0)
        fwrite(reply.data, 1, reply.size, stdout);
    putchar('\n');
    vouch_reply_release(&reply);
    return 0;
}

int main(int argc, char **argv) {
    struct vouch_client *client;
    struct vouch_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: echo_client SOCKET WORD...\n");
        return 2;
    }
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "echo_client: %s\n", error.message);
        return 1;
    }
    char who[256];
    const struct vouch_identity *server = vouch_client_get_peer(client);
    if (server)
        printf("the server is %s\n", vouch_identity_format(server, who, sizeof(who)));
    vouch_identity_unref(server);

    int r = 0;
    for (int i = 2; i < argc && r == 0; i++)
        r = echo(client, argv[i]);
    vouch_client_free(client);
    return r != 0;
}
