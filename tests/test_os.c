/* SPDX-License-Identifier: MIT */
#include "lib/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/support.h"

static bool has_cloexec(int fd) {
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static bool is_blocking(int fd) {
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static bool is_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

Test(os, descriptors_are_born_close_on_exec_and_blocking) {
    support_baseline_begin();
    int fds[2];
    int fd = os_socket_stream();
    cr_assert_geq(fd, 0);
    cr_assert(has_cloexec(fd));
    cr_assert_eq(os_socketpair_stream(fds), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert(has_cloexec(fds[i]));
        cr_assert(is_blocking(fds[i]));
        close(fds[i]);
    }
    close(fd);
    support_baseline_end();
}

Test(os, accepted_sockets_too_though_the_listener_is_not) {
    support_baseline_begin();
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    support_temp_path(name.sun_path, "s");
    int listener = os_socket_stream(), client = os_socket_stream();
    cr_assert_eq(bind(listener, (struct sockaddr *)&name, sizeof(name)), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(os_set_nonblocking(listener, true), 0);
    cr_assert_eq(os_accept(listener), -EAGAIN);
    cr_assert_eq(connect(client, (struct sockaddr *)&name, sizeof(name)), 0);
    int accepted = os_accept(listener);
    cr_assert_geq(accepted, 0);
    cr_assert(has_cloexec(accepted));
    cr_assert(is_blocking(accepted));
    close(accepted);
    close(client);
    close(listener);
    cr_assert_eq(os_accept(-1), -EBADF);
    support_baseline_end();
}

Test(os, flags_of_descriptors_from_elsewhere) {
    support_baseline_begin();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    cr_assert_not(has_cloexec(fds[0]));
    cr_assert_eq(os_cloexec(fds[0]), 0);
    cr_assert(has_cloexec(fds[0]));
    cr_assert_eq(os_cloexec(fds[0]), 0);
    cr_assert_eq(os_set_nonblocking(fds[0], true), 0);
    cr_assert_not(is_blocking(fds[0]));
    cr_assert_eq(os_set_nonblocking(fds[0], false), 0);
    cr_assert(is_blocking(fds[0]));
    cr_assert_eq(os_nosigpipe(fds[0]), 0);
    close(fds[0]);
    close(fds[1]);
    cr_assert_eq(os_cloexec(-1), -EBADF);
    cr_assert_eq(os_set_nonblocking(-1, true), -EBADF);
    support_baseline_end();
}

/* SIGPIPE has its default action here: it would end the test. */
Test(os, writing_to_nobody_raises_no_signal) {
    support_baseline_begin();
    int fds[2];
    signal(SIGPIPE, SIG_DFL);
    cr_assert_eq(os_socketpair_stream(fds), 0);
    close(fds[1]);
    cr_assert_eq(send(fds[0], "x", 1, os_send_flags), -1);
    cr_assert_eq(errno, EPIPE);
    close(fds[0]);
    support_baseline_end();
}

Test(os, refusing_descriptors_leaves_bytes_alone) {
    support_baseline_begin();
    int fds[2];
    char byte;
    cr_assert_eq(os_socketpair_stream(fds), 0);
    os_refuse_descriptors(fds[1]);
    os_refuse_descriptors(-1);
    cr_assert_eq(send(fds[0], "x", 1, os_send_flags), 1);
    cr_assert_eq(recv(fds[1], &byte, 1, os_recv_flags), 1);
    close(fds[0]);
    close(fds[1]);
    support_baseline_end();
}

static void *epoch_of_thread(void *context) {
    *(uint64_t *)context = os_process_epoch();
    return NULL;
}

Test(os, one_process_has_one_epoch) {
    support_baseline_begin();
    uint64_t epochs[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = support_thread_start(epoch_of_thread, &epochs[i]);
    for (int i = 0; i < 4; i++) {
        support_thread_join(threads[i]);
        cr_assert_eq(epochs[i], os_process_epoch());
    }
    support_baseline_end();
}

/* Writes the epoch of this process, of its child, of that one's child … */
static void write_epochs(int fd, int generations) {
    for (; generations > 0; generations--) {
        uint64_t epoch = os_process_epoch();
        if (write(fd, &epoch, sizeof(epoch)) != sizeof(epoch) || os_process_epoch() != epoch)
            _exit(1);
        if (generations > 1 && fork() > 0) {
            wait(NULL);
            break;
        }
    }
    _exit(0);
}

Test(os, every_process_of_a_fork_tree_has_its_own) {
    enum { PROCESSES = 4 };
    support_baseline_begin();
    uint64_t epochs[PROCESSES] = {os_process_epoch()};
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0)
        write_epochs(fds[1], PROCESSES - 1);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    for (int i = 1; i < PROCESSES; i++)
        cr_assert_eq(read(fds[0], &epochs[i], sizeof(epochs[i])), sizeof(epochs[i]));
    for (int i = 0; i < PROCESSES; i++)
        for (int j = 0; j < i; j++)
            cr_assert_neq(epochs[i], epochs[j]);
    cr_assert_eq(os_process_epoch(), epochs[0]);
    close(fds[0]);
    close(fds[1]);
    support_baseline_end();
}

Test(os, the_overflow_uid_does_not_change) {
    support_baseline_begin();
    uid_t uid = os_overflow_uid();
    cr_assert_neq(uid, 0);
    cr_assert_eq(os_overflow_uid(), uid);
    support_baseline_end();
}

Test(os, a_wake_up_is_readable_until_it_is_cleared) {
    support_baseline_begin();
    struct os_wake wake;
    cr_assert_eq(os_wake_init(&wake), 0);
    cr_assert(has_cloexec(wake.read_fd));
    cr_assert(has_cloexec(wake.write_fd));
    cr_assert_not(is_readable(wake.read_fd));
    os_wake_clear(&wake);
    os_wake_raise(&wake);
    os_wake_raise(&wake);
    cr_assert(is_readable(wake.read_fd));
    os_wake_clear(&wake);
    cr_assert_not(is_readable(wake.read_fd));
    os_wake_deinit(&wake);
    os_wake_deinit(&wake);
    cr_assert_eq(wake.read_fd, -1);
    support_baseline_end();
}

Test(os, raising_never_blocks_and_keeps_errno) {
    support_baseline_begin();
    struct os_wake wake;
    cr_assert_eq(os_wake_init(&wake), 0);
    errno = EXDEV;
    for (int i = 0; i < 100000; i++) /* far over what a pipe holds */
        os_wake_raise(&wake);
    cr_assert_eq(errno, EXDEV);
    os_wake_clear(&wake);
    cr_assert_not(is_readable(wake.read_fd));
    os_wake_raise(&wake);
    cr_assert(is_readable(wake.read_fd));
    os_wake_deinit(&wake);
    support_baseline_end();
}

Test(os, one_descriptor_for_several) {
    int pair[2], gather = os_gather();
    struct os_wake wake = OS_WAKE_NONE;
    if (gather == -ENOTSUP)
        return; /* as the header says */
    support_baseline_begin();
    cr_assert_geq(gather, 0);
    cr_assert(has_cloexec(gather));
    cr_assert_eq(os_wake_init(&wake), 0);
    cr_assert_eq(os_socketpair_stream(pair), 0);
    cr_assert_eq(os_gather_set(gather, wake.read_fd, POLLIN), 0);
    cr_assert_eq(os_gather_set(gather, pair[0], POLLIN), 0);
    cr_assert_not(is_readable(gather));
    os_wake_raise(&wake);
    cr_assert(is_readable(gather));
    os_wake_clear(&wake);
    cr_assert_not(is_readable(gather));
    cr_assert_eq(os_gather_set(gather, pair[0], POLLIN | POLLOUT), 0);
    cr_assert(is_readable(gather));
    os_gather_remove(gather, pair[0]);
    os_gather_remove(gather, pair[0]);
    cr_assert_not(is_readable(gather));
    close(pair[0]);
    cr_assert_eq(os_gather_set(gather, pair[0], POLLIN), -EBADF);
    close(pair[1]);
    os_wake_deinit(&wake);
    support_baseline_end();
    close(gather);
}

/* With a packet something comes, with the end nothing; and not one byte more than that has room. */
Test(os, packets_are_told_from_the_end) {
    support_baseline_begin();
    int fds[2];
    cr_assert_eq(os_socketpair(SOCK_SEQPACKET, fds), 0);
    cr_assert(has_cloexec(fds[0]));
    cr_assert_leq(os_packet_control, OS_PACKET_CONTROL_MAX);
    cr_assert_eq(os_mark_packets(fds[0]), os_marks_packets ? 0 : -EOPNOTSUPP);
    cr_assert_eq(send(fds[1], "", 0, 0), 0);
    cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
    for (int end = 0; end < 2; end++) {
        union {
            struct cmsghdr align;
            char bytes[OS_PACKET_CONTROL_MAX];
        } control;
        struct msghdr message = {.msg_control = control.bytes, .msg_controllen = os_packet_control};
        cr_assert_eq(recvmsg(fds[0], &message, os_recv_flags | os_packet_flags), 0);
        cr_assert_eq(os_packet_is_marked(&message), os_marks_packets && !end);
        cr_assert_not(message.msg_flags & MSG_CTRUNC && !end);
    }
    close(fds[0]);
    close(fds[1]);
    support_baseline_end();
}

Test(os, a_port_can_be_shared) {
    support_baseline_begin();
    int fd = os_socket(AF_INET, SOCK_STREAM);
    cr_assert_geq(fd, 0);
    cr_assert_eq(os_share_port(fd), 0);
    close(fd);
    cr_assert_eq(os_share_port(-1), -EBADF);
    cr_assert_lt(os_socket(AF_UNIX, 99), 0);
    support_baseline_end();
}
