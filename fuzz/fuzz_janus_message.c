/* SPDX-License-Identifier: MIT */
/*
 * What a gateway may say, as one text: it is refused with a reason, or its members are what they
 * have to be. And addresses: the same bytes are read as one of these.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/json.h>

#include "rpc/janus_address.h"
#include "rpc/janus_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds)
        abort();
}

static void check_message(const struct janus_message *message, size_t size) {
    const struct vouch_janus_message *m = &message->seen;
    require(m->name && m->tree && message->cost > size);
    require(m->session_id <= VOUCH_JANUS_ID_MAX && m->handle_id <= VOUCH_JANUS_ID_MAX &&
            m->id <= VOUCH_JANUS_ID_MAX);
    require((m->error_code > 0) == (m->kind == VOUCH_JANUS_ERROR));
    require(m->plugin_error_code >= 0);
    require(!m->jsep || cJSON_IsObject(m->jsep));
    require(!m->candidate || cJSON_IsObject(m->candidate));
    require(vouch_json_print(m->tree, NULL, 0) > 0);
}

static void check_address(const uint8_t *data, size_t size) {
    char text[2 * JANUS_ADDRESS_MAX] = "";
    struct janus_address address;
    struct vouch_error error = {.code = 0};
    if (size > 0)
        memcpy(text, data, size < sizeof(text) - 1 ? size : sizeof(text) - 1);
    if (janus_address_parse(text, &address, &error) < 0) {
        require(error.code == -EINVAL && error.message[0]);
        return;
    }
    bool web = address.kind == JANUS_WS || address.kind == JANUS_WS_UNIX;
    require(address.kind == JANUS_WS ? address.host[0] != '\0' : address.socket[0] != '\0');
    require(!web || (address.path[0] == '/' && address.port > 0 && address.port < 65536));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct janus_message *message;
    struct vouch_error error = {.code = 0};
    struct vouch_pool *pool;
    require(vouch_pool_new(NULL, &pool) == 0);
    int result = janus_message_parse((const char *)data, size, pool, &message, &error);
    if (result == 0) {
        check_message(message, size);
        janus_message_free(message);
    } else {
        require(result == -EPROTO && error.code == -EPROTO && error.message[0]);
    }
    vouch_pool_unref(pool);
    check_address(data, size);
    return 0;
}
