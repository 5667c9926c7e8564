/* SPDX-License-Identifier: MIT */
/*
 * Identities: one immutable, reference-counted block with everything in it. Nothing is ever changed
 * after identity_new, so readers need no lock. Asking the kernel about a peer is not done here
 * (identity_linux.c, identity_getpeereid.c).
 */
#include "lib/identity.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/os.h"

/* How many groups vouch_identity_format spells out. */
#define FORMAT_GROUPS_MAX 16

struct identity {
    struct vouch_identity facts; /* first: the public pointer is the block's */
    const struct vouch_allocator *allocator;
    size_t size; /* of the block */
    atomic_uint references;
    gid_t tail[]; /* groups, then the label's bytes */
};

static struct identity *block_of(const struct vouch_identity *identity) {
    return (struct identity *)identity;
}

int identity_new(const struct vouch_allocator *allocator, const struct vouch_identity *facts,
                 const struct vouch_identity **ret_identity) {
    size_t groups_size = facts->group_count * sizeof(gid_t);
    size_t label_size = facts->label ? strlen(facts->label) + 1 : 0;
    size_t size = sizeof(struct identity) + groups_size + label_size;
    struct identity *block = mem_alloc(allocator, size);
    if (!block)
        return -ENOMEM;

    block->facts = *facts;
    block->facts.uid_unmapped =
        (facts->known & VOUCH_KNOWN_UID) != 0 && facts->uid == os_overflow_uid();
    block->facts.groups = NULL;
    block->facts.label = NULL;
    if (facts->groups && groups_size) {
        memcpy(block->tail, facts->groups, groups_size);
        block->facts.groups = block->tail;
    }
    if (label_size) {
        char *label = (char *)(block->tail + facts->group_count);
        memcpy(label, facts->label, label_size);
        block->facts.label = label;
    }
    block->allocator = allocator;
    block->size = size;
    atomic_init(&block->references, 1);
    *ret_identity = &block->facts;
    return 0;
}

const struct vouch_identity *vouch_identity_ref(const struct vouch_identity *identity) {
    atomic_fetch_add_explicit(&block_of(identity)->references, 1, memory_order_relaxed);
    return identity;
}

void vouch_identity_unref(const struct vouch_identity *identity) {
    if (!identity)
        return;
    struct identity *block = block_of(identity);
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    if (block->facts.pidfd >= 0)
        close(block->facts.pidfd);
    mem_free(block->allocator, block, block->size);
}

/* The groups of this process in a block of `*ret_room` entries. Another thread may change them
 * between the two questions, so it is asked again when they no longer fit. Returns their number or
 * a negative errno. */
static int read_own_groups(const struct vouch_allocator *allocator, gid_t **ret_groups,
                           size_t *ret_room) {
    for (;;) {
        int count = getgroups(0, NULL);
        if (count < 0)
            return -errno;
        size_t room = (size_t)count + 1; /* never 0, which would ask for the number only */
        gid_t *groups = mem_alloc(allocator, room * sizeof(gid_t));
        if (!groups)
            return -ENOMEM;
        count = getgroups((int)room, groups);
        if (count >= 0) {
            *ret_groups = groups;
            *ret_room = room;
            return count;
        }
        int error = errno;
        mem_free(allocator, groups, room * sizeof(gid_t));
        if (error != EINVAL)
            return -error;
    }
}

int vouch_identity_self(const struct vouch_allocator *allocator,
                        const struct vouch_identity **ret_identity) {
    gid_t *groups = NULL;
    size_t room = 0;
    int count = read_own_groups(allocator, &groups, &room);
    if (count < 0)
        return count;

    struct vouch_identity facts = {
        .known = VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID | VOUCH_KNOWN_GROUPS,
        .uid = geteuid(),
        .gid = getegid(),
        .pid = getpid(),
        .pidfd = identity_open_self_pidfd(),
        .group_count = (size_t)count,
        .groups = groups,
    };
    if (facts.pidfd >= 0)
        facts.known |= VOUCH_KNOWN_PIDFD;
    int r = identity_new(allocator, &facts, ret_identity);
    if (r < 0 && facts.pidfd >= 0)
        close(facts.pidfd);
    mem_free(allocator, groups, room * sizeof(gid_t));
    return r;
}

int vouch_identity_of_peer(int fd, const struct vouch_allocator *allocator,
                           const struct vouch_identity **ret_identity) {
    return identity_read_peer(fd, true, allocator, ret_identity);
}

int vouch_identity_in_group(const struct vouch_identity *identity, gid_t group) {
    bool gid_known = (identity->known & VOUCH_KNOWN_GID) != 0;
    bool groups_known = (identity->known & VOUCH_KNOWN_GROUPS) != 0;
    if (gid_known && identity->gid == group)
        return 1;
    for (size_t i = 0; i < identity->group_count; i++)
        if (identity->groups[i] == group)
            return 1;
    return gid_known && groups_known ? 0 : -ENODATA;
}

/* Text that grows into a buffer of fixed size and is cut at its end. */
struct text {
    char *buffer;
    size_t size, used;
};

static void text_add(struct text *text, const char *format, ...) VOUCH_PRINTF(2, 3);
static void text_add(struct text *text, const char *format, ...) {
    if (text->used >= text->size)
        return;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->buffer + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->used += (size_t)length;
}

static void add_number(struct text *text, const char *name, bool known, long number) {
    if (known)
        text_add(text, "%s=%ld", name, number);
    else
        text_add(text, "%s=?", name);
}

static void add_groups(struct text *text, const struct vouch_identity *identity) {
    if (!(identity->known & VOUCH_KNOWN_GROUPS)) {
        text_add(text, " groups=?");
        return;
    }
    text_add(text, identity->group_count ? " groups=" : " groups=none");
    for (size_t i = 0; i < identity->group_count && i < FORMAT_GROUPS_MAX; i++)
        text_add(text, i ? ",%ld" : "%ld", (long)identity->groups[i]);
    if (identity->group_count > FORMAT_GROUPS_MAX)
        text_add(text, ",(+%zu)", identity->group_count - FORMAT_GROUPS_MAX);
}

static void add_label(struct text *text, const struct vouch_identity *identity) {
    if (!(identity->known & VOUCH_KNOWN_LABEL)) {
        text_add(text, " label=?");
        return;
    }
    text_add(text, " label=");
    for (const char *c = identity->label; *c; c++)
        text_add(text, "%c", *c >= 0x20 && *c < 0x7f ? *c : '?');
}

const char *vouch_identity_format(const struct vouch_identity *identity, char *buffer,
                                  size_t size) {
    struct text text = {buffer, size, 0};
    add_number(&text, "uid", identity->known & VOUCH_KNOWN_UID, (long)identity->uid);
    add_number(&text, " gid", identity->known & VOUCH_KNOWN_GID, (long)identity->gid);
    add_number(&text, " pid", identity->known & VOUCH_KNOWN_PID, (long)identity->pid);
    add_groups(&text, identity);
    text_add(&text, identity->known & VOUCH_KNOWN_PIDFD ? " pidfd" : " pidfd=?");
    add_label(&text, identity);
    return buffer;
}
