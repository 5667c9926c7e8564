/* SPDX-License-Identifier: MIT */
/*
 * Talks to the echo test of a Janus gateway: janus_echo ADDRESS...
 *
 * The first address that answers is taken: file:///run/janus.sock, ws://127.0.0.1:8188/, … If none
 * does, all are tried again a few times.
 */
#include <stdio.h>
#include <vouch/janus.h>

static int failed(const struct vouch_error *error) {
    fprintf(stderr, "janus_echo: %s\n", error->message);
    return 1;
}

/* Prints the plugin's answer to {"audio":true}. */
static int echo(struct vouch_janus_handle *handle) {
    struct vouch_janus_message *event;
    struct vouch_error error;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddTrueToObject(body, "audio");
    int r = vouch_janus_send_message(handle, body, NULL, NULL, &event, &error);
    cJSON_Delete(body);
    if (r != 0)
        return failed(&error);
    char *text = cJSON_PrintUnformatted(event->data);
    printf("%s says %s\n", event->plugin, text ? text : "nothing");
    cJSON_free(text);
    vouch_janus_message_free(event);
    return 0;
}

static int talk(struct vouch_janus *janus) {
    struct vouch_janus_session *session;
    struct vouch_janus_handle *handle;
    struct vouch_error error;
    if (vouch_janus_create(janus, NULL, NULL, &session, &error) != 0)
        return failed(&error);
    int r = vouch_janus_attach(session, "janus.plugin.echotest", NULL, NULL, &handle, &error);
    if (r == 0) {
        r = echo(handle);
        vouch_janus_handle_free(handle);
    } else {
        r = failed(&error);
    }
    if (vouch_janus_destroy(session, NULL, &error) != 0)
        r = failed(&error);
    vouch_janus_session_free(session);
    return r;
}

int main(int argc, char **argv) {
    struct vouch_janus *janus;
    struct vouch_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: janus_echo ADDRESS...\n");
        return 2;
    }
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = 5};
    const char *const *addresses = (const char *const *)argv + 1;
    if (vouch_janus_connect(addresses, (size_t)argc - 1, &options, &janus, &error) < 0)
        return failed(&error);
    int r = talk(janus);
    vouch_janus_free(janus);
    return r;
}
