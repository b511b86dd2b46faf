/* SPDX-License-Identifier: MIT */

/*
 * Runs every file of a corpus through a fuzz target, so that what a fuzzer once found stays found.
 *
 *     fuzz_tokenizer tests/fuzz/corpus/tokenizer
 */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *file = fopen(path, "re");
    struct stat status;
    uint8_t *data;
    size_t size;

    if (!file || fstat(fileno(file), &status) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    /* A block of exactly this size, so that the address sanitizer sees the first byte too many. */
    size = (size_t)status.st_size;
    data = malloc(size);
    if ((!data && size > 0) || fread(data, 1, size, file) != size) {
        fprintf(stderr, "%s cannot be read\n", path);
        return -1;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent **entries;
    int n, n_files = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return 2;
    }
    n = scandir(argv[1], &entries, NULL, alphasort);
    if (n < 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char path[4096];

        if (entries[i]->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/%s", argv[1], entries[i]->d_name);
            if (replay(path) < 0)
                return 1;
            n_files++;
        }
        free(entries[i]);
    }
    free(entries);
    LLVMFuzzerTestOneInput(NULL, 0);

    printf("%d inputs of %s\n", n_files, argv[1]);
    return n_files > 0 ? 0 : 1;
}
