/* SPDX-License-Identifier: MIT */
/*
 * What is run: a copy of what the options say about it, from which each start makes a plan for the
 * keeper; and in words why it could not be run.
 */
#ifndef VOUCH_PLUGIN_PROGRAM_H
#define VOUCH_PLUGIN_PROGRAM_H

#include "plugin/handshake.h"
#include "plugin/keeper.h"

/* Texts, and NULL behind the last. */
struct program_list {
    char **texts;
    size_t room;
};

struct program {
    const struct vouch_allocator *allocator;
    char *path, *directory;
    char name[VOUCH_PLUGIN_NAME_MAX + 1];
    struct program_list arguments, environment;
    char *token;                   /* its digits in the environment */
    int fds[VOUCH_PLUGIN_FDS_MAX]; /* ours, duplicated */
    size_t fd_count;
    struct keeper_plan plan; /* but for descriptors */
};

/* 0, -EINVAL, -ENOMEM, errnos of dup and getcwd; `error` says what is wrong. */
int program_init(struct program *program, const struct vouch_plugin_options *options,
                 const struct handshake_versions *versions,
                 struct vouch_error *error) VOUCH_MUST_CHECK;
void program_deinit(struct program *program); /* safe twice, and on a zeroed one */

/* The plan of one start, with these descriptors as 0 to 3 and this token. Points into the program.
 */
void program_plan(struct program *program, const int fds[VOUCH_PLUGIN_FIRST_FD], const char *token,
                  struct keeper_plan *ret_plan);

/* Why it could not be run. Looks at the file. */
int program_explain(const struct program *program, enum keeper_step step, int error,
                    struct vouch_error *ret_error);

#endif
