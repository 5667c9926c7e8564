/* SPDX-License-Identifier: MIT */
/* Asks a qotd_json_server for quotes, on one stream: qotd_json_client SOCKET AUTHOR... */
#include <stdio.h>
#include <vouch/json.h>
#include <vouch/vouch.h>

static int failed(const char *why) {
    fprintf(stderr, "qotd_json_client: %s\n", why);
    return 1;
}

static void show(const cJSON *answer) {
    const cJSON *author = cJSON_GetObjectItemCaseSensitive(answer, "Author");
    const cJSON *quote = cJSON_GetObjectItemCaseSensitive(answer, "Quote");
    if (cJSON_IsString(author) && cJSON_IsString(quote))
        printf("%s (%s)\n", quote->valuestring, author->valuestring);
    else
        printf("no quote\n");
}

static int ask(struct vouch_json_stream *stream, const char *author) {
    struct vouch_error error;
    cJSON *request = cJSON_CreateObject(), *answer;
    cJSON_AddStringToObject(request, "Author", author);
    int r = vouch_json_stream_write(stream, request);
    cJSON_Delete(request);
    if (r < 0)
        return failed(vouch_strerror(r));
    r = vouch_json_stream_read(stream, &answer, &error);
    if (r != 1)
        return failed(r == 0 ? "the server has ended the stream" : error.message);
    show(answer);
    cJSON_Delete(answer);
    return 0;
}

int main(int argc, char **argv) {
    struct vouch_json_stream *stream;
    struct vouch_error error;
    struct vouch_conn *conn;
    if (argc < 3) {
        fprintf(stderr, "usage: qotd_json_client SOCKET AUTHOR...\n");
        return 2;
    }
    if (vouch_dial(argv[1], NULL, &conn, &error) < 0)
        return failed(error.message);
    vouch_conn_set_deadline(conn, VOUCH_BOTH, vouch_deadline_in(VOUCH_SECONDS(10)));
    int r = vouch_json_stream_new(conn, NULL, &stream);
    if (r < 0) {
        vouch_conn_free(conn);
        return failed(vouch_strerror(r));
    }
    for (int i = 2; i < argc && r == 0; i++)
        r = ask(stream, argv[i]);
    vouch_json_stream_free(stream);
    return r;
}
