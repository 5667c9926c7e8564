/* SPDX-License-Identifier: MIT */
/* The gateway's codes, and texts of failures. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "rpc/janus_link.h"
#include <vouch/janus.h>

int vouch_janus_error_code(const struct vouch_error *error) {
    return error && error->code > 0 ? error->code : 0;
}

const char *vouch_janus_strerror(int result) {
    static const struct {
        int code;
        const char *name;
    } names[] = {
        {VOUCH_JANUS_ERROR_UNAUTHORIZED, "API secret or token missing or wrong"},
        {VOUCH_JANUS_ERROR_UNAUTHORIZED_PLUGIN, "the token may not use this plugin"},
        {VOUCH_JANUS_ERROR_TRANSPORT_SPECIFIC, "the gateway's transport failed"},
        {VOUCH_JANUS_ERROR_MISSING_REQUEST, "no request"},
        {VOUCH_JANUS_ERROR_UNKNOWN_REQUEST, "unknown request"},
        {VOUCH_JANUS_ERROR_INVALID_JSON, "not JSON"},
        {VOUCH_JANUS_ERROR_INVALID_JSON_OBJECT, "not a JSON object"},
        {VOUCH_JANUS_ERROR_MISSING_MANDATORY_ELEMENT, "a mandatory element is missing"},
        {VOUCH_JANUS_ERROR_INVALID_REQUEST_PATH, "the request does not belong there"},
        {VOUCH_JANUS_ERROR_SESSION_NOT_FOUND, "no such session"},
        {VOUCH_JANUS_ERROR_HANDLE_NOT_FOUND, "no such handle"},
        {VOUCH_JANUS_ERROR_PLUGIN_NOT_FOUND, "no such plugin"},
        {VOUCH_JANUS_ERROR_PLUGIN_ATTACH, "the plugin cannot be attached to"},
        {VOUCH_JANUS_ERROR_PLUGIN_MESSAGE, "the plugin did not take the message"},
        {VOUCH_JANUS_ERROR_PLUGIN_DETACH, "the plugin cannot be detached from"},
        {VOUCH_JANUS_ERROR_JSEP_UNKNOWN_TYPE, "a jsep of an unknown type"},
        {VOUCH_JANUS_ERROR_JSEP_INVALID_SDP, "a jsep with an invalid SDP"},
        {VOUCH_JANUS_ERROR_TRICKLE_INVALID_STREAM, "a candidate of an invalid stream"},
        {VOUCH_JANUS_ERROR_INVALID_ELEMENT_TYPE, "an element has the wrong type"},
        {VOUCH_JANUS_ERROR_SESSION_CONFLICT, "the session's id is in use"},
        {VOUCH_JANUS_ERROR_UNEXPECTED_ANSWER, "an answer that no offer was made for"},
        {VOUCH_JANUS_ERROR_TOKEN_NOT_FOUND, "no such token"},
        {VOUCH_JANUS_ERROR_WEBRTC_STATE, "not in this state of the PeerConnection"},
        {VOUCH_JANUS_ERROR_NOT_ACCEPTING_SESSIONS, "the gateway takes no new sessions"},
        {VOUCH_JANUS_ERROR_UNKNOWN, "unknown error of the gateway"},
    };
    if (result <= 0)
        return result == -ESTALE ? "the session or handle is gone" : vouch_strerror(result);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].code == result)
            return names[i].name;
    return "an error of the gateway";
}

int janus_fail(struct vouch_error *ret_error, int code, const char *format, ...) {
    if (ret_error) {
        va_list arguments;
        va_start(arguments, format);
        ret_error->code = code;
        (void)vsnprintf(ret_error->message, sizeof(ret_error->message), format, arguments);
        va_end(arguments);
    }
    return code;
}
