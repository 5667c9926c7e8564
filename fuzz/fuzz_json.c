/* SPDX-License-Identifier: MIT */
/*
 * JSON: what the scan lets through cJSON takes whole, and what is printed of it is read as the
 * same.
 *
 * The first byte picks the rules, the rest is the text, with no NUL behind it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/json.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds)
        abort();
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* cJSON by itself: it has to read to the end of what was let through. */
static void cjson_takes_it(const char *text, size_t size) {
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, size, &end, false);
    require(tree);
    for (; end < text + size; end++)
        require(is_space(*end));
    cJSON_Delete(tree);
}

static char *print(const cJSON *tree, size_t *ret_size) {
    ssize_t size = vouch_json_print(tree, NULL, 0);
    require(size > 0);
    char *text = malloc((size_t)size);
    require(text && vouch_json_print(tree, text, (size_t)size) == size);
    *ret_size = (size_t)size;
    return text;
}

static void round_trip(const cJSON *tree, const struct vouch_json_rules *rules) {
    size_t size, again_size;
    char *text = print(tree, &size);
    cJSON *again;
    require(vouch_json_parse(text, size, rules, &again, NULL) == 0);
    require(cJSON_GetArraySize(again) == cJSON_GetArraySize(tree));
    char *again_text = print(again, &again_size);
    require(again_size == size && memcmp(again_text, text, size) == 0);
    cJSON_Delete(again);
    free(again_text);
    free(text);
}

/* Looks at every integer both ways: they agree where both are possible. */
static void integers(const cJSON *tree) {
    for (; tree; tree = tree->next) {
        int64_t i;
        uint64_t u;
        if (vouch_json_get_int64(tree, &i) == 0 && i >= 0)
            require(vouch_json_get_uint64(tree, &u) == 0 && u == (uint64_t)i);
        integers(tree->child);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    const struct vouch_json_rules rules = {.max_depth = data[0] & 1 ? VOUCH_JSON_DEPTH_BOUND : 0,
                                           .max_values = data[0] & 2 ? 16 : 0,
                                           .unique_keys = data[0] & 4};
    const char *text = (const char *)data + 1;
    struct vouch_json_fault fault = {.offset = SIZE_MAX};
    cJSON *tree = NULL;
    size--;
    int scanned = vouch_json_scan(text, size, &rules, &fault);
    int parsed = vouch_json_parse(text, size, &rules, &tree, NULL);
    require(scanned == 0 || (scanned == -EPROTO && fault.offset <= size && fault.reason));
    require(scanned == 0 || parsed == -EPROTO);
    if (scanned == 0)
        cjson_takes_it(text, size);
    if (parsed == 0) {
        round_trip(tree, &rules);
        integers(tree);
    } else {
        require(!tree);
    }
    cJSON_Delete(tree);
    return 0;
}
