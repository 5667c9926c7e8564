/* SPDX-License-Identifier: MIT */
/* The scenarios of clients and servers. */
#include "tests/scenarios.h"

const struct scenario scenarios_rpc[] = {
    {0},
};
