/* SPDX-License-Identifier: MIT */
#include "lib/error.h"

#include "lib/utf8.h"

#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

static bool is_unknown(int result) {
    return strncmp(vouch_strerror(result), "unknown", 7) == 0;
}

Test(error, every_result_of_ours_has_a_name_of_its_own) {
    for (int result = VOUCH_REMOTE_OK; result <= VOUCH_REMOTE_UNKNOWN; result++)
        cr_assert_not(is_unknown(result), "%d", result);
    for (int result = VOUCH_E_REFUSED; result >= VOUCH_E_NO_IDENTITY; result--) {
        cr_assert_not(is_unknown(result), "%d", result);
        for (int other = VOUCH_E_REFUSED; other > result; other--)
            cr_assert_str_neq(vouch_strerror(result), vouch_strerror(other));
    }
}

Test(error, errnos_with_a_fixed_meaning_have_names) {
    static const int fixed[] = {ETIMEDOUT, ECANCELED, ECONNRESET, EMSGSIZE, EPROTO,
                                ECHILD,    ESHUTDOWN, EBUSY,      EINVAL};
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        cr_assert_not(is_unknown(-fixed[i]), "%d", fixed[i]);
}

Test(error, any_other_number_has_a_name_too) {
    cr_assert_str_eq(vouch_strerror(-9999), "unknown error");
    cr_assert_str_eq(vouch_strerror(INT32_MIN), "unknown error");
    cr_assert_str_eq(vouch_strerror(4711), "unknown error of the server");
    cr_assert_str_eq(vouch_strerror(-ENOMEM), "out of memory");
}

Test(error, what_may_be_tried_again) {
    static const int again[] = {-ETIMEDOUT,
                                -ECONNRESET,
                                -EINTR,
                                -ENOMEM,
                                -EMFILE,
                                -ENFILE,
                                -ENOBUFS,
                                -EBUSY,
                                VOUCH_REMOTE_DEADLINE_EXCEEDED,
                                VOUCH_REMOTE_UNAVAILABLE};
    static const int never[] = {0,
                                -EINVAL,
                                -EPROTO,
                                -EMSGSIZE,
                                -ECHILD,
                                -ESHUTDOWN,
                                -ECANCELED,
                                -EACCES,
                                VOUCH_E_REFUSED,
                                VOUCH_E_PEER_REFUSED,
                                VOUCH_REMOTE_METHOD_NOT_FOUND,
                                VOUCH_REMOTE_BAD_DATA,
                                VOUCH_REMOTE_SERVER,
                                VOUCH_REMOTE_REFUSED,
                                VOUCH_REMOTE_TOO_LARGE,
                                VOUCH_REMOTE_CANCELLED,
                                VOUCH_REMOTE_UNKNOWN};
    for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++)
        cr_assert(vouch_error_retryable(again[i]), "%d", again[i]);
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        cr_assert_not(vouch_error_retryable(never[i]), "%d", never[i]);
}

static void check_copy(const char *text, size_t size, size_t room, const char *expected) {
    char to[64];
    memset(to, 'X', sizeof(to));
    size_t written = error_copy_text(to, room, text, size);
    cr_assert_eq(written, strlen(expected), "%s", expected);
    cr_assert_str_eq(to, expected);
    for (size_t i = room; i < sizeof(to); i++)
        cr_assert_eq(to[i], 'X');
}

Test(error, copies_are_clean) {
    check_copy("plain", 5, 64, "plain");
    check_copy("", 0, 64, "");
    check_copy(NULL, 0, 64, "");
    check_copy("a\0b", 3, 64, "a?b");
    check_copy("a\nb\x1b[31m\x7f", 9, 64, "a?b?[31m?");
    check_copy("\xc2\x9b"
               "31m",
               5, 64, "?31m"); /* CSI as one C1 character */
    check_copy("\xc2\xa0", 2, 64, "\xc2\xa0");
    check_copy("\xff\xfe", 2, 64, "??");
    check_copy("\xe2\x82", 2, 64, "??");
    check_copy("\xed\xa0\x80", 3, 64, "???");
    check_copy("\xe2\x82\xac", 3, 64, "\xe2\x82\xac");
}

Test(error, copies_end_between_characters) {
    check_copy("abc", 3, 4, "abc");
    check_copy("abc", 3, 3, "ab");
    check_copy("abc", 3, 1, "");
    check_copy("a\xe2\x82\xac", 4, 5, "a\xe2\x82\xac");
    check_copy("a\xe2\x82\xac", 4, 4, "a");
    check_copy("a\xe2\x82\xac", 4, 2, "a");
    cr_assert_eq(error_copy_text(NULL, 0, "abc", 3), 0);
}

Test(error, copies_of_anything_are_utf8) {
    struct support_random random;
    support_random_init(&random);
    for (int round = 0; round < 20000; round++) {
        uint8_t text[48];
        char to[40];
        support_random_fill(&random, text, sizeof(text));
        size_t size = support_random_below(&random, sizeof(text) + 1);
        size_t room = 1 + support_random_below(&random, sizeof(to));
        size_t written = error_copy_text(to, room, (const char *)text, size);
        cr_assert_lt(written, room);
        cr_assert_eq(strlen(to), written);
        cr_assert(utf8_valid((const uint8_t *)to, written));
    }
}

Test(error, set_returns_the_code_and_keeps_errno) {
    struct vouch_error error;
    errno = EXDEV;
    cr_assert_eq(error_set(&error, -EACCES, "cannot open %s: %d", "it", 7), -EACCES);
    cr_assert_eq(errno, EXDEV);
    cr_assert_eq(error.code, -EACCES);
    cr_assert_str_eq(error.message, "cannot open it: 7");
    cr_assert_eq(error_set(NULL, VOUCH_E_SYMLINK, "nobody %s", "listens"), VOUCH_E_SYMLINK);
}

Test(error, messages_are_cut_at_the_limit) {
    struct vouch_error error;
    char text[VOUCH_ERROR_TEXT_MAX + 100];
    memset(text, 'a', sizeof(text));
    text[VOUCH_ERROR_TEXT_MAX] = '\0';
    error_set(&error, -EIO, "%s", text);
    cr_assert_str_eq(error.message, text);

    text[VOUCH_ERROR_TEXT_MAX] = 'b';
    text[VOUCH_ERROR_TEXT_MAX + 1] = '\0';
    error_set(&error, -EIO, "%s", text);
    cr_assert_eq(strlen(error.message), VOUCH_ERROR_TEXT_MAX);
    cr_assert_eq(error.message[VOUCH_ERROR_TEXT_MAX - 1], 'a');

    for (size_t before = VOUCH_ERROR_TEXT_MAX - 4; before < VOUCH_ERROR_TEXT_MAX + 2; before++) {
        memset(text, 'a', sizeof(text));
        strcpy(text + before, "\xf0\x9f\x94\x91"
                              "after");
        error_set(&error, -EIO, "%s", text);
        bool fits = before + 4 <= VOUCH_ERROR_TEXT_MAX;
        size_t length = fits || before > VOUCH_ERROR_TEXT_MAX ? VOUCH_ERROR_TEXT_MAX : before;
        cr_assert_eq(strlen(error.message), length, "%zu", before);
        cr_assert(utf8_valid((const uint8_t *)error.message, length));
        cr_assert_null(strchr(error.message, '?'));
    }
}
