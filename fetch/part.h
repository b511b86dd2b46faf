/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The file on its way: NAME.part beside its destination, with what is needed to go on later in
 * NAME.part.json. It is hashed while it is written, so that the end costs nothing.
 *
 *   part_open     take the lock; hash what is there
 *   part_reserve  is there room for the rest?
 *   part_write    append
 *   part_restart  the server has another file now: begin again
 *   part_commit   sync, compare, rename; NAME.sha256 keeps the hash for later checks
 *
 * Memory: nothing on the heap but the paths. Threads: main thread.
 */

#include <limits.h>
#include <sha2.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "fetch/url.h"

#define SHA256_HEX (SHA256_DIGEST_LENGTH * 2)
#define ETAG_MAX   256

struct part {
    int folder;                /* of the destination */
    int fd;                    /* of NAME.part, locked */
    char folder_path[PATH_MAX];
    char name[NAME_MAX + 1];   /* of the destination */
    char part_name[NAME_MAX + 1], note_name[NAME_MAX + 1], hash_name[NAME_MAX + 1];
    uint64_t size_bytes;       /* written so far */
    SHA2_CTX hash;             /* of these bytes */
    /* the note */
    char url[URL_MAX];         /* where the bytes are from */
    char etag[ETAG_MAX];       /* strong, with its quotes; "": none */
    char sha256[SHA256_HEX + 1]; /* that the server or the registry promised; "": none */
    uint64_t total_bytes;      /* 0: not known yet */
};

#define PART_CLOSED                                                                                \
    {                                                                                              \
        .folder = -1, .fd = -1                                                                     \
    }

/*
 * Makes the folder (0700) where it is missing. ERROR_BUSY while another process writes this file;
 * ERROR_CANCELLED when a signal came while the old bytes were hashed.
 */
int part_open(struct part *part, const char *path, struct error *err);
void part_close(struct part *part);

/* ERROR_NO_SPACE with the figures when the rest does not fit on the disk. */
/* more_bytes: must have room beside it too */
int part_reserve(struct part *part, uint64_t more_bytes, struct error *err);
int part_write(struct part *part, const void *bytes, size_t n, struct error *err);
int part_restart(struct part *part, struct error *err);
int part_note(struct part *part, struct error *err);

/*
 * The file is complete. With an expected hash that differs, it is deleted: ERROR_DOWNLOAD_FAILED.
 * ret_sha256: [SHA256_HEX + 1]
 */
int part_commit(struct part *part, char *ret_sha256, struct error *err);

/* Hash a whole file. progress may be NULL. */
int part_hash_file(const char *path, void (*progress)(uint64_t done, uint64_t total),
                   uint64_t *ret_size_bytes, char *ret_sha256, struct error *err);

bool sha256_valid(const char *text); /* 64 hex digits */
