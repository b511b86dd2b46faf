/* SPDX-License-Identifier: MIT */
#include "clients/captions/look.h"

#include <string.h>

#include "clients/captions/hearing.h"

#define GROUP "captions"

static const struct {
    const char *name, *text, *background;
} colours[] = {
    {"white-on-black", "#ffffff", "#000000"},
    {"yellow-on-black", "#ffff00", "#000000"},
    {"black-on-white", "#000000", "#ffffff"},
};

const char *const look_contrasts[] = {
    "desktop", "white-on-black", "yellow-on-black", "black-on-white", NULL,
};

static char *file_name(void)
{
    return g_build_filename(g_get_user_config_dir(), "lfmd", "captions.ini", NULL);
}

const char *look_contrast(const char *name)
{
    for (size_t i = 0; look_contrasts[i]; i++)
        if (g_strcmp0(look_contrasts[i], name) == 0)
            return look_contrasts[i];
    return look_contrasts[0];
}

void look_load(struct look *look)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *path = file_name(), *contrast = NULL, *source = NULL;
    int size;

    g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, NULL); /* none, or a bad one: as usual */
    size = g_key_file_get_integer(file, GROUP, "size", NULL);
    contrast = g_key_file_get_string(file, GROUP, "contrast", NULL);
    source = g_key_file_get_string(file, GROUP, "source", NULL);
    look->size = size == 0 ? LOOK_SIZE_USUAL : CLAMP(size, LOOK_SIZE_MIN, LOOK_SIZE_MAX);
    look->contrast = look_contrast(contrast);
    look->source = g_strdup(g_strcmp0(source, HEARING_MICROPHONE) == 0 ? HEARING_MICROPHONE
                                                                       : HEARING_COMPUTER);
}

void look_save(const struct look *look)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *path = file_name(), *folder = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;

    g_key_file_set_integer(file, GROUP, "size", look->size);
    g_key_file_set_string(file, GROUP, "contrast", look->contrast);
    g_key_file_set_string(file, GROUP, "source", look->source);
    g_mkdir_with_parents(folder, 0700);
    if (!g_key_file_save_to_file(file, path, &error))
        g_warning("%s", error->message);
}

void look_apply(const struct look *look, GtkCssProvider *provider)
{
    g_autoptr(GString) css = g_string_new(NULL);

    g_string_printf(css, ".captions { font-size: %dpt; }\n", look->size);
    for (size_t i = 0; i < G_N_ELEMENTS(colours); i++)
        if (strcmp(colours[i].name, look->contrast) == 0)
            g_string_append_printf(css,
                                   ".captions, .captions text { color: %s; background: %s; }\n",
                                   colours[i].text, colours[i].background);
    gtk_css_provider_load_from_data(provider, css->str, (gssize)css->len);
}
