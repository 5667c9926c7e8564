/* SPDX-License-Identifier: MIT */
/* What the session's two files have of each other: session.c, and session_dialect.c for messages in
 * a dialect. The locking is session.h's. */
#ifndef VOUCH_RPC_SESSION_DIALECT_H
#define VOUCH_RPC_SESSION_DIALECT_H

#include "rpc/session.h"

/* ---- session.c ---- */

static inline bool session_in_packets(const struct session *session) {
    return session->decoder.framing == CHUNK_PACKETS;
}

void session_push(struct session *session, struct vouch_buffer *chunk); /* takes it over */
/* After a reply: a peer that does not read what it asks for has a limit. */
void session_check_output(struct session *session);

int session_may_call(const struct session *session) VOUCH_MUST_CHECK;
int session_enter_flight(struct session *session, struct session_slot *slot,
                         int64_t deadline) VOUCH_MUST_CHECK;
void session_leave_flight(struct session *session, struct session_slot *slot);

/* A reply by its envelope's id: 1, and the event is complete; 0: nobody waits for it. */
int session_on_reply(struct session *session, struct session_event *event) VOUCH_MUST_CHECK;

/* ---- session_dialect.c ---- */

/* From here on this is spoken; NULL: our own. */
void session_dialect_begin(struct session *session, const struct vouch_dialect *dialect);
/* What the first byte that has come means: 0, or -EPROTO. */
int session_dialect_choose(struct session *session) VOUCH_MUST_CHECK;
void session_dialect_observe(const struct session *session, enum vouch_dialect_event event,
                             int64_t value);

/* As session_call and session_reply, but the body is taken over on success only. */
int session_dialect_call(struct session *session, struct session_slot *slot, const char *method,
                         struct vouch_buffer *body, int64_t deadline,
                         size_t *ret_size) VOUCH_MUST_CHECK;
int session_dialect_reply(struct session *session, struct session_slot *slot,
                          struct vouch_buffer *body) VOUCH_MUST_CHECK;
int session_dialect_error(struct session *session, const struct session_slot *slot, int result,
                          const char *text, size_t size);

/* A line: 1: an event; 0: nothing for the driver; negative: the session's end. */
int session_dialect_line(struct session *session, const struct vouch_chunk *chunk,
                         struct session_event *event) VOUCH_MUST_CHECK;
/* Bytes that are to be committed go on with an oversize line, and may tell whose reply it is: then
 * session_dialect_skimmed has the event, as session_dialect_line. */
void session_dialect_skim(struct session *session, size_t size);
int session_dialect_skimmed(struct session *session, struct session_event *event) VOUCH_MUST_CHECK;
/* What a call's answer needs is copied out of its line. */
void session_dialect_forget(struct session *session, struct session_event *event);

#endif
