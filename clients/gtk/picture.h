/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A picture as the window holds it: an open file that goes to the daemon as it is, a name, and a
 * preview. It is opened once, so that the daemon sees what the window shows.
 *
 * Flow:     file, clipboard, drop -> here -> preview; assistant (as fd)
 * Threads:  main thread
 * Memory:   counted; what has no file of its own is kept in a sealed memfd
 */

#include <gtk/gtk.h>

#define PICTURE_BYTES_MAX ((size_t)256 << 20)

struct picture {
    int fd;
    char *name;          /* for people: the file's name, or "Pasted picture" */
    GdkTexture *texture; /* NULL: not decoded yet, or it cannot be shown */
    char *trouble;       /* NULL, or the sentence that says why it is not shown */
    bool sent;           /* the conversation has it */
};

/* NULL with a sentence for what is no readable regular file of this machine. */
struct picture *picture_open(GFile *file, GError **error);

/* Keep what the stream gives: a pasted or dropped picture in a file format. */
void picture_read_async(GInputStream *stream, const char *name, GCancellable *cancellable,
                        GAsyncReadyCallback done, void *userdata);
struct picture *picture_read_finish(GAsyncResult *result, GError **error);

struct picture *picture_ref(struct picture *picture);
void picture_unref(struct picture *picture);

/* The formats that a clipboard or a drop may offer, best first; NULL at the end. */
extern const char *const picture_mime_types[];
