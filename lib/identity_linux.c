/* SPDX-License-Identifier: MIT */
/*
 * Identity of a peer on Linux. SO_PEERCRED is the one that counts: the kernel took the snapshot
 * when the peer called connect(2) or listen(2), and nothing the peer does later changes it. Groups,
 * pidfd and label are of the same snapshot, and each may be missing on an older kernel: they are
 * asked for at run time, never assumed from the headers we were compiled with.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/identity.h"
#include "lib/mem.h"

/* Numbers of the common architectures, for C libraries whose headers are older than the kernel. */
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* What is enough for nearly everybody without memory from the heap. */
#define GROUPS_ON_STACK 64
#define LABEL_ON_STACK 256
#define LABEL_MAX 65536

/* An answer of unknown length: first into a buffer of the caller's, then into one as large as the
 * kernel said. It always ends with a NUL that `size` does not count: of the security modules, some
 * send one and some don't. */
struct answer {
    const struct vouch_allocator *allocator;
    char *data;
    size_t room;      /* bytes at `data` */
    size_t heap_room; /* the same when they are ours to free, else 0 */
    size_t size;      /* bytes of the answer */
};

static void answer_deinit(struct answer *answer) {
    mem_free(answer->allocator, answer->heap_room ? answer->data : NULL, answer->heap_room);
    answer->heap_room = 0;
}

/* 0; -ENOMEM; else the errno of getsockopt(2). */
static int answer_read(struct answer *answer, int fd, int option, size_t max) {
    for (;;) {
        socklen_t length = (socklen_t)(answer->room - 1);
        if (getsockopt(fd, SOL_SOCKET, option, answer->data, &length) == 0) {
            answer->data[length] = 0;
            answer->size = length;
            return 0;
        }
        /* The snapshot does not change, so the second time it fits; that the room has to grow makes
         * sure that this ends. */
        if (errno != ERANGE || length < answer->room || length > max)
            return -errno;
        answer_deinit(answer);
        answer->data = mem_alloc(answer->allocator, (size_t)length + 1);
        if (!answer->data)
            return -ENOMEM;
        answer->room = answer->heap_room = (size_t)length + 1;
    }
}

static int read_groups(int fd, struct answer *answer, struct vouch_identity *facts) {
    int r = answer_read(answer, fd, SO_PEERGROUPS, IDENTITY_GROUPS_MAX * sizeof(gid_t));
    if (r < 0)
        return r == -ENOMEM ? r : 0;
    facts->known |= VOUCH_KNOWN_GROUPS;
    facts->groups = (const gid_t *)(const void *)answer->data;
    facts->group_count = answer->size / sizeof(gid_t);
    return 0;
}

static int read_label(int fd, struct answer *answer, struct vouch_identity *facts) {
    int r = answer_read(answer, fd, SO_PEERSEC, LABEL_MAX);
    if (r < 0)
        return r == -ENOMEM ? r : 0;
    if (answer->data[0]) {
        facts->known |= VOUCH_KNOWN_LABEL;
        facts->label = answer->data;
    }
    return 0;
}

/* -1 when there is none: kernels before 6.5, some later ones when the process is gone already, or
 * no descriptor is free. */
static int take_pidfd(int fd) {
    int pidfd = -1;
    socklen_t length = sizeof(pidfd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) < 0)
        return -1;
    return pidfd;
}

/* A socket that never had a peer tells (uid_t)-1, a peer in another pid namespace pid 0. */
static int read_credentials(int fd, struct vouch_identity *facts) {
    struct ucred credentials;
    socklen_t length = sizeof(credentials);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
        return -errno;
    if (credentials.uid != (uid_t)-1)
        facts->known |= VOUCH_KNOWN_UID;
    if (credentials.gid != (gid_t)-1)
        facts->known |= VOUCH_KNOWN_GID;
    if (credentials.pid > 0)
        facts->known |= VOUCH_KNOWN_PID;
    facts->uid = credentials.uid;
    facts->gid = credentials.gid;
    facts->pid = credentials.pid;
    return 0;
}

/* The pidfd comes last, so that no earlier failure has to close it. */
static int gather(int fd, bool want_pidfd, struct answer *groups, struct answer *label,
                  struct vouch_identity *facts) {
    int r = read_credentials(fd, facts);
    if (r == 0)
        r = read_groups(fd, groups, facts);
    if (r == 0)
        r = read_label(fd, label, facts);
    if (r == 0 && want_pidfd) {
        facts->pidfd = take_pidfd(fd);
        if (facts->pidfd >= 0)
            facts->known |= VOUCH_KNOWN_PIDFD;
    }
    return r;
}

int identity_read_peer(int fd, bool want_pidfd, const struct vouch_allocator *allocator,
                       const struct vouch_identity **ret_identity) {
    gid_t groups_room[GROUPS_ON_STACK + 1];
    char label_room[LABEL_ON_STACK];
    struct answer groups = {allocator, (char *)groups_room, sizeof(groups_room), 0, 0};
    struct answer label = {allocator, label_room, sizeof(label_room), 0, 0};
    struct vouch_identity facts = {.pidfd = -1};

    int r = gather(fd, want_pidfd, &groups, &label, &facts);
    if (r == 0)
        r = identity_new(allocator, &facts, ret_identity);
    if (r < 0 && facts.pidfd >= 0)
        close(facts.pidfd);
    answer_deinit(&groups);
    answer_deinit(&label);
    return r;
}

int identity_open_self_pidfd(void) {
    return (int)syscall(SYS_pidfd_open, getpid(), 0);
}
