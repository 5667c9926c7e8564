/* SPDX-License-Identifier: MIT */
/*
 * The wrapped calls. SYMBOLS lists them once more than tests/faults.wraps does (the linker needs a
 * file of its own); a name that is only there fails to link, one that is only here is found by
 * suite_faults.
 */
#include "tests/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>

/* name, whether it transfers bytes and may do so in part (read and write may not: here they are for
 * eventfds, whose eight bytes are never split) */
#define SYMBOLS(X)                                                                                 \
    X(accept, false)                                                                               \
    X(accept4, false)                                                                              \
    X(bind, false)                                                                                 \
    X(chmod, false)                                                                                \
    X(chown, false)                                                                                \
    X(connect, false)                                                                              \
    X(dup, false)                                                                                  \
    X(epoll_create1, false)                                                                        \
    X(epoll_ctl, false)                                                                            \
    X(epoll_pwait2, false)                                                                         \
    X(epoll_wait, false)                                                                           \
    X(eventfd, false)                                                                              \
    X(fchmod, false)                                                                               \
    X(fchmodat, false)                                                                             \
    X(fchown, false)                                                                               \
    X(fchownat, false)                                                                             \
    X(fcntl, false)                                                                                \
    X(flock, false)                                                                                \
    X(fstat, false)                                                                                \
    X(fstatat, false)                                                                              \
    X(getgroups, false)                                                                            \
    X(getpeereid, false)                                                                           \
    X(getpeername, false)                                                                          \
    X(getrandom, true)                                                                             \
    X(getsockname, false)                                                                          \
    X(getsockopt, false)                                                                           \
    X(lchown, false)                                                                               \
    X(listen, false)                                                                               \
    X(lstat, false)                                                                                \
    X(madvise, false)                                                                              \
    X(mkdir, false)                                                                                \
    X(mkdirat, false)                                                                              \
    X(mkdtemp, false)                                                                              \
    X(mmap, false)                                                                                 \
    X(open, false)                                                                                 \
    X(openat, false)                                                                               \
    X(pipe, false)                                                                                 \
    X(pipe2, false)                                                                                \
    X(poll, false)                                                                                 \
    X(ppoll, false)                                                                                \
    X(pthread_create, false)                                                                       \
    X(read, false)                                                                                 \
    X(recv, true)                                                                                  \
    X(recvmsg, true)                                                                               \
    X(rename, false)                                                                               \
    X(renameat, false)                                                                             \
    X(renameat2, false)                                                                            \
    X(rmdir, false)                                                                                \
    X(send, true)                                                                                  \
    X(sendmsg, true)                                                                               \
    X(setsockopt, false)                                                                           \
    X(shutdown, false)                                                                             \
    X(socket, false)                                                                               \
    X(socketpair, false)                                                                           \
    X(stat, false)                                                                                 \
    X(syscall, false)                                                                              \
    X(timerfd_create, false)                                                                       \
    X(timerfd_settime, false)                                                                      \
    X(unlink, false)                                                                               \
    X(unlinkat, false)                                                                             \
    X(write, true)

#define SYMBOL_ENUM(name, transfers) SYMBOL_##name,
#define SYMBOL_ENTRY(name, transfers) {#name, transfers},

enum symbol { SYMBOLS(SYMBOL_ENUM) SYMBOL_COUNT };

const struct faults_symbol faults_symbols[] = {SYMBOLS(SYMBOL_ENTRY)};
const size_t faults_symbol_count = SYMBOL_COUNT;

static struct {
    atomic_bool active;
    struct faults_plan plan; /* written only while inactive */
    atomic_uint counts[SYMBOL_COUNT];
    atomic_uint hits;
} faults;

static _Thread_local bool thread_joined;

static int find_symbol(const char *name) {
    for (int i = 0; i < SYMBOL_COUNT; i++)
        if (strcmp(faults_symbols[i].name, name) == 0)
            return i;
    return -1;
}

void faults_begin(const struct faults_plan *plan) {
    static const struct faults_plan only_count;

    faults.plan = plan ? *plan : only_count;
    if (faults.plan.repeat == 0)
        faults.plan.repeat = 1;
    for (int i = 0; i < SYMBOL_COUNT; i++)
        atomic_store(&faults.counts[i], 0);
    atomic_store(&faults.hits, 0);
    atomic_store(&faults.active, true);
}

unsigned faults_end(void) {
    atomic_store(&faults.active, false);
    return atomic_load(&faults.hits);
}

unsigned faults_count(const char *symbol) {
    int i = find_symbol(symbol);

    return i < 0 ? 0 : atomic_load(&faults.counts[i]);
}

void faults_join(bool joined) {
    thread_joined = joined;
}

/* Counts a call; whether it is one of those to be hit. */
static bool is_due(enum symbol symbol) {
    const struct faults_plan *plan = &faults.plan;
    unsigned call;

    if (!atomic_load(&faults.active) || (plan->joined_only && !thread_joined))
        return false;
    call = atomic_fetch_add(&faults.counts[symbol], 1) + 1;
    return plan->symbol && strcmp(plan->symbol, faults_symbols[symbol].name) == 0 &&
           call >= plan->call && call - plan->call < plan->repeat;
}

/* The errno to fail with, or 0. */
static int fault(enum symbol symbol) {
    if (!is_due(symbol) || faults.plan.error == 0)
        return 0;
    atomic_fetch_add(&faults.hits, 1);
    return faults.plan.error;
}

static bool fails(enum symbol symbol) {
    int error = fault(symbol);

    if (error != 0)
        errno = error;
    return error != 0;
}

/* False: fail with errno. True: transfer `*size` bytes, perhaps fewer than were asked for. */
static bool transfer(enum symbol symbol, size_t *size) {
    const struct faults_plan *plan = &faults.plan;
    size_t portion;

    if (!is_due(symbol))
        return true;
    if (plan->error != 0) {
        atomic_fetch_add(&faults.hits, 1);
        errno = plan->error;
        return false;
    }
    if (*size <= 1)
        return true;
    portion = plan->portion == FAULTS_HALF          ? *size / 2
              : plan->portion == FAULTS_ALL_BUT_ONE ? *size - 1
                                                    : (size_t)plan->portion;
    if (portion < *size) {
        atomic_fetch_add(&faults.hits, 1);
        *size = portion > 0 ? portion : 1;
    }
    return true;
}

/* The simple ones: -1 and errno. */

#define PASS(type, name, failure, parameters, arguments)                                           \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        return fails(SYMBOL_##name) ? failure : __real_##name arguments;                           \
    }
#define PASS_INT(name, parameters, arguments) PASS(int, name, -1, parameters, arguments)

PASS_INT(accept, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
PASS_INT(accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags),
         (fd, address, size, flags))
PASS_INT(bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
PASS_INT(chmod, (const char *path, mode_t mode), (path, mode))
PASS_INT(chown, (const char *path, uid_t uid, gid_t gid), (path, uid, gid))
PASS_INT(connect, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
PASS_INT(dup, (int fd), (fd))
PASS_INT(epoll_create1, (int flags), (flags))
PASS_INT(epoll_ctl, (int epoll_fd, int operation, int fd, struct epoll_event *event),
         (epoll_fd, operation, fd, event))
PASS_INT(epoll_pwait2,
         (int fd, struct epoll_event *events, int max, const struct timespec *timeout,
          const sigset_t *mask),
         (fd, events, max, timeout, mask))
PASS_INT(epoll_wait, (int fd, struct epoll_event *events, int max, int timeout),
         (fd, events, max, timeout))
PASS_INT(eventfd, (unsigned value, int flags), (value, flags))
PASS_INT(fchmod, (int fd, mode_t mode), (fd, mode))
PASS_INT(fchmodat, (int dir, const char *path, mode_t mode, int flags), (dir, path, mode, flags))
PASS_INT(fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
PASS_INT(fchownat, (int dir, const char *path, uid_t uid, gid_t gid, int flags),
         (dir, path, uid, gid, flags))
PASS_INT(flock, (int fd, int operation), (fd, operation))
PASS_INT(fstat, (int fd, struct stat *status), (fd, status))
PASS_INT(fstatat, (int dir, const char *path, struct stat *status, int flags),
         (dir, path, status, flags))
PASS_INT(getgroups, (int count, gid_t *groups), (count, groups))
/* Not in every C library; where it is not, nobody calls it. */
int __real_getpeereid(int fd, uid_t *uid, gid_t *gid) __attribute__((weak));
PASS_INT(getpeereid, (int fd, uid_t *uid, gid_t *gid), (fd, uid, gid))
PASS_INT(getpeername, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
PASS_INT(getsockname, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
PASS_INT(getsockopt, (int fd, int level, int option, void *value, socklen_t *size),
         (fd, level, option, value, size))
PASS_INT(lchown, (const char *path, uid_t uid, gid_t gid), (path, uid, gid))
PASS_INT(listen, (int fd, int backlog), (fd, backlog))
PASS_INT(lstat, (const char *path, struct stat *status), (path, status))
PASS_INT(madvise, (void *memory, size_t size, int advice), (memory, size, advice))
PASS_INT(mkdir, (const char *path, mode_t mode), (path, mode))
PASS_INT(mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
PASS(char *, mkdtemp, NULL, (char *path), (path))
PASS(void *, mmap, MAP_FAILED, (void *at, size_t size, int access, int flags, int fd, off_t offset),
     (at, size, access, flags, fd, offset))
PASS_INT(pipe, (int fds[2]), (fds))
PASS_INT(pipe2, (int fds[2], int flags), (fds, flags))
PASS_INT(poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
PASS_INT(ppoll,
         (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
         (fds, count, timeout, mask))
PASS_INT(rename, (const char *from, const char *to), (from, to))
PASS_INT(renameat, (int from_dir, const char *from, int to_dir, const char *to),
         (from_dir, from, to_dir, to))
PASS_INT(renameat2, (int from_dir, const char *from, int to_dir, const char *to, unsigned flags),
         (from_dir, from, to_dir, to, flags))
PASS_INT(rmdir, (const char *path), (path))
PASS_INT(setsockopt, (int fd, int level, int option, const void *value, socklen_t size),
         (fd, level, option, value, size))
PASS_INT(shutdown, (int fd, int how), (fd, how))
PASS_INT(socket, (int domain, int type, int protocol), (domain, type, protocol))
PASS_INT(socketpair, (int domain, int type, int protocol, int fds[2]),
         (domain, type, protocol, fds))
PASS_INT(stat, (const char *path, struct stat *status), (path, status))
/* Those on futexes do not fail: who sleeps on one has no other way to be woken. They count. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f) {
    bool failed = fails(SYMBOL_syscall);
    return failed && number != SYS_futex ? -1 : __real_syscall(number, a, b, c, d, e, f);
}
PASS_INT(timerfd_create, (int clock, int flags), (clock, flags))
PASS_INT(timerfd_settime,
         (int fd, int flags, const struct itimerspec *time, struct itimerspec *old),
         (fd, flags, time, old))
PASS_INT(unlink, (const char *path), (path))
PASS_INT(unlinkat, (int dir, const char *path, int flags), (dir, path, flags))

/* Returns its error instead of setting errno. */
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument) {
    int error = fault(SYMBOL_pthread_create);

    return error != 0 ? error : __real_pthread_create(thread, attributes, run, argument);
}

/* The variadic ones: the argument is there only with some flags or commands. */

static mode_t mode_argument(int flags, va_list arguments) {
    return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? (mode_t)va_arg(arguments, unsigned) : 0;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_argument(flags, arguments);
    va_end(arguments);
    return fails(SYMBOL_open) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...) {
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_argument(flags, arguments);
    va_end(arguments);
    return fails(SYMBOL_openat) ? -1 : __real_openat(dir, path, flags, mode);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *); /* as the C library itself takes it */
    va_end(arguments);
    return fails(SYMBOL_fcntl) ? -1 : __real_fcntl(fd, command, argument);
}

PASS(ssize_t, read, -1, (int fd, void *bytes, size_t size), (fd, bytes, size))
PASS(ssize_t, write, -1, (int fd, const void *bytes, size_t size), (fd, bytes, size))

/* Those that transfer bytes. */

#define TRANSFER(name, parameters, arguments)                                                      \
    ssize_t __real_##name parameters;                                                              \
    ssize_t __wrap_##name parameters;                                                              \
    ssize_t __wrap_##name parameters {                                                             \
        return transfer(SYMBOL_##name, &size) ? __real_##name arguments : -1;                      \
    }

TRANSFER(getrandom, (void *bytes, size_t size, unsigned flags), (bytes, size, flags))
TRANSFER(recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
TRANSFER(send, (int fd, const void *bytes, size_t size, int flags), (fd, bytes, size, flags))

enum { PIECES_MAX = 1024 }; /* IOV_MAX */

/* The first `size` bytes of a list of pieces. Returns how many pieces that is. */
static size_t cut_pieces(const struct iovec *pieces, size_t count, size_t size,
                         struct iovec *ret_pieces) {
    size_t n = 0;

    while (n < count && size > 0) {
        ret_pieces[n] = pieces[n];
        if (ret_pieces[n].iov_len > size)
            ret_pieces[n].iov_len = size;
        size -= ret_pieces[n].iov_len;
        n++;
    }
    return n;
}

static size_t message_size(const struct msghdr *message) {
    size_t size = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++)
        size += message->msg_iov[i].iov_len;
    return size;
}

/* `*ret_message` is what remains of `message`. */
static bool transfer_message(enum symbol symbol, const struct msghdr *message,
                             struct iovec *ret_pieces, struct msghdr *ret_message) {
    size_t whole = message_size(message), size = whole;

    *ret_message = *message;
    if (!transfer(symbol, &size))
        return false;
    if (size < whole && message->msg_iovlen <= PIECES_MAX) {
        ret_message->msg_iov = ret_pieces;
        ret_message->msg_iovlen =
            cut_pieces(message->msg_iov, message->msg_iovlen, size, ret_pieces);
    }
    return true;
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    struct iovec pieces[PIECES_MAX];
    struct msghdr cut;

    if (!transfer_message(SYMBOL_sendmsg, message, pieces, &cut))
        return -1;
    return __real_sendmsg(fd, &cut, flags);
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags) {
    struct iovec pieces[PIECES_MAX];
    struct msghdr cut;
    ssize_t n;

    if (!transfer_message(SYMBOL_recvmsg, message, pieces, &cut))
        return -1;
    n = __real_recvmsg(fd, &cut, flags);
    message->msg_flags = cut.msg_flags;
    message->msg_controllen = cut.msg_controllen;
    message->msg_namelen = cut.msg_namelen;
    return n;
}

/* What _FORTIFY_SOURCE makes of some of them: the same, with the size of the object told. */

#define FORTIFIED(type, name, parameters, call)                                                    \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        (void)room;                                                                                \
        return call;                                                                               \
    }

FORTIFIED(ssize_t, __read_chk, (int fd, void *bytes, size_t size, size_t room),
          __wrap_read(fd, bytes, size))
FORTIFIED(ssize_t, __recv_chk, (int fd, void *bytes, size_t size, size_t room, int flags),
          __wrap_recv(fd, bytes, size, flags))
FORTIFIED(int, __getgroups_chk, (int count, gid_t *groups, size_t room),
          __wrap_getgroups(count, groups))
FORTIFIED(int, __poll_chk, (struct pollfd * fds, nfds_t count, int timeout, size_t room),
          __wrap_poll(fds, count, timeout))
FORTIFIED(int, __ppoll_chk,
          (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
           size_t room),
          __wrap_ppoll(fds, count, timeout, mask))

int __wrap___open_2(const char *path, int flags);
int __wrap___open_2(const char *path, int flags) {
    return __wrap_open(path, flags);
}

int __wrap___openat_2(int dir, const char *path, int flags);
int __wrap___openat_2(int dir, const char *path, int flags) {
    return __wrap_openat(dir, path, flags);
}
