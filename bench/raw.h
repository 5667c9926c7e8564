/* SPDX-License-Identifier: MIT */
/* Bare sockets: the floor that everything else stands on. */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include "bench/system.h"

extern const struct bench_system raw_stream;    /* echo */
extern const struct bench_system raw_one_way;   /* bytes one way, as raw_stream */
extern const struct bench_system raw_seqpacket; /* echo, a message a packet */

/* recv and send that wait as the mode says. > 0: bytes; 0: the other side has ended. */
ssize_t raw_receive(int fd, void *data, size_t size, enum bench_mode mode);
bool raw_receive_all(int fd, void *data, size_t size, enum bench_mode mode);
bool raw_send_all(int fd, const void *data, size_t size, enum bench_mode mode);

#endif
