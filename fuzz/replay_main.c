/* SPDX-License-Identifier: MIT */
/*
 * A main for fuzz targets without libFuzzer: runs the target once on nothing and once on every file
 * named, or in a directory named. Every input is handed over in an allocation of exactly its size,
 * so that a sanitizer sees the first byte read past it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned long inputs;

static int run_file(const char *path, size_t size) {
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);
    int r = -1;

    if (file && data && fread(data, 1, size, file) == size) {
        uint8_t *exact = size ? data : NULL;

        (void)LLVMFuzzerTestOneInput(exact, size);
        inputs++;
        r = 0;
    } else {
        perror(path);
    }
    free(data);
    if (file)
        (void)fclose(file);
    return r;
}

static int run_path(const char *path);

static int run_directory(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;
    int r = 0;

    if (!directory) {
        perror(path);
        return -1;
    }
    while ((entry = readdir(directory)) != NULL) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= (int)sizeof(name) ||
            run_path(name) < 0)
            r = -1;
    }
    (void)closedir(directory);
    return r;
}

static int run_path(const char *path) {
    struct stat st;

    if (stat(path, &st) < 0) {
        perror(path);
        return -1;
    }
    return S_ISDIR(st.st_mode) ? run_directory(path) : run_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv) {
    int r = 0;

    if (LLVMFuzzerInitialize)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    (void)LLVMFuzzerTestOneInput(NULL, 0);
    for (int i = 1; i < argc; i++) {
        if (run_path(argv[i]) < 0)
            r = 1;
    }
    (void)printf("%lu inputs\n", inputs);
    return r;
}
