/* SPDX-License-Identifier: MIT */
#include "clients/gtk/preview.h"

#include <fcntl.h>
#include <gio/gunixinputstream.h>
#include <glib/gi18n.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sandbox.h"

#define MEMORY_MAX    (UINT64_C(1) << 30)
#define PROCESSOR_MAX 20 /* seconds */
#define ANSWER_MAX                                                                                 \
    (sizeof(struct preview_header) + (size_t)4 * PREVIEW_SIDE_MAX * PREVIEW_SIDE_MAX)
#define READ_SIZE     65536

/* --- the child ------------------------------------------------------------------------------ */

/* What is loaded at the first need otherwise: a module for each format, the types of files. */
static void load_all(void)
{
    g_autoptr(GSList) formats = gdk_pixbuf_get_formats();

    g_free(g_content_type_guess(NULL, (const guchar *)"x", 1, NULL));
    for (GSList *format = formats; format; format = format->next) {
        g_autofree char *name = gdk_pixbuf_format_get_name(format->data);
        g_autoptr(GdkPixbufLoader) loader = gdk_pixbuf_loader_new_with_type(name, NULL);

        if (loader)
            gdk_pixbuf_loader_close(loader, NULL);
    }
}

static bool enter_sandbox(void)
{
    const struct sandbox_limits limits = {MEMORY_MAX, ANSWER_MAX, PROCESSOR_MAX};

    load_all();
    return sandbox_limit(&limits, NULL) >= 0 && sandbox_enter(SANDBOX_FONTS, NULL) >= 0;
}

/* JPEG and SVG are decoded at this size, others are scaled afterwards. */
static void choose_size(GdkPixbufLoader *loader, int width, int height)
{
    double scale = (double)PREVIEW_SIDE_MAX / MAX(MAX(width, height), 1);

    if (scale < 1)
        gdk_pixbuf_loader_set_size(loader, MAX((int)(width * scale), 1),
                                   MAX((int)(height * scale), 1));
}

static GdkPixbuf *decode(int fd)
{
    g_autoptr(GdkPixbufLoader) loader = gdk_pixbuf_loader_new();
    g_autofree guchar *buffer = g_malloc(READ_SIZE);
    bool well = true;
    ssize_t n = -1;

    g_signal_connect(loader, "size-prepared", G_CALLBACK(choose_size), NULL);
    for (off_t at = 0; well && (n = pread(fd, buffer, READ_SIZE, at)) > 0; at += n)
        well = gdk_pixbuf_loader_write(loader, buffer, (gsize)n, NULL);
    /* A file that was cut shows what it has. */
    well = gdk_pixbuf_loader_close(loader, NULL) && well && n == 0;
    if (!gdk_pixbuf_loader_get_pixbuf(loader))
        return NULL;
    return gdk_pixbuf_apply_embedded_orientation(gdk_pixbuf_loader_get_pixbuf(loader));
}

static bool write_all(const void *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(STDOUT_FILENO, (const char *)data + at, size - at);

        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

int preview_child(void)
{
    g_autoptr(GdkPixbuf) decoded = NULL;
    g_autoptr(GdkPixbuf) pixels = NULL;
    struct preview_header header;
    bool well;

    decoded = enter_sandbox() ? decode(STDIN_FILENO) : NULL;
    pixels = decoded ? gdk_pixbuf_add_alpha(decoded, FALSE, 0, 0, 0) : NULL;
    if (!pixels)
        return 1;
    header.width = (uint32_t)gdk_pixbuf_get_width(pixels);
    header.height = (uint32_t)gdk_pixbuf_get_height(pixels);
    well = write_all(&header, sizeof(header));
    for (uint32_t y = 0; well && y < header.height; y++)
        well = write_all(gdk_pixbuf_read_pixels(pixels) +
                             (size_t)y * (size_t)gdk_pixbuf_get_rowstride(pixels),
                         (size_t)4 * header.width);
    return well ? 0 : 1;
}

/* --- the window's side ---------------------------------------------------------------------- */

/* The whole answer; NULL when it is not one. */
static GdkTexture *read_answer(int fd)
{
    struct preview_header header;
    g_autofree guchar *pixels = NULL;
    g_autoptr(GBytes) bytes = NULL;
    size_t size, at = 0;
    ssize_t n;

    if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) || header.width == 0 ||
        header.width > PREVIEW_SIDE_MAX || header.height == 0 || header.height > PREVIEW_SIDE_MAX)
        return NULL;
    size = (size_t)4 * header.width * header.height;
    pixels = g_malloc(size);
    while (at < size && (n = pread(fd, pixels + at, size - at, (off_t)(sizeof(header) + at))) > 0)
        at += (size_t)n;
    if (at < size)
        return NULL;
    bytes = g_bytes_new_take(g_steal_pointer(&pixels), size);
    return gdk_memory_texture_new((int)header.width, (int)header.height, GDK_MEMORY_R8G8B8A8, bytes,
                                  (gsize)4 * header.width);
}

static void close_fd(void *fd)
{
    close(GPOINTER_TO_INT(fd));
}

static void child_ended(GObject *source, GAsyncResult *result, void *userdata)
{
    g_autoptr(GTask) task = userdata;
    GSubprocess *child = G_SUBPROCESS(source);
    GdkTexture *texture = NULL;

    if (!g_subprocess_wait_check_finish(child, result, NULL))
        g_subprocess_force_exit(child); /* when this was given up */
    else
        texture = read_answer(GPOINTER_TO_INT(g_task_get_task_data(task)));
    if (g_task_return_error_if_cancelled(task)) {
        g_clear_object(&texture);
        return;
    }
    if (texture)
        g_task_return_pointer(task, texture, g_object_unref);
    else
        g_task_return_new_error(
            task, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
            _("This picture cannot be shown here; the assistant may see it all the same."));
}

void preview_async(int fd, GCancellable *cancellable, GAsyncReadyCallback done, void *userdata)
{
    const char *command[] = {"/proc/self/exe", PREVIEW_OPTION, NULL};
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, done, userdata);
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    g_autoptr(GSubprocess) child = NULL;
    _cleanup_(closep) int answer = memfd_create("preview", MFD_CLOEXEC);
    _cleanup_(closep) int out = answer < 0 ? -1 : fcntl(answer, F_DUPFD_CLOEXEC, 3);
    _cleanup_(closep) int in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    GError *error = NULL;

    if (out < 0 || in < 0) {
        g_task_return_new_error(task, G_IO_ERROR, g_io_error_from_errno(errno), "%s",
                                g_strerror(errno));
        return;
    }
    g_task_set_task_data(task, GINT_TO_POINTER(TAKE_FD(answer)), close_fd);
    g_subprocess_launcher_take_stdin_fd(launcher, TAKE_FD(in));
    g_subprocess_launcher_take_stdout_fd(launcher, TAKE_FD(out));
    child = g_subprocess_launcher_spawnv(launcher, command, &error);
    if (!child) {
        g_task_return_error(task, error);
        return;
    }
    g_subprocess_wait_check_async(child, cancellable, child_ended, g_steal_pointer(&task));
}

GdkTexture *preview_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
