/* SPDX-License-Identifier: MIT */
/*
 * Names of results, and messages. The names are our own and not strerror's: that one follows the
 * locale and may share a buffer between threads. Messages are made clean (UTF-8, no control
 * characters) here once, so that any of them can be logged or sent.
 */
#include "lib/error.h"

#include "lib/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct error_name {
    int result;
    const char *text;
};

static const struct error_name error_names[] = {
    {0, "success"},

    {VOUCH_REMOTE_METHOD_NOT_FOUND, "the server has no such method"},
    {VOUCH_REMOTE_DEADLINE_EXCEEDED, "deadline exceeded at the server"},
    {VOUCH_REMOTE_BAD_DATA, "the server could not read the request"},
    {VOUCH_REMOTE_SERVER, "the method failed"},
    {VOUCH_REMOTE_REFUSED, "the server's policy denies this call"},
    {VOUCH_REMOTE_TOO_LARGE, "request or reply too large for the server"},
    {VOUCH_REMOTE_CANCELLED, "cancelled at the server"},
    {VOUCH_REMOTE_UNAVAILABLE, "the server is stopping or overloaded"},
    {VOUCH_REMOTE_UNKNOWN, "the server sent an error of unknown type"},

    {VOUCH_E_REFUSED, "the policy denies this peer"},
    {VOUCH_E_SYMLINK, "the socket's path is a symbolic link"},
    {VOUCH_E_NOT_SOCKET, "not a socket"},
    {VOUCH_E_FILE_OWNER, "the socket file has an unexpected owner"},
    {VOUCH_E_FILE_GROUP, "the socket file has an unexpected group"},
    {VOUCH_E_FILE_MODE, "the socket file has an unexpected mode"},
    {VOUCH_E_FILE_SWAPPED, "the socket file changed while connecting"},
    {VOUCH_E_PEER_REFUSED, "the server's credentials are not acceptable"},
    {VOUCH_E_PEER_UNKNOWN, "the kernel does not say who the peer is"},
    {VOUCH_E_PATH_TOO_LONG, "the socket's path is too long"},
    {VOUCH_E_PATH_EMPTY, "the socket's path is empty"},
    {VOUCH_E_ADDRESS_LIVE, "a server answers at this path"},
    {VOUCH_E_ADDRESS_LOCKED, "another listener serves this path"},
    {VOUCH_E_PARENT_UNSAFE, "others may change the socket's directory"},
    {VOUCH_E_ABSTRACT_OFF, "abstract names are not allowed"},
    {VOUCH_E_NOT_LISTENING, "not a listening UNIX socket"},
    {VOUCH_E_NO_ACTIVATION, "no socket was passed by activation"},
    {VOUCH_E_METHOD_EXISTS, "the method is registered already"},
    {VOUCH_E_METHOD_NAME, "not a method name"},
    {VOUCH_E_PLUGIN_EXEC, "the plugin's program can't be run"},
    {VOUCH_E_PLUGIN_EXITED, "the plugin ended before its handshake"},
    {VOUCH_E_PLUGIN_HANDSHAKE, "not a handshake of a plugin"},
    {VOUCH_E_PLUGIN_PROTOCOL, "another version of the plugin protocol"},
    {VOUCH_E_PLUGIN_TOKEN, "not the token of this plugin"},
    {VOUCH_E_PLUGIN_VERSION, "no version that plugin and host both know"},
    {VOUCH_E_NOT_PLUGIN, "not started as a plugin"},
    {VOUCH_E_NO_IDENTITY, "nobody vouches for the peer"},

    {-ETIMEDOUT, "timed out"},
    {-ECANCELED, "cancelled"},
    {-ECONNRESET, "the peer is gone"},
    {-EMSGSIZE, "too large"},
    {-EPROTO, "the peer's bytes are malformed"},
    {-ECHILD, "used in a forked child"},
    {-ESHUTDOWN, "closed by this side"},
    {-EBUSY, "in use already, or a limit is reached"},
    {-EINVAL, "invalid argument"},

    {-EACCES, "permission denied"},
    {-EADDRINUSE, "address in use"},
    {-EADDRNOTAVAIL, "address not available"},
    {-EAFNOSUPPORT, "address family not supported"},
    {-EAGAIN, "would have to wait"},
    {-EALREADY, "already under way"},
    {-EBADF, "not an open descriptor"},
    {-ECONNABORTED, "connection aborted"},
    {-ECONNREFUSED, "nobody listens"},
    {-EDESTADDRREQ, "not connected to anything"},
    {-EEXIST, "exists already"},
    {-EFAULT, "bad memory address"},
    {-EFBIG, "file too large"},
    {-EINPROGRESS, "under way"},
    {-EINTR, "interrupted"},
    {-EIO, "input/output error"},
    {-EISCONN, "connected already"},
    {-EISDIR, "is a directory"},
    {-ELOOP, "too many symbolic links"},
    {-EMFILE, "out of descriptors in this process"},
    {-ENAMETOOLONG, "name too long"},
    {-ENFILE, "out of descriptors in the system"},
    {-ENOBUFS, "out of buffer space"},
    {-ENODATA, "not known"},
    {-ENODEV, "no such device"},
    {-ENOENT, "does not exist"},
    {-ENOMEM, "out of memory"},
    {-ENOPROTOOPT, "option not supported"},
    {-ENOSPC, "no space left"},
    {-ENOSYS, "not in this kernel"},
    {-ENOTCONN, "not connected"},
    {-ENOTDIR, "not a directory"},
    {-ENOTEMPTY, "directory not empty"},
    {-ENOTSOCK, "not a socket"},
    {-ENOTSUP, "not supported"},
    {-ENXIO, "no such device or address"},
    {-EOPNOTSUPP, "operation not supported"},
    {-EOVERFLOW, "value too large"},
    {-EPERM, "not permitted"},
    {-EPIPE, "broken pipe"},
    {-EPROTONOSUPPORT, "protocol not supported"},
    {-EPROTOTYPE, "wrong type of socket"},
    {-ERANGE, "out of range"},
    {-EROFS, "read-only file system"},
    {-ESRCH, "no such process"},
    {-ETOOMANYREFS, "too many descriptors in flight"},
    {-EXDEV, "on different file systems"},
};

const char *vouch_strerror(int result) {
    for (size_t i = 0; i < sizeof(error_names) / sizeof(error_names[0]); i++)
        if (error_names[i].result == result)
            return error_names[i].text;
    return result < 0 ? "unknown error" : "unknown error of the server";
}

bool vouch_error_retryable(int result) {
    switch (result) {
    case VOUCH_REMOTE_DEADLINE_EXCEEDED:
    case VOUCH_REMOTE_UNAVAILABLE:
    case -ETIMEDOUT:
    case -ECONNRESET:
    case -ECONNABORTED:
    case -ECONNREFUSED: /* between two lives of a server */
    case -EPIPE:
    case -EINTR:
    case -EAGAIN:
    case -EBUSY:
    case -ENOMEM:
    case -ENOBUFS:
    case -EMFILE:
    case -ENFILE:
    case -ETOOMANYREFS:
        return true;
    default:
        return false;
    }
}

/* C0, DEL, and C1 (U+0080 to U+009F, of which terminals obey some). */
static bool error_is_control(const uint8_t *text, size_t length) {
    return (length == 1 && (text[0] < 0x20 || text[0] == 0x7f)) ||
           (length == 2 && text[0] == 0xc2 && text[1] < 0xa0);
}

size_t error_copy_text(char *to, size_t room, const char *text, size_t size) {
    if (room == 0)
        return 0;
    const uint8_t *from = (const uint8_t *)text;
    size_t written = 0;
    while (size > 0) {
        size_t length = utf8_char(from, size);
        bool clean = length > 0 && !error_is_control(from, length);
        size_t taken = length > 0 ? length : 1;
        size_t put = clean ? length : 1;
        if (put > room - 1 - written)
            break;
        memcpy(to + written, clean ? (const char *)from : "?", put);
        written += put;
        from += taken;
        size -= taken;
    }
    to[written] = '\0';
    return written;
}

#undef error_set /* see lib/error.h */
int error_set(struct vouch_error *error, int code, const char *format, ...) {
    if (!error)
        return code;
    int saved_errno = errno;
    /* Three bytes more than the message has room for: a character cut by vsnprintf then begins
     * where none fits any more. */
    char text[VOUCH_ERROR_TEXT_MAX + 4];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);

    error->code = code;
    error_copy_text(error->message, sizeof(error->message), text, length < 0 ? 0 : strlen(text));
    errno = saved_errno;
    return code;
}
