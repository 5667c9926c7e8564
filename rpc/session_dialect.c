/* SPDX-License-Identifier: MIT */
/*
 * The session's messages in a dialect: fewer than ours, and without cancels, pings, features or
 * deadlines. Calls of the peer get numbers of our own; what tells their replies apart on the wire
 * is the dialect's tag.
 */
#include "rpc/session_dialect.h"

#include <errno.h>
#include <string.h>

#include "lib/error.h"

void session_dialect_observe(const struct session *s, enum vouch_dialect_event event,
                             int64_t value) {
    if (s->dialect && s->dialect->observe && s->role == SESSION_SERVER)
        s->dialect->observe(s->dialect->context, event, value);
}

/* Plain peers are what others speak to: nothing of ours is said. */
void session_dialect_begin(struct session *s, const struct vouch_dialect *dialect) {
    s->choice = NULL;
    s->dialect = dialect;
    if (!dialect)
        return;
    s->announced = s->peer_known = true;
    chunk_decoder_set_framing(&s->decoder, CHUNK_LINES);
    session_dialect_observe(s, VOUCH_DIALECT_OPENED, 0);
}

int session_dialect_choose(struct session *s) {
    uint8_t first = s->decoder.buffer->data[s->decoder.begin];
    const struct vouch_dialect *dialect = dialect_choose(s->choice, first);
    if (!dialect && !s->choice->native)
        return -EPROTO;
    session_dialect_begin(s, dialect);
    return 0;
}

/* ---- output ---- */

/* A message in a dialect: `body`, which is taken over on success only, or NULL. */
static int send_message(struct session *s, const struct vouch_message *message,
                        struct vouch_buffer *body, size_t *ret_size) {
    struct dialect_parts parts;
    int r = body ? dialect_prepare(s->dialect, body) : 0;
    if (r < 0)
        return -EINVAL;
    r = dialect_wrap(s->dialect, message, body, s->pool, s->limits.max_send, &parts);
    if (ret_size)
        *ret_size = parts.size;
    if (r < 0)
        return r;
    for (size_t i = 0; i < parts.count; i++)
        session_push(s, parts.part[i]);
    return 0;
}

int session_dialect_call(struct session *s, struct session_slot *slot, const char *method,
                         struct vouch_buffer *body, int64_t deadline, size_t *ret_size) {
    int r = session_may_call(s);
    if (r == 0)
        r = session_enter_flight(s, slot, deadline);
    if (r < 0)
        return r;
    struct vouch_message message = {.kind = VOUCH_MESSAGE_CALL,
                                    .target = method,
                                    .target_size = strlen(method),
                                    .id = slot->node.id,
                                    .size = body->size};
    r = send_message(s, &message, body, ret_size);
    if (r < 0)
        session_leave_flight(s, slot);
    return r;
}

static struct vouch_message reply_message(const struct session_slot *slot) {
    return (struct vouch_message){.kind = VOUCH_MESSAGE_REPLY,
                                  .target = slot->method,
                                  .target_size = slot->method_size,
                                  .tag = slot->tag,
                                  .tag_size = slot->tag_size};
}

/* An error that does not fit goes without its text. */
int session_dialect_error(struct session *s, const struct session_slot *slot, int result,
                          const char *text, size_t size) {
    struct vouch_message message = reply_message(slot);
    message.result = result;
    message.text = text;
    message.text_size = size;
    int r = send_message(s, &message, NULL, NULL);
    if (r == -EMSGSIZE) {
        message.text_size = message.target_size = 0;
        r = send_message(s, &message, NULL, NULL);
    }
    if (r < 0)
        session_fail(s, r);
    session_check_output(s);
    return r;
}

/* The caller gets an error instead. */
static int refuse_reply(struct session *s, const struct session_slot *slot, int result, int r,
                        const struct vouch_error *why) {
    int sent = session_dialect_error(s, slot, result, why->message, strlen(why->message));
    return sent < 0 ? sent : r;
}

int session_dialect_reply(struct session *s, struct session_slot *slot, struct vouch_buffer *body) {
    struct vouch_message message = reply_message(slot);
    struct vouch_error why;
    size_t size;
    message.size = body->size;
    int r = send_message(s, &message, body, &size);
    if (r == -EMSGSIZE) {
        error_set(&why, r, "the reply of %zu bytes is over the maximum of %zu bytes", size,
                  s->limits.max_send);
        return refuse_reply(s, slot, VOUCH_REMOTE_TOO_LARGE, r, &why);
    }
    if (r == -EINVAL) {
        error_set(&why, r, "the reply can't be said in the dialect %s", s->dialect->name);
        return refuse_reply(s, slot, VOUCH_REMOTE_SERVER, -EBADMSG, &why);
    }
    if (r < 0)
        session_fail(s, r); /* its caller would wait */
    session_check_output(s);
    return r;
}

int session_notify(struct session *s, struct vouch_buffer *body) {
    struct vouch_message message = {.kind = VOUCH_MESSAGE_NOTICE, .size = body->size};
    int r = s->failure;
    if (r == 0 && !s->dialect)
        r = -ENOTSUP;
    if (r == 0 && s->out.bytes >= s->limits.output_soft)
        r = -EAGAIN;
    if (r == 0)
        r = send_message(s, &message, body, NULL);
    if (r < 0)
        vouch_buffer_unref(body);
    return r;
}

/* ---- input ---- */

static bool is_in(const struct vouch_buffer *buffer, const char *text) {
    uintptr_t at = (uintptr_t)text, begin = (uintptr_t)buffer->data;
    return at >= begin && at < begin + buffer->capacity;
}

/* The method may be any that the target leads to, and does not matter here. */
void session_dialect_forget(struct session *s, struct session_event *event) {
    size_t size = event->dialect.target_size;
    event->envelope.method_size = event->dialect.fallback_size = 0;
    event->dialect.fallback = NULL;
    if (is_in(event->buffer, event->dialect.why))
        event->dialect.why_size = 0;
    if (size > ENVELOPE_METHOD_MAX)
        event->dialect.target_size = size = 0;
    if (size > 0)
        memcpy(s->postponed_method, event->dialect.target, size);
    event->dialect.target = s->postponed_method;
    if (event->dialect.tag_size > SESSION_TAG_MAX)
        event->dialect.tag_size = 0;
    if (event->dialect.tag_size > 0)
        memcpy(s->postponed_tag, event->dialect.tag, event->dialect.tag_size);
    event->dialect.tag = event->dialect.tag_size > 0 ? s->postponed_tag : NULL;
}

static uint32_t next_request(struct session *s) {
    do
        s->last_request++;
    while (s->last_request == 0 || idtable_find(&s->requests, s->last_request));
    return s->last_request;
}

/* What no peer could be told counts as unknown. */
static int result_of(const struct vouch_message *m) {
    return m->result >= 0 && m->result <= VOUCH_REMOTE_UNKNOWN ? m->result : VOUCH_REMOTE_UNKNOWN;
}

static int on_call(struct session *s, const struct vouch_message *m, struct session_event *event) {
    if (s->role != SESSION_SERVER)
        return 0;
    event->type = SESSION_EVENT_CALL;
    event->envelope = (struct envelope){
        .id = next_request(s),
        .method = m->method ? m->method : m->target,
        .method_size = m->method ? m->method_size : m->target_size,
        .data = m->data,
        .data_size = m->size,
    };
    event->dialect.target = m->target;
    event->dialect.target_size = m->target_size;
    event->dialect.fallback = m->fallback;
    event->dialect.fallback_size = m->fallback_size;
    event->dialect.tag = m->tag;
    event->dialect.tag_size = m->tag_size;
    event->dialect.why = m->text;
    event->dialect.why_size = m->text ? m->text_size : 0;
    event->result = result_of(m);
    event->dialect.refused = event->result != 0;
    if (event->oversize > 0 && event->result == 0)
        event->result = VOUCH_REMOTE_TOO_LARGE;
    return 1;
}

static int on_reply_read(struct session *s, const struct vouch_message *m,
                         struct session_event *event) {
    event->envelope = (struct envelope){
        .id = m->id,
        .data = m->data,
        .data_size = m->size,
        .error_type = (uint32_t)m->result,
        .error = m->text,
        .error_size = m->text_size,
    };
    return m->id != 0 && s->role == SESSION_CLIENT ? session_on_reply(s, event) : 0;
}

static void skim(struct session *s, const uint8_t *bytes, size_t size) {
    s->skimmed_bytes += size;
    s->skimmed = s->dialect->skim(s->dialect->context, &s->skim, bytes, size);
}

void session_dialect_skim(struct session *s, size_t size) {
    const uint8_t *bytes = s->decoder.buffer->data + s->decoder.end;
    const uint8_t *end = memchr(bytes, '\n', size);
    skim(s, bytes, end ? (size_t)(end - bytes) : size);
    s->skimming = !end && s->skimmed == 0;
}

int session_dialect_skimmed(struct session *s, struct session_event *event) {
    const struct vouch_message m = {.kind = VOUCH_MESSAGE_REPLY, .id = s->skimmed};
    s->skimmed = 0;
    *event = (struct session_event){.oversize = s->skimmed_bytes, .deadline = VOUCH_FOREVER};
    return on_reply_read(s, &m, event);
}

/* Of a line the decoder delivers only the beginning, but it is still there as far as it had come.
 */
static int begin_skimming(struct session *s, const struct vouch_chunk *chunk) {
    s->skim = (struct vouch_skim){{0}};
    s->skimmed_bytes = 0;
    skim(s, chunk->data, (size_t)chunk->oversize);
    s->skimming = s->skimmed == 0 && chunk_decoder_skipping(&s->decoder);
    return 0;
}

int session_dialect_line(struct session *s, const struct vouch_chunk *chunk,
                         struct session_event *event) {
    struct vouch_message m = {.kind = VOUCH_MESSAGE_NONE};
    if (chunk->oversize > 0 && s->role == SESSION_CLIENT && s->dialect->skim)
        return begin_skimming(s, chunk);
    /* The line is only ours: what shares its buffer is before and behind it. */
    uint8_t *bytes = (uint8_t *)(uintptr_t)chunk->data;
    if (s->has_browsers && s->role == SESSION_SERVER &&
        dialect_is_http(bytes, chunk->size, chunk->oversize > 0))
        return -EPROTO;
    int r = s->dialect->read(s->dialect->context, bytes, chunk->size, chunk->oversize, &m);
    if (r < 0)
        return r;
    switch (m.kind) {
    case VOUCH_MESSAGE_CALL:
        return on_call(s, &m, event);
    case VOUCH_MESSAGE_REPLY:
        return on_reply_read(s, &m, event);
    case VOUCH_MESSAGE_NOTICE:
        if (s->role != SESSION_CLIENT || chunk->oversize > 0)
            return 0;
        event->type = SESSION_EVENT_NOTICE;
        event->envelope = (struct envelope){.data = m.data, .data_size = m.size};
        return 1;
    default:
        return 0;
    }
}
