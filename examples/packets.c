/* SPDX-License-Identifier: MIT */
/*
 * Packets and datagrams: packets PATH
 *
 * A child sends its parent packets over a socketpair, an empty one among them, and then lines to
 * the parent's log: a datagram socket at PATH, in which the kernel says with each line who has
 * written it. Only our own user and root are heard.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/vouch.h>

static int send_packets(int fd) {
    const char *const texts[] = {"hello", "", "a packet stays a packet"};
    struct vouch_conn *conn;
    int r = vouch_conn_from_fd(fd, NULL, &conn);
    if (r < 0)
        return r;
    for (int i = 0; i < 3 && r == 0; i++)
        r = vouch_conn_send_packet(conn, texts[i], strlen(texts[i]));
    vouch_conn_free(conn);
    return r;
}

/* Waits where the log is full, but not for ever: a log that hangs must not hang us. */
static int send_lines(const char *path) {
    const char *const lines[] = {"started", "end"};
    struct vouch_datagram *log;
    struct vouch_datagram_address to;
    struct vouch_error error;
    int r = vouch_datagram_open(NULL, &log, &error);
    if (r < 0)
        return r;
    r = vouch_datagram_address_of(path, &to, &error);
    for (int i = 0; i < 2 && r == 0; i++)
        r = vouch_datagram_send(log, &to, lines[i], strlen(lines[i]),
                                vouch_deadline_in(VOUCH_SECONDS(2)), &error);
    if (r < 0)
        fprintf(stderr, "packets: %s\n", error.message);
    vouch_datagram_free(log);
    return r;
}

static int print_packets(int fd) {
    struct vouch_conn *conn;
    struct vouch_packet packet;
    char text[64];
    int r = vouch_conn_from_fd(fd, NULL, &conn);
    if (r < 0)
        return r;
    while ((r = vouch_conn_recv_packet(conn, text, sizeof(text), &packet)) > 0)
        printf("a packet of %zu bytes: %.*s\n", packet.size, (int)packet.size, text);
    if (r == 0)
        printf("no more packets\n");
    vouch_conn_free(conn);
    return r;
}

static int print_lines(struct vouch_datagram *log) {
    struct vouch_datagram_message message;
    char text[256];
    bool end = false;
    int r = 0;
    while (!end && r == 0) {
        r = vouch_datagram_recv(log, text, sizeof(text), vouch_deadline_in(VOUCH_SECONDS(5)),
                                &message);
        if (r < 0)
            break;
        printf("uid %ld writes: %.*s\n", (long)message.sender.uid, (int)message.size, text);
        end = message.size == 3 && memcmp(text, "end", 3) == 0;
    }
    return r;
}

int main(int argc, char **argv) {
    const struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                                   .address = argc == 2 ? argv[1] : ""};
    struct vouch_datagram *log;
    struct vouch_error error;
    int ends[2];
    if (argc != 2 || vouch_datagram_open(&options, &log, &error) < 0) {
        fprintf(stderr, "packets: %s\n", argc == 2 ? error.message : "packets PATH");
        return 1;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0)
        return 1;
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    if (pid == 0) {
        close(ends[0]);
        int r = send_packets(ends[1]);
        _exit(r < 0 || send_lines(argv[1]) < 0);
    }
    close(ends[1]);
    int status = 0, r = print_packets(ends[0]);
    if (r == 0)
        r = print_lines(log);
    if (waitpid(pid, &status, 0) < 0)
        r = -errno;
    vouch_datagram_free(log);
    if (r < 0)
        fprintf(stderr, "packets: %s\n", vouch_strerror(r));
    return r < 0 || status != 0;
}
