/* SPDX-License-Identifier: MIT */
#include "tests/janus_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"

#define GATEWAY "/usr/bin/janus"

/* ---- a gateway by hand ---- */

void janus_gateway_open(struct janus_gateway *gateway) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *gateway = (struct janus_gateway){.fd = -1};
    support_temp_path(gateway->path, "gateway");
    snprintf(gateway->address, sizeof(gateway->address), "file://%s", gateway->path);
    strcpy(address.sun_path, gateway->path);
    (void)unlink(gateway->path);
    gateway->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    cr_assert_geq(gateway->listener, 0);
    cr_assert_eq(bind(gateway->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(gateway->listener, 16), 0);
}

void janus_gateway_accept(struct janus_gateway *gateway) {
    janus_gateway_hang_up(gateway);
    gateway->fd = accept4(gateway->listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(gateway->fd, 0);
}

void janus_gateway_hang_up(struct janus_gateway *gateway) {
    if (gateway->fd >= 0)
        close(gateway->fd);
    gateway->fd = -1;
}

void janus_gateway_close(struct janus_gateway *gateway) {
    if (gateway->answering)
        pthread_join(gateway->thread, NULL);
    janus_gateway_hang_up(gateway);
    close(gateway->listener);
}

void janus_gateway_begin(struct janus_gateway *gateway) {
    support_baseline_begin();
    json_memory_begin();
    janus_gateway_open(gateway);
}

void janus_gateway_end(struct janus_gateway *gateway) {
    janus_gateway_close(gateway);
    json_memory_end();
    support_baseline_end();
}

cJSON *janus_gateway_read(struct janus_gateway *gateway) {
    const size_t room = 1 << 20;
    char *text = malloc(room);
    cr_assert_not_null(text);
    ssize_t size = recv(gateway->fd, text, room - 1, 0);
    /* A client that closes without having read all resets the connection: an end as any other. */
    cr_assert(size >= 0 || errno == ECONNRESET, "%s", strerror(errno));
    text[size > 0 ? size : 0] = '\0';
    cJSON *tree = size > 0 ? json_tree(text) : NULL;
    free(text);
    return tree;
}

void janus_gateway_say_bytes(struct janus_gateway *gateway, const void *bytes, size_t size) {
    ssize_t n = send(gateway->fd, bytes, size, MSG_NOSIGNAL);
    cr_assert(n == (ssize_t)size || errno == EPIPE, "%s", strerror(errno)); /* or it is gone */
}

void janus_gateway_say(struct janus_gateway *gateway, const char *transaction, const char *text) {
    char out[4096];
    size_t used = 0;
    for (; *text; text++) {
        cr_assert_lt(used + 64, sizeof(out));
        if (*text == '%')
            used += (size_t)sprintf(out + used, "%s", transaction);
        else
            out[used++] = *text == '\'' ? '"' : *text;
    }
    janus_gateway_say_bytes(gateway, out, used);
}

static const char *text_of(const cJSON *tree, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

void janus_gateway_expect(struct janus_gateway *gateway, const char *verb, const char *text,
                          char ret_transaction[64]) {
    char transaction[64];
    cJSON *request = janus_gateway_read(gateway);
    cr_assert_not_null(request);
    cr_assert_str_eq(text_of(request, "janus"), verb);
    snprintf(transaction, sizeof(transaction), "%s", text_of(request, "transaction"));
    cr_assert_eq(strlen(transaction), 32);
    cJSON_Delete(request);
    if (text)
        janus_gateway_say(gateway, transaction, text);
    if (ret_transaction)
        strcpy(ret_transaction, transaction);
}

/* ---- one that answers by itself ---- */

static void answer_message(struct janus_gateway *gateway, const cJSON *request) {
    const cJSON *body = cJSON_GetObjectItemCaseSensitive(request, "body");
    bool sync = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(body, "sync"));
    uint64_t session = 0, handle = 0;
    char data[2048] = "", text[4096];
    ssize_t size = vouch_json_print(body, data, sizeof(data) - 1);
    cr_assert(size > 0 && (size_t)size < sizeof(data));
    cr_assert_eq(vouch_json_get_uint64(cJSON_GetObjectItem(request, "session_id"), &session), 0);
    cr_assert_eq(vouch_json_get_uint64(cJSON_GetObjectItem(request, "handle_id"), &handle), 0);
    if (!sync)
        janus_gateway_say(gateway, text_of(request, "transaction"),
                          "{'janus':'ack','transaction':'%'}");
    int n = snprintf(text, sizeof(text),
                     "{\"janus\":\"%s\",\"session_id\":%llu,\"sender\":%llu,\"transaction\":\"%s\","
                     "\"plugindata\":{\"plugin\":\"fake\",\"data\":%s}}",
                     sync ? "success" : "event", (unsigned long long)session,
                     (unsigned long long)handle, text_of(request, "transaction"), data);
    janus_gateway_say_bytes(gateway, text, (size_t)n);
}

static void *answer(void *context) {
    struct janus_gateway *gateway = context;
    unsigned next = 11;
    cJSON *request;
    janus_gateway_accept(gateway);
    while ((request = janus_gateway_read(gateway))) {
        const char *verb = text_of(request, "janus"), *t = text_of(request, "transaction");
        char text[128];
        snprintf(text, sizeof(text), "{'janus':'success','transaction':'%%','data':{'id':%u}}",
                 next);
        if (strcmp(verb, "create") == 0 || strcmp(verb, "attach") == 0) {
            janus_gateway_say(gateway, t, text);
            next++;
        } else if (strcmp(verb, "message") == 0) {
            answer_message(gateway, request);
        } else if (strcmp(verb, "info") == 0) {
            janus_gateway_say(gateway, t,
                              "{'janus':'server_info','transaction':'%','session-timeout':60}");
        } else if (strcmp(verb, "ping") == 0) {
            janus_gateway_say(gateway, t, "{'janus':'pong','transaction':'%'}");
        } else if (strcmp(verb, "keepalive") == 0 || strcmp(verb, "trickle") == 0) {
            janus_gateway_say(gateway, t, "{'janus':'ack','transaction':'%'}");
        } else {
            janus_gateway_say(gateway, t, "{'janus':'success','transaction':'%'}");
        }
        cJSON_Delete(request);
    }
    return NULL;
}

void janus_gateway_answer(struct janus_gateway *gateway) {
    gateway->answering = true;
    gateway->thread = support_thread_start(answer, gateway);
}

struct vouch_janus *janus_gateway_client(struct janus_gateway *gateway,
                                         const struct vouch_janus_options *options) {
    const char *address = gateway->address;
    struct vouch_janus *janus;
    struct vouch_error error = {.code = 0};
    cr_assert_eq(vouch_janus_connect(&address, 1, options, &janus, &error), 0, "%s", error.message);
    if (!gateway->answering)
        janus_gateway_accept(gateway);
    return janus;
}

/* ---- ends of calls, events ---- */

void janus_outcome_callback(void *context, int result, const struct vouch_janus_reply *reply,
                            const struct vouch_error *error) {
    struct janus_outcome *outcome = context;
    outcome->callbacks++;
    outcome->result = result;
    cr_assert_eq(error->code, result);
    cr_assert_eq(!reply->message, result != 0);
    snprintf(outcome->text, sizeof(outcome->text), "%.250s", error->message);
    outcome->session = reply->session;
    outcome->handle = reply->handle;
    if (!reply->message)
        return;
    outcome->kind = reply->message->kind;
    outcome->id = reply->message->id;
    if (reply->message->data) {
        ssize_t size =
            vouch_json_print(reply->message->data, outcome->data, sizeof(outcome->data) - 1);
        cr_assert(size > 0 && (size_t)size < sizeof(outcome->data));
        outcome->data[size] = '\0';
    }
}

void janus_seen_callback(void *context, const struct vouch_janus_message *message) {
    struct janus_seen *seen = context;
    unsigned i = seen->count++;
    if (i >= sizeof(seen->events) / sizeof(seen->events[0]))
        return;
    seen->events[i].kind = message->kind;
    seen->events[i].session_id = message->session_id;
    seen->events[i].handle_id = message->handle_id;
    snprintf(seen->events[i].text, sizeof(seen->events[i].text), "%s",
             message->reason        ? message->reason
             : message->transaction ? message->transaction
                                    : "");
}

void janus_wait_for(struct vouch_janus *janus, const unsigned *number, unsigned value) {
    int64_t deadline = vouch_deadline_in(JANUS_PATIENCE);
    while (*number < value) {
        int result = vouch_janus_wait(janus, deadline);
        cr_assert_gt(result, 0, "%s", vouch_janus_strerror(result));
    }
}

/* ---- the real gateway ---- */

bool janus_real_there(void) {
    if (access(GATEWAY, X_OK) == 0)
        return true;
    cr_skip_test("there is no " GATEWAY " (tools/deps janus; Debian: apt-get install janus)");
    return false;
}

static void write_file(const struct janus_real *real, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", real->dir, name);
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

/* One that is free now; somebody may take it until the gateway does, and the test then fails. */
static int free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static char log_path[128]; /* of the gateway that was started last */

static struct janus_real *started;

/* Where the package has its plugins: beside the library of the transport. */
static const char *module_folder(void) {
    static char path[256];
    FILE *list = popen("ls -d /usr/lib/*/janus /usr/lib/janus 2>/dev/null", "re");
    cr_assert_not_null(list);
    cr_assert_not_null(fgets(path, sizeof(path), list), "no folder of modules of janus");
    path[strcspn(path, "\n")] = '\0';
    pclose(list);
    return path;
}

static void configure(struct janus_real *real, const struct janus_real_options *o) {
    char text[2048], secret[128] = "", token[256] = "", ws[160];
    const char *modules = module_folder();
    if (o->api_secret)
        snprintf(secret, sizeof(secret), "api_secret = \"%s\"", o->api_secret);
    if (o->token_secret)
        snprintf(token, sizeof(token), "token_auth = true\ntoken_auth_secret = \"%s\"",
                 o->token_secret);
    snprintf(text, sizeof(text),
             "general: {\nconfigs_folder = \"%s\"\nplugins_folder = \"%s/plugins\"\n"
             "transports_folder = \"%s/transports\"\nevents_folder = \"%s/none\"\n"
             "loggers_folder = \"%s/none\"\ndebug_level = 4\nsession_timeout = %u\n"
             "reclaim_session_timeout = %u\n%s\n%s\n}\n"
             "plugins: { disable = \"libjanus_audiobridge.so,libjanus_duktape.so,libjanus_lua.so,"
             "libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,"
             "libjanus_videocall.so,libjanus_videoroom.so,libjanus_voicemail.so\" }\n"
             "transports: { disable = \"libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,"
             "libjanus_rabbitmq.so\" }\n",
             real->dir, modules, modules, real->dir, real->dir,
             o->session_timeout ? o->session_timeout : 60, o->reclaim_timeout, secret, token);
    write_file(real, "janus.jcfg", text);
    snprintf(text, sizeof(text),
             "general: {\nenabled = true\njson = \"compact\"\npath = \"%s/ux\"\ntype = \"%s\"\n}\n",
             real->dir, o->datagrams ? "SOCK_DGRAM" : "SOCK_SEQPACKET");
    write_file(real, "janus.transport.pfunix.jcfg", text);
    if (o->tcp)
        snprintf(ws, sizeof(ws), "ws_port = %d\nws_ip = \"127.0.0.1\"", real->port);
    else
        snprintf(ws, sizeof(ws), "ws_unix = \"%s/ws\"", real->dir);
    snprintf(text, sizeof(text), "general: {\njson = \"compact\"\nws = true\n%s\n}\n", ws);
    write_file(real, "janus.transport.websockets.jcfg", text);
    write_file(real, "janus.plugin.echotest.jcfg", "general: {\n}\n");
    write_file(real, "janus.plugin.textroom.jcfg", "general: {\n}\n");
}

/* The end of what the gateway has said. */
static const char *log_end(void) {
    static char text[1024];
    FILE *file = fopen(log_path, "re");
    if (!file)
        return "";
    if (fseek(file, -1000, SEEK_END) < 0)
        rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* It dies with the thread that started it, should the test not come to stop it. */
void janus_real_restart(struct janus_real *real) {
    char config[128];
    snprintf(config, sizeof(config), "%s/janus.jcfg", real->dir);
    snprintf(log_path, sizeof(log_path), "%s/log", real->dir);
    real->pid = fork();
    cr_assert_geq(real->pid, 0);
    if (real->pid > 0)
        return;
    int fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        _exit(126);
    execl(GATEWAY, GATEWAY, "-F", real->dir, "-C", config, (char *)NULL);
    _exit(127);
}

void janus_real_start(struct janus_real *real, const struct janus_real_options *options) {
    *real = (struct janus_real){.port = free_port()};
    support_temp_path(real->dir, "janus");
    cr_assert_eq(mkdir(real->dir, 0700), 0);
    snprintf(real->packets, sizeof(real->packets), "file://%s/ux", real->dir);
    snprintf(real->datagrams, sizeof(real->datagrams), "file://%s/ux?type=SOCK_DGRAM", real->dir);
    snprintf(real->ws, sizeof(real->ws), "ws://127.0.0.1:%d/", real->port);
    snprintf(real->ws_unix, sizeof(real->ws_unix), "ws+unix://%s/ws", real->dir);
    started = real;
    configure(real, options);
    janus_real_restart(real);
}

void janus_real_freeze(const struct janus_real *real) {
    int status;
    kill(real->pid, SIGSTOP);
    cr_assert_eq(waitpid(real->pid, &status, WUNTRACED), real->pid);
    cr_assert(WIFSTOPPED(status));
}

void janus_real_stop(struct janus_real *real) {
    int status;
    if (real->pid <= 0)
        return;
    kill(real->pid, SIGKILL);
    cr_assert_eq(waitpid(real->pid, &status, 0), real->pid);
    real->pid = 0;
}

/* Version 1.1.2 starts the thread of a transport before it sets what tells it to go on: now and
 * then it ends at once, and the gateway never answers. */
static bool born_dead(void) {
    return strstr(log_end(), "thread ended") != NULL;
}

static int try_out(const char *address, struct vouch_error *ret_error) {
    const struct vouch_janus_options set = {VOUCH_OPTIONS(set), .retries = 20,
                                            .retry_pause = VOUCH_MILLISECONDS(20)};
    struct vouch_janus *janus;
    int result = vouch_janus_connect(&address, 1, &set, &janus, ret_error);
    if (result < 0)
        return result;
    result = vouch_janus_ping(janus, NULL, ret_error);
    vouch_janus_free(janus);
    return result;
}

struct vouch_janus *janus_real_client(const char *address,
                                      const struct vouch_janus_options *options) {
    int64_t give_up = vouch_deadline_in(JANUS_PATIENCE);
    struct vouch_janus *janus;
    struct vouch_error error = {.code = 0};
    while (try_out(address, &error) != 0) {
        cr_assert_lt(vouch_now(), give_up, "%s; the gateway: %s", error.message, log_end());
        if (born_dead()) {
            janus_real_stop(started);
            janus_real_restart(started);
        }
    }
    cr_assert_eq(vouch_janus_connect(&address, 1, options, &janus, &error), 0, "%s", error.message);
    return janus;
}
