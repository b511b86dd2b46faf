/* SPDX-License-Identifier: MIT */
#include "clients/gtk/light.h"

#include <glib.h>

static const struct {
    const char *name, *value;
} settings[] = {{"GDK_DEBUG", "gl-disable"}, {"GSK_RENDERER", "cairo"}};

static gboolean set;

void light_before(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(settings); i++) {
        if (g_getenv(settings[i].name))
            return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(settings); i++)
        g_setenv(settings[i].name, settings[i].value, FALSE);
    set = TRUE;
}

void light_after(void)
{
    for (guint i = 0; set && i < G_N_ELEMENTS(settings); i++)
        g_unsetenv(settings[i].name);
    set = FALSE;
}
