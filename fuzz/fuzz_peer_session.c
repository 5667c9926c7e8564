/* SPDX-License-Identifier: MIT */
/* A peer's session and another that sends anything, after its hello or instead of it. As
 * fuzz_server_session.c. */
#include <stdint.h>

#include "fuzz/session_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vouch_pool *pool;
    if (size == 0)
        return 0;
    DRIVE_CHECK(vouch_pool_new(NULL, &pool) == 0);
    uint64_t whole = drive_session(SESSION_PEER, pool, data + 1, size - 1, 0);
    uint64_t cut = drive_session(SESSION_PEER, pool, data + 1, size - 1,
                                 ((uint64_t)data[0] + 1) * 0x9e3779b97f4a7c15u);
    DRIVE_CHECK(whole == cut);
    vouch_pool_unref(pool);
    return 0;
}
