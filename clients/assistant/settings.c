/* SPDX-License-Identifier: MIT */
#include "clients/assistant/settings.h"

#include <gio/gio.h>

#define GROUP "assistant"

static char *path(void)
{
    return g_build_filename(g_get_user_config_dir(), "lfmd", "assistant.ini", NULL);
}

static bool flag(GKeyFile *file, const char *key, bool otherwise)
{
    g_autoptr(GError) error = NULL;
    const gboolean value = g_key_file_get_boolean(file, GROUP, key, &error);

    return error ? otherwise : value;
}

void settings_read(struct settings *settings)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *name = path();

    g_key_file_load_from_file(file, name, G_KEY_FILE_NONE, NULL);
    *settings = (struct settings){
        .open_microphone = flag(file, "open-microphone", false),
        .keep = flag(file, "keep", true),
        .shortcut = flag(file, "shortcut", false),
        .model = g_key_file_get_string(file, GROUP, "model", NULL),
    };
}

bool settings_write(const struct settings *settings)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *name = path(), *folder = g_path_get_dirname(name);

    g_key_file_set_boolean(file, GROUP, "open-microphone", settings->open_microphone);
    g_key_file_set_boolean(file, GROUP, "keep", settings->keep);
    g_key_file_set_boolean(file, GROUP, "shortcut", settings->shortcut);
    if (settings->model)
        g_key_file_set_string(file, GROUP, "model", settings->model);
    return g_mkdir_with_parents(folder, 0700) == 0 && g_key_file_save_to_file(file, name, NULL);
}

void settings_done(struct settings *settings)
{
    g_clear_pointer(&settings->model, g_free);
}
