/* SPDX-License-Identifier: MIT */
/*
 * What differs between systems and is not a subject of its own (identity, poller, publishing have
 * files of their own): atomic close-on-exec, no SIGPIPE, fork detection. One implementation per
 * family: os_linux.c, os_posix.c.
 */
#ifndef VOUCH_LIB_OS_H
#define VOUCH_LIB_OS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <vouch/common.h>

/* Each returns a descriptor (close-on-exec, no SIGPIPE) or a negative errno. os_accept's result is
 * in blocking mode. */
int os_socket(int family, int type);
int os_accept(int fd);
int os_socketpair(int type, int ret_fds[2]); /* AF_UNIX; 0 or negative errno */
static inline int os_socket_stream(void) {
    return os_socket(AF_UNIX, SOCK_STREAM);
}
static inline int os_socketpair_stream(int ret_fds[2]) {
    return os_socketpair(SOCK_STREAM, ret_fds);
}
int os_pipe(int ret_fds[2]);             /* 0 or negative errno; close-on-exec */
int os_cloexec(int fd);                  /* 0 or negative errno */
int os_set_nonblocking(int fd, bool on); /* 0 or negative errno */
int os_nosigpipe(
    int fd); /* for descriptors from elsewhere: 0, also where MSG_NOSIGNAL does the work */

/* Flags that every send/recv carries: MSG_NOSIGNAL, MSG_CMSG_CLOEXEC where they exist. */
extern const int os_send_flags;
extern const int os_recv_flags;

/* What receiving a packet carries besides, so that a packet longer than its room shows its length:
 * MSG_TRUNC where that does it, else 0, and MSG_TRUNC comes back in msg_flags. */
extern const int os_packet_flags;

/* From now on each packet that `fd` receives brings control data (os_packet_control bytes, and not
 * one more, or a descriptor would find room there: at most OS_PACKET_CONTROL_MAX) and the end of
 * file none, which is what tells a packet of zero bytes from it. 0 or negative errno; -EOPNOTSUPP
 * where the system has nothing of the kind. */
#define OS_PACKET_CONTROL_MAX 64
extern const size_t os_packet_control;
extern const bool os_marks_packets;
int os_mark_packets(int fd);
bool os_packet_is_marked(struct msghdr *message); /* as recvmsg has left it */

/* Lets others bind the port of this TCP socket too, and the kernel share the clients out: 0 or
 * negative errno; -ENOTSUP where there is no such thing. */
int os_share_port(int fd);

/* Refuse descriptors from the peer in the kernel (SO_PASSRIGHTS = 0, Linux 6.16). Best effort. */
void os_refuse_descriptors(int fd);

/* A number that is different in every process of a fork tree: an object keeps the one of its birth,
 * and a different one means that we are in a forked child. Costs no system call on Linux (a page
 * with MADV_WIPEONFORK); elsewhere it is the pid. */
uint64_t os_process_epoch(void);

/* The uid that stands for users without a number in this user namespace (65534), (uid_t)-1 where
 * there is no such thing. */
uid_t os_overflow_uid(void);

/* How many cores this process may run on, at least 1. */
unsigned os_cores(void);
unsigned os_cores_online(void); /* of the machine */

/* Between two looks at something that another core changes: gives the core's other half, where it
 * has one, the time. */
static inline void os_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* A wake-up that a poll can wait for: eventfd, or a pipe. */
struct os_wake {
    int read_fd;  /* becomes readable */
    int write_fd; /* the same descriptor for an eventfd */
};
#define OS_WAKE_NONE ((struct os_wake){-1, -1})
int os_wake_init(struct os_wake *wake) VOUCH_MUST_CHECK;
void os_wake_deinit(struct os_wake *wake);      /* safe twice */
void os_wake_raise(const struct os_wake *wake); /* async-signal-safe, never blocks */
void os_wake_clear(const struct os_wake *wake);

/* A descriptor that is readable while one of those in it is ready, for foreign loops: >= 0, or a
 * negative errno; -ENOTSUP where the system has none. */
int os_gather(void);
/* Puts `fd` in, or changes what it is looked at for (events of poll.h). 0 or negative errno. */
int os_gather_set(int gather, int fd, short events) VOUCH_MUST_CHECK;
void os_gather_remove(int gather, int fd); /* before it is closed; an unknown one is ignored */

#endif
