/* SPDX-License-Identifier: MIT */
#include "clients/describe/focus.h"

#include <atspi/atspi.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <unistd.h>

#include "base/cleanup.h"

#define OBJECTS_MAX  4000 /* of a window that are looked at */
#define CHILDREN_MAX 300  /* of one of them: a list of a million rows is not gone through */

static void unrefp(void *object)
{
    g_clear_object((GObject **)object);
}

static void rect_freep(AtspiRect **rect)
{
    g_free(*rect);
}

static bool has_state(AtspiAccessible *object, AtspiStateType state)
{
    _cleanup_(unrefp) AtspiStateSet *states = atspi_accessible_get_state_set(object);

    return states && atspi_state_set_contains(states, state);
}

/*
 * The toolkit looks itself, where it can: one call instead of thousands. NULL: it cannot, or there
 * is none.
 */
static AtspiAccessible *ask_collection(AtspiAccessible *window)
{
    _cleanup_(unrefp) AtspiCollection *collection = atspi_accessible_get_collection_iface(window);
    _cleanup_(unrefp) AtspiStateSet *states = atspi_state_set_new(NULL);
    _cleanup_(unrefp) AtspiMatchRule *rule = NULL;
    g_autoptr(GArray) found = NULL;
    g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(int));

    if (!collection)
        return NULL;
    atspi_state_set_add(states, ATSPI_STATE_FOCUSED);
    rule = atspi_match_rule_new(states, ATSPI_Collection_MATCH_ALL, NULL,
                                ATSPI_Collection_MATCH_ALL, none, ATSPI_Collection_MATCH_ALL, NULL,
                                ATSPI_Collection_MATCH_ALL, FALSE);
    found = atspi_collection_get_matches(collection, rule, ATSPI_Collection_SORT_ORDER_CANONICAL, 1,
                                         TRUE, NULL);
    return found && found->len > 0 ? g_array_index(found, AtspiAccessible *, 0) : NULL;
}

static void add_children(GQueue *queue, AtspiAccessible *object)
{
    const int n = MIN(atspi_accessible_get_child_count(object, NULL), CHILDREN_MAX);

    for (int i = 0; i < n; i++) {
        AtspiAccessible *child = atspi_accessible_get_child_at_index(object, i, NULL);

        if (child)
            g_queue_push_tail(queue, child);
    }
}

/* Object by object. */
static AtspiAccessible *search(AtspiAccessible *window, gint64 until_usec)
{
    GQueue queue = G_QUEUE_INIT;
    AtspiAccessible *object, *found = NULL;

    g_queue_push_tail(&queue, g_object_ref(window));
    for (int n = 0; !found && (object = g_queue_pop_head(&queue)); n++) {
        if (has_state(object, ATSPI_STATE_FOCUSED))
            found = g_object_ref(object);
        else if (n < OBJECTS_MAX && g_get_monotonic_time() < until_usec)
            add_children(&queue, object);
        g_object_unref(object);
    }
    g_queue_clear_full(&queue, g_object_unref);
    return found;
}

/* The window that is in use, or NULL. */
static AtspiAccessible *active_window(gint64 until_usec)
{
    _cleanup_(unrefp) AtspiAccessible *desktop = atspi_get_desktop(0);
    const int n = desktop ? atspi_accessible_get_child_count(desktop, NULL) : 0;

    for (int i = 0; i < n && g_get_monotonic_time() < until_usec; i++) {
        _cleanup_(unrefp) AtspiAccessible *program =
            atspi_accessible_get_child_at_index(desktop, i, NULL);
        int n_windows;

        /* Our own would have to answer while it waits here. */
        if (!program || atspi_accessible_get_process_id(program, NULL) == (guint)getpid())
            continue;
        n_windows = MIN(atspi_accessible_get_child_count(program, NULL), CHILDREN_MAX);
        for (int j = 0; j < n_windows; j++) {
            _cleanup_(unrefp) AtspiAccessible *window =
                atspi_accessible_get_child_at_index(program, j, NULL);

            if (window && has_state(window, ATSPI_STATE_ACTIVE))
                return TAKE_PTR(window);
        }
    }
    return NULL;
}

static GdkRectangle *extents(AtspiAccessible *object, AtspiCoordType type, GdkRectangle *ret)
{
    _cleanup_(unrefp) AtspiImage *image = atspi_accessible_get_image_iface(object);
    _cleanup_(unrefp) AtspiComponent *component = atspi_accessible_get_component_iface(object);
    _cleanup_(rect_freep) AtspiRect *area =
        image ? atspi_image_get_image_extents(image, type, NULL) : NULL;

    /* The picture of an object where it has one, else all of it. */
    if ((!area || area->width <= 1 || area->height <= 1) && component) {
        g_clear_pointer(&area, g_free);
        area = atspi_component_get_extents(component, type, NULL);
    }
    if (!area || area->width <= 1 || area->height <= 1)
        return NULL;
    *ret = (GdkRectangle){area->x, area->y, area->width, area->height};
    return ret;
}

/*
 * Programs on Wayland, and all with GTK 4, do not know where their windows are, and say that they
 * are in the corner.
 */
static bool is_in_window(AtspiAccessible *object, AtspiAccessible *window, const GdkRectangle *area)
{
    GdkRectangle inside, frame;

    return extents(object, ATSPI_COORD_TYPE_WINDOW, &inside) && inside.x == area->x &&
           inside.y == area->y && extents(window, ATSPI_COORD_TYPE_SCREEN, &frame) &&
           frame.x <= 0 && frame.y <= 0;
}

bool focus_find(struct focus *ret, GError **error)
{
    const gint64 until_usec = g_get_monotonic_time() + FOCUS_MSEC * 1000;
    _cleanup_(unrefp) AtspiAccessible *window = NULL;
    _cleanup_(unrefp) AtspiAccessible *object = NULL;
    g_autofree char *name = NULL;

    if (atspi_init() > 1) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    _("Accessibility is not available here: its bus does not answer."));
        return false;
    }
    atspi_set_timeout(FOCUS_MSEC / 3, FOCUS_MSEC / 3);
    window = active_window(until_usec);
    if (window)
        object = ask_collection(window);
    if (window && !object)
        object = search(window, until_usec);
    if (!object || !extents(object, ATSPI_COORD_TYPE_SCREEN, &ret->area)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    object ? _("What has the focus does not say where it is.")
                           : _("Nothing has the focus, or its program does not say what."));
        return false;
    }
    name = atspi_accessible_get_name(object, NULL);
    ret->name = name && *name ? g_steal_pointer(&name) : NULL;
    ret->in_window = is_in_window(object, window, &ret->area);
    return true;
}

void focus_done(struct focus *focus)
{
    g_clear_pointer(&focus->name, g_free);
}
