/* SPDX-License-Identifier: MIT */
#include "plugin/handshake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif
#include <unistd.h>

#include "lib/error.h"

#define MAGIC "vouch-plugin "

static const struct {
    int result;
    const char *word;
} refusals[] = {
    {VOUCH_E_PLUGIN_HANDSHAKE, "handshake"},
    {VOUCH_E_PLUGIN_PROTOCOL, "protocol"},
    {VOUCH_E_PLUGIN_TOKEN, "token"},
    {VOUCH_E_PLUGIN_VERSION, "version"},
};
#define REFUSALS (sizeof(refusals) / sizeof(refusals[0]))

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

bool handshake_name_valid(const char *name) {
    size_t size = 0;
    for (; name[size] && size <= VOUCH_PLUGIN_NAME_MAX; size++)
        if (!is_name_byte(name[size]))
            return false;
    return size >= 1 && size <= VOUCH_PLUGIN_NAME_MAX;
}

int handshake_make_token(char ret_token[HANDSHAKE_TOKEN_SIZE + 1]) {
    uint8_t bytes[HANDSHAKE_TOKEN_SIZE / 2];
    if (getentropy(bytes, sizeof(bytes)) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(ret_token + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

bool handshake_token_equal(const char *a, const char *b) {
    unsigned difference = 0;
    if (strlen(a) != HANDSHAKE_TOKEN_SIZE || strlen(b) != HANDSHAKE_TOKEN_SIZE)
        return false;
    for (size_t i = 0; i < HANDSHAKE_TOKEN_SIZE; i++)
        difference |= (unsigned)(a[i] ^ b[i]);
    return difference == 0;
}

/* ---- versions ---- */

/* One number, of 1 to 10 digits without a leading 0. Returns its digits, 0 when it is none. */
static size_t parse_number(const char *text, size_t size, uint32_t *ret_number) {
    uint64_t number = 0;
    size_t digits = 0;
    while (digits < size && digits < 10 && text[digits] >= '0' && text[digits] <= '9')
        number = number * 10 + (uint64_t)(text[digits++] - '0');
    if (digits == 0 || text[0] == '0' || number > UINT32_MAX)
        return 0;
    *ret_number = (uint32_t)number;
    return digits;
}

int handshake_parse_versions(const char *text, size_t size,
                             struct handshake_versions *ret_versions) {
    struct handshake_versions versions = {.count = 0};
    for (size_t at = 0;; at++) {
        if (versions.count == VOUCH_PLUGIN_VERSIONS_MAX)
            return VOUCH_E_PLUGIN_HANDSHAKE;
        size_t digits = parse_number(text + at, size - at, &versions.numbers[versions.count++]);
        at += digits;
        if (digits == 0 || (at < size && text[at] != ','))
            return VOUCH_E_PLUGIN_HANDSHAKE;
        if (at == size)
            break;
    }
    *ret_versions = versions;
    return 0;
}

const char *handshake_format_versions(const struct handshake_versions *versions,
                                      char text[HANDSHAKE_VERSIONS_TEXT]) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < versions->count; i++)
        used += (size_t)snprintf(text + used, HANDSHAKE_VERSIONS_TEXT - used, "%s%u",
                                 i > 0 ? "," : "", versions->numbers[i]);
    return text;
}

int handshake_copy_versions(const uint32_t *versions, size_t count,
                            struct handshake_versions *ret_versions) {
    static const uint32_t one = 1;
    if (!versions) {
        versions = &one;
        count = 1;
    }
    if (count == 0 || count > VOUCH_PLUGIN_VERSIONS_MAX)
        return -EINVAL;
    struct handshake_versions copy = {.count = count};
    for (size_t i = 0; i < count; i++) {
        if (versions[i] == 0)
            return -EINVAL;
        copy.numbers[i] = versions[i];
    }
    *ret_versions = copy;
    return 0;
}

uint32_t handshake_choose(const struct handshake_versions *a, const struct handshake_versions *b) {
    uint32_t best = 0;
    for (size_t i = 0; i < a->count; i++)
        for (size_t j = 0; j < b->count; j++)
            if (a->numbers[i] == b->numbers[j] && a->numbers[i] > best)
                best = a->numbers[i];
    return best;
}

/* ---- lines ---- */

size_t handshake_format_hello(const struct handshake_hello *hello,
                              char ret_line[HANDSHAKE_LINE_MAX]) {
    char versions[HANDSHAKE_VERSIONS_TEXT];
    return (size_t)snprintf(ret_line, HANDSHAKE_LINE_MAX, MAGIC "%u %s %s %s\n", HANDSHAKE_PROTOCOL,
                            hello->token, handshake_format_versions(&hello->versions, versions),
                            hello->name);
}

size_t handshake_format_ok(uint32_t version, char ret_line[HANDSHAKE_LINE_MAX]) {
    return (size_t)snprintf(ret_line, HANDSHAKE_LINE_MAX, MAGIC "%u ok %u\n", HANDSHAKE_PROTOCOL,
                            version);
}

size_t handshake_format_refused(int result, const char *text, char ret_line[HANDSHAKE_LINE_MAX]) {
    const char *word = refusals[0].word;
    char clean[HANDSHAKE_LINE_MAX - 64];
    for (size_t i = 0; i < REFUSALS; i++)
        if (refusals[i].result == result)
            word = refusals[i].word;
    (void)error_copy_text(clean, sizeof(clean), text, strlen(text));
    return (size_t)snprintf(ret_line, HANDSHAKE_LINE_MAX, MAGIC "%u refused %s %s\n",
                            HANDSHAKE_PROTOCOL, word, clean);
}

/* The next word; the byte behind it, a space or the line's end, is skipped. */
struct words {
    const char *at, *end; /* end: the '\n' */
};

static bool next_word(struct words *words, const char **ret_word, size_t *ret_size) {
    const char *start = words->at;
    if (start > words->end)
        return false;
    while (words->at < words->end && *words->at != ' ')
        words->at++;
    *ret_word = start;
    *ret_size = (size_t)(words->at - start);
    words->at++;
    return *ret_size > 0;
}

/* What both lines begin with. */
static int begin(const char *line, size_t size, struct words *ret_words) {
    size_t magic = sizeof(MAGIC) - 1, word_size;
    const char *word;
    uint32_t protocol = 0;
    if (size <= magic || size > HANDSHAKE_LINE_MAX || memcmp(line, MAGIC, magic) != 0 ||
        memchr(line, '\n', size) != line + size - 1 || memchr(line, '\0', size))
        return VOUCH_E_PLUGIN_HANDSHAKE;
    *ret_words = (struct words){line + magic, line + size - 1};
    if (!next_word(ret_words, &word, &word_size) ||
        parse_number(word, word_size, &protocol) != word_size)
        return VOUCH_E_PLUGIN_HANDSHAKE;
    return protocol == HANDSHAKE_PROTOCOL ? 0 : VOUCH_E_PLUGIN_PROTOCOL;
}

static bool copy_word(struct words *words, char *to, size_t room) {
    const char *word;
    size_t size;
    if (!next_word(words, &word, &size) || size >= room)
        return false;
    memcpy(to, word, size);
    to[size] = '\0';
    return true;
}

int handshake_parse_hello(const char *line, size_t size, struct handshake_hello *ret_hello) {
    struct handshake_hello hello;
    struct words words;
    const char *versions;
    size_t versions_size;
    int r = begin(line, size, &words);
    if (r < 0)
        return r;
    if (!copy_word(&words, hello.token, sizeof(hello.token)) ||
        !next_word(&words, &versions, &versions_size) ||
        handshake_parse_versions(versions, versions_size, &hello.versions) < 0 ||
        !copy_word(&words, hello.name, sizeof(hello.name)) || words.at <= words.end ||
        !handshake_name_valid(hello.name))
        return VOUCH_E_PLUGIN_HANDSHAKE;
    *ret_hello = hello;
    return 0;
}

static int parse_refusal(struct words *words, char ret_text[HANDSHAKE_LINE_MAX]) {
    char word[16];
    if (!copy_word(words, word, sizeof(word)))
        return VOUCH_E_PLUGIN_HANDSHAKE;
    size_t size = words->at < words->end ? (size_t)(words->end - words->at) : 0;
    (void)error_copy_text(ret_text, HANDSHAKE_LINE_MAX, words->at, size);
    for (size_t i = 0; i < REFUSALS; i++)
        if (strcmp(word, refusals[i].word) == 0)
            return refusals[i].result;
    return VOUCH_E_PLUGIN_HANDSHAKE;
}

int handshake_parse_answer(const char *line, size_t size, uint32_t *ret_version,
                           char ret_text[HANDSHAKE_LINE_MAX]) {
    struct words words;
    char verdict[8];
    const char *word;
    size_t word_size;
    ret_text[0] = '\0';
    int r = begin(line, size, &words);
    if (r < 0)
        return r;
    if (!copy_word(&words, verdict, sizeof(verdict)))
        return VOUCH_E_PLUGIN_HANDSHAKE;
    if (strcmp(verdict, "refused") == 0)
        return parse_refusal(&words, ret_text);
    if (strcmp(verdict, "ok") != 0 || !next_word(&words, &word, &word_size) ||
        words.at <= words.end || parse_number(word, word_size, ret_version) != word_size)
        return VOUCH_E_PLUGIN_HANDSHAKE;
    return 0;
}
