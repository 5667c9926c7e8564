/* SPDX-License-Identifier: MIT */
/* The build defines DEMO_JSON and DEMO_PROTO where their libraries are. */
#include "demo/layers.h"

#ifndef DEMO_JSON
#define json_add_method NULL
#define json_send NULL
#endif
#ifndef DEMO_PROTO
#define proto_add_method NULL
#define proto_send NULL
#endif

const struct layer layers[LAYERS] = {
    {"JSON", "cJSON", json_add_method, json_send},
    {"protobuf", "protobuf-c", proto_add_method, proto_send},
};
