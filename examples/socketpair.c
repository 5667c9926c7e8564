/* SPDX-License-Identifier: MIT */
/*
 * A parent that serves its forked child over a socketpair(2), with no name in the file system.
 *
 * The pair is made by hand and each process makes its own connection of its end after the fork:
 * what vouch made before a fork belongs to the parent. The identity that the kernel tells of either
 * end is that of who made the pair, the parent.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/vouch.h>

static int shout(void *context, struct vouch_call *call) {
    struct vouch_buffer *buffer;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    int r = vouch_call_get_buffer(call, size, &buffer);
    if (r < 0)
        return r;
    for (size_t i = 0; i < size; i++)
        buffer->data[i] = data[i] >= 'a' && data[i] <= 'z' ? data[i] - 'a' + 'A' : data[i];
    buffer->size = size;
    return vouch_call_reply_buffer(call, buffer);
}

static int child(int fd) {
    struct vouch_conn *conn;
    struct vouch_client *client;
    struct vouch_reply reply;
    int r = vouch_conn_from_fd(fd, NULL, &conn);
    if (r < 0)
        return r;
    r = vouch_client_new(conn, NULL, &client);
    if (r < 0)
        return r;
    r = vouch_client_call(client, "shout", "hello parent", 12, NULL, &reply, NULL);
    if (r == 0)
        printf("the child was answered: %.*s\n", (int)reply.size, (const char *)reply.data);
    vouch_reply_release(&reply);
    vouch_client_free(client);
    return fflush(stdout) == 0 ? r : -errno;
}

/* Serves until the child has ended, and returns as it did. */
static int parent(struct vouch_server *server, int fd, pid_t pid) {
    const struct vouch_method method = {.name = "shout", .handler = shout};
    struct vouch_conn *conn;
    int status;
    int r = vouch_server_add_method(server, &method);
    if (r == 0)
        r = vouch_conn_from_fd(fd, NULL, &conn);
    if (r < 0) {
        close(fd);
        return r;
    }
    r = vouch_server_add_conn(server, conn);
    if (r < 0)
        vouch_conn_free(conn);
    else
        r = vouch_server_start(server);
    if (r < 0)
        return r;
    if (waitpid(pid, &status, 0) < 0)
        return -errno;
    r = vouch_server_stop(server, VOUCH_SECONDS(1));
    return r == 0 && status != 0 ? -EIO : r;
}

int main(void) {
    struct vouch_server *server;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return 1;
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    if (pid == 0) {
        close(ends[0]);
        _exit(child(ends[1]) != 0);
    }
    close(ends[1]);
    int r = vouch_server_new(NULL, &server);
    if (r == 0)
        r = parent(server, ends[0], pid);
    if (r < 0)
        fprintf(stderr, "socketpair: %s\n", vouch_strerror(r));
    vouch_server_free(server);
    return r < 0;
}
