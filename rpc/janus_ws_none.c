/* SPDX-License-Identifier: MIT */
/* Without libwebsockets there are no WebSockets: connecting says so (-ENOTSUP). */
#include "rpc/janus_link.h"

const struct janus_link_ops *const janus_ws_ops = NULL;
