/* SPDX-License-Identifier: MIT */
/* Looking at a name, and knowing whether it still means the same. */
#include "lib/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX], other[SUPPORT_PATH_MAX];

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "a");
    support_temp_path(other, "b");
}

TestSuite(sockfile, .init = setup, .fini = support_baseline_end);

static struct sockfile must_open(const char *at) {
    struct sockfile file;
    cr_assert_eq(sockfile_open(AT_FDCWD, at, at, &file), 0);
    return file;
}

Test(sockfile, what_is_not_there) {
    struct sockfile file;
    cr_assert_eq(sockfile_open(AT_FDCWD, path, path, &file), -ENOENT);
}

Test(sockfile, links_are_not_followed) {
    peers_touch(other);
    cr_assert_eq(symlink(other, path), 0);
    struct sockfile file = must_open(path);
    cr_assert(S_ISLNK(file.status.st_mode));
    sockfile_close(&file);
    sockfile_close(&file);
}

Test(sockfile, sees_a_swap) {
    peers_touch(path);
    peers_touch(other);
    struct sockfile file = must_open(path);
    cr_assert(sockfile_unchanged(&file));
    cr_assert_eq(rename(other, path), 0);
    cr_assert_not(sockfile_unchanged(&file));
    cr_assert_eq(unlink(path), 0);
    cr_assert_not(sockfile_unchanged(&file));
    sockfile_close(&file);
}

Test(sockfile, rename_replaces_only_when_told) {
    int directory = open(support_temp_dir(), sockfile_open_directory_flags);
    peers_touch(path);
    peers_touch(other);
    cr_assert_eq(sockfile_rename(directory, "a", directory, "b", false), -EEXIST);
    cr_assert(peers_exists(path));
    cr_assert_eq(sockfile_rename(directory, "a", directory, "b", true), 0);
    cr_assert_not(peers_exists(path));
    cr_assert_eq(sockfile_rename(directory, "b", directory, "a", false), 0);
    cr_assert(peers_exists(path));
    cr_assert_eq(sockfile_rename(directory, "c", directory, "d", false), -ENOENT);
    close(directory);
}
