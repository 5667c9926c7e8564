/* SPDX-License-Identifier: MIT */
/* A set of plugins: one loop for all of them, so that they start and end at the same time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/error.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/os.h"
#include "plugin/plugin.h"

/* Programs in one directory. */
#define LOAD_MAX 1024

struct vouch_plugin_set {
    const struct vouch_allocator *allocator;
    struct loop *loop;
};

/* The loop's members are the set's plugins. */
static struct vouch_plugin *of_member(struct loop_member *member) {
    return (struct vouch_plugin *)(void *)member;
}

static struct vouch_plugin *first_of(const struct loop *loop) {
    return of_member(loop->first);
}

static struct vouch_plugin *after(const struct vouch_plugin *plugin) {
    return of_member(plugin->member.next);
}

int vouch_plugin_set_new(bool threaded, const struct vouch_allocator *allocator,
                         struct vouch_plugin_set **ret_set) {
    struct vouch_plugin_set *set = mem_zalloc(allocator, sizeof(*set));
    if (!set)
        return -ENOMEM;
    set->allocator = allocator;
    int r = loop_new(allocator, &set->loop);
    if (r == 0 && threaded) {
        r = loop_start_thread(set->loop);
        if (r < 0)
            loop_free(set->loop);
    }
    if (r < 0) {
        mem_free(allocator, set, sizeof(*set));
        return r;
    }
    *ret_set = set;
    return 0;
}

/* ---- waiting for all of them; lock held ---- */

static unsigned count_in(const struct loop *loop, enum vouch_plugin_state state) {
    unsigned count = 0;
    for (struct vouch_plugin *p = first_of(loop); p; p = after(p))
        count += p->state == state;
    return count;
}

static bool all_ended(const struct loop *loop) {
    for (struct vouch_plugin *p = first_of(loop); p; p = after(p))
        if (p->state != VOUCH_PLUGIN_ENDED)
            return false;
    return true;
}

static void stop_all(struct loop *loop, bool kill) {
    for (struct vouch_plugin *p = first_of(loop); p; p = after(p))
        if (p->state != VOUCH_PLUGIN_ENDED)
            plugin_want_stop(p, kill);
}

static void wait_for_end(struct loop *loop, int64_t deadline) {
    while (!all_ended(loop) && vouch_now() < deadline)
        (void)!loop_turn(loop, deadline);
}

/* ---- the end ---- */

/* The loop's thread is out of it, and stays out. */
static void quiesce(struct loop *loop) {
    loop->closing = true;
    while (loop->turning && loop->threaded) {
        loop_wake(loop);
        pthread_cond_wait(&loop->changed, &loop->lock);
    }
}

static void abandon(struct vouch_plugin_set *set) {
    for (struct vouch_plugin *p = first_of(set->loop); p; p = after(p))
        plugin_abandon(p);
    loop_free(set->loop);
}

void vouch_plugin_set_free(struct vouch_plugin_set *set) {
    if (!set)
        return;
    struct loop *loop = set->loop;
    if (os_process_epoch() != loop->epoch) {
        abandon(set);
        return;
    }
    pthread_mutex_lock(&loop->lock);
    stop_all(loop, true);
    wait_for_end(loop, VOUCH_FOREVER);
    quiesce(loop);
    pthread_mutex_unlock(&loop->lock);
    for (struct vouch_plugin *p = first_of(loop), *next; p; p = next) {
        next = after(p);
        plugin_destroy(p);
    }
    loop_free(loop);
    mem_free(set->allocator, set, sizeof(*set));
}

int vouch_plugin_set_stop(struct vouch_plugin_set *set, int64_t deadline) {
    struct loop *loop = set->loop;
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 0;
    if (r == 0) {
        stop_all(loop, false);
        wait_for_end(loop, deadline);
        stop_all(loop, true);
        wait_for_end(loop, VOUCH_FOREVER);
        for (struct vouch_plugin *p = first_of(loop); p; p = after(p))
            r += p->stop_wanted && p->signalled;
    }
    pthread_mutex_unlock(&loop->lock);
    return r;
}

/* ---- adding ---- */

static struct vouch_plugin *find(const struct loop *loop, const char *name) {
    for (struct vouch_plugin *p = first_of(loop); p; p = after(p))
        if (strcmp(p->program.name, name) == 0)
            return p;
    return NULL;
}

/* Of two with the same name the first is found: the new one is the last. */
static int add(struct vouch_plugin_set *set, const struct vouch_plugin_options *o,
               struct vouch_plugin **ret_plugin, struct vouch_error *error) {
    struct vouch_plugin *plugin;
    int r = plugin_new(set->loop, o, true, &plugin, error);
    if (r < 0)
        return r;
    if (find(set->loop, plugin->program.name) != plugin)
        r = error_set(error, -EEXIST, "there is a plugin %s already", plugin->program.name);
    if (r == 0) {
        r = plugin_begin(plugin);
        if (r < 0)
            error_set(error, r, "plugin %s can't be started: %s", plugin->program.name,
                      vouch_strerror(r));
    }
    if (r < 0) {
        loop_remove(set->loop, &plugin->member);
        loop_finish_turn(set->loop);
        plugin_destroy(plugin);
        return r;
    }
    loop_wake(set->loop); /* it has timers to look at */
    *ret_plugin = plugin;
    return 0;
}

int vouch_plugin_set_add(struct vouch_plugin_set *set, const struct vouch_plugin_options *options,
                         struct vouch_plugin **ret_plugin, struct vouch_error *ret_error) {
    struct vouch_plugin_options o = {0};
    struct vouch_plugin *plugin;
    OPTIONS_READ(o, options);
    if (os_process_epoch() != set->loop->epoch)
        return error_set(ret_error, -ECHILD, "this set belongs to the parent process");
    pthread_mutex_lock(&set->loop->lock);
    int r = add(set, &o, &plugin, ret_error);
    pthread_mutex_unlock(&set->loop->lock);
    if (r == 0 && ret_plugin)
        *ret_plugin = plugin;
    return r;
}

/* ---- a directory ---- */

struct names {
    char *names[LOAD_MAX];
    size_t count;
};

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Nobody but us and root may have put it there. */
static bool is_ours(const struct stat *file) {
    return (file->st_uid == geteuid() || file->st_uid == 0) && (file->st_mode & 022) == 0;
}

static int list_one(const struct vouch_allocator *allocator, int fd, const char *path,
                    const char *name, struct names *names, struct vouch_error *error) {
    struct stat file;
    if (name[0] == '.' || fstatat(fd, name, &file, 0) < 0 || !S_ISREG(file.st_mode) ||
        (file.st_mode & 0111) == 0)
        return 0;
    if (!is_ours(&file))
        return error_set(error, -EPERM, "plugin %s/%s: others than us and root may change it", path,
                         name);
    if (names->count == LOAD_MAX)
        return error_set(error, -E2BIG, "%s: there are more than %d plugins", path, LOAD_MAX);
    names->names[names->count] = mem_strdup(allocator, name);
    if (!names->names[names->count])
        return error_set(error, -ENOMEM, "%s: no memory", path);
    names->count++;
    return 0;
}

static int list_directory(const struct vouch_allocator *allocator, const char *path,
                          struct names *names, struct vouch_error *error) {
    struct stat file;
    const struct dirent *entry;
    DIR *directory = opendir(path);
    if (!directory)
        return error_set(error, -errno, "%s: %s", path, vouch_strerror(-errno));
    int fd = dirfd(directory), r = 0;
    if (fstat(fd, &file) < 0 || !is_ours(&file))
        r = error_set(error, -EPERM, "%s: others than us and root may change this directory", path);
    while (r == 0 && (entry = readdir(directory)))
        r = list_one(allocator, fd, path, entry->d_name, names, error);
    closedir(directory);
    qsort(names->names, names->count, sizeof(names->names[0]), compare);
    return r;
}

int vouch_plugin_set_load(struct vouch_plugin_set *set, const char *directory,
                          const struct vouch_plugin_options *options,
                          struct vouch_error *ret_error) {
    struct vouch_plugin_options o = {0};
    char path[4096];
    OPTIONS_READ(o, options);
    if (os_process_epoch() != set->loop->epoch)
        return error_set(ret_error, -ECHILD, "this set belongs to the parent process");
    struct names *names = mem_zalloc(set->allocator, sizeof(*names));
    if (!names)
        return error_set(ret_error, -ENOMEM, "%s: no memory", directory);
    int r = list_directory(set->allocator, directory, names, ret_error);
    for (size_t i = 0; i < names->count && r == 0; i++) {
        o.name = NULL;
        o.program = path;
        snprintf(path, sizeof(path), "%s/%s", directory, names->names[i]);
        r = vouch_plugin_set_add(set, &o, NULL, ret_error);
    }
    if (r == 0)
        r = (int)names->count;
    for (size_t i = 0; i < names->count; i++)
        mem_free_text(set->allocator, names->names[i]);
    mem_free(set->allocator, names, sizeof(*names));
    return r;
}

/* ---- looking ---- */

int vouch_plugin_set_wait(struct vouch_plugin_set *set, int64_t deadline) {
    struct loop *loop = set->loop;
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 0;
    while (r >= 0 && count_in(loop, VOUCH_PLUGIN_STARTING) > 0)
        r = vouch_now() >= deadline ? -ETIMEDOUT : loop_turn(loop, deadline);
    if (r >= 0)
        r = (int)count_in(loop, VOUCH_PLUGIN_RUNNING);
    pthread_mutex_unlock(&loop->lock);
    return r;
}

struct vouch_plugin *vouch_plugin_set_find(struct vouch_plugin_set *set, const char *name) {
    pthread_mutex_lock(&set->loop->lock);
    struct vouch_plugin *plugin = find(set->loop, name);
    pthread_mutex_unlock(&set->loop->lock);
    return plugin;
}

struct vouch_plugin *vouch_plugin_set_next(struct vouch_plugin_set *set,
                                           const struct vouch_plugin *plugin) {
    pthread_mutex_lock(&set->loop->lock);
    struct vouch_plugin *next = plugin ? after(plugin) : first_of(set->loop);
    pthread_mutex_unlock(&set->loop->lock);
    return next;
}

/* ---- doing the work ---- */

int vouch_plugin_set_run(struct vouch_plugin_set *set) {
    struct loop *loop = set->loop;
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    if (loop->threaded)
        return -EBUSY;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 0;
    while (r >= 0 && !all_ended(loop))
        r = loop_turn(loop, VOUCH_FOREVER);
    pthread_mutex_unlock(&loop->lock);
    return r < 0 ? r : 0;
}

int vouch_plugin_set_get_fd(struct vouch_plugin_set *set) {
    return loop_get_fd(set->loop);
}

short vouch_plugin_set_get_events(struct vouch_plugin_set *set) {
    (void)set;
    return POLLIN;
}

int64_t vouch_plugin_set_get_timeout(struct vouch_plugin_set *set) {
    return loop_get_timeout(set->loop);
}

int vouch_plugin_set_process(struct vouch_plugin_set *set) {
    return loop_process(set->loop);
}
