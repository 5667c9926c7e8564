/* SPDX-License-Identifier: MIT */
/*
 * Publish. The steps, each of which undoes what it made when a later one fails:
 *
 *   directory   open it, see that nobody else may rename or delete in it
 *   lock        of all who want to serve this name one goes on
 *   inspect     nothing there, or a socket at which nobody listens; all else is left alone
 *   stage       socket, bind, mode, owner, listen, out of sight
 *   show        rename
 *
 * For a datagram socket the last two are one: bind.
 */
#include "lib/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/error.h"
#include "lib/mem.h"
#include "lib/os.h"
#include "lib/socket.h"
#include "lib/sockfile.h"

#define STAGED_NAME "s"
#define LOCK_TRIES 16

/* Constant while one publish() runs. */
struct publisher {
    const struct address *address;
    const struct publish_options *options;
    struct vouch_error *error;
    int directory;
    char lock_name[PUBLISH_NAME_MAX + 6];
    char staging_name[PUBLISH_NAME_MAX + 6];
};

static int fail(const struct publisher *publisher, int code, const char *step) {
    return error_set(publisher->error, code, "%s: %s: %s", step, vouch_strerror(code),
                     publisher->address->text);
}

static int check_directory(const struct publisher *publisher) {
    struct stat status;
    if (fstat(publisher->directory, &status) < 0)
        return fail(publisher, -errno, "looking at the parent directory");
    if (publisher->options->allow_unsafe_parent)
        return 0;
    bool owned = status.st_uid == geteuid() || status.st_uid == 0;
    if (owned && !(status.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    /* The sticky bit does not help: it keeps others from deleting our socket, not from being there
     * first. */
    return error_set(
        publisher->error, VOUCH_E_PARENT_UNSAFE,
        "others may change the parent directory, which belongs to uid %ld and has mode "
        "%04o: expected it to be ours or root's, writable for its owner only: %s",
        (long)status.st_uid, (unsigned)status.st_mode & 07777, publisher->address->text);
}

static int open_directory(struct publisher *publisher) {
    publisher->directory = open(publisher->address->directory, sockfile_open_directory_flags);
    if (publisher->directory < 0)
        return fail(publisher, -errno, "opening the parent directory");
    return check_directory(publisher);
}

/* Whoever owns the lock file can hold it for ever, so it has to be ours. */
static int check_lock(const struct publisher *publisher, int lock, struct stat *ret_status) {
    if (fstat(lock, ret_status) < 0)
        return fail(publisher, -errno, "looking at the lock file");
    if (!S_ISREG(ret_status->st_mode) || ret_status->st_uid != geteuid())
        return error_set(publisher->error, -EPERM,
                         "the lock file is %s of uid %ld, expected a regular file of uid %ld: "
                         "%s.lock",
                         sockfile_kind(ret_status), (long)ret_status->st_uid, (long)geteuid(),
                         publisher->address->text);
    return 0;
}

/* Does not wait, but on a file system that is far away it may be interrupted all the same. */
static int lock_file(int fd) {
    int r;
    do
        r = flock(fd, LOCK_EX | LOCK_NB);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return errno == EWOULDBLOCK ? VOUCH_E_ADDRESS_LOCKED : -errno;
    return 0;
}

/* 1: locked; 0: somebody replaced the file in between, try again. O_NONBLOCK, or a pipe of that
 * name would stop us. */
static int try_lock(const struct publisher *publisher, int *ret_lock) {
    int lock = openat(publisher->directory, publisher->lock_name,
                      O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (lock < 0)
        return fail(publisher, -errno, "opening the lock file");
    struct stat locked, named;
    int r = check_lock(publisher, lock, &locked);
    if (r == 0) {
        r = lock_file(lock);
        if (r < 0)
            fail(publisher, r, "locking");
    }
    /* A lock counts while the file can be found under its name: only then do others see it. */
    if (r == 0 &&
        fstatat(publisher->directory, publisher->lock_name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        sockfile_same(&locked, &named)) {
        *ret_lock = lock;
        return 1;
    }
    close(lock);
    return r;
}

static int acquire_lock(const struct publisher *publisher, int *ret_lock) {
    for (int i = 0; i < LOCK_TRIES; i++) {
        int r = try_lock(publisher, ret_lock);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return fail(publisher, VOUCH_E_ADDRESS_LOCKED, "locking");
}

/* Connects, to see whether anybody is there: 0 when nobody listens any more. */
static int probe(const struct publisher *publisher, const struct sockfile *file) {
    struct address_sockaddr to;
    bool exact;
    int r = sockfile_sockaddr(file, &to, &exact);
    if (r < 0)
        return fail(publisher, r, "looking for a live server");
    int fd = os_socket(AF_UNIX, publisher->options->type);
    if (fd < 0)
        return fail(publisher, fd, "looking for a live server");
    r = os_set_nonblocking(fd, true);
    if (r == 0)
        r = socket_connect_now(fd, &to);
    close(fd);

    switch (r) {
    case -ECONNREFUSED:
        return 0;
    case 0:
    case -EAGAIN:      /* its backlog is full */
    case -EINPROGRESS: /* the same elsewhere */
    case -EPROTOTYPE:  /* a socket of another kind that somebody holds open */
        return fail(publisher, VOUCH_E_ADDRESS_LIVE, "looking for a live server");
    case -EACCES: /* we may not ask, so it can't be ruled out */
    case -EPERM:
        return fail(publisher, VOUCH_E_ADDRESS_LIVE,
                    "no permission to see if the server there is live, it is left alone");
    default:
        return fail(publisher, r, "looking for a live server");
    }
}

/* Whether there is something to replace. */
static int inspect(const struct publisher *publisher, bool *ret_replace) {
    struct sockfile file;
    int r = sockfile_open(publisher->directory, publisher->address->name, publisher->address->text,
                          &file);
    if (r == -ENOENT) {
        *ret_replace = false;
        return 0;
    }
    if (r < 0)
        return fail(publisher, r, "looking at the path");
    if (S_ISLNK(file.status.st_mode))
        r = fail(publisher, VOUCH_E_SYMLINK, "looking at the path");
    else if (!S_ISSOCK(file.status.st_mode))
        r = error_set(publisher->error, VOUCH_E_NOT_SOCKET,
                      "found %s, expected a socket or nothing: %s", sockfile_kind(&file.status),
                      publisher->address->text);
    else
        r = probe(publisher, &file);
    sockfile_close(&file);
    *ret_replace = true;
    return r;
}

static int check_staging(const struct publisher *publisher, int staging) {
    struct stat status;
    if (fstat(staging, &status) < 0)
        return fail(publisher, -errno, "looking at the staging directory");
    if (status.st_uid != geteuid() || (status.st_mode & 077))
        return error_set(publisher->error, -EPERM,
                         "the staging directory %s belongs to uid %ld and has mode %04o, expected "
                         "owner %ld and mode 0700: %s",
                         publisher->staging_name, (long)status.st_uid,
                         (unsigned)status.st_mode & 07777, (long)geteuid(),
                         publisher->address->text);
    if (unlinkat(staging, STAGED_NAME, 0) < 0 && errno != ENOENT)
        return fail(publisher, -errno, "emptying the staging directory");
    return 0;
}

/* A directory that is there already was left by somebody who was killed: we hold the lock, so it is
 * no longer in use. */
static int open_staging(const struct publisher *publisher, int *ret_staging) {
    bool made = mkdirat(publisher->directory, publisher->staging_name, 0700) == 0;
    if (!made && errno != EEXIST)
        return fail(publisher, -errno, "making the staging directory");

    int staging = openat(publisher->directory, publisher->staging_name,
                         sockfile_open_directory_flags | O_NOFOLLOW);
    int r = staging < 0 ? fail(publisher, -errno, "opening the staging directory")
                        : check_staging(publisher, staging);
    if (r == 0) {
        *ret_staging = staging;
        return 0;
    }
    if (staging >= 0)
        close(staging);
    if (made)
        unlinkat(publisher->directory, publisher->staging_name, AT_REMOVEDIR);
    return r;
}

static void remove_staging(const struct publisher *publisher, int staging) {
    unlinkat(staging, STAGED_NAME, 0);
    close(staging);
    unlinkat(publisher->directory, publisher->staging_name, AT_REMOVEDIR);
}

static int bind_staged(const struct publisher *publisher, int fd, int staging) {
    char path[ADDRESS_PATH_MAX + PUBLISH_NAME_MAX + 8];
    snprintf(path, sizeof(path), "%s/%s", publisher->address->directory, publisher->staging_name);
    struct address_sockaddr to;
    if (sockfile_bind_sockaddr(staging, path, STAGED_NAME, &to) < 0) {
        size_t length = strlen(publisher->address->text);
        size_t more = strlen(path) + strlen("/" STAGED_NAME) - length; /* than the path itself */
        return error_set(publisher->error, VOUCH_E_PATH_TOO_LONG,
                         "a path of %zu bytes, at most %zu are possible here: %s", length,
                         ADDRESS_SUN_MAX - more, publisher->address->text);
    }
    if (bind(fd, (const struct sockaddr *)&to.un, to.length) < 0)
        return fail(publisher, -errno, "binding");
    return 0;
}

/* By path, and following links, is safe here: nobody else can put anything in this directory. */
static int dress_staged(const struct publisher *publisher, int staging) {
    const struct publish_options *options = publisher->options;
    if (fchmodat(staging, STAGED_NAME, options->mode, 0) < 0)
        return fail(publisher, -errno, "setting the mode");
    uid_t uid = options->set_uid ? options->uid : (uid_t)-1;
    gid_t gid = options->set_gid ? options->gid : (gid_t)-1;
    if ((options->set_uid || options->set_gid) && fchownat(staging, STAGED_NAME, uid, gid, 0) < 0)
        return fail(publisher, -errno, "setting the owner");
    return 0;
}

static int stage(const struct publisher *publisher, int fd, int staging,
                 struct publication *publication) {
    int r = bind_staged(publisher, fd, staging);
    if (r == 0)
        r = dress_staged(publisher, staging);
    if (r < 0)
        return r;
    if (listen(fd, publisher->options->backlog) < 0)
        return fail(publisher, -errno, "listening");
    struct stat status;
    if (fstatat(staging, STAGED_NAME, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(publisher, -errno, "looking at the new socket");
    publication->device = status.st_dev;
    publication->inode = status.st_ino;
    return 0;
}

/* Who and what may not have changed it meanwhile: the pin is of the file that was looked at. */
static int dress_in_place(const struct publisher *publisher, const struct sockfile *file) {
    const struct publish_options *options = publisher->options;
    if (!S_ISSOCK(file->status.st_mode) || file->status.st_uid != geteuid())
        return fail(publisher, VOUCH_E_FILE_SWAPPED, "looking at the new socket");
    uid_t uid = options->set_uid ? options->uid : (uid_t)-1;
    gid_t gid = options->set_gid ? options->gid : (gid_t)-1;
    char path[SOCKFILE_FD_PATH_MAX];
    bool pinned = file->pin >= 0 && sockfile_fd_path(file->pin, path);
    int at = pinned ? AT_FDCWD : publisher->directory;
    int flags = pinned ? 0 : AT_SYMLINK_NOFOLLOW;
    const char *name = pinned ? path : publisher->address->name;
    if ((options->set_uid || options->set_gid) && fchownat(at, name, uid, gid, flags) < 0)
        return fail(publisher, -errno, "setting the owner");
    if (fchmodat(at, name, options->mode, flags) < 0)
        return fail(publisher, -errno, "setting the mode");
    return 0;
}

/* For what could not be looked at any closer. */
static void remove_unseen(const struct publisher *publisher) {
    struct stat status;
    const char *name = publisher->address->name;
    if (fstatat(publisher->directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISSOCK(status.st_mode) && status.st_uid == geteuid())
        unlinkat(publisher->directory, name, 0);
}

static int settle_in_place(const struct publisher *publisher, struct publication *publication) {
    struct sockfile file;
    int r = sockfile_open(publisher->directory, publisher->address->name, publisher->address->text,
                          &file);
    if (r == -ENOENT) /* the path led elsewhere than the directory that was looked at */
        return fail(publisher, VOUCH_E_FILE_SWAPPED, "looking at the new socket");
    if (r < 0) {
        remove_unseen(publisher);
        return fail(publisher, r, "looking at the new socket");
    }
    r = dress_in_place(publisher, &file);
    if (r < 0 && sockfile_unchanged(&file) && S_ISSOCK(file.status.st_mode))
        unlinkat(publisher->directory, publisher->address->name, 0);
    publication->device = file.status.st_dev;
    publication->inode = file.status.st_ino;
    sockfile_close(&file);
    return r;
}

static int bind_in_place(const struct publisher *publisher, int fd,
                         struct publication *publication) {
    struct address_sockaddr at;
    if (address_of_path(publisher->address->text, &at) < 0)
        return error_set(publisher->error, VOUCH_E_PATH_TOO_LONG,
                         "a path of %zu bytes, at most %zu are possible for datagrams: %s",
                         strlen(publisher->address->text), ADDRESS_SUN_MAX,
                         publisher->address->text);
    bool replace = false;
    int r = inspect(publisher, &replace);
    if (r < 0)
        return r;
    if (replace && unlinkat(publisher->directory, publisher->address->name, 0) < 0)
        return fail(publisher, -errno, "removing the stale socket");
    /* Linux makes the file with the mode of the socket itself. */
    (void)fchmod(fd, S_IRUSR | S_IWUSR);
    if (bind(fd, (const struct sockaddr *)&at.un, at.length) < 0)
        return fail(publisher, -errno, "binding");
    return settle_in_place(publisher, publication);
}

/* With the lock held: makes the socket `fd` appear. */
static int show(const struct publisher *publisher, int fd, struct publication *publication) {
    if (publisher->options->type == SOCK_DGRAM)
        return bind_in_place(publisher, fd, publication);
    bool replace = false;
    int staging = -1;
    int r = inspect(publisher, &replace);
    if (r == 0)
        r = open_staging(publisher, &staging);
    if (r < 0)
        return r;
    r = stage(publisher, fd, staging, publication);
    if (r == 0) {
        r = sockfile_rename(staging, STAGED_NAME, publisher->directory, publisher->address->name,
                            replace);
        if (r < 0)
            fail(publisher, r, "renaming the new socket");
    }
    remove_staging(publisher, staging);
    return r;
}

static int open_socket(int type, int *ret_fd) {
    int fd = os_socket(AF_UNIX, type);
    if (fd < 0)
        return fd;
    int r = os_set_nonblocking(fd, true);
    /* Before it has an address, so that no datagram comes without its sender's credentials. */
    if (r == 0 && type == SOCK_DGRAM && os_marks_packets)
        r = os_mark_packets(fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

static int publish_locked(const struct publisher *publisher, struct publication *publication,
                          int *ret_fd) {
    int fd = -1;
    int r = open_socket(publisher->options->type, &fd);
    if (r < 0)
        return fail(publisher, r, "making a socket");
    r = show(publisher, fd, publication);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int publish(const struct vouch_allocator *allocator, const struct address *address,
            const struct publish_options *options, struct publication *ret_publication, int *ret_fd,
            struct vouch_error *error) {
    struct publisher publisher = {
        .address = address, .options = options, .error = error, .directory = -1};
    if (strlen(address->name) > PUBLISH_NAME_MAX)
        return error_set(error, VOUCH_E_PATH_TOO_LONG,
                         "a file name of %zu bytes, at most %d are possible: %s",
                         strlen(address->name), PUBLISH_NAME_MAX, address->text);
    snprintf(publisher.lock_name, sizeof(publisher.lock_name), "%s.lock", address->name);
    snprintf(publisher.staging_name, sizeof(publisher.staging_name), ".%s.new", address->name);

    struct publication publication = PUBLICATION_NONE;
    publication.allocator = allocator;
    char *name = mem_strdup(allocator, address->name);
    int r = name ? open_directory(&publisher) : fail(&publisher, -ENOMEM, "starting");
    publication.directory = publisher.directory;
    if (r == 0)
        r = acquire_lock(&publisher, &publication.lock);
    if (r == 0)
        r = publish_locked(&publisher, &publication, ret_fd);
    if (r < 0) {
        publication_withdraw(&publication);
        mem_free_text(allocator, name);
        return r;
    }
    publication.name = name;
    *ret_publication = publication;
    return 0;
}

int publish_abstract(const struct address *address, bool allowed, int type, int backlog,
                     int *ret_fd, struct vouch_error *error) {
    int fd;
    if (!allowed)
        return error_set(
            error, VOUCH_E_ABSTRACT_OFF,
            "any user can reach an abstract name, and the option to allow it is not set: %s",
            address->text);
    if (!sockfile_has_abstract)
        return error_set(error, -ENOTSUP, "this system has no abstract names: %s", address->text);
    int r = open_socket(type, &fd);
    if (r < 0)
        return error_set(error, r, "making a socket: %s: %s", vouch_strerror(r), address->text);
    struct address_sockaddr to;
    address_of_abstract(address, &to);
    if (bind(fd, (const struct sockaddr *)&to.un, to.length) < 0)
        r = errno == EADDRINUSE ? VOUCH_E_ADDRESS_LIVE : -errno;
    else if (type != SOCK_DGRAM && listen(fd, backlog) < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return error_set(error, r, "binding: %s: %s", vouch_strerror(r), address->text);
    }
    *ret_fd = fd;
    return 0;
}

void publication_withdraw(struct publication *publication) {
    struct stat status;
    if (publication->name &&
        fstatat(publication->directory, publication->name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_dev == publication->device && status.st_ino == publication->inode)
        unlinkat(publication->directory, publication->name, 0);
    /* A forked child may hold a copy of the descriptor, and with it the lock: closing alone would
     * not let it go. */
    if (publication->lock >= 0)
        flock(publication->lock, LOCK_UN);
    publication_abandon(publication);
}

void publication_abandon(struct publication *publication) {
    if (publication->lock >= 0)
        close(publication->lock);
    if (publication->directory >= 0)
        close(publication->directory);
    mem_free_text(publication->allocator, publication->name);
    *publication = PUBLICATION_NONE;
}
