/* SPDX-License-Identifier: MIT */
/* What the files of libvouch-json share. */
#ifndef VOUCH_STREAM_JSON_H
#define VOUCH_STREAM_JSON_H

#include <vouch/json.h>

/* A key as it is written, between its quotes. */
struct json_key {
    const uint8_t *text, *end;
    const uint8_t *object; /* the brace that opens its object */
};

/* What a scan counts; with `keys`, an array with room for all, it also says where they are. */
struct json_scan {
    size_t values, keys_seen;
    size_t exact; /* numbers whose text a double may not give back */
    struct json_key *keys;
};

/* As vouch_json_scan, without unique_keys. `ret_fault` is not NULL. */
int json_scan_run(struct json_scan *scan, const uint8_t *text, size_t size,
                  const struct vouch_json_rules *rules,
                  struct vouch_json_fault *ret_fault) VOUCH_MUST_CHECK;

/* Looks for a key that is twice in one object of a text that was scanned and has `count` keys. 0,
 * -EPROTO (`ret_fault` is the first one that repeats another), -ENOMEM. */
int json_keys_check(const uint8_t *text, size_t size, size_t count,
                    struct vouch_json_fault *ret_fault) VOUCH_MUST_CHECK;

/* vouch_json_scan and what it counted: rules not NULL and complete. */
int json_check(struct json_scan *ret_scan, const void *text, size_t size,
               const struct vouch_json_rules *rules,
               struct vouch_json_fault *ret_fault) VOUCH_MUST_CHECK;

/* The caller's rules, or the defaults, with every field set. 0 or -EINVAL. */
int json_rules_read(struct vouch_json_rules *ret_rules,
                    const struct vouch_json_rules *rules) VOUCH_MUST_CHECK;

/* The code of an error, with an offset and a reason as text. Returns the code. `ret_error` may be
 * NULL. */
int json_fault_error(struct vouch_error *ret_error, int code, const char *what,
                     const struct vouch_json_fault *fault);

/* The text a number item was written with, where it still says what the item's value is; else NULL.
 */
const char *json_number_text(const cJSON *item);

/* A buffer with the printed tree, by way of `get`, which gives one with room for so many bytes. 0,
 * or as vouch_json_print, or what `get` returned. */
typedef int (*json_get_buffer)(void *context, size_t size, struct vouch_buffer **ret_buffer);
int json_print_buffer(const cJSON *tree, json_get_buffer get, void *context,
                      struct vouch_buffer **ret_buffer) VOUCH_MUST_CHECK;

#endif
