/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Pictures from strangers: a file descriptor -> pixels, without a decoder in this process.
 *
 * Flow:     fd of a client -> image_source() -> sealed private fd -> image_decode() -> lfmd-image
 *           (a child without files, network or other privilege) -> pixels in a memfd -> struct
 *           image
 * Formats:  by their first bytes, never by a name; vision/decode/decode.h has the table
 * Colour:   as the reference: orientation applied, alpha dropped, grey and CMYK to RGB, 16 bit to
 *           their high byte, first frame of an animation, no colour management. An SVG is drawn on
 *           white, because a drawing has no pixels behind its shapes, with its long side between
 *           512 and 2048 and the system's fonts; references to other files are not followed.
 * Cut:      a file that ends before its picture does is refused, not shown in part
 * Threads:  any; both functions block. image_source() reads what a client chose, at the speed of
 *           that file system: never on the bus thread.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/image.h"

struct decode_limits {
    uint64_t bytes_max;   /* of the file */
    uint64_t pixels_max;  /* width * height */
    uint32_t side_max;    /* width, height */
    int64_t timeout_usec; /* of the child, by the clock on the wall */
};

extern const struct decode_limits decode_limits_default; /* 64 MiB, 100 million, 32768, 20 s */

/*
 * A descriptor that somebody else holds too -> one whose content stays as it is.
 *
 * Takes regular files and memfds that can be read, up to bytes_max; refuses pipes, folders,
 * sockets, devices, descriptors for writing or for paths only. A memfd that is sealed against
 * writing, shrinking and growing is used as it is (duplicated); anything else is copied, as long as
 * fstat() said that it is: what others write later does not count.
 *
 * fd: stays the caller's; ret_fd: a memfd with these seals, close-on-exec, the caller's to close.
 */
int image_source(int fd, const struct decode_limits *limits, int *ret_fd, size_t *ret_bytes,
                 struct error *err);

/*
 * Decode the picture in fd, which image_source() made, in a child process.
 *
 * program: path of lfmd-image. cancel: NULL, or a flag that ends the child when it becomes true.
 * The child is dead and reaped when this returns, whatever the result. A refusal says which limit,
 * or which format that this build has no decoder for; a child that was killed is an error like
 * others. Errors: UNSUPPORTED_FORMAT, INVALID_ARGUMENT (a limit), CANCELLED, TIMEOUT, NO_MEMORY,
 * INTERNAL (the program is missing or has ended without a result).
 */
int image_decode(const char *program, int fd, const struct decode_limits *limits,
                 const atomic_bool *cancel, struct image *ret, struct error *err);

/*
 * Where lfmd-image is: $LFMD_IMAGE, else in the build tree that this program was built in, else in
 * the folder that it is installed to.
 */
const char *image_decoder_path(void);
