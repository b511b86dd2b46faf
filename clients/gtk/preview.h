/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A picture's pixels for the window, decoded in a child process.
 *
 * The child is this program again with PREVIEW_OPTION: it reads the file on its standard input,
 * scales it while decoding and writes a struct preview_header and the pixels to its standard
 * output. It is in a sandbox (base/sandbox.h), so that a file that is damaged or made to harm costs
 * its preview, never the window.
 *
 * Threads: main thread.
 */

#include <gtk/gtk.h>
#include <stdint.h>

#define PREVIEW_OPTION   "--preview"
#define PREVIEW_SIDE_MAX 2560 /* of the pixels that come back: sharp on a large screen */

struct preview_header {
    uint32_t width, height; /* pixels follow: [height][width][4] R G B A, alpha not multiplied in */
};

/* What main() returns in the child. */
int preview_child(void);

/* Decode what fd reads; fd stays the caller's. */
void preview_async(int fd, GCancellable *cancellable, GAsyncReadyCallback done, void *userdata);
/* The texture, or NULL with a sentence. */
GdkTexture *preview_finish(GAsyncResult *result, GError **error);
