/* SPDX-License-Identifier: MIT */
/* What Linux says of senders and of room, and what it lets pass: the limits that the header tells
 * of are these. */
#include "lib/datagram.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/socket.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX];
static struct vouch_datagram *receiver;
static struct vouch_datagram_message message;
static struct vouch_error error;

static struct vouch_datagram *must_open(const struct vouch_datagram_options *options) {
    struct vouch_datagram *datagram;
    cr_assert_eq(vouch_datagram_open(options, &datagram, &error), 0, "%s", error.message);
    return datagram;
}

/* Everybody with a uid may send. */
static void setup(void) {
    support_baseline_begin();
    const struct vouch_rule rules[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0}};
    const struct vouch_policy policy = {rules, 1};
    const struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                                   .address = support_temp_path(path, "d"),
                                                   .policy = &policy, .mode = 0666};
    receiver = must_open(&options);
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
}

static void teardown(void) {
    vouch_datagram_free(receiver);
    support_baseline_end();
}

TestSuite(datagram_linux, .init = setup, .fini = teardown);

/* One message with this control data: 0 or the errno. */
static int send_with(int type, const void *data, size_t size) {
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct address_sockaddr to;
    if (address_of_path(path, &to) < 0)
        return EINVAL;
    struct iovec piece = {"claim", 5};
    struct msghdr header = {.msg_name = &to.un,
                            .msg_namelen = to.length,
                            .msg_iov = &piece,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = CMSG_SPACE(size)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), data, size);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int r = sendmsg(fd, &header, 0) < 0 ? errno : 0;
    close(fd);
    return r;
}

static int claim(uid_t uid, gid_t gid, pid_t pid) {
    const struct ucred credentials = {.pid = pid, .uid = uid, .gid = gid};
    return send_with(SCM_CREDENTIALS, &credentials, sizeof(credentials));
}

static void take(void) {
    char bytes[16];
    cr_assert_eq(vouch_datagram_try_recv(receiver, bytes, sizeof(bytes), &message), 0);
}

static int lie(void *context) {
    (void)context;
    peers_become(PEERS_UID, PEERS_GID);
    return claim(0, PEERS_GID, getpid()) == EPERM && claim(PEERS_UID, 0, getpid()) == EPERM &&
                   claim(PEERS_UID, PEERS_GID, getppid()) == EPERM &&
                   claim(PEERS_UID, PEERS_GID, getpid()) == 0
               ? 0
               : 1;
}

Test(datagram_linux, who_has_no_rights_can_not_claim_to_be_another) {
    peers_need_root();
    cr_assert_eq(peers_run(lie, NULL), 0);
    take();
    cr_assert_eq(message.sender.uid, PEERS_UID);
    cr_assert_eq(message.sender.gid, PEERS_GID);
    char byte;
    cr_assert_eq(vouch_datagram_try_recv(receiver, &byte, 1, &message), -EAGAIN);
}

static int send_with_real_ids_of_another(void *context) {
    (void)context;
    if (setresgid(PEERS_GID, 0, 0) < 0 || setresuid(PEERS_UID, 0, 0) < 0)
        return 1;
    struct vouch_datagram *sender = must_open(NULL);
    int r = vouch_datagram_send(sender, vouch_datagram_get_address(receiver), "x", 1, 0, NULL);
    vouch_datagram_free(sender);
    return r == 0 ? 0 : 2;
}

/* Not the effective ones, as at a connect: a set-uid program sends as who has started it. */
Test(datagram_linux, the_real_ids_count) {
    peers_need_root();
    cr_assert_eq(peers_run(send_with_real_ids_of_another, NULL), 0);
    take();
    cr_assert_eq(message.sender.uid, PEERS_UID);
    cr_assert_eq(message.sender.gid, PEERS_GID);
}

/* The documented limit: CAP_SETUID, CAP_SETGID and CAP_SYS_ADMIN may. */
Test(datagram_linux, root_can_claim_to_be_anybody) {
    peers_need_root();
    int r = claim(PEERS_UID_OTHER, PEERS_GID, getppid());
    if (r == EPERM)
        cr_skip_test("root without these rights");
    cr_assert_eq(r, 0);
    take();
    cr_assert_eq(message.sender.uid, PEERS_UID_OTHER);
    cr_assert_eq(message.sender.gid, PEERS_GID);
}

static int send_and_end(void *context) {
    *(pid_t *)context = getpid();
    return claim(geteuid(), getegid(), getpid());
}

Test(datagram_linux, the_sender_may_be_gone) {
    pid_t pid = 0;
    cr_assert_eq(peers_run(send_and_end, &pid), 0);
    take();
    cr_assert(message.sender.known & VOUCH_KNOWN_PID);
    cr_assert_neq(message.sender.pid, getpid());
}

/* EPERM is SO_PASSRIGHTS of the receiver, where the kernel has it. */
Test(datagram_linux, descriptors_never_get_in) {
    size_t open = support_count_fds();
    int fd = receiver->fd, r = send_with(SCM_RIGHTS, &fd, sizeof(fd));
    cr_assert(r == 0 || r == EPERM, "%d", r);
    int on = 1;
    (void)setsockopt(receiver->fd, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &on, sizeof(on));
    cr_assert_eq(send_with(SCM_RIGHTS, &fd, sizeof(fd)), 0);
    for (int i = r == 0 ? 2 : 1; i > 0; i--)
        take();
    cr_assert_eq(message.size, 5);
    cr_assert_eq(support_count_fds(), open);
}

/* SO_PASSCRED would make the kernel give it a name at the first send. */
Test(datagram_linux, who_has_no_address_gets_none_by_sending) {
    struct vouch_datagram *sender = must_open(NULL);
    const struct vouch_datagram_address *to = vouch_datagram_get_address(receiver);
    cr_assert_eq(vouch_datagram_send(sender, to, "x", 1, 0, NULL), 0);
    cr_assert_eq(vouch_datagram_connect(sender, to, NULL), 0);
    cr_assert_eq(vouch_datagram_send(sender, NULL, "x", 1, 0, NULL), 0);
    take();
    take();
    cr_assert_eq(message.from.size, 0);
    vouch_datagram_free(sender);
}

Test(datagram_linux, a_made_up_name_can_be_answered) {
    const struct vouch_datagram_options own = {VOUCH_OPTIONS(own), .autobind = true};
    struct vouch_datagram *client = must_open(&own);
    const struct vouch_datagram_address *name = vouch_datagram_get_address(client);
    cr_assert_eq(name->text[0], '@');
    cr_assert_eq(name->size, 6, "%s", name->text);
    cr_assert_eq(vouch_datagram_send(client, vouch_datagram_get_address(receiver), "?", 1, 0, NULL),
                 0);
    take();
    cr_assert_arr_eq(&message.from, name, sizeof(*name));
    cr_assert_eq(vouch_datagram_send(receiver, &message.from, "!", 1, 0, &error),
                 VOUCH_E_ABSTRACT_OFF);
    const struct vouch_datagram_options allowing = {
        VOUCH_OPTIONS(allowing), .allow_abstract_destinations_that_any_user_can_take = true};
    struct vouch_datagram *server = must_open(&allowing);
    char byte;
    cr_assert_eq(vouch_datagram_send(server, &message.from, "!", 1, 0, &error), 0);
    cr_assert_eq(vouch_datagram_try_recv(client, &byte, 1, &message), 0);
    cr_assert_eq(byte, '!');
    vouch_datagram_free(server);
    struct vouch_datagram_address was = *name;
    vouch_datagram_free(client);
    server = must_open(&allowing);
    cr_assert_eq(vouch_datagram_send(server, &was, "!", 1, 0, &error), -ECONNREFUSED);
    cr_assert_not_null(strstr(error.message, was.text));
    vouch_datagram_free(server);
}

Test(datagram_linux, an_abstract_name_of_ones_own) {
    char name[64];
    snprintf(name, sizeof(name), "@vouch-datagram-%ld", (long)getpid());
    const struct vouch_datagram_options options = {
        VOUCH_OPTIONS(options), .address = name,
        .allow_abstract_name_that_any_user_can_reach = true,
        .allow_abstract_destinations_that_any_user_can_take = true};
    struct vouch_datagram *named = must_open(&options), *second;
    cr_assert_eq(vouch_datagram_open(&options, &second, &error), VOUCH_E_ADDRESS_LIVE);
    const struct vouch_datagram_address *own = vouch_datagram_get_address(named);
    cr_assert_str_eq(own->text, name);
    cr_assert_eq(vouch_datagram_connect(named, own, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_datagram_send(named, NULL, "x", 1, 0, NULL), 0);
    char byte;
    cr_assert_eq(vouch_datagram_try_recv(named, &byte, 1, &message), 0);
    cr_assert_str_eq(message.from.text, name);
    vouch_datagram_free(named);
}

static bool is_writable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    return poll(&entry, 1, 0) > 0;
}

/* Why there are helpers. */
Test(datagram_linux, only_a_connected_socket_tells_of_room) {
    struct vouch_datagram *sender = must_open(NULL);
    const struct vouch_datagram_address *to = vouch_datagram_get_address(receiver);
    struct address_sockaddr at;
    cr_assert_eq(datagram_address_pack(to, &at), 0);
    int helper = datagram_open_helper(&at);
    cr_assert_geq(helper, 0);
    cr_assert(is_writable(helper));
    while (vouch_datagram_try_send(sender, to, "x", 1, NULL) == 0)
        continue;
    cr_assert(is_writable(sender->fd), "it does not tell");
    cr_assert_not(is_writable(helper));
    take();
    cr_assert(is_writable(helper));
    close(helper);
    vouch_datagram_close(receiver);
    cr_assert_eq(datagram_open_helper(&at), -ENOENT);
    vouch_datagram_free(sender);
}

/* The documented limit: the bound of its queue is not for messages of the one that it has connected
 * to, so that our own buffer is all there is, and full for everybody. */
Test(datagram_linux, who_has_connected_to_us_and_does_not_read_fills_our_buffer) {
    char own[SUPPORT_PATH_MAX], elsewhere[SUPPORT_PATH_MAX];
    const struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                                   .address = support_temp_path(own, "own")};
    const struct vouch_datagram_options other_options = {
        VOUCH_OPTIONS(other_options), .address = support_temp_path(elsewhere, "other")};
    struct vouch_datagram *sender = must_open(&options), *other = must_open(&other_options);
    cr_assert_eq(vouch_datagram_connect(receiver, vouch_datagram_get_address(sender), &error), 0);
    const struct vouch_datagram_address *to = vouch_datagram_get_address(receiver);
    int count = 0, r;
    while ((r = vouch_datagram_try_send(sender, to, "x", 1, NULL)) == 0)
        count++;
    cr_assert_eq(r, -EAGAIN);
    cr_assert_not(is_writable(sender->fd), "after %d", count);
    to = vouch_datagram_get_address(other);
    cr_assert_eq(vouch_datagram_try_send(sender, to, "x", 1, NULL), -EAGAIN);
    for (; count > 0; count--)
        take();
    cr_assert_eq(vouch_datagram_try_send(sender, to, "x", 1, NULL), 0);
    vouch_datagram_free(sender);
    vouch_datagram_free(other);
}

/* A copy of the descriptor in another process can end it. */
Test(datagram_linux, a_copy_that_is_shut_down_ends_it) {
    cr_assert_eq(shutdown(receiver->fd, SHUT_RD), 0);
    char byte;
    cr_assert_eq(vouch_datagram_recv(receiver, &byte, 1, VOUCH_FOREVER, &message), -ESHUTDOWN);
    struct vouch_datagram *sender = must_open(NULL);
    cr_assert_eq(vouch_datagram_send(sender, vouch_datagram_get_address(receiver), "x", 1, 0, NULL),
                 -ECONNREFUSED);
    vouch_datagram_free(sender);
}
