/* SPDX-License-Identifier: MIT */
/* Bytes through a connection: ends, deadlines, signals, write-only mode. */
#include "lib/conn.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/support.h"

#define LOTS ((size_t)4 << 20) /* more than any socket buffer here takes */
#define LONG VOUCH_SECONDS(30)
#define FAR_BELOW VOUCH_SECONDS(10)

static struct vouch_conn *conns[2];

static void pair(void) {
    support_baseline_begin();
    signal(SIGPIPE, SIG_DFL); /* it would end the test */
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
}

static void free_pair(void) {
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

Test(conn_io, reads_what_is_there) {
    char bytes[16];
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "hello", 5), 0);
    cr_assert_eq(vouch_conn_read(conns[1], bytes, 0), 0);
    cr_assert_eq(vouch_conn_read(conns[1], bytes, 2), 2);
    cr_assert_eq(vouch_conn_read(conns[1], bytes + 2, sizeof(bytes) - 2), 3);
    cr_assert_arr_eq(bytes, "hello", 5);
    cr_assert_eq(vouch_conn_write(conns[0], "", 0), 0);
    free_pair();
}

Test(conn_io, the_end_of_file_comes_after_the_bytes_and_stays) {
    char bytes[16];
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "bye", 3), 0);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), -ECONNRESET);
    cr_assert_eq(vouch_conn_read(conns[1], bytes, sizeof(bytes)), 3);
    cr_assert_eq(vouch_conn_read(conns[1], bytes, sizeof(bytes)), 0);
    cr_assert_eq(vouch_conn_read(conns[1], bytes, sizeof(bytes)), 0);
    cr_assert_eq(vouch_conn_read_byte(conns[1], (uint8_t *)bytes), 0);
    cr_assert_eq(vouch_conn_write(conns[1], "still", 5), 0);
    cr_assert_eq(vouch_conn_read(conns[0], bytes, sizeof(bytes)), 5);
    free_pair();
}

Test(conn_io, bytes_one_by_one) {
    uint8_t byte;
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "ab", 2), 0);
    cr_assert_eq(vouch_conn_read_byte(conns[1], &byte), 1);
    cr_assert_eq(byte, 'a');
    cr_assert_eq(vouch_conn_read_byte(conns[1], &byte), 1);
    cr_assert_eq(byte, 'b');
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, 0), 0);
    cr_assert_eq(vouch_conn_read_byte(conns[1], &byte), -ETIMEDOUT);
    free_pair();
}

static void *write_slowly(void *conn) {
    for (const char *c = "abcdef"; *c; c++)
        if (vouch_conn_write(conn, c, 1) < 0)
            return "write failed";
    return NULL;
}

Test(conn_io, exactly_so_many_bytes) {
    char bytes[6];
    pair();
    pthread_t thread = support_thread_start(write_slowly, conns[0]);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes, 4), 0);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes + 4, 2), 0);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes, 0), 0);
    cr_assert_arr_eq(bytes, "abcdef", 6);
    cr_assert_null(support_thread_join(thread));
    free_pair();
}

Test(conn_io, exactly_so_many_bytes_or_the_peer_is_gone) {
    char bytes[6];
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "abc", 3), 0);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes, 4), -ECONNRESET);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes, 1), -ECONNRESET);
    free_pair();
}

Test(conn_io, exactly_so_many_bytes_before_the_deadline) {
    char bytes[6];
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "abc", 3), 0);
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, VOUCH_MILLISECONDS(1)), 0);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes, 4), -ETIMEDOUT);
    free_pair();
}

Test(conn_io, a_peer_gone_with_unread_bytes_is_a_reset) {
    char bytes[16];
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "unread", 6), 0);
    cr_assert_eq(vouch_conn_write(conns[1], "last words", 10), 0);
    vouch_conn_free(conns[1]);
    conns[1] = NULL;
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), -ECONNRESET);
    ssize_t taken;
    while ((taken = vouch_conn_read(conns[0], bytes, sizeof(bytes))) > 0)
        cr_assert_arr_eq(bytes, "last words", 10);
    cr_assert(taken == 0 || taken == -ECONNRESET);
    free_pair();
}

/* ---- deadlines ---- */

Test(conn_io, a_deadline_is_for_its_direction) {
    char bytes[4];
    pair();
    vouch_conn_set_deadline(conns[0], VOUCH_READ, vouch_now() - 1);
    cr_assert_eq(vouch_conn_write(conns[1], "ab", 2), 0);
    cr_assert_eq(vouch_conn_read(conns[0], bytes, 1), -ETIMEDOUT, "though there are bytes");
    cr_assert_eq(vouch_conn_read_exactly(conns[0], bytes, 1), -ETIMEDOUT);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), 0);
    vouch_conn_set_deadline(conns[0], VOUCH_WRITE, vouch_now() - 1);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), -ETIMEDOUT);
    vouch_conn_set_deadline(conns[0], VOUCH_READ, VOUCH_FOREVER);
    cr_assert_eq(vouch_conn_read(conns[0], bytes, 1), 1);
    vouch_conn_set_deadline(conns[0], VOUCH_BOTH, vouch_deadline_in(LONG));
    cr_assert_eq(vouch_conn_read(conns[0], bytes, 1), 1);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), 0);
    free_pair();
}

Test(conn_io, a_timeout_counts_anew_for_each_call) {
    char byte;
    pair();
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_BOTH, -1), -EINVAL);
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_READ, VOUCH_MILLISECONDS(1)), 0);
    for (int i = 0; i < 5; i++) {
        int64_t begin = vouch_now();
        cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -ETIMEDOUT);
        cr_assert_geq(vouch_now() - begin, VOUCH_MILLISECONDS(1));
    }
    cr_assert_eq(vouch_conn_write(conns[1], "x", 1), 0);
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), 1);
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_READ, 0), 0);
    cr_assert_eq(vouch_conn_write(conns[1], "x", 1), 0);
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), 1,
                 "a timeout of nothing takes what is there");
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -ETIMEDOUT);
    free_pair();
}

Test(conn_io, the_earlier_of_deadline_and_timeout_counts) {
    char byte;
    pair();
    int64_t begin = vouch_now();
    vouch_conn_set_deadline(conns[0], VOUCH_READ, vouch_deadline_in(LONG));
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_READ, VOUCH_MILLISECONDS(1)), 0);
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -ETIMEDOUT);
    vouch_conn_set_deadline(conns[0], VOUCH_READ, vouch_deadline_in(VOUCH_MILLISECONDS(1)));
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_READ, LONG), 0);
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -ETIMEDOUT);
    vouch_conn_set_deadline(conns[0], VOUCH_READ, VOUCH_FOREVER);
    cr_assert_eq(conn_read_until(conns[0], &byte, 1, vouch_deadline_in(VOUCH_MILLISECONDS(1))),
                 -ETIMEDOUT);
    cr_assert_lt(vouch_now() - begin, FAR_BELOW);
    free_pair();
}

Test(conn_io, a_limit_in_the_past_is_not_tried) {
    char byte;
    pair();
    cr_assert_eq(vouch_conn_write(conns[1], "x", 1), 0);
    cr_assert_eq(conn_read_until(conns[0], &byte, 1, vouch_now() - 1), -ETIMEDOUT);
    cr_assert_eq(conn_read_until(conns[0], &byte, 1, vouch_deadline_in(LONG)), 1);
    free_pair();
}

Test(conn_io, a_writer_to_a_slow_reader_times_out) {
    static const char lots[LOTS];
    size_t written;
    pair();
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_WRITE, VOUCH_MILLISECONDS(1)), 0);
    struct iovec piece = {.iov_base = (void *)lots, .iov_len = sizeof(lots)};
    cr_assert_eq(conn_writev_counted(conns[0], &piece, 1, &written), -ETIMEDOUT);
    cr_assert_gt(written, 0);
    cr_assert_lt(written, sizeof(lots));
    cr_assert_eq(vouch_conn_write(conns[0], lots, sizeof(lots)), -ETIMEDOUT);
    free_pair();
}

/* ---- writing in pieces ---- */

struct transfer {
    struct vouch_conn *conn;
    uint8_t *bytes;
    size_t size;
    atomic_bool done;
    pthread_t target;
};

static void *receive_all(void *context) {
    struct transfer *transfer = context;
    return vouch_conn_read_exactly(transfer->conn, transfer->bytes, transfer->size) == 0
               ? NULL
               : "read failed";
}

Test(conn_io, pieces_arrive_in_order_whole) {
    enum { PIECES = 64, SIZE = 30000 };
    static uint8_t sent[PIECES * SIZE], received[sizeof(sent)];
    struct support_random random;
    support_random_init(&random);
    support_random_fill(&random, sent, sizeof(sent));
    pair();
    struct iovec pieces[PIECES];
    size_t offset = 0;
    for (int i = 0; i < PIECES; i++) {
        size_t size = i == 0 || i == 63 || i % 7 == 3 ? 0 : support_random_below(&random, SIZE);
        pieces[i] = (struct iovec){sent + offset, size};
        offset += size;
    }
    struct transfer transfer = {.conn = conns[1], .bytes = received, .size = offset};
    pthread_t thread = support_thread_start(receive_all, &transfer);
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, PIECES), 0);
    cr_assert_null(support_thread_join(thread));
    cr_assert_arr_eq(sent, received, offset);
    cr_assert_eq(pieces[1].iov_base, sent, "the caller's pieces are not changed");
    free_pair();
}

Test(conn_io, bounds_of_pieces) {
    struct iovec pieces[65] = {{0}};
    char byte;
    pair();
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, 0), -EINVAL);
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, -1), -EINVAL);
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, 65), -EINVAL);
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, 64), 0);
    pieces[0] = (struct iovec){&byte, (size_t)SSIZE_MAX + 1};
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, 1), -EINVAL);
    pieces[0] = pieces[1] = (struct iovec){&byte, SSIZE_MAX / 2 + 1};
    cr_assert_eq(vouch_conn_writev(conns[0], pieces, 2), -EINVAL);
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, 0), 0);
    cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), -ETIMEDOUT, "nothing was sent");
    free_pair();
}

/* Advancing over any pieces in any steps visits every byte once, in order. */
Test(conn_io, advancing_visits_every_byte_once) {
    struct support_random random;
    support_random_init(&random);
    for (int round = 0; round < VOUCH_TEST_ROUNDS(20000, 2000); round++) {
        static uint8_t bytes[256];
        struct iovec pieces[8], *rest = pieces;
        int count = 1 + (int)support_random_below(&random, 8);
        size_t total = 0;
        for (int i = 0; i < count; i++) {
            size_t size = support_random_below(&random, 3) ? support_random_below(&random, 32) : 0;
            pieces[i] = (struct iovec){bytes + total, size};
            total += size;
        }
        size_t at = 0;
        conn_advance(&rest, &count, 0);
        while (count > 0) {
            cr_assert_gt(rest->iov_len, 0);
            cr_assert_eq(rest->iov_base, bytes + at);
            size_t left = 0;
            for (int i = 0; i < count; i++)
                left += rest[i].iov_len;
            cr_assert_eq(left, total - at);
            size_t step = 1 + support_random_below(&random, left);
            conn_advance(&rest, &count, step);
            at += step;
        }
        cr_assert_eq(at, total);
    }
}

/* ---- without waiting ---- */

Test(conn_io, trying_without_waiting) {
    static char lots[LOTS];
    char byte;
    struct iovec piece = {lots, sizeof(lots)};
    pair();
    cr_assert_eq(conn_recv_now(conns[0], &byte, 1), -EAGAIN);
    ssize_t sent = 0, total = 0;
    while ((sent = conn_send_now(conns[0], &piece, 1)) > 0)
        total += sent;
    cr_assert_eq(sent, -EAGAIN);
    cr_assert_gt(total, 0);
    cr_assert_eq(conn_poll(conns[0], POLLOUT, vouch_deadline_in(VOUCH_MILLISECONDS(1))),
                 -ETIMEDOUT);
    cr_assert_eq(conn_poll(conns[1], POLLIN, VOUCH_FOREVER), 0);
    ssize_t taken = 0;
    while ((taken = conn_recv_now(conns[1], lots, sizeof(lots))) > 0)
        total -= taken;
    cr_assert_eq(taken, -EAGAIN);
    cr_assert_eq(total, 0);
    cr_assert_eq(conn_poll(conns[0], POLLOUT, VOUCH_FOREVER), 0);

    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(conn_recv_now(conns[1], &byte, 1), 0);
    vouch_conn_free(conns[0]);
    cr_assert_eq(conn_send_now(conns[1], &piece, 1), -ECONNRESET);
    vouch_conn_close(conns[1]);
    cr_assert_eq(conn_recv_now(conns[1], &byte, 1), -ESHUTDOWN);
    cr_assert_eq(conn_send_now(conns[1], &piece, 1), -ESHUTDOWN);
    cr_assert_eq(conn_poll(conns[1], POLLIN, VOUCH_FOREVER), 0);
    conns[0] = NULL;
    free_pair();
}

/* ---- signals ---- */

static void ignore_signal(int number) {
    (void)number;
}

/* A storm of signals that interrupt system calls, until the transfer is done. */
static void *interrupt(void *context) {
    struct transfer *transfer = context;
    while (!atomic_load(&transfer->done))
        pthread_kill(transfer->target, SIGUSR1);
    return NULL;
}

static void *send_all(void *context) {
    struct transfer *transfer = context;
    return vouch_conn_write(transfer->conn, transfer->bytes, transfer->size) == 0 ? NULL
                                                                                  : "write failed";
}

static void transfer_under_signals(int64_t deadline) {
    static uint8_t sent[LOTS], received[LOTS];
    struct support_random random;
    support_random_init(&random);
    support_random_fill(&random, sent, sizeof(sent));
    struct sigaction action = {.sa_handler = ignore_signal}; /* no SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
    pair();
    vouch_conn_set_deadline(conns[0], VOUCH_BOTH, deadline);
    vouch_conn_set_deadline(conns[1], VOUCH_BOTH, deadline);

    struct transfer writing = {.conn = conns[0], .bytes = sent, .size = sizeof(sent)};
    struct transfer storm = {.target = pthread_self()};
    pthread_t storm_at_reader = support_thread_start(interrupt, &storm);
    pthread_t writer = support_thread_start(send_all, &writing);
    struct transfer second_storm = {.target = writer};
    pthread_t storm_at_writer = support_thread_start(interrupt, &second_storm);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], received, sizeof(received)), 0);
    atomic_store(&storm.done, true);
    atomic_store(&second_storm.done, true);
    support_thread_join(storm_at_reader);
    support_thread_join(storm_at_writer);
    cr_assert_null(support_thread_join(writer));
    cr_assert_arr_eq(sent, received, sizeof(sent));
    free_pair();
}

Test(conn_io, signals_do_not_show) {
    transfer_under_signals(VOUCH_FOREVER);
}

Test(conn_io, signals_do_not_show_with_a_deadline) {
    transfer_under_signals(vouch_deadline_in(VOUCH_SECONDS(50)));
}

/* ---- write-only mode ---- */

Test(conn_io, write_only_throws_away_what_comes) {
    char byte;
    pair();
    cr_assert_eq(vouch_conn_wait_closed(conns[0], VOUCH_FOREVER), -EINVAL);
    vouch_conn_set_write_only(conns[0]);
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -EPERM);
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 0), -EPERM);
    cr_assert_eq(vouch_conn_read_exactly(conns[0], &byte, 1), -EPERM);
    cr_assert_eq(vouch_conn_read_byte(conns[0], (uint8_t *)&byte), -EPERM);
    cr_assert_eq(vouch_conn_write(conns[1], "ignored", 7), 0);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), 0);
    cr_assert_eq(conn_recv_now(conns[0], &byte, 1), -EAGAIN, "it is gone");
    cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 1);
    free_pair();
}

Test(conn_io, write_only_sees_that_the_peer_stopped_sending) {
    pair();
    vouch_conn_set_write_only(conns[0]);
    cr_assert_eq(vouch_conn_write(conns[1], "last", 4), 0);
    cr_assert_eq(vouch_conn_shutdown_write(conns[1]), 0);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), -ECONNRESET);
    cr_assert_eq(vouch_conn_wait_closed(conns[0], VOUCH_FOREVER), 0);
    free_pair();
}

Test(conn_io, waiting_for_the_peer_to_go) {
    char byte;
    pair();
    vouch_conn_set_write_only(conns[0]);
    cr_assert_eq(vouch_conn_write(conns[1], "ignored", 7), 0);
    cr_assert_eq(vouch_conn_wait_closed(conns[0], vouch_deadline_in(VOUCH_MILLISECONDS(1))),
                 -ETIMEDOUT);
    cr_assert_eq(conn_recv_now(conns[0], &byte, 1), -EAGAIN);
    cr_assert_eq(vouch_conn_wait_closed(conns[0], vouch_now() - 1), -ETIMEDOUT);
    vouch_conn_free(conns[1]);
    conns[1] = NULL;
    cr_assert_eq(vouch_conn_wait_closed(conns[0], VOUCH_FOREVER), 0);
    vouch_conn_close(conns[0]);
    cr_assert_eq(vouch_conn_wait_closed(conns[0], VOUCH_FOREVER), -ESHUTDOWN);
    free_pair();
}

static void *flood(void *context) {
    struct transfer *transfer = context;
    static const char bytes[4096];
    while (!atomic_load(&transfer->done) &&
           vouch_conn_write(transfer->conn, bytes, sizeof(bytes)) == 0)
        ;
    return NULL;
}

Test(conn_io, a_flood_holds_up_neither_writes_nor_the_deadline) {
    char byte;
    pair();
    vouch_conn_set_write_only(conns[0]);
    struct transfer transfer = {.conn = conns[1]};
    pthread_t thread = support_thread_start(flood, &transfer);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(vouch_conn_write(conns[0], "x", 1), 0);
        cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 1);
        cr_assert_eq(vouch_conn_wait_closed(conns[0], vouch_deadline_in(VOUCH_MILLISECONDS(1))),
                     -ETIMEDOUT);
    }
    atomic_store(&transfer.done, true);
    vouch_conn_close(conns[0]);
    support_thread_join(thread);
    free_pair();
}

static void *close_conn(void *conn) {
    vouch_conn_close(conn);
    return NULL;
}

Test(conn_io, waiting_ends_when_this_side_closes) {
    pair();
    vouch_conn_set_write_only(conns[0]);
    pthread_t thread = support_thread_start(close_conn, conns[0]);
    cr_assert_eq(vouch_conn_wait_closed(conns[0], VOUCH_FOREVER), -ESHUTDOWN);
    support_thread_join(thread);
    free_pair();
}

/* ---- naps ---- */

Test(conn_io, a_nap_ends_with_what_is_there) {
    char bytes[16];
    pair();
    cr_assert_eq(vouch_conn_write(conns[0], "hello", 5), 0);
    int64_t begun = vouch_now();
    cr_assert_eq(conn_recv_nap(conns[1], bytes, 2), 2);
    cr_assert_eq(conn_recv_nap(conns[1], bytes + 2, sizeof(bytes) - 2), 3);
    cr_assert_arr_eq(bytes, "hello", 5);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(conn_recv_nap(conns[1], bytes, sizeof(bytes)), 0);
    cr_assert_lt(vouch_now() - begun, FAR_BELOW);
    free_pair();
}

Test(conn_io, a_nap_without_bytes_is_short) {
    char bytes[16];
    pair();
    int64_t begun = vouch_now();
    cr_assert_eq(conn_recv_nap(conns[1], bytes, sizeof(bytes)), -EAGAIN);
    int64_t elapsed = vouch_now() - begun;
    cr_assert_geq(elapsed, CONN_NAP / 2, "it did sleep");
    cr_assert_lt(elapsed, FAR_BELOW);
    free_pair();
}

static void *write_byte(void *conn) {
    return vouch_conn_write(conn, "x", 1) < 0 ? "write failed" : NULL;
}

Test(conn_io, bytes_end_a_nap) {
    char byte;
    ssize_t got;
    pair();
    pthread_t thread = support_thread_start(write_byte, conns[0]);
    int64_t give_up = vouch_deadline_in(LONG);
    while ((got = conn_recv_nap(conns[1], &byte, 1)) == -EAGAIN)
        cr_assert_lt(vouch_now(), give_up);
    cr_assert_eq(got, 1);
    cr_assert_eq(byte, 'x');
    cr_assert_null(support_thread_join(thread));
    free_pair();
}

Test(conn_io, a_close_ends_naps) {
    char byte;
    ssize_t got;
    pair();
    int64_t begun = vouch_now();
    pthread_t thread = support_thread_start(close_conn, conns[1]);
    while ((got = conn_recv_nap(conns[1], &byte, 1)) == -EAGAIN)
        cr_assert_lt(vouch_now() - begun, LONG);
    cr_assert_eq(got, -ESHUTDOWN);
    cr_assert_eq(conn_recv_nap(conns[1], &byte, 1), -ESHUTDOWN);
    cr_assert_lt(vouch_now() - begun, FAR_BELOW);
    support_thread_join(thread);
    free_pair();
}

/* The timeout that the socket has from then on is nobody else's. */
Test(conn_io, reading_waits_on_after_a_nap) {
    char bytes[8];
    pair();
    cr_assert_eq(conn_recv_nap(conns[1], bytes, sizeof(bytes)), -EAGAIN);
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, 3 * CONN_NAP), 0);
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_conn_read(conns[1], bytes, sizeof(bytes)), -ETIMEDOUT);
    cr_assert_geq(vouch_now() - begun, 2 * CONN_NAP);
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, VOUCH_FOREVER), 0);
    pthread_t thread = support_thread_start(write_slowly, conns[0]);
    cr_assert_eq(vouch_conn_read_exactly(conns[1], bytes, 6), 0);
    cr_assert_arr_eq(bytes, "abcdef", 6);
    cr_assert_null(support_thread_join(thread));
    free_pair();
}

/* ---- room for sending ---- */

static size_t send_room(void) {
    int value = 0;
    socklen_t size = sizeof(value);
    cr_assert_eq(getsockopt(vouch_conn_get_fd(conns[0]), SOL_SOCKET, SO_SNDBUF, &value, &size), 0);
    return (size_t)value;
}

Test(conn_io, the_room_for_sending_grows_up_to_its_maximum) {
    const size_t kib = 1024, max = 384 * kib;
    pair();
    size_t before = send_room();
    cr_assert_not(conn_grow_send_room(conns[0], 1000 * kib, 128 * kib - 1), "not for so little");
    cr_assert_eq(send_room(), before);
    cr_assert(conn_grow_send_room(conns[0], 250 * kib, max));
    size_t grown = send_room();
    cr_assert_geq(grown, 250 * kib);
    cr_assert_not(conn_grow_send_room(conns[0], 250 * kib, max), "it has been asked for");
    cr_assert_not(conn_grow_send_room(conns[0], 100 * kib, max));
    cr_assert_not(conn_grow_send_room(conns[0], 1000 * kib, max));
    cr_assert_eq(send_room(), grown);
    free_pair();
}

Test(conn_io, the_maximum_of_the_room_for_sending_may_be_raised) {
    const size_t kib = 1024;
    pair();
    size_t before = send_room();
    cr_assert_not(conn_grow_send_room(conns[0], 4000 * kib, 128 * kib), "never shrinks");
    cr_assert_eq(send_room(), before);
    cr_assert(conn_grow_send_room(conns[0], 4000 * kib, before + 128 * kib));
    cr_assert_eq(conns[0]->send_room, before + 128 * kib, "not more than the maximum");
    cr_assert_not(conn_grow_send_room(conns[0], 4000 * kib, before + 128 * kib));
    cr_assert(conn_grow_send_room(conns[0], 4000 * kib, before + 256 * kib));
    cr_assert_eq(conns[0]->send_room, before + 256 * kib);
    free_pair();
}
