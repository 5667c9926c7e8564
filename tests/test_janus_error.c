/* SPDX-License-Identifier: MIT */
/* The gateway's codes, and their names. */
#include <errno.h>
#include <string.h>

#include "rpc/janus_link.h"
#include "tests/harness.h"
#include <vouch/janus.h>

Test(janus_error, every_code_has_a_name_of_its_own) {
    const char *names[500] = {0};
    unsigned known = 0;
    for (int code = 1; code < 500; code++) {
        names[code] = vouch_janus_strerror(code);
        bool named = strcmp(names[code], "an error of the gateway") != 0;
        known += named;
        for (int other = 1; other < code && named; other++)
            cr_assert_str_neq(names[other], names[code]);
    }
    cr_assert_eq(known, 25);
    cr_assert_str_eq(vouch_janus_strerror(VOUCH_JANUS_ERROR_SESSION_NOT_FOUND), "no such session");
    cr_assert_str_eq(vouch_janus_strerror(-ESTALE), "the session or handle is gone");
    cr_assert_str_eq(vouch_janus_strerror(-ETIMEDOUT), vouch_strerror(-ETIMEDOUT));
    cr_assert_str_eq(vouch_janus_strerror(0), vouch_strerror(0));
}

Test(janus_error, the_code_in_an_error) {
    struct vouch_error error = {.code = 458};
    cr_assert_eq(vouch_janus_error_code(&error), VOUCH_JANUS_ERROR_SESSION_NOT_FOUND);
    error.code = -ETIMEDOUT;
    cr_assert_eq(vouch_janus_error_code(&error), 0);
    error.code = 0;
    cr_assert_eq(vouch_janus_error_code(&error), 0);
    cr_assert_eq(vouch_janus_error_code(NULL), 0);
    cr_assert_eq(janus_fail(&error, -EBUSY, "%d of %s", 3, "them"), -EBUSY);
    cr_assert_eq(error.code, -EBUSY);
    cr_assert_str_eq(error.message, "3 of them");
    cr_assert_eq(janus_fail(NULL, -EIO, "nobody reads"), -EIO);
}
