/* SPDX-License-Identifier: MIT */
#include "clients/describe/x11.h"

#include <X11/Xatom.h>
#include <X11/Xlib.h>
#include <cairo-xlib.h>
#include <gdk/gdk.h>

static Display *open_display(void)
{
    return g_getenv("WAYLAND_DISPLAY") ? NULL : XOpenDisplay(NULL);
}

GdkPixbuf *x11_shoot(void)
{
    Display *display = open_display();
    GdkPixbuf *pixels = NULL;
    XWindowAttributes root;

    if (!display)
        return NULL;
    if (XGetWindowAttributes(display, DefaultRootWindow(display), &root)) {
        cairo_surface_t *screen = cairo_xlib_surface_create(display, DefaultRootWindow(display),
                                                            root.visual, root.width, root.height);

        pixels = gdk_pixbuf_get_from_surface(screen, 0, 0, root.width, root.height);
        cairo_surface_destroy(screen);
    }
    XCloseDisplay(display);
    return pixels;
}

/* A window that draws its own frame has a shadow around what it says is its corner. */
static void add_shadow(Display *display, Window window, int *x, int *y)
{
    unsigned char *data = NULL;
    unsigned long n, left;
    Atom type;
    int format;

    if (XGetWindowProperty(display, window, XInternAtom(display, "_GTK_FRAME_EXTENTS", False), 0, 4,
                           False, XA_CARDINAL, &type, &format, &n, &left, &data) == Success &&
        format == 32 && n == 4) {
        *x += (int)((long *)(void *)data)[0];
        *y += (int)((long *)(void *)data)[2];
    }
    if (data)
        XFree(data);
}

bool x11_origin(int *ret_x, int *ret_y)
{
    Display *display = open_display();
    Window window = None, child;
    int revert;
    bool ok;

    if (!display)
        return false;
    XGetInputFocus(display, &window, &revert);
    ok = window > PointerRoot &&
         XTranslateCoordinates(display, window, DefaultRootWindow(display), 0, 0, ret_x, ret_y,
                               &child);
    if (ok)
        add_shadow(display, window, ret_x, ret_y);
    XCloseDisplay(display);
    return ok;
}
