/* SPDX-License-Identifier: MIT */
/* Programs and files, opened as the desktop does it: by .desktop files, never by a shell. */
#include <fcntl.h>
#include <gio/gdesktopappinfo.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/desktop/internal.h"

/* --- starting -------------------------------------------------------------------------------- */

/* Between fork and exec: it must not end with us, nor have our blocked signals. */
static void in_child(void *userdata)
{
    sigset_t none;

    (void)userdata;
    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* file NULL: none. What it prints is not for our output. */
static bool launch(GAppInfo *app, const char *file, GError **error)
{
    _cleanup_(closep) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    g_autoptr(GAppLaunchContext) context = g_app_launch_context_new();
    g_autofree char *uri = file ? g_filename_to_uri(file, NULL, error) : NULL;
    GList uris = {.data = uri};

    if (file && !uri)
        return false;
    return g_desktop_app_info_launch_uris_as_manager_with_fds(
        G_DESKTOP_APP_INFO(app), uri ? &uris : NULL, context, G_SPAWN_SEARCH_PATH, in_child, NULL,
        NULL, NULL, null, null, null, error);
}

/* --- which program is meant? ----------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
    g_autofree char *x = g_utf8_casefold(a, -1), *y = g_utf8_casefold(b, -1);

    return strcmp(x, y) == 0;
}

static bool begins(const char *text, const char *beginning)
{
    g_autofree char *x = g_utf8_casefold(text, -1), *y = g_utf8_casefold(beginning, -1);

    return g_str_has_prefix(x, y);
}

/* "Nautilus" of org.gnome.Nautilus.desktop */
static bool has_id(GAppInfo *app, const char *name)
{
    const char *id = g_app_info_get_id(app);
    g_autofree char *stem = NULL;
    const char *last;

    if (!id)
        return false;
    stem = g_strndup(id, strlen(id) - (g_str_has_suffix(id, ".desktop") ? 8 : 0));
    last = strrchr(stem, '.');
    return same(stem, name) || (last && same(last + 1, name));
}

static bool has_executable(GAppInfo *app, const char *name)
{
    const char *path = g_app_info_get_executable(app);
    const char *last = path ? strrchr(path, '/') : NULL;

    return path && same(last ? last + 1 : path, name);
}

static const char *generic_name(GAppInfo *app)
{
    const char *name = g_desktop_app_info_get_generic_name(G_DESKTOP_APP_INFO(app));

    return name ? name : "";
}

/* How well a name fits: 0 not at all. */
static int fit(GAppInfo *app, const char *name)
{
    if (same(g_app_info_get_name(app), name) || same(g_app_info_get_display_name(app), name))
        return 5;
    if (has_id(app, name))
        return 4;
    if (has_executable(app, name))
        return 3;
    if (same(generic_name(app), name))
        return 2;
    return begins(g_app_info_get_name(app), name) ? 1 : 0;
}

/* The best of those that menus show; NULL: none. */
static GAppInfo *find_app(const char *name)
{
    GList *all = g_app_info_get_all();
    GAppInfo *best = NULL;
    int best_fit = 0;

    for (GList *at = all; at && *name; at = at->next) {
        const int has = g_app_info_should_show(at->data) ? fit(at->data, name) : 0;

        if (has > best_fit) {
            best_fit = has;
            g_set_object(&best, at->data);
        }
    }
    g_list_free_full(all, g_object_unref);
    return best;
}

static char *app_detail(struct call *call)
{
    g_autoptr(GAppInfo) app = find_app(call_text(call, "name"));

    return app ? g_strdup_printf("%s (%s)", g_app_info_get_display_name(app),
                                 g_app_info_get_commandline(app))
               : g_strdup(call_text(call, "name"));
}

static void run_open_app(struct call *call)
{
    g_autoptr(GAppInfo) app = find_app(call_text(call, "name"));
    g_autoptr(GError) error = NULL;

    if (!app)
        call_fail(call, "no such app");
    else if (!launch(app, NULL, &error))
        call_fail(call, "%s", error->message);
    else
        call_done(call, NULL, _("%s is opened."), g_app_info_get_display_name(app));
}

/* --- files ----------------------------------------------------------------------------------- */

/* From home where it does not begin at the root: g_free */
static char *whole_path(const char *path)
{
    if (strncmp(path, "~/", 2) == 0)
        path += 2;
    return g_canonicalize_filename(path, g_get_home_dir());
}

/* What opening would run instead of show. */
static bool runs(const char *type)
{
    static const char *const kinds[] = {
        "application/x-executable",    "application/x-sharedlib", "application/x-ms-dos-executable",
        "application/x-msi",           "application/x-desktop",   "application/x-java-archive",
        "application/vnd.appimage",    "application/x-msdownload",
        "application/vnd.microsoft.portable-executable",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (g_content_type_is_a(type, kinds[i]))
            return true;
    }
    return false;
}

struct opening {
    char *path;
    GAppInfo *app;
};

static void opening_done(struct opening *opening)
{
    g_free(opening->path);
    g_clear_object(&opening->app);
}

/* NULL, or why it cannot be opened. */
static const char *find_opener(const char *text, struct opening *ret)
{
    g_autoptr(GFile) file = NULL;
    g_autoptr(GFileInfo) info = NULL;

    if (strstr(text, "://"))
        return "only files can be opened";
    ret->path = whole_path(text);
    file = g_file_new_for_path(ret->path);
    info = g_file_query_info(file, "standard::type,standard::content-type", G_FILE_QUERY_INFO_NONE,
                             NULL, NULL);
    if (!info)
        return "there is no such file";
    if (g_file_info_get_file_type(info) != G_FILE_TYPE_REGULAR &&
        g_file_info_get_file_type(info) != G_FILE_TYPE_DIRECTORY)
        return "it is no ordinary file";
    if (runs(g_file_info_get_content_type(info)))
        return "it is a program; programs are opened by their names";
    ret->app = g_app_info_get_default_for_type(g_file_info_get_content_type(info), FALSE);
    return ret->app ? NULL : "no app opens such files";
}

static char *file_detail(struct call *call)
{
    struct opening opening = {0};
    const char *why = find_opener(call_text(call, "path"), &opening);
    char *text = why ? g_strdup(call_text(call, "path"))
                     : g_strdup_printf("%s, with %s", opening.path,
                                       g_app_info_get_display_name(opening.app));

    opening_done(&opening);
    return text;
}

static void run_open_file(struct call *call)
{
    struct opening opening = {0};
    const char *why = find_opener(call_text(call, "path"), &opening);
    g_autoptr(GError) error = NULL;

    if (why)
        call_fail(call, "%s", why);
    else if (!launch(opening.app, opening.path, &error))
        call_fail(call, "%s", error->message);
    else
        call_done(call, NULL, _("%s is opened with %s."), opening.path,
                  g_app_info_get_display_name(opening.app));
    opening_done(&opening);
}

void apps_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "open_app",
            .description = "Open an app.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": "
                          "\"string\"}}, \"required\": [\"name\"]}",
            .question = N_("Open an app?"),
            .trained = true,
            .detail = app_detail,
            .run = run_open_app,
        },
        {
            .name = "open_file",
            .description = "Open a file or folder of the user, by its path from the home folder.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"path\": {\"type\": "
                          "\"string\"}}, \"required\": [\"path\"]}",
            .question = N_("Open a file?"),
            .detail = file_detail,
            .run = run_open_file,
        },
    };

    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}
