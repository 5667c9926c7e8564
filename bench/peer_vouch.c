/* SPDX-License-Identifier: MIT */
/* vouch as a program of the suite. */
#include "bench/vouch_parts.h"

int main(int argc, char **argv) {
    return bench_peer(argc, argv, vouch_systems);
}
