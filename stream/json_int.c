/* SPDX-License-Identifier: MIT */
/*
 * Integers of 64 bits in number items. What a double holds for certain (below 2^53) is read from
 * it; what is larger only from the item's text, which is what the peer wrote, or this file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/json.h"

#define DOUBLE_EXACT INT64_C(9007199254740992) /* 2^53 */
#define INTEGER_ROOM 24

static bool is_plain_integer(const char *text) {
    text += *text == '-';
    return text[strspn(text, "0123456789")] == '\0';
}

/* The text of an integer, or NULL and the double's value. */
static int look_at(const cJSON *item, const char **ret_text, int64_t *ret_value) {
    if (!cJSON_IsNumber(item))
        return -EINVAL;
    *ret_text = json_number_text(item);
    if (*ret_text && is_plain_integer(*ret_text))
        return 0;
    *ret_text = NULL;
    double value = item->valuedouble;
    if (!(value > (double)-DOUBLE_EXACT && value < (double)DOUBLE_EXACT) ||
        (double)(int64_t)value != value)
        return -ERANGE;
    *ret_value = (int64_t)value;
    return 0;
}

int vouch_json_get_int64(const cJSON *item, int64_t *ret_value) {
    const char *text;
    int64_t value;
    int result = look_at(item, &text, &value);
    if (result < 0)
        return result;
    if (text) {
        errno = 0;
        value = strtoll(text, NULL, 10);
        if (errno == ERANGE)
            return -ERANGE;
    }
    *ret_value = value;
    return 0;
}

int vouch_json_get_uint64(const cJSON *item, uint64_t *ret_value) {
    const char *text;
    int64_t value = 0;
    int result = look_at(item, &text, &value);
    if (result < 0)
        return result;
    uint64_t number = (uint64_t)value;
    if (text) {
        errno = 0;
        number = strtoull(text, NULL, 10);
    }
    if (text ? errno == ERANGE || (*text == '-' && number != 0) : value < 0)
        return -ERANGE;
    *ret_value = number;
    return 0;
}

static cJSON *new_integer(double value, bool exact, const char *text) {
    cJSON *item = cJSON_CreateNumber(value);
    if (!item || exact)
        return item;
    size_t size = strlen(text) + 1;
    item->valuestring = cJSON_malloc(size);
    if (!item->valuestring) {
        cJSON_Delete(item);
        return NULL;
    }
    memcpy(item->valuestring, text, size);
    return item;
}

cJSON *vouch_json_new_int64(int64_t value) {
    char text[INTEGER_ROOM];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return new_integer((double)value, value > -DOUBLE_EXACT && value < DOUBLE_EXACT, text);
}

cJSON *vouch_json_new_uint64(uint64_t value) {
    char text[INTEGER_ROOM];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    return new_integer((double)value, value < (uint64_t)DOUBLE_EXACT, text);
}

static int add_member(cJSON *object, const char *name, cJSON *item) {
    if (item && cJSON_AddItemToObject(object, name, item))
        return 0;
    cJSON_Delete(item);
    return -ENOMEM;
}

int vouch_json_add_int64(cJSON *object, const char *name, int64_t value) {
    if (!cJSON_IsObject(object) || !name)
        return -EINVAL;
    return add_member(object, name, vouch_json_new_int64(value));
}

int vouch_json_add_uint64(cJSON *object, const char *name, uint64_t value) {
    if (!cJSON_IsObject(object) || !name)
        return -EINVAL;
    return add_member(object, name, vouch_json_new_uint64(value));
}
