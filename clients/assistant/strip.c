/* SPDX-License-Identifier: MIT */
#include "clients/assistant/strip.h"

#include <glib/gi18n.h>

#include "clients/gtk/preview.h"

#define THUMBNAIL_SIDE 56

static GtkWidget *button_at(struct strip *strip, guint index)
{
    GtkWidget *child = gtk_widget_get_first_child(GTK_WIDGET(strip->box));

    while (child && index-- > 0)
        child = gtk_widget_get_next_sibling(child);
    return child;
}

static void changed(struct strip *strip)
{
    gtk_widget_set_visible(strip->place, strip->pictures->len > 0);
    strip->changed(strip->userdata);
}

static void on_take_out(struct strip *strip, GtkWidget *button)
{
    for (guint i = 0; i < strip->pictures->len; i++) {
        if (button_at(strip, i) != button)
            continue;
        gtk_box_remove(strip->box, button);
        g_ptr_array_remove_index(strip->pictures, i);
        changed(strip);
        return;
    }
}

/* What a picture carries to its preview and back. */
struct previewing {
    struct strip *strip;
    GCancellable *life;
    struct picture *picture;
};

static void show_preview(struct strip *strip, struct picture *picture)
{
    guint index;

    if (g_ptr_array_find(strip->pictures, picture, &index))
        gtk_image_set_from_paintable(
            GTK_IMAGE(gtk_button_get_child(GTK_BUTTON(button_at(strip, index)))),
            GDK_PAINTABLE(picture->texture));
}

static void got_preview(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    struct previewing *previewing = userdata;
    struct picture *picture = previewing->picture;

    /* One that cannot be shown keeps the icon; the daemon may see it all the same. */
    picture->texture = preview_finish(result, NULL);
    if (picture->texture && !g_cancellable_is_cancelled(previewing->life))
        show_preview(previewing->strip, picture);
    picture_unref(picture);
    g_object_unref(previewing->life);
    g_free(previewing);
}

static void add_button(struct strip *strip, const struct picture *picture)
{
    GtkWidget *button = gtk_button_new();
    /* The button has the name. */
    GtkWidget *image =
        g_object_new(GTK_TYPE_IMAGE, "accessible-role", GTK_ACCESSIBLE_ROLE_PRESENTATION,
                     "pixel-size", THUMBNAIL_SIDE, "icon-name", "image-x-generic-symbolic", NULL);
    g_autofree char *label = g_strdup_printf(_("Take out “%s”"), picture->name);

    gtk_button_set_child(GTK_BUTTON(button), image);
    gtk_widget_set_tooltip_text(button, label);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, label,
                                   -1);
    g_signal_connect_swapped(button, "clicked", G_CALLBACK(on_take_out), strip);
    gtk_box_append(strip->box, button);
}

bool strip_add(struct strip *strip, struct picture *picture)
{
    struct previewing *previewing;

    if (strip->pictures->len == STRIP_MAX) {
        picture_unref(picture);
        return false;
    }
    g_ptr_array_add(strip->pictures, picture);
    add_button(strip, picture);
    if (picture->texture) {
        show_preview(strip, picture);
    } else {
        previewing = g_new(struct previewing, 1);
        *previewing = (struct previewing){strip, g_object_ref(strip->life), picture_ref(picture)};
        preview_async(picture->fd, strip->life, got_preview, previewing);
    }
    changed(strip);
    return true;
}

static GPtrArray *array_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)picture_unref);
}

GPtrArray *strip_take(struct strip *strip)
{
    GPtrArray *pictures = strip->pictures;
    GtkWidget *button;

    strip->pictures = array_new();
    while ((button = gtk_widget_get_first_child(GTK_WIDGET(strip->box))))
        gtk_box_remove(strip->box, button);
    changed(strip);
    return pictures;
}

void strip_put(struct strip *strip, GPtrArray *pictures)
{
    for (guint i = 0; i < pictures->len; i++)
        strip_add(strip, picture_ref(pictures->pdata[i]));
}

void strip_init(struct strip *strip, GtkWidget *place, GtkBox *box,
                void (*on_changed)(void *userdata), void *userdata)
{
    *strip = (struct strip){
        .place = place,
        .box = box,
        .pictures = array_new(),
        .life = g_cancellable_new(),
        .changed = on_changed,
        .userdata = userdata,
    };
}

void strip_done(struct strip *strip)
{
    if (!strip->life)
        return;
    g_cancellable_cancel(strip->life);
    g_clear_object(&strip->life);
    g_clear_pointer(&strip->pictures, g_ptr_array_unref);
}
