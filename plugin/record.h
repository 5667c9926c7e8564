/* SPDX-License-Identifier: MIT */
/*
 * A log line that is a flat JSON object: its level and its message. Tolerant: what is no such
 * object is a plain line. Other members are skipped, nested ones too.
 */
#ifndef VOUCH_PLUGIN_RECORD_H
#define VOUCH_PLUGIN_RECORD_H

#include <vouch/plugin.h>

/* The names of both members: as most loggers write them. */
struct record {
    enum vouch_plugin_level level; /* of "level", "@level", "lvl" or "severity" */
    char *message;                 /* of "message", "@message" or "msg"; NULL: there is none */
    size_t message_size;
};

/* Looks at a line; the message is unescaped in its place in it. False: it is no JSON object with a
 * level that is known, and was not changed. */
bool record_parse(char *line, size_t size, struct record *ret_record);

#endif
