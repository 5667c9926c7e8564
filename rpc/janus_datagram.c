/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "rpc/janus_link.h"

static int datagram_open(const struct janus_link_options *options, struct janus_link **ret_link,
                         struct vouch_error *ret_error) {
    (void)options;
    (void)ret_link;
    return janus_fail(ret_error, -ENOTSUP, "not yet");
}

const struct janus_link_ops janus_datagram_ops = {.lossy = true, .open = datagram_open};
