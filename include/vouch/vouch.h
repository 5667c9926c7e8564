/* SPDX-License-Identifier: MIT */
/* All of vouch: authenticated RPC between processes on one machine. See vouch(7). */
#ifndef VOUCH_H
#define VOUCH_H

#include <vouch/chunk.h>
#include <vouch/client.h>
#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/datagram.h>
#include <vouch/dial.h>
#include <vouch/dialect.h>
#include <vouch/error.h>
#include <vouch/identity.h>
#include <vouch/listen.h>
#include <vouch/memory.h>
#include <vouch/plugin.h>
#include <vouch/policy.h>
#include <vouch/pool.h>
#include <vouch/server.h>
#include <vouch/tcp.h>

#endif
