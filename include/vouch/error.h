/* SPDX-License-Identifier: MIT */
/*
 * Errors: one code space for what failed here, one for what the other side answered.
 *
 * Local failures are negative ints: a negative errno where errno has the exact word for it, else
 * one of the VOUCH_E_* below. Errors that the *server answered* to a call are positive (enum
 * vouch_remote_error): the transport worked. So for a call, 0 is success, < 0 means that no answer
 * came and > 0 is the server's answer.
 */
#ifndef VOUCH_ERROR_H
#define VOUCH_ERROR_H

#include <vouch/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errno values with a fixed meaning all over the library:
 *   -ETIMEDOUT   a deadline passed          -ECANCELED   cancelled by this side
 *   -ECONNRESET  the peer is gone           -EMSGSIZE    larger than a limit
 *   -EPROTO      the peer's bytes are malformed
 *   -ECHILD      the object was made before a fork, by another process
 *   -ESHUTDOWN   closed or stopped by this side
 *   -EBUSY       in use already, or a limit of calls or connections is reached
 *   -EINVAL      an argument of the caller's is wrong; nothing was done */

/* What errno has no word for. */
#define VOUCH_E_REFUSED (-10001)    /* the policy denies this peer: for programs that ask it */
#define VOUCH_E_SYMLINK (-10002)    /* the socket's path is a symbolic link */
#define VOUCH_E_NOT_SOCKET (-10003) /* what is at the path is not a socket */
#define VOUCH_E_FILE_OWNER (-10004) /* the socket file's uid is not the expected one */
#define VOUCH_E_FILE_GROUP (-10005) /* the socket file's gid is not the expected one */
#define VOUCH_E_FILE_MODE (-10006)  /* the socket file's mode is not among the accepted ones */
#define VOUCH_E_FILE_SWAPPED                                                                       \
    (-10007) /* the socket file changed between the check and the connection */
#define VOUCH_E_PEER_REFUSED (-10008) /* dial: the server's credentials are not acceptable */
#define VOUCH_E_PEER_UNKNOWN (-10009) /* the kernel does not say who the peer is */
#define VOUCH_E_PATH_TOO_LONG                                                                      \
    (-10010) /* the path does not fit sun_path, and this system has no way around */
#define VOUCH_E_PATH_EMPTY (-10011)   /* an empty path, or one without a file name */
#define VOUCH_E_ADDRESS_LIVE (-10012) /* listen: a server answers at this path */
#define VOUCH_E_ADDRESS_LOCKED                                                                     \
    (-10013) /* listen: another listener, of any process, serves this path or is about to */
#define VOUCH_E_PARENT_UNSAFE                                                                      \
    (-10014) /* listen: others may rename or delete files in the parent directory */
#define VOUCH_E_ABSTRACT_OFF                                                                       \
    (-10015) /* an abstract name, and the option that allows one is not set */
#define VOUCH_E_NOT_LISTENING                                                                      \
    (-10016) /* an inherited descriptor is not a listening UNIX socket of bytes or packets */
#define VOUCH_E_NO_ACTIVATION                                                                      \
    (-10017) /* LISTEN_FDS / LISTEN_PID do not offer such a descriptor to this process */
#define VOUCH_E_METHOD_EXISTS (-10018) /* a method of that name is registered already */
/* A method name is empty, too long, or has a character that is not allowed: a server registers
 * A-Z a-z 0-9 _ . - /, a client calls any UTF-8, which a foreign server may use. */
#define VOUCH_E_METHOD_NAME (-10019)
#define VOUCH_E_PLUGIN_EXEC (-10020)      /* the plugin's program can't be run */
#define VOUCH_E_PLUGIN_EXITED (-10021)    /* the plugin ended before its handshake */
#define VOUCH_E_PLUGIN_HANDSHAKE (-10022) /* what was said is no handshake of a plugin or host */
#define VOUCH_E_PLUGIN_PROTOCOL (-10023)  /* host and plugin speak different versions of it */
#define VOUCH_E_PLUGIN_TOKEN (-10024)     /* not the token of this start */
#define VOUCH_E_PLUGIN_VERSION (-10025)   /* no application version that both know */
#define VOUCH_E_NOT_PLUGIN (-10026)       /* this process was not started by a plugin host */
#define VOUCH_E_NO_IDENTITY (-10027) /* TCP, and serving it without knowing who calls is not on */

/* What a server answers. 1 to 4 are the wire's (see docs/protocol.md); from 5 up they are sent only
 * to peers that know them, others get the nearest of 1 to 4. */
enum vouch_remote_error {
    VOUCH_REMOTE_OK = 0,
    VOUCH_REMOTE_METHOD_NOT_FOUND = 1,
    VOUCH_REMOTE_DEADLINE_EXCEEDED = 2,
    VOUCH_REMOTE_BAD_DATA = 3,
    VOUCH_REMOTE_SERVER = 4,
    VOUCH_REMOTE_REFUSED = 5,   /* policy: this caller may not call this method (old peers see 4) */
    VOUCH_REMOTE_TOO_LARGE = 6, /* request or reply over a limit (old peers see 3) */
    VOUCH_REMOTE_CANCELLED = 7, /* ended because its caller cancelled it (old peers see 4) */
    VOUCH_REMOTE_UNAVAILABLE = 8, /* the server is stopping or overloaded; nothing was run (old
                                     peers see 2, which they may retry) */
    VOUCH_REMOTE_UNKNOWN = 9,     /* an error text came with a type that we don't know */
};

/* Longest text of an error, without its NUL; longer ones are cut at a character boundary. */
#define VOUCH_ERROR_TEXT_MAX 1024

/* What went wrong, for people. Filled by functions that take a `ret_error`, on failure only. */
struct vouch_error {
    int code;                               /* the function's return value */
    char message[VOUCH_ERROR_TEXT_MAX + 1]; /* what was found and what was expected */
};

/* A short name of any result of this library: negative errno, VOUCH_E_*, 0, or a
 * vouch_remote_error. Static text, never NULL; any thread; does not block. */
VOUCH_API const char *vouch_strerror(int result);

/* Whether the same call may succeed when simply tried again: deadline exceeded, unavailable or
 * nobody listening, a limit reached, interrupted, out of memory or descriptors, peer gone. "Peer
 * gone" may have been executed; only the caller knows if repeating it is harmless. */
VOUCH_API bool vouch_error_retryable(int result);

#ifdef __cplusplus
}
#endif
#endif
