/* SPDX-License-Identifier: MIT */
/*
 * A dialect for tests, simple enough to be read at sight. One line a message:
 *
 *   call TAG TARGET BODY      ok TAG BODY      err TAG NUMBER TEXT      note BODY
 *
 * A target that begins with "alias/" leads to the method "echo", one that begins with "try/" does
 * if there is no such method, one that begins with "or/" to what is behind that; the target
 * "nonsense" can't be understood, "refuse" is refused with the body as the text, "mistake" with a
 * number that is none, "fatal" ends the connection. Bodies have no '\n', and tabs in them become
 * blanks. All other lines are skipped.
 */
#ifndef TESTS_TOY_DIALECT_H
#define TESTS_TOY_DIALECT_H

#include <stdatomic.h>
#include <vouch/dialect.h>

struct toy {
    struct vouch_dialect dialect;
    atomic_uint events[4]; /* by enum vouch_dialect_event */
    bool mute;             /* it has no notices */
};

void toy_init(struct toy *toy);

#endif
