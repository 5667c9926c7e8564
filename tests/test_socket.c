/* SPDX-License-Identifier: MIT */
/* Connecting without waiting: every answer that connect(2) has. */
#include "lib/socket.h"

#include <errno.h>
#include <unistd.h>
#include <vouch/conn.h>

#include "lib/os.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX];
static struct address_sockaddr to;
static int fd;

static void setup(void) {
    support_baseline_begin();
    cr_assert_eq(address_of_path(support_temp_path(path, "s"), &to), 0);
    fd = os_socket_stream();
    cr_assert_eq(os_set_nonblocking(fd, true), 0);
}

static void teardown(void) {
    close(fd);
    support_baseline_end();
}

TestSuite(socket, .init = setup, .fini = teardown);

Test(socket, nobody_there) {
    cr_assert_eq(socket_connect_now(fd, &to), -ENOENT);
    close(peers_bind(path));
    cr_assert_eq(socket_connect_now(fd, &to), -ECONNREFUSED);
}

Test(socket, somebody_there) {
    int server = peers_listen(path, 5);
    cr_assert_eq(socket_connect_now(fd, &to), 0);
    cr_assert_eq(socket_connect_now(fd, &to), 0, "connected already");
    cr_assert_eq(socket_error(fd), 0);
    close(server);
}

static int connect_failing(int error) {
    const struct faults_plan plan = {.symbol = "connect", .call = 1, .error = error};
    faults_begin(&plan);
    int r = socket_connect_now(fd, &to);
    faults_end();
    return r;
}

Test(socket, interrupted_or_under_way) {
    int server = peers_listen(path, 5);
    cr_assert_eq(connect_failing(EINTR), 0);
    cr_assert_eq(connect_failing(EISCONN), 0);
    cr_assert_eq(connect_failing(EALREADY), -EINPROGRESS);
    cr_assert_eq(connect_failing(EINPROGRESS), -EINPROGRESS);
    cr_assert_eq(connect_failing(EAGAIN), -EAGAIN);
    close(server);
}

Test(socket, error_of_what_is_no_socket) {
    cr_assert_eq(socket_error(-1), -EBADF);
}

Test(socket, how_large_packets_can_be) {
    int small = 8192, room;
    socklen_t size = sizeof(room);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size), 0);
    size_t max = socket_packet_max(fd);
    cr_assert_eq(max, (size_t)room - 32);
    cr_assert_eq(socket_raise_packet_max(fd, 0), max);
    cr_assert_eq(socket_raise_packet_max(fd, max), max, "as large as that already");
    cr_assert_geq(socket_raise_packet_max(fd, max + 1), max + 1);
    size_t most = socket_raise_packet_max(fd, SIZE_MAX);
    cr_assert_geq(most, max + 1);
    cr_assert_leq(most, VOUCH_PACKET_SIZE_BOUND);
    cr_assert_eq(socket_packet_max(-1), 0);
}
