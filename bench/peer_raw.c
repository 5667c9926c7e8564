/* SPDX-License-Identifier: MIT */
/* Bare sockets as a program. */
#include "bench/raw.h"

int main(int argc, char **argv) {
    static const struct bench_system *const systems[] = {&raw_stream, &raw_one_way, &raw_seqpacket,
                                                         NULL};
    return bench_peer(argc, argv, systems);
}
