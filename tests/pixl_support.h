/* SPDX-License-Identifier: MIT */
/*
 * What tests of libvouch-pixl share: a server with methods and routes, and peers that speak lines
 * by hand.
 *
 * Everything here asserts that it works, and gives up after RPC_PATIENCE where it waits.
 */
#ifndef TESTS_PIXL_SUPPORT_H
#define TESTS_PIXL_SUPPORT_H

#include <vouch/pixl.h>

#include "tests/rpc_support.h"

/*
 * Methods of a stage, beside those of rpc_stage, which have no JSON:
 *   /json/echo   answers with the request
 *   /json/where  answers with {"uri":…,"method":…,"groups":[…]}
 *   /json/keep   keeps the call, as rpc_stage's
 *   /json/fail   answers with the error {"result":…,"text":…}
 *   /json/say    answers with the text that the request, a string, says
 *
 * Routes: the literal /over/there to /json/echo, what begins with /under/, and the patterns
 * ^/user/(\w+)(/x)?$ and ^/slow(a+)+$ to /json/where, the literal /binary to echo.
 */
struct pixl_stage {
    struct rpc_stage rpc;
    struct vouch_pixl_server *pixl;
};

/* Not serving yet; options may be NULL. */
void pixl_stage_init(struct pixl_stage *stage, const struct vouch_server_options *options,
                     const struct vouch_pixl_server_options *pixl_options);
/* The same, serving with workers. */
void pixl_stage_open(struct pixl_stage *stage, const struct vouch_server_options *options,
                     const struct vouch_pixl_server_options *pixl_options);
void pixl_stage_close(struct pixl_stage *stage);
/* Listens at stage->rpc.path. */
void pixl_stage_listen(struct pixl_stage *stage);
struct vouch_pixl_stats pixl_stage_stats(struct pixl_stage *stage);

/* A client over a socketpair. */
struct vouch_pixl_client *pixl_stage_client(struct pixl_stage *stage,
                                            const struct vouch_pixl_client_options *options);

/* The other end of a connection, in the hands of the test. */
struct pixl_raw {
    int fd;
    char *bytes; /* that have come and not been looked at */
    size_t size, room;
};

/* Of a server's connection; `native`: vouch's own wire is spoken there, too. */
void pixl_raw_open(struct pixl_raw *raw, struct pixl_stage *stage, bool native);
/* Of a client. */
struct vouch_pixl_client *pixl_raw_client(struct pixl_raw *raw,
                                          const struct vouch_pixl_client_options *options);
void pixl_raw_close(struct pixl_raw *raw);

void pixl_raw_write(struct pixl_raw *raw, const char *text); /* as it is */
void pixl_raw_send(struct pixl_raw *raw, const char *line);  /* and its end */
/* The next line, without its end, to be freed; NULL: the connection has ended. */
char *pixl_raw_line(struct pixl_raw *raw);
void pixl_raw_expect(struct pixl_raw *raw, const char *line);
void pixl_raw_expect_end(struct pixl_raw *raw);
/* Asserts that everything is answered in order, and nothing else was said before: for after lines
 * that have no answer. */
void pixl_raw_sync(struct pixl_raw *raw);

/* Calls; asserts the result, and what the data is printed as where `expected` is not NULL. Returns
 * the error (static). */
const struct vouch_pixl_error *pixl_check_call(struct vouch_pixl_client *client, const char *uri,
                                               const char *data, int result, const char *expected);

#endif
