/* SPDX-License-Identifier: MIT */
/* What peers share: ending with a message, memory, bare sockets. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bench/system.h"

#define BACKLOG 4096
#define STACK ((size_t)128 << 10)

void bench_die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    _exit(1);
}

int64_t bench_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void *bench_alloc(size_t size) {
    void *memory = calloc(1, size);
    if (!memory)
        bench_die("no memory");
    return memory;
}

char *bench_body(size_t size) {
    char *body = bench_alloc(size + 1);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)('a' + i % 26);
    return body;
}

bool bench_read_all(int fd, void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t r = read(fd, (char *)data + done, size - done);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

bool bench_write_all(int fd, const void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t r = write(fd, (const char *)data + done, size - done);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

static int make_socket(const struct bench_case *what, int type, struct sockaddr_un *ret_address) {
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_die("socket: %s", strerror(errno));
    memset(ret_address, 0, sizeof(*ret_address));
    ret_address->sun_family = AF_UNIX;
    if (strlen(what->address) >= sizeof(ret_address->sun_path))
        bench_die("%s: too long for a socket", what->address);
    memcpy(ret_address->sun_path, what->address, strlen(what->address));
    return fd;
}

static void set_buffer(const struct bench_case *what, int fd) {
    int size = BENCH_LARGE_BUFFER;
    if (what->sndbuf && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0)
        bench_die("SO_SNDBUF: %s", strerror(errno));
}

int bench_listen(const struct bench_case *what, int type) {
    struct sockaddr_un address;
    int fd = make_socket(what, type, &address);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
        bench_die("%s: %s", what->address, strerror(errno));
    return fd;
}

int bench_connect(const struct bench_case *what, int type) {
    struct sockaddr_un address;
    int fd = make_socket(what, type, &address);
    set_buffer(what, fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        bench_die("%s: %s", what->address, strerror(errno));
    return fd;
}

struct served {
    int fd;
    void (*serve)(int fd, const struct bench_case *what);
    const struct bench_case *what;
};

static void *serve_one(void *context) {
    struct served served = *(struct served *)context;
    free(context);
    served.serve(served.fd, served.what);
    close(served.fd);
    return NULL;
}

void bench_serve_threads(int listener, void (*serve)(int fd, const struct bench_case *what),
                         const struct bench_case *what) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    for (;;) {
        struct served *served = bench_alloc(sizeof(*served));
        pthread_t thread;
        *served = (struct served){accept4(listener, NULL, NULL, SOCK_CLOEXEC), serve, what};
        if (served->fd < 0)
            bench_die("accept: %s", strerror(errno));
        set_buffer(what, served->fd);
        int r = pthread_create(&thread, &attributes, serve_one, served);
        if (r != 0)
            bench_die("no thread: %s", strerror(r));
    }
}
