/* SPDX-License-Identifier: MIT */
#include "plugin/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/error.h"
#include "lib/mem.h"

#define LIST_MAX 4096 /* arguments, variables of the environment */
#define HANDED_OVER 4 /* … that are ours */

/* ---- lists of texts ---- */

static size_t count_texts(const char *const *texts) {
    size_t count = 0;
    while (texts && texts[count] && count <= LIST_MAX)
        count++;
    return count;
}

static int list_init(struct program_list *list, size_t room,
                     const struct vouch_allocator *allocator) {
    list->texts = mem_zalloc(allocator, (room + 1) * sizeof(char *));
    list->room = list->texts ? room : 0;
    return list->texts ? 0 : -ENOMEM;
}

static void list_deinit(struct program_list *list, const struct vouch_allocator *allocator) {
    for (size_t i = 0; i < list->room; i++)
        mem_free_text(allocator, list->texts[i]);
    if (list->texts)
        mem_free(allocator, list->texts, (list->room + 1) * sizeof(char *));
    *list = (struct program_list){0};
}

/* At the first place that is free. */
static int list_add(struct program_list *list, const char *text,
                    const struct vouch_allocator *allocator) {
    size_t i = 0;
    while (list->texts[i])
        i++;
    list->texts[i] = mem_strdup(allocator, text);
    return list->texts[i] ? 0 : -ENOMEM;
}

/* ---- copying options ---- */

static int copy_arguments(struct program *p, const struct vouch_plugin_options *o) {
    size_t count = count_texts(o->arguments);
    if (count > LIST_MAX)
        return -EINVAL;
    int r = list_init(&p->arguments, count + 1, p->allocator);
    if (r == 0)
        r = list_add(&p->arguments, o->program, p->allocator);
    for (size_t i = 0; i < count && r == 0; i++)
        r = list_add(&p->arguments, o->arguments[i], p->allocator);
    return r;
}

static int inherit(struct program *p, const char *name) {
    const char *value = getenv(name);
    char *entry;
    if (!value)
        return 0;
    size_t size = strlen(name) + 1 + strlen(value) + 1;
    entry = mem_alloc(p->allocator, size);
    if (!entry)
        return -ENOMEM;
    snprintf(entry, size, "%s=%s", name, value);
    int r = list_add(&p->environment, entry, p->allocator);
    mem_free(p->allocator, entry, size);
    return r;
}

/* "NAME=value", and none of ours. */
static bool entry_valid(const char *entry) {
    static const char ours[] = "VOUCH_PLUGIN_";
    const char *equals = strchr(entry, '=');
    return equals && equals > entry && strncmp(entry, ours, sizeof(ours) - 1) != 0;
}

static int copy_environment(struct program *p, const struct vouch_plugin_options *o) {
    static const char *const usual[] = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", NULL};
    const char *const *names = o->inherit ? o->inherit : usual;
    size_t inherited = count_texts(names), count = count_texts(o->environment);
    if (inherited > LIST_MAX || count > LIST_MAX)
        return -EINVAL;
    int r = list_init(&p->environment, inherited + count + HANDED_OVER, p->allocator);
    for (size_t i = 0; i < count && r == 0; i++)
        r = entry_valid(o->environment[i])
                ? list_add(&p->environment, o->environment[i], p->allocator)
                : -EINVAL;
    for (size_t i = 0; i < inherited && r == 0; i++)
        r = inherit(p, names[i]);
    return r;
}

/* What is new with each start has its place from the beginning: the token. */
static int add_handover(struct program *p, const struct handshake_versions *versions) {
    char text[HANDSHAKE_VERSIONS_TEXT], entry[sizeof(HANDSHAKE_ENV_VERSIONS) + sizeof(text)];
    struct program_list *list = &p->environment;
    char token[] = HANDSHAKE_ENV_TOKEN "=00000000000000000000000000000000";
    snprintf(entry, sizeof(entry), "%s=%s", HANDSHAKE_ENV_VERSIONS,
             handshake_format_versions(versions, text));
    int r = list_add(list, HANDSHAKE_ENV_FD "=3", p->allocator);
    if (r == 0)
        r = list_add(list, HANDSHAKE_ENV_PROTOCOL "=1", p->allocator);
    if (r == 0)
        r = list_add(list, entry, p->allocator);
    if (r == 0)
        r = list_add(list, token, p->allocator);
    for (size_t i = 0; r == 0 && list->texts[i]; i++)
        if (strcmp(list->texts[i], token) == 0)
            p->token = list->texts[i] + sizeof(HANDSHAKE_ENV_TOKEN);
    return r;
}

/* A relative path is one from the directory of now, whatever `directory` says. */
static int copy_path(struct program *p, const char *path) {
    char here[4096], whole[8192];
    if (path[0] != '/') {
        if (!getcwd(here, sizeof(here)))
            return -errno;
        int size = snprintf(whole, sizeof(whole), "%s/%s", here, path);
        if (size < 0 || (size_t)size >= sizeof(whole))
            return -ENAMETOOLONG;
        path = whole;
    }
    p->path = mem_strdup(p->allocator, path);
    return p->path ? 0 : -ENOMEM;
}

static int copy_name(struct program *p, const struct vouch_plugin_options *o) {
    const char *slash = strrchr(o->program, '/');
    const char *name = o->name ? o->name : (slash ? slash + 1 : o->program);
    if (!handshake_name_valid(name))
        return -EINVAL;
    snprintf(p->name, sizeof(p->name), "%s", name);
    return 0;
}

static int copy_fds(struct program *p, const struct vouch_plugin_options *o) {
    if (o->fd_count > VOUCH_PLUGIN_FDS_MAX || (o->fd_count > 0 && !o->fds))
        return -EINVAL;
    for (size_t i = 0; i < o->fd_count; i++) {
        int fd = fcntl(o->fds[i], F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            return -errno;
        p->fds[p->fd_count++] = fd;
    }
    return 0;
}

static rlim_t rlimit_value(uint64_t value) {
    return value == UINT64_MAX ? RLIM_INFINITY : (rlim_t)value;
}

static int copy_limits(struct program *p, const struct vouch_plugin_options *o) {
    struct keeper_plan *plan = &p->plan;
    if (o->rlimit_count > KEEPER_RLIMITS_MAX || o->group_count > KEEPER_GROUPS_MAX ||
        (o->rlimit_count > 0 && !o->rlimits) || (o->group_count > 0 && !o->groups))
        return -EINVAL;
    plan->rlimit_count = o->rlimit_count;
    for (size_t i = 0; i < o->rlimit_count; i++) {
        plan->rlimits[i].resource = (unsigned)o->rlimits[i].resource;
        plan->rlimits[i].limit =
            (struct rlimit){rlimit_value(o->rlimits[i].soft), rlimit_value(o->rlimits[i].hard)};
    }
    plan->switch_user = o->switch_user;
    plan->uid = o->uid;
    plan->gid = o->gid;
    plan->group_count = o->group_count;
    for (size_t i = 0; i < o->group_count; i++)
        plan->groups[i] = o->groups[i];
    plan->no_new_privileges = !o->allow_new_privileges;
    return 0;
}

static int copy_directory(struct program *p, const char *directory) {
    if (!directory)
        return 0;
    p->directory = mem_strdup(p->allocator, directory);
    return p->directory ? 0 : -ENOMEM;
}

int program_init(struct program *p, const struct vouch_plugin_options *o,
                 const struct handshake_versions *versions, struct vouch_error *error) {
    *p = (struct program){.allocator = o->allocator};
    const char *what = "program";
    int r = o->program && o->program[0] ? 0 : -EINVAL;
    if (r == 0)
        what = "name", r = copy_name(p, o);
    if (r == 0)
        what = "program", r = copy_path(p, o->program);
    if (r == 0)
        what = "arguments", r = copy_arguments(p, o);
    if (r == 0)
        what = "environment", r = copy_environment(p, o);
    if (r == 0)
        r = add_handover(p, versions);
    if (r == 0)
        what = "directory", r = copy_directory(p, o->directory);
    if (r == 0)
        what = "user or limits", r = copy_limits(p, o);
    if (r == 0)
        what = "descriptors", r = copy_fds(p, o);
    if (r < 0) {
        error_set(error, r, "plugin %s: its %s: %s", o->program ? o->program : "", what,
                  vouch_strerror(r));
        program_deinit(p);
    }
    return r;
}

void program_deinit(struct program *p) {
    mem_free_text(p->allocator, p->path);
    mem_free_text(p->allocator, p->directory);
    list_deinit(&p->arguments, p->allocator);
    list_deinit(&p->environment, p->allocator);
    for (size_t i = 0; i < p->fd_count; i++)
        close(p->fds[i]);
    p->path = p->directory = NULL;
    p->fd_count = 0;
}

void program_plan(struct program *p, const int fds[VOUCH_PLUGIN_FIRST_FD], const char *token,
                  struct keeper_plan *ret_plan) {
    memcpy(p->token, token, HANDSHAKE_TOKEN_SIZE);
    *ret_plan = p->plan;
    ret_plan->program = p->path;
    ret_plan->directory = p->directory;
    ret_plan->arguments = p->arguments.texts;
    ret_plan->environment = p->environment.texts;
    for (int i = 0; i < VOUCH_PLUGIN_FIRST_FD; i++)
        ret_plan->fds[ret_plan->fd_count++] = fds[i];
    for (size_t i = 0; i < p->fd_count; i++)
        ret_plan->fds[ret_plan->fd_count++] = p->fds[i];
}

/* ---- why it can't be run ---- */

struct head {
    unsigned char bytes[256];
    size_t size;
};

static void read_head(const char *path, struct head *ret_head) {
    ret_head->size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t size = fd < 0 ? -1 : read(fd, ret_head->bytes, sizeof(ret_head->bytes) - 1);
    if (fd >= 0)
        close(fd);
    if (size > 0)
        ret_head->size = (size_t)size;
    ret_head->bytes[ret_head->size] = '\0';
}

/* It is there, and yet the kernel says that something is not: what it names to run it. */
static void explain_interpreter(const struct head *head, char *text, size_t room) {
    if (head->size > 2 && memcmp(head->bytes, "#!", 2) == 0) {
        const char *name = (const char *)head->bytes + 2;
        name += strspn(name, " \t");
        char clean[128];
        (void)error_copy_text(clean, sizeof(clean), name, strcspn(name, " \t\r\n"));
        bool carriage = memchr(head->bytes, '\r', strcspn((const char *)head->bytes, "\n")) != NULL;
        snprintf(text, room, "its interpreter is missing: %s%s", clean,
                 carriage ? " (the line ends with a carriage return)" : "");
    } else {
        snprintf(text, room, "its loader (the ELF interpreter) is missing");
    }
}

static void explain_format(const struct head *head, char *text, size_t room) {
    struct head own;
    read_head("/proc/self/exe", &own);
    if (head->size >= 20 && memcmp(head->bytes, "\177ELF", 4) == 0) {
        bool other = own.size >= 20 && (memcmp(own.bytes + 18, head->bytes + 18, 2) != 0 ||
                                        own.bytes[4] != head->bytes[4]);
        snprintf(text, room, "%s",
                 other ? "it is for another machine (wrong architecture)"
                       : "it is a damaged program, or one of another system");
    } else {
        snprintf(text, room, "%s",
                 head->size == 0 ? "it is empty"
                                 : "it is no program, and a script needs a #! line");
    }
}

static void explain_access(const struct program *p, char *text, size_t room) {
    struct stat file;
    if (stat(p->path, &file) == 0 && S_ISDIR(file.st_mode))
        snprintf(text, room, "it is a directory");
    else if (stat(p->path, &file) == 0 && (file.st_mode & 0111) == 0)
        snprintf(text, room, "it is not executable");
    else
        snprintf(text, room,
                 "it may not be executed: no permission, here or on the way to it, or a "
                 "file system without executables");
}

static void explain_exec(const struct program *p, int error, char *text, size_t room) {
    struct head head;
    read_head(p->path, &head);
    if (error == EACCES)
        explain_access(p, text, room);
    else if (error == ENOEXEC)
        explain_format(&head, text, room);
    else if (error == ENOENT && access(p->path, F_OK) == 0)
        explain_interpreter(&head, text, room);
    else if (error == ENOENT)
        snprintf(text, room, "there is no such file");
    else
        snprintf(text, room, "%s", vouch_strerror(-error));
}

int program_explain(const struct program *p, enum keeper_step step, int error,
                    struct vouch_error *ret_error) {
    static const char *const steps[] = {
        [KEEPER_STEP_FORK] = "it can't be forked",
        [KEEPER_STEP_FDS] = "its descriptors can't be made",
        [KEEPER_STEP_RLIMIT] = "a limit can't be set",
        [KEEPER_STEP_GROUPS] = "its groups can't be set",
        [KEEPER_STEP_GID] = "its group can't be set",
        [KEEPER_STEP_UID] = "its user can't be set",
        [KEEPER_STEP_PRIVILEGES] = "its privileges can't be fixed",
        [KEEPER_STEP_DIRECTORY] = "its directory can't be entered",
    };
    char text[256];
    if (step == KEEPER_STEP_EXEC)
        explain_exec(p, error, text, sizeof(text));
    else
        snprintf(text, sizeof(text), "%s: %s",
                 step < KEEPER_STEP_EXEC ? steps[step] : "unknown step", vouch_strerror(-error));
    return error_set(ret_error, VOUCH_E_PLUGIN_EXEC, "plugin %s can't be run: %s: %s", p->name,
                     p->path, text);
}
