/* SPDX-License-Identifier: MIT */
/*
 * Datagrams: single messages to and from addresses, without connections (UNIX, SOCK_DGRAM).
 *
 * A message arrives whole, in order, and once, or its sender is told why not; nobody answers for
 * it. With each comes who sent it, as the kernel has checked it when it was sent (Linux), and only
 * messages of those whom the policy allows are handed out. Nobody vouches for the *receiver*: who
 * may bind a path is a matter of its directory, an abstract name belongs to who comes first.
 *
 * Any thread may call any function at any time but vouch_datagram_free; two receivers get different
 * messages. docs/packets.md tells what to use when.
 *
 * What the identity of a message is worth (SCM_CREDENTIALS, unix(7)): uid and gid are the *real*
 * ones of the sending process, other than at a connect (a set-uid program sends as who has started
 * it), unless it says others that it may say: its effective or saved ones, with CAP_SETUID or
 * CAP_SETGID any; its pid likewise, with CAP_SYS_ADMIN another's. The process may be
 * gone when the message is read, and its pid somebody else's. It is the one that called send(2),
 * wherever it has the socket from. Supplementary groups are not told: a rule that denies a group
 * denies all, one that allows a group sees the primary one only.
 */
#ifndef VOUCH_DATAGRAM_H
#define VOUCH_DATAGRAM_H

#include <sys/types.h>
#include <vouch/common.h>
#include <vouch/error.h>
#include <vouch/identity.h>
#include <vouch/memory.h>
#include <vouch/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_datagram;

/* Bytes of an address, at most: struct sockaddr_un has room for 108 (104 on some systems), and "./"
 * may stand before them. */
#define VOUCH_DATAGRAM_ADDRESS_MAX 112

/* Where a message came from or goes to; a value, to be copied freely. */
struct vouch_datagram_address {
    size_t size; /* bytes in `text`; 0: none, such a sender can't be answered */
    /* A path, or "@" and an abstract name, with a NUL behind it. A path is as its owner bound it:
     * a relative one is meant from *its* working directory. An abstract name may have any bytes. */
    char text[VOUCH_DATAGRAM_ADDRESS_MAX + 1];
};

/* Makes an address of a path or "@name". VOUCH_E_PATH_EMPTY, VOUCH_E_PATH_TOO_LONG (there is no way
 * around sun_path here), -EINVAL for NULL. `ret_error` may be NULL. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_address_of(const char *text,
                                                         struct vouch_datagram_address *ret_address,
                                                         struct vouch_error *ret_error);

struct vouch_datagram_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */

    /* The own address, a path or "@name"; NULL: none. Without one, messages can only be sent. */
    const char *address;
    /* Instead: an abstract name that the system makes up (Linux). For who wants answers: who gives
     * them has to allow_abstract_destinations_that_any_user_can_take. */
    bool autobind;
    /* Whose messages are handed out; NULL: same uid and root. Copied. Others' are dropped and
     * counted. */
    const struct vouch_policy *policy;
    /* Where the system does not say who sends (all but Linux): hand their messages out all the
     * same. Off, an own address is refused there with -ENOTSUP. */
    bool allow_senders_without_identity;

    /* Of the socket file of `address`, as in struct vouch_listen_options. Who lacks write
     * permission can't send. 0: 0600. */
    mode_t mode;
    bool set_uid, set_gid;
    uid_t uid;
    gid_t gid;
    bool allow_unsafe_parent;
    /* "@name" as own address: anybody in the network namespace can send to it, and who comes first
     * has it. Not needed for autobind. */
    bool allow_abstract_name_that_any_user_can_reach;
    /* Send to abstract names, also to answer a sender that has one. */
    bool allow_abstract_destinations_that_any_user_can_take;

    /* For a loop of one's own: called from vouch_datagram_process, without locks, when it makes
     * sense to try again what vouch_datagram_try_send has answered -EAGAIN to. `to` is NULL for the
     * default destination. With `to->size` 0 all that were not told by name are meant: see
     * VOUCH_DATAGRAM_CONGESTED_MAX. It may call everything but vouch_datagram_free. */
    void (*on_writable)(void *context, const struct vouch_datagram_address *to);
    void *context;
};

/* Makes a socket. A path is published under its lock file as by vouch_listen, replacing a stale
 * socket and refusing all else, but in place and not by a rename, because the address that
 * receivers see is the one of bind(2); it starts with mode 0600. It has to fit sun_path.
 * `options` and `ret_error` may be NULL. Returns 0; -EINVAL (both kinds of address; as
 * vouch_listen), -ENOMEM, -ENOTSUP (no identities here, no abstract names), VOUCH_E_FILE_SWAPPED,
 * and what vouch_listen returns for addresses. Any thread; does file-system work. */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_open(const struct vouch_datagram_options *options,
                                                   struct vouch_datagram **ret_datagram,
                                                   struct vouch_error *ret_error);

/* Makes `to` the default destination, of this life: when its owner goes, sending answers
 * -ECONNREFUSED until this is called again. From now on the kernel lets only that destination send
 * to us. Errors: VOUCH_E_SYMLINK, VOUCH_E_NOT_SOCKET, VOUCH_E_FILE_SWAPPED, VOUCH_E_ABSTRACT_OFF,
 * -ENOENT, -ECONNREFUSED (nobody has it any more), -EACCES, -EPROTOTYPE (another kind of socket),
 * -EPERM (it takes messages of another one only), -EINVAL (an empty address), -ESHUTDOWN, -ECHILD.
 */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_connect(struct vouch_datagram *datagram,
                                                      const struct vouch_datagram_address *to,
                                                      struct vouch_error *ret_error);

/* Sends one message, waiting until `deadline` for room in the receiver's queue (on Linux it has 11
 * places at first, net.unix.max_dgram_qlen) and our own buffer, where what any receiver has not
 * read counts (SO_SNDBUF). `to` NULL is the default destination. `data` may be NULL when `size` is
 * 0, which is a message like any other. Returns 0; -ETIMEDOUT; -EMSGSIZE (over
 * vouch_datagram_get_packet_max, which the message names); -ECONNREFUSED: nobody receives at `to`;
 * -ENOENT: there is no such file; -EACCES, -EPERM (it takes messages of another one only),
 * -EPROTOTYPE, -EDESTADDRREQ (no destination), VOUCH_E_ABSTRACT_OFF, -EINVAL (an empty address),
 * -ESHUTDOWN, -ECHILD, other errnos. Nothing was sent then. The address is in the message of
 * `ret_error` (may be NULL). Symbolic links are followed, as by sendto(2). */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_send(struct vouch_datagram *datagram,
                                                   const struct vouch_datagram_address *to,
                                                   const void *data, size_t size, int64_t deadline,
                                                   struct vouch_error *ret_error);

/* Destinations without room that are remembered at a time. One that never has room keeps its place:
 * those for which there is none, or no memory, share a call of on_writable with an empty address,
 * 10 ms later. Nobody can keep another from being told. */
#define VOUCH_DATAGRAM_CONGESTED_MAX 64

/* The same without waiting: -EAGAIN when there is no room. With `on_writable` set, that will be
 * called once when there is. */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_try_send(struct vouch_datagram *datagram,
                                                       const struct vouch_datagram_address *to,
                                                       const void *data, size_t size,
                                                       struct vouch_error *ret_error);

struct vouch_datagram_message {
    size_t size;   /* of the message, which may be more than the buffer has room for */
    size_t stored; /* bytes of it that are in the buffer */
    struct vouch_datagram_address from;
    /* Who sent it: uid, gid and pid on Linux, elsewhere nothing is known. Part of this struct, and
     * so not for vouch_identity_ref. */
    struct vouch_identity sender;
};

/* Takes the next message of somebody whom the policy allows, waiting until `deadline`. Returns 0
 * (a message of zero bytes too); -EMSGSIZE: it is larger than `size`, its beginning is in the
 * buffer, the rest is lost, `ret_message` is filled in (where the system does not tell its length,
 * all but Linux, the size is one more than the room); -ETIMEDOUT, -ESHUTDOWN, -ECHILD, -ECONNRESET
 * (the default destination has turned to another), other errnos. What is in the buffer after other
 * errors is nobody's. Descriptors that come with a message are dropped. */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_recv(struct vouch_datagram *datagram, void *buffer,
                                                   size_t size, int64_t deadline,
                                                   struct vouch_datagram_message *ret_message);

/* The same without waiting: -EAGAIN when there is none; also after 64 messages of others were
 * dropped in a row, though more may be there. */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_try_recv(struct vouch_datagram *datagram,
                                                       void *buffer, size_t size,
                                                       struct vouch_datagram_message *ret_message);

/* For a loop of one's own. The descriptor is the same for life; it is to be polled for the events
 * (POLLIN of poll.h), and for at most the timeout (ns from now, VOUCH_FOREVER: none).
 * When it is ready or the time is over: vouch_datagram_process, which calls on_writable, then
 * vouch_datagram_try_recv until -EAGAIN. The descriptor is not the socket's where on_writable is
 * set: do nothing with it but poll. The timeout holds until vouch_datagram_try_send answers
 * -EAGAIN: in another thread than the loop's, wake the loop after that, so that it asks again. */
VOUCH_API int vouch_datagram_get_fd(const struct vouch_datagram *datagram);
VOUCH_API short vouch_datagram_get_events(const struct vouch_datagram *datagram);
VOUCH_API int64_t vouch_datagram_get_timeout(struct vouch_datagram *datagram);
/* Returns how often on_writable was called, -ESHUTDOWN, -ECHILD. One thread at a time; does not
 * block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_process(struct vouch_datagram *datagram);

/* The own address; `size` 0: none. Lives as long as the socket. */
VOUCH_API const struct vouch_datagram_address *
vouch_datagram_get_address(const struct vouch_datagram *datagram);

/* The largest message that can be sent, and how to raise that: as vouch_conn_get_packet_max and
 * vouch_conn_raise_packet_max. */
VOUCH_API size_t vouch_datagram_get_packet_max(const struct vouch_datagram *datagram);
VOUCH_API VOUCH_MUST_CHECK int vouch_datagram_raise_packet_max(struct vouch_datagram *datagram,
                                                               size_t size, size_t *ret_max);

struct vouch_datagram_stats {
    uint64_t sent;
    uint64_t received;        /* handed out, truncated ones too */
    uint64_t truncated;       /* of these, larger than the buffer */
    uint64_t refused_policy;  /* dropped because the policy denies their sender */
    uint64_t refused_unknown; /* dropped because the system did not say who sent them */
    uint64_t congested;       /* tries to send that found no room */
    uint64_t unreachable;     /* messages not sent because nobody receives there */
};

/* Any thread; does not block. */
VOUCH_API void vouch_datagram_get_stats(const struct vouch_datagram *datagram,
                                        struct vouch_datagram_stats *ret_stats);

/* Ends it: removes the socket file if it is still the one we made, lets its lock go, wakes all who
 * wait: -ESHUTDOWN. Senders are told -ECONNREFUSED. Messages that were not taken are lost. Safe
 * twice, any thread, does not block. NULL is ignored. */
VOUCH_API void vouch_datagram_close(struct vouch_datagram *datagram);

/* Closes and frees; nobody may be inside another call of it. NULL is ignored. */
VOUCH_API void vouch_datagram_free(struct vouch_datagram *datagram);

#ifdef __cplusplus
}
#endif
#endif
