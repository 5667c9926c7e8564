/* SPDX-License-Identifier: MIT */
/*
 * Routes: from a URI to the name of a method, the first that fits.
 *
 * They are made before anything is served and only read afterwards, so finding one takes no lock.
 * Patterns are run by PCRE2 on texts of strangers. What it may spend on one is bounded: the texts
 * are short, and there are limits on its steps and on its memory, which comes from the pool. There
 * is no JIT: it would need memory that is writable and executable, and short texts don't pay for
 * it.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <errno.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/utf8.h"
#include "rpc/pixl.h"

struct pixl_route {
    struct pixl_route *next;
    struct vouch_buffer *memory; /* of this struct */
    enum vouch_pixl_route_kind kind;
    pcre2_code *pattern; /* or NULL */
    size_t size;
    const char *method;
    char text[]; /* and the method's name behind it */
};

/* ---- memory for PCRE2: a buffer of the pool, with its own address in front ---- */

#define HEAD 16 /* keeps what follows aligned for any type */

static void *pcre_alloc(size_t size, void *context) {
    struct vouch_buffer *buffer;
    if (size > SIZE_MAX - HEAD || vouch_pool_get(context, 0, size + HEAD, &buffer) < 0)
        return NULL;
    memcpy(buffer->data, &buffer, sizeof(buffer));
    return buffer->data + HEAD;
}

static void pcre_free(void *memory, void *context) {
    struct vouch_buffer *buffer;
    (void)context;
    if (!memory)
        return;
    memcpy(&buffer, (uint8_t *)memory - HEAD, sizeof(buffer));
    vouch_buffer_unref(buffer);
}

int pixl_routes_init(struct pixl_routes *routes, struct vouch_pool *pool) {
    *routes = (struct pixl_routes){.pool = vouch_pool_ref(pool)};
    routes->pcre = pcre2_general_context_create(pcre_alloc, pcre_free, pool);
    if (routes->pcre)
        return 0;
    vouch_pool_unref(pool);
    return -ENOMEM;
}

void pixl_routes_deinit(struct pixl_routes *routes) {
    while (routes->first) {
        struct pixl_route *route = routes->first;
        routes->first = route->next;
        pcre2_code_free(route->pattern);
        vouch_buffer_unref(route->memory);
    }
    pcre2_general_context_free(routes->pcre);
    vouch_pool_unref(routes->pool);
    *routes = (struct pixl_routes){0};
}

/* ---- adding ---- */

static int fail(struct vouch_error *ret_error, int code, const char *format, ...)
    VOUCH_PRINTF(3, 4);
static int fail(struct vouch_error *ret_error, int code, const char *format, ...) {
    va_list arguments;
    if (!ret_error)
        return code;
    ret_error->code = code;
    va_start(arguments, format);
    vsnprintf(ret_error->message, sizeof(ret_error->message), format, arguments);
    va_end(arguments);
    return code;
}

bool pixl_is_method_name(const char *name) {
    size_t size = strlen(name);
    return size > 0 && size <= VOUCH_METHOD_NAME_MAX &&
           name[strspn(
               name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/")] == '\0';
}

static int check(enum vouch_pixl_route_kind kind, const char *text, unsigned flags,
                 const char *method, struct vouch_error *ret_error) {
    if (!text || !method || kind > VOUCH_PIXL_PATTERN)
        return fail(ret_error, -EINVAL, "a route without a text, a method, or a known kind");
    if (!pixl_is_method_name(method))
        return fail(ret_error, VOUCH_E_METHOD_NAME,
                    "%.255s leads to %.255s, which is no name of a method", text, method);
    if ((flags & ~(unsigned)VOUCH_PIXL_CASELESS) != 0 || (flags && kind != VOUCH_PIXL_PATTERN))
        return fail(ret_error, -EINVAL, "%.255s: flags %#x do not go with this kind of route", text,
                    flags);
    if (kind == VOUCH_PIXL_PATTERN)
        return 0;
    size_t size = strlen(text);
    if (size == 0 || size > VOUCH_PIXL_URI_MAX || !utf8_valid((const uint8_t *)text, size))
        return fail(ret_error, -EINVAL, "%.255s: empty, longer than %d bytes, or not UTF-8", text,
                    VOUCH_PIXL_URI_MAX);
    return 0;
}

/* As near to JavaScript's as PCRE2 comes. */
#define PATTERN_OPTIONS                                                                            \
    (PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX |                 \
     PCRE2_ALLOW_EMPTY_CLASS | PCRE2_MATCH_UNSET_BACKREF)

static int compile(const struct pixl_routes *routes, struct pixl_route *route, unsigned flags,
                   struct vouch_error *ret_error) {
    PCRE2_UCHAR reason[256] = "";
    PCRE2_SIZE offset;
    int code;
    pcre2_compile_context *context = pcre2_compile_context_create(routes->pcre);
    if (!context)
        return -ENOMEM;
    uint32_t caseless = flags & VOUCH_PIXL_CASELESS ? PCRE2_CASELESS : 0;
    route->pattern = pcre2_compile((PCRE2_SPTR)route->text, route->size, PATTERN_OPTIONS | caseless,
                                   &code, &offset, context);
    pcre2_compile_context_free(context);
    if (route->pattern)
        return 0;
    pcre2_get_error_message(code, reason, sizeof(reason));
    return fail(ret_error, code == PCRE2_ERROR_HEAP_FAILED ? -ENOMEM : -EINVAL,
                "pattern %.512s, at offset %zu: %s", route->text, (size_t)offset,
                (const char *)reason);
}

int pixl_routes_add(struct pixl_routes *routes, enum vouch_pixl_route_kind kind, const char *text,
                    unsigned flags, const char *method, struct vouch_error *ret_error) {
    struct vouch_buffer *memory;
    int r = check(kind, text, flags, method, ret_error);
    if (r < 0)
        return r;
    size_t size = strlen(text), method_size = strlen(method);
    r = vouch_pool_get(routes->pool, 0, sizeof(struct pixl_route) + size + method_size + 2,
                       &memory);
    if (r < 0)
        return fail(ret_error, r, "%.255s: %s", text, vouch_strerror(r));
    struct pixl_route *route = (void *)memory->data;
    *route = (struct pixl_route){.memory = memory, .kind = kind, .size = size};
    memcpy(route->text, text, size + 1);
    route->method = memcpy(route->text + size + 1, method, method_size + 1);
    if (kind == VOUCH_PIXL_PATTERN)
        r = compile(routes, route, flags, ret_error);
    if (r < 0) {
        vouch_buffer_unref(memory);
        return r;
    }
    if (routes->last)
        routes->last->next = route;
    else
        routes->first = route;
    routes->last = route;
    routes->count++;
    return 0;
}

/* ---- finding ---- */

/* What one search needs of PCRE2; made when it comes to the first pattern. */
struct search {
    const struct pixl_routes *routes;
    const char *uri;
    size_t size;
    pcre2_match_context *limits;
    pcre2_match_data *data;
};

static bool begin(struct search *s) {
    if (s->data)
        return true;
    s->limits = pcre2_match_context_create(s->routes->pcre);
    s->data = pcre2_match_data_create(VOUCH_PIXL_GROUPS_MAX, s->routes->pcre);
    if (!s->limits || !s->data)
        return false;
    pcre2_set_match_limit(s->limits, VOUCH_PIXL_MATCH_LIMIT);
    pcre2_set_heap_limit(s->limits, VOUCH_PIXL_HEAP_LIMIT);
    return true;
}

static void end(struct search *s) {
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->limits);
}

static void take_groups(const struct search *s, int matched, struct vouch_pixl_match *ret_match) {
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(s->data);
    /* 0: there are more than fit. */
    ret_match->group_count = matched > 0 ? (size_t)matched : VOUCH_PIXL_GROUPS_MAX;
    for (size_t i = 0; i < ret_match->group_count; i++) {
        PCRE2_SIZE from = offsets[2 * i], to = offsets[2 * i + 1];
        if (from == PCRE2_UNSET)
            continue;
        ret_match->groups[i].text = s->uri + from;
        ret_match->groups[i].size = to > from ? to - from : 0; /* \K may turn it round */
    }
}

static int match_pattern(struct search *s, const struct pixl_route *route,
                         struct vouch_pixl_match *ret_match) {
    if (!begin(s))
        return -ENOMEM;
    int r = pcre2_match(route->pattern, (PCRE2_SPTR)s->uri, s->size, 0, PCRE2_NO_UTF_CHECK, s->data,
                        s->limits);
    if (r == PCRE2_ERROR_NOMATCH)
        return 0;
    if (r == PCRE2_ERROR_NOMEMORY)
        return -ENOMEM;
    if (r < 0)
        return -E2BIG; /* a limit; nothing else is left */
    take_groups(s, r, ret_match);
    return 1;
}

static int match_route(struct search *s, const struct pixl_route *route,
                       struct vouch_pixl_match *ret_match) {
    switch (route->kind) {
    case VOUCH_PIXL_LITERAL:
        return s->size == route->size && memcmp(s->uri, route->text, s->size) == 0;
    case VOUCH_PIXL_PREFIX:
        return s->size >= route->size && memcmp(s->uri, route->text, route->size) == 0;
    case VOUCH_PIXL_PATTERN:
        return match_pattern(s, route, ret_match);
    }
    return 0;
}

int pixl_routes_find(const struct pixl_routes *routes, const char *uri, size_t size,
                     struct vouch_pixl_match *ret_match) {
    struct search search = {.routes = routes, .uri = uri, .size = size};
    int r = 0;
    *ret_match = (struct vouch_pixl_match){0};
    for (const struct pixl_route *route = routes->first; route && r == 0; route = route->next) {
        r = match_route(&search, route, ret_match);
        if (r == 1)
            ret_match->method = route->method;
    }
    end(&search);
    return r;
}
