/* SPDX-License-Identifier: MIT */
/*
 * The handshake of plugin and host, one line each, before the first message. docs/plugins.md has it
 * in words.
 *
 *   plugin:  vouch-plugin 1 TOKEN VERSIONS NAME      VERSIONS: 1,2,3
 *   host:    vouch-plugin 1 ok VERSION
 *        or  vouch-plugin 1 refused WORD TEXT        WORD: protocol, token, version or handshake
 *
 * Pure functions: strict, exactly one space between words, '\n' at the end.
 */
#ifndef VOUCH_PLUGIN_HANDSHAKE_H
#define VOUCH_PLUGIN_HANDSHAKE_H

#include <vouch/plugin.h>

#define HANDSHAKE_PROTOCOL 1u
#define HANDSHAKE_LINE_MAX 512  /* with the '\n' */
#define HANDSHAKE_TOKEN_SIZE 32 /* hexadecimal digits */

/* Names of the environment that a plugin gets. */
#define HANDSHAKE_ENV_FD "VOUCH_PLUGIN_FD"
#define HANDSHAKE_ENV_TOKEN "VOUCH_PLUGIN_TOKEN"
#define HANDSHAKE_ENV_PROTOCOL "VOUCH_PLUGIN_PROTOCOL"
#define HANDSHAKE_ENV_VERSIONS "VOUCH_PLUGIN_VERSIONS"

struct handshake_versions {
    uint32_t numbers[VOUCH_PLUGIN_VERSIONS_MAX];
    size_t count;
};

struct handshake_hello {
    char token[HANDSHAKE_TOKEN_SIZE + 1];
    struct handshake_versions versions;
    char name[VOUCH_PLUGIN_NAME_MAX + 1];
};

/* 1 to VOUCH_PLUGIN_NAME_MAX of A-Z a-z 0-9 _ . - */
bool handshake_name_valid(const char *name);

/* 32 digits that nobody can guess. 0 or negative errno. */
int handshake_make_token(char ret_token[HANDSHAKE_TOKEN_SIZE + 1]) VOUCH_MUST_CHECK;
/* In the same time whatever differs. */
bool handshake_token_equal(const char *a, const char *b);

/* Numbers over 0 with commas between. */
int handshake_parse_versions(const char *text, size_t size,
                             struct handshake_versions *ret_versions) VOUCH_MUST_CHECK;
#define HANDSHAKE_VERSIONS_TEXT (VOUCH_PLUGIN_VERSIONS_MAX * 11 + 1)
const char *handshake_format_versions(const struct handshake_versions *versions,
                                      char text[HANDSHAKE_VERSIONS_TEXT]);
/* A copy of an option; `versions` NULL: 1. 0 or -EINVAL. */
int handshake_copy_versions(const uint32_t *versions, size_t count,
                            struct handshake_versions *ret_versions) VOUCH_MUST_CHECK;
/* The highest in both, or 0. */
uint32_t handshake_choose(const struct handshake_versions *a, const struct handshake_versions *b);

/* Lines into `ret_line`; return their size. */
size_t handshake_format_hello(const struct handshake_hello *hello,
                              char ret_line[HANDSHAKE_LINE_MAX]);
size_t handshake_format_ok(uint32_t version, char ret_line[HANDSHAKE_LINE_MAX]);
size_t handshake_format_refused(int result, const char *text, char ret_line[HANDSHAKE_LINE_MAX]);

/* A line with its '\n'. 0, VOUCH_E_PLUGIN_HANDSHAKE, VOUCH_E_PLUGIN_PROTOCOL. */
int handshake_parse_hello(const char *line, size_t size,
                          struct handshake_hello *ret_hello) VOUCH_MUST_CHECK;
/* 0 and the version; or why the host refused: VOUCH_E_PLUGIN_*, and its text. */
int handshake_parse_answer(const char *line, size_t size, uint32_t *ret_version,
                           char ret_text[HANDSHAKE_LINE_MAX]) VOUCH_MUST_CHECK;

#endif
