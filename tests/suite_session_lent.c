/* SPDX-License-Identifier: MIT */
/*
 * Bodies that are lent to a session: sent from where they are, and copied at the latest when
 * whoever lends them wants them back. Whatever is sent when, the bytes are those of session_call
 * and session_reply.
 */
#include "rpc/session.h"

#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

enum { BODY = 1000, ROOM = 16384 };

static struct side side, plain;
static struct support_allocator allocator;
static uint8_t body[ROOM];
static uint8_t expected[ROOM], sent[ROOM];
static size_t expected_size, sent_size;

static void fill(void) {
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 7 + i / 251);
}

static void begin(enum session_role role) {
    support_baseline_begin();
    fill();
    support_allocator_init(&allocator);
    cr_assert_eq(side_open(&side, role, NULL, &allocator.allocator), 0);
    side_begin(&plain, role);
    sent_size = expected_size = 0;
}

static void end(void) {
    side_end(&side);
    side_end(&plain);
    support_allocator_check(&allocator);
    support_baseline_end();
}

static struct vouch_buffer *head_of(void) {
    struct vouch_buffer *head;
    cr_assert_eq(session_buffer(side.pool, 0, &head), 0);
    return head;
}

static int call_lent(const void *bytes, size_t size) {
    const struct iovec lent = {(void *)(uintptr_t)bytes, size};
    size_t i = 0;
    while (side.call_used[i])
        i++;
    int r = session_call_lent(&side.session, &side.calls[i], "/m", head_of(), &lent, VOUCH_FOREVER,
                              NULL);
    side.call_used[i] = r == 0;
    return r;
}

static int reply_lent(uint32_t id, const void *bytes, size_t size) {
    const struct iovec lent = {(void *)(uintptr_t)bytes, size};
    struct side_request *request = side_request(&side, id);
    int r = session_reply_lent(&side.session, &request->slot, head_of(), &lent);
    vouch_buffer_unref(request->buffer);
    request->used = false;
    return r;
}

/* Takes up to `size` bytes of the output, asking for so many pieces at a time. */
static void send_some(size_t size, int max) {
    struct iovec pieces[8];
    while (size > 0) {
        int count = session_output(&side.session, pieces, max);
        cr_assert_leq(count, max);
        if (count == 0)
            break;
        size_t before = sent_size;
        for (int i = 0; i < count && size > 0; i++) {
            size_t step = pieces[i].iov_len < size ? pieces[i].iov_len : size;
            cr_assert_leq(step, ROOM - sent_size);
            memcpy(sent + sent_size, pieces[i].iov_base, step);
            sent_size += step;
            size -= step;
        }
        session_sent(&side.session, sent_size - before);
    }
}

static void expect_same(void) {
    send_some(SIZE_MAX, 8);
    expected_size = side_take(&plain, expected, sizeof(expected));
    cr_assert_eq(sent_size, expected_size);
    cr_assert_arr_eq(sent, expected, sent_size);
    cr_assert_eq(side.session.out.bytes, 0);
    cr_assert_eq(session_failure(&side.session), 0);
}

/* ---- from where it is ---- */

Test(session_lent, a_calls_body_is_sent_from_where_it_is) {
    struct iovec pieces[4];
    begin(SESSION_CLIENT);
    cr_assert_eq(call_lent(body, BODY), 0);
    cr_assert_eq(session_output(&side.session, pieces, 4), 2);
    cr_assert_eq(pieces[1].iov_base, body);
    cr_assert_eq(pieces[1].iov_len, BODY);
    cr_assert_eq(side.session.out.bytes, pieces[0].iov_len + BODY);
    cr_assert_eq(side_call_bytes(&plain, "/m", body, BODY, VOUCH_FOREVER), 0);
    expect_same();
    cr_assert_eq(session_keep_lent(&side.session), 0);
    end();
}

Test(session_lent, a_replys_body_is_sent_from_where_it_is) {
    struct iovec pieces[4];
    begin(SESSION_SERVER);
    SIDE_SAY(&side, .id = 5, .expires = 77, WIRE_METHOD("/m"));
    SIDE_SAY(&plain, .id = 5, .expires = INT64_MAX, WIRE_METHOD("/m"));
    side_request(&side, 5)->slot.expires = INT64_MAX;
    cr_assert_eq(reply_lent(5, body, BODY), 0);
    cr_assert_eq(side.session.requests.count, 0);
    cr_assert_eq(session_output(&side.session, pieces, 4), 2);
    cr_assert_eq(pieces[1].iov_base, body);
    cr_assert_eq(pieces[1].iov_len, BODY);
    cr_assert_eq(side_reply_bytes(&plain, 5, body, BODY), 0);
    expect_same();
    end();
}

Test(session_lent, without_one_there_is_nothing_to_keep) {
    begin(SESSION_CLIENT);
    uint64_t calls = allocator.calls;
    cr_assert_eq(session_keep_lent(&side.session), 0);
    cr_assert_eq(allocator.calls, calls);
    cr_assert_eq(side_call(&side, "/a", "b"), 0);
    cr_assert_eq(session_keep_lent(&side.session), 0);
    cr_assert_eq(side_call(&plain, "/a", "b"), 0);
    expect_same();
    end();
}

Test(session_lent, an_empty_body_can_be_lent_too) {
    begin(SESSION_CLIENT);
    cr_assert_eq(call_lent(body, 0), 0);
    cr_assert_eq(session_keep_lent(&side.session), 0);
    cr_assert_eq(side_call(&plain, "/m", ""), 0);
    expect_same();
    end();
}

/* ---- kept when some of it has been sent ---- */

/* A small message, the lent one, and small ones behind it, before and after it has been kept. */
static void check_kept(size_t sent_before, int max) {
    static uint8_t lent[BODY];
    begin(SESSION_CLIENT);
    memcpy(lent, body, BODY);
    cr_assert_eq(side_call(&side, "/before", "x"), 0);
    cr_assert_eq(call_lent(lent, BODY), 0);
    cr_assert_eq(side_call(&side, "/behind", "y"), 0);
    send_some(sent_before, max);
    cr_assert_eq(session_keep_lent(&side.session), 0);
    memset(lent, 0xee, sizeof(lent)); /* it is its owner's again */
    cr_assert_eq(session_keep_lent(&side.session), 0);
    cr_assert_eq(side_call(&side, "/later", "z"), 0);

    cr_assert_eq(side_call(&plain, "/before", "x"), 0);
    cr_assert_eq(side_call_bytes(&plain, "/m", body, BODY, VOUCH_FOREVER), 0);
    cr_assert_eq(side_call(&plain, "/behind", "y"), 0);
    cr_assert_eq(side_call(&plain, "/later", "z"), 0);
    expect_same();
    end();
}

/* Of the small message before it, or of both. */
static size_t wire_size_of(bool both) {
    struct iovec pieces[4];
    size_t size = 0;
    begin(SESSION_CLIENT);
    cr_assert_eq(side_call(&side, "/before", "x"), 0);
    if (both)
        cr_assert_eq(call_lent(body, BODY), 0);
    int count = session_output(&side.session, pieces, 4);
    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    end();
    return size;
}

Test(session_lent, what_could_not_be_sent_is_kept) {
    size_t small = wire_size_of(false);
    size_t both = wire_size_of(true);
    size_t head = both - BODY; /* of both: where the lent bytes begin */
    const size_t at[] = {0,        1,        small - 1, small,           small + 1,
                         head - 1, head,     head + 1,  head + BODY / 2, both - 1,
                         both,     both + 1, both + 5};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
        check_kept(at[i], 8);
}

Test(session_lent, wherever_it_was_cut) {
    size_t both = wire_size_of(true);
    for (size_t at = 0; at <= both + 30; at += VOUCH_TEST_ROUNDS(1, 37))
        check_kept(at, 3);
}

/* The last in the queue: what is called afterwards has to come behind the copy. */
Test(session_lent, kept_as_the_last_of_the_queue) {
    for (size_t at = 0; at < BODY; at += 100) {
        begin(SESSION_CLIENT);
        cr_assert_eq(call_lent(body, BODY), 0);
        send_some(at, 2);
        cr_assert_eq(session_keep_lent(&side.session), 0);
        cr_assert_eq(call_lent(body + 1, BODY), 0);
        cr_assert_eq(session_keep_lent(&side.session), 0);
        cr_assert_eq(side_call_bytes(&plain, "/m", body, BODY, VOUCH_FOREVER), 0);
        cr_assert_eq(side_call_bytes(&plain, "/m", body + 1, BODY, VOUCH_FOREVER), 0);
        expect_same();
        end();
    }
}

/* ---- pieces ---- */

/* So many pieces at a time: all of it gets out, in steps of so many bytes. */
static void check_pieces(int max, size_t step) {
    begin(SESSION_CLIENT);
    cr_assert_eq(side_call(&side, "/before", "x"), 0);
    cr_assert_eq(call_lent(body, BODY), 0);
    cr_assert_eq(side_call(&side, "/behind", "y"), 0);
    cr_assert_eq(side_call(&plain, "/before", "x"), 0);
    cr_assert_eq(side_call_bytes(&plain, "/m", body, BODY, VOUCH_FOREVER), 0);
    cr_assert_eq(side_call(&plain, "/behind", "y"), 0);
    struct iovec pieces[8];
    while (side.session.out.bytes > 0) {
        int count = session_output(&side.session, pieces, max);
        cr_assert_gt(count, 0, "there is something to send");
        send_some(step, max);
    }
    expect_same();
    end();
}

Test(session_lent, three_pieces_at_a_time) {
    check_pieces(3, SIZE_MAX);
    check_pieces(3, 77);
}

Test(session_lent, two_pieces_at_a_time) {
    check_pieces(2, SIZE_MAX);
    check_pieces(2, 77);
}

Test(session_lent, one_piece_at_a_time) {
    check_pieces(1, SIZE_MAX);
    check_pieces(1, 77);
}

/* ---- limits ---- */

/* The largest body of a call that fits side_limits.max_send, by trying. */
static size_t largest_body(void) {
    size_t size = side_limits.max_send;
    while (side_call_bytes(&plain, "/m", body, size, VOUCH_FOREVER) != 0)
        size--;
    return size;
}

Test(session_lent, a_call_at_the_maximum_and_one_over) {
    begin(SESSION_CLIENT);
    size_t largest = largest_body();
    cr_assert_eq(call_lent(body, largest + 1), -EMSGSIZE);
    cr_assert_eq(side.session.calls.count, 0);
    cr_assert_eq(side.session.out.bytes, 0);
    cr_assert_eq(session_keep_lent(&side.session), 0, "nothing was lent");
    cr_assert_eq(call_lent(body, largest), 0);
    expect_same();
    end();
}

Test(session_lent, the_size_that_did_not_fit_is_told) {
    const struct iovec lent = {body, 10000};
    size_t size = 0;
    begin(SESSION_CLIENT);
    cr_assert_eq(session_call_lent(&side.session, &side.calls[0], "/m", head_of(), &lent,
                                   VOUCH_FOREVER, &size),
                 -EMSGSIZE);
    cr_assert_gt(size, 10000);
    cr_assert_lt(size, 10000 + ENVELOPE_HEADROOM);
    end();
}

Test(session_lent, a_reply_at_the_maximum_and_one_over) {
    begin(SESSION_SERVER);
    for (uint32_t id = 1; id <= 2; id++)
        SIDE_SAY(&side, .id = id, WIRE_METHOD("/m"));
    struct envelope e = {.id = 1, .method = "/m", .method_size = 2};
    size_t largest = side_limits.max_send;
    while (envelope_size(&e, largest) > side_limits.max_send)
        largest--;
    cr_assert_eq(reply_lent(1, body, largest + 1), -EMSGSIZE);
    cr_assert_eq(session_keep_lent(&side.session), 0);
    const char *text = side_sent(&side);
    cr_assert_not_null(strstr(text, "id=1"));
    cr_assert_not_null(strstr(text, "type="), "the caller is told: %s", text);
    cr_assert_eq(reply_lent(2, body, largest), 0);
    cr_assert_eq(side.session.requests.count, 0);
    send_some(SIZE_MAX, 2);
    cr_assert_eq(sent_size, side_limits.max_send + 2); /* the chunk's length before it */
    end();
}

Test(session_lent, a_dead_session_borrows_nothing) {
    begin(SESSION_CLIENT);
    session_fail(&side.session, -EPROTO);
    cr_assert_eq(call_lent(body, BODY), -EPROTO);
    cr_assert_eq(session_keep_lent(&side.session), 0);
    cr_assert_eq(side.session.out.bytes, 0);
    end();
}

/* ---- without memory ---- */

/* What follows half a message would be taken for its rest. */
Test(session_lent, without_memory_to_keep_it_the_session_dies) {
    static const size_t at[] = {0, 10, BODY / 2};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        struct iovec pieces[4];
        begin(SESSION_CLIENT);
        cr_assert_eq(call_lent(body, BODY), 0);
        cr_assert_eq(side_call(&side, "/behind", "y"), 0);
        send_some(at[i], 4);
        vouch_pool_trim(side.pool);
        support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
        cr_assert_eq(session_keep_lent(&side.session), -ENOMEM);
        support_allocator_fail(&allocator, 0, 0);
        cr_assert_eq(session_failure(&side.session), -ENOMEM);
        cr_assert_eq(session_output(&side.session, pieces, 4), 0);
        cr_assert_eq(side.session.out.bytes, 0);
        cr_assert_eq(session_keep_lent(&side.session), 0);
        cr_assert_eq(side_call(&side, "/m", ""), -ENOMEM);
        cr_assert_eq(session_output(&side.session, pieces, 4), 0);
        end();
    }
}
