/* SPDX-License-Identifier: MIT */
#include "clients/gtk/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define READ_SIZE 65536
#define SEALS     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

const char *const picture_mime_types[] = {
    "image/png",  "image/jpeg", "image/webp", "image/avif",    "image/heif",
    "image/tiff", "image/gif",  "image/bmp",  "image/svg+xml", NULL,
};

static struct picture *picture_new(int fd, const char *name)
{
    struct picture *picture = g_rc_box_new0(struct picture);

    picture->fd = fd;
    picture->name = g_strdup(name);
    return picture;
}

static void done(void *data)
{
    struct picture *picture = data;

    close(picture->fd);
    g_free(picture->name);
    g_free(picture->trouble);
    g_clear_object(&picture->texture);
}

struct picture *picture_ref(struct picture *picture)
{
    return g_rc_box_acquire(picture);
}

void picture_unref(struct picture *picture)
{
    g_rc_box_release_full(picture, done);
}

/* --- from a file ---------------------------------------------------------------------------- */

struct picture *picture_open(GFile *file, GError **error)
{
    const char *path = g_file_peek_path(file);
    g_autofree char *base = g_file_get_basename(file);
    g_autofree char *name = g_filename_display_name(base);
    _cleanup_(closep) int fd = -1;
    struct stat st;

    if (!path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("“%s” is not on this computer: copy it into a folder first."), name);
        return NULL;
    }
    /* A FIFO must not hold the window. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    _("“%s” cannot be opened: %s."), name, g_strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE, _("“%s” is not a file."), name);
        return NULL;
    }
    return picture_new(TAKE_FD(fd), name);
}

/* --- from a stream -------------------------------------------------------------------------- */

struct reading {
    int fd;
    size_t size;
    char *name;
};

static void reading_free(void *data)
{
    struct reading *reading = data;

    closep(&reading->fd);
    g_free(reading->name);
    g_free(reading);
}

static int keep(struct reading *reading, const guchar *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(reading->fd, data, size);

        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
        reading->size += (size_t)n;
    }
    return 0;
}

static void got_bytes(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    struct reading *reading = g_task_get_task_data(task);
    GCancellable *cancellable = g_task_get_cancellable(task);
    GError *error = NULL;
    g_autoptr(GBytes) bytes =
        g_input_stream_read_bytes_finish(G_INPUT_STREAM(source), result, &error);
    size_t size = bytes ? g_bytes_get_size(bytes) : 0;
    int r = 0;

    if (!bytes) {
        g_task_return_error(task, error);
        return;
    }
    if (reading->size + size > PICTURE_BYTES_MAX)
        r = -EFBIG;
    else if (size > 0)
        r = keep(reading, g_bytes_get_data(bytes, NULL), size);
    else if (fcntl(reading->fd, F_ADD_SEALS, SEALS) < 0)
        r = -errno;
    if (r < 0)
        g_task_return_new_error(task, G_IO_ERROR, g_io_error_from_errno(-r),
                                _("The picture cannot be kept: %s."), g_strerror(-r));
    else if (size == 0)
        g_task_return_pointer(task, picture_new(TAKE_FD(reading->fd), reading->name),
                              (GDestroyNotify)picture_unref);
    else
        g_input_stream_read_bytes_async(G_INPUT_STREAM(source), READ_SIZE, G_PRIORITY_DEFAULT,
                                        cancellable, got_bytes, g_steal_pointer(&task));
}

void picture_read_async(GInputStream *stream, const char *name, GCancellable *cancellable,
                        GAsyncReadyCallback ready, void *userdata)
{
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, ready, userdata);
    struct reading *reading = g_new0(struct reading, 1);

    reading->fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    reading->name = g_strdup(name);
    g_task_set_task_data(task, reading, reading_free);
    if (reading->fd < 0) {
        g_task_return_new_error(task, G_IO_ERROR, g_io_error_from_errno(errno),
                                _("The picture cannot be kept: %s."), g_strerror(errno));
        return;
    }
    g_input_stream_read_bytes_async(stream, READ_SIZE, G_PRIORITY_DEFAULT, cancellable, got_bytes,
                                    g_steal_pointer(&task));
}

struct picture *picture_read_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
