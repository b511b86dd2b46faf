/* SPDX-License-Identifier: MIT */
/* Players of music and films, through MPRIS. */
#include <string.h>

#include "clients/desktop/bus.h"
#include "clients/desktop/internal.h"

#define PREFIX      "org.mpris.MediaPlayer2."
#define PLAYER      "org.mpris.MediaPlayer2.Player"
#define PATH        "/org/mpris/MediaPlayer2"
#define PLAYERS_MAX 16
#define TITLE_MAX   200 /* bytes of what a player says about its music */

static const struct action {
    const char *name, *method, *back, *can, *done;
    const char *idle[2]; /* states that it would not change */
} actions[] = {
    {"play", "Play", "Pause", "CanPlay", N_("plays"), {"Playing"}},
    {"pause", "Pause", "Play", "CanPause", N_("is paused"), {"Paused", "Stopped"}},
    {"toggle", "PlayPause", "PlayPause", "CanPause", N_("plays or is paused"), {NULL}},
    {"next", "Next", "Previous", "CanGoNext", N_("plays the next"), {NULL}},
    {"previous", "Previous", "Next", "CanGoPrevious", N_("plays the one before"), {NULL}},
    {"stop", "Stop", "Play", "CanControl", N_("has stopped"), {"Stopped"}},
};

/* A search for the player that is meant. */
struct search {
    struct call *call;
    const struct action *action; /* NULL: what plays? */
    unsigned waiting;
    char *best;
    GVariant *properties; /* of the best */
    int rank;
};

struct candidate {
    struct search *search;
    char *name;
};

static void search_free(struct search *search)
{
    call_unref(search->call);
    g_free(search->best);
    g_clear_pointer(&search->properties, g_variant_unref);
    g_free(search);
}

/* "cmus" of org.mpris.MediaPlayer2.cmus.instance7: g_free */
static char *short_name(const char *name)
{
    const char *start = name + strlen(PREFIX);
    g_autofree char *text = g_strndup(start, strcspn(start, "."));

    return desktop_plain(text, TITLE_MAX, false);
}

static const char *state(GVariant *properties)
{
    const char *text = "";

    g_variant_lookup(properties, "PlaybackStatus", "&s", &text);
    return text;
}

/* Whoever wants music to go on means a player that is paused, else the one that plays. */
static int rank(const struct search *search, GVariant *properties)
{
    const bool wants_play = search->action && strcmp(search->action->name, "play") == 0;
    const char *text = state(properties);

    if (strcmp(text, "Playing") == 0)
        return wants_play ? 1 : 3;
    if (strcmp(text, "Paused") == 0)
        return wants_play ? 3 : 2;
    return wants_play ? 2 : 1;
}

/* "Title by artist", "": unknown. Whatever types the player thinks of. */
static char *song(GVariant *properties)
{
    g_autoptr(GVariant) metadata =
        g_variant_lookup_value(properties, "Metadata", G_VARIANT_TYPE_VARDICT);
    g_autoptr(GVariant) artists = NULL;
    g_autofree char *title = NULL, *artist = NULL;
    const char *text = "";

    if (!metadata)
        return g_strdup("");
    if (!g_variant_lookup(metadata, "xesam:title", "&s", &text) || !*text)
        g_variant_lookup(metadata, "xesam:url", "&s", &text);
    title = desktop_plain(text, TITLE_MAX, false);
    artists = g_variant_lookup_value(metadata, "xesam:artist", G_VARIANT_TYPE_STRING_ARRAY);
    if (artists && g_variant_n_children(artists) > 0) {
        const char *first;

        g_variant_get_child(artists, 0, "&s", &first);
        artist = desktop_plain(first, TITLE_MAX, false);
    }
    return artist && *artist ? g_strdup_printf("%s by %s", title, artist)
                             : g_steal_pointer(&title);
}

static void tell(struct search *search)
{
    struct json_object *result = json_object_new_object(), *inner = json_object_new_object();
    g_autofree char *player = short_name(search->best), *what = song(search->properties);
    g_autofree char *now = desktop_plain(state(search->properties), 20, false);

    json_object_object_add(inner, "player", json_object_new_string(player));
    json_object_object_add(inner, "state", json_object_new_string(now));
    json_object_object_add(inner, "playing", json_object_new_string(what));
    json_object_object_add(result, "result", inner);
    call_done(search->call, result, "%s: %s%s%s", player, now, *what ? ", " : "", what);
}

static void on_acted(GVariant *reply, const GError *error, void *userdata)
{
    struct search *search = userdata;
    g_autofree char *player = short_name(search->best);

    if (reply)
        call_done(search->call, NULL, _("%s %s."), player, _(search->action->done));
    else
        call_fail(search->call, "%s does not: %s", player, error->message);
    search_free(search);
}

static void control(struct search *search, const char *method)
{
    bus_method(&(struct bus_method){search->best, PATH, PLAYER, method, NULL, "()"},
               search->call->cancellable, on_acted, search);
}

/* It would change nothing, and yet be undone. */
static bool is_idle(const struct action *action, const char *now)
{
    for (size_t i = 0; i < G_N_ELEMENTS(action->idle); i++)
        if (g_strcmp0(action->idle[i], now) == 0)
            return true;
    return false;
}

/* All players have answered, or will not. */
static void on_all(struct search *search)
{
    const struct action *action = search->action;
    struct json_object *undo;
    gboolean can = TRUE;

    if (!search->call->desktop) {
        search_free(search);
        return;
    }
    if (!search->best) {
        call_fail(search->call, "no player is running");
        search_free(search);
        return;
    }
    if (!action) {
        tell(search);
        search_free(search);
        return;
    }
    g_variant_lookup(search->properties, action->can, "b", &can);
    if (!can) {
        g_autofree char *player = short_name(search->best);

        call_fail(search->call, "%s cannot %s now", player, action->name);
        search_free(search);
        return;
    }
    if (is_idle(action, state(search->properties))) {
        g_autofree char *player = short_name(search->best);
        g_autofree char *now = g_ascii_strdown(state(search->properties), -1);

        call_fail(search->call, "%s is %s already", player, now);
        search_free(search);
        return;
    }
    undo = json_object_new_object();
    json_object_object_add(undo, "player", json_object_new_string(search->best));
    json_object_object_add(undo, "method", json_object_new_string(action->back));
    call_undo(search->call, undo);
    control(search, action->method);
}

static void on_properties(GVariant *reply, const GError *error, void *userdata)
{
    struct candidate *candidate = userdata;
    struct search *search = candidate->search;

    (void)error;
    if (reply) {
        GVariant *properties = g_variant_get_child_value(reply, 0);
        const int has = rank(search, properties);

        if (has > search->rank) {
            g_clear_pointer(&search->properties, g_variant_unref);
            g_free(search->best);
            search->rank = has;
            search->best = g_steal_pointer(&candidate->name);
            search->properties = g_steal_pointer(&properties);
        }
        g_clear_pointer(&properties, g_variant_unref);
    }
    g_free(candidate->name);
    g_free(candidate);
    if (--search->waiting == 0)
        on_all(search);
}

static void on_names(GVariant *reply, const GError *error, void *userdata)
{
    struct search *search = userdata;
    g_autoptr(GVariantIter) names = NULL;
    const char *name;

    if (!reply) {
        call_fail(search->call, "the session bus does not answer: %s", error->message);
        search_free(search);
        return;
    }
    search->waiting = 1;
    g_variant_get(reply, "(as)", &names);
    while (g_variant_iter_next(names, "&s", &name)) {
        struct candidate *candidate;

        if (!g_str_has_prefix(name, PREFIX) || search->waiting > PLAYERS_MAX)
            continue;
        candidate = g_new0(struct candidate, 1);
        candidate->search = search;
        candidate->name = g_strdup(name);
        search->waiting++;
        bus_method(&(struct bus_method){name, PATH, "org.freedesktop.DBus.Properties", "GetAll",
                                        g_variant_new("(s)", PLAYER), "(a{sv})"},
                   search->call->cancellable, on_properties, candidate);
    }
    if (--search->waiting == 0)
        on_all(search);
}

static void begin(struct call *call, const struct action *action)
{
    struct search *search = g_new0(struct search, 1);

    search->call = call_ref(call);
    search->action = action;
    bus_method(&(struct bus_method){"org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "ListNames", NULL, "(as)"},
               call->cancellable, on_names, search);
}

static void run_control(struct call *call)
{
    for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
        if (strcmp(call_text(call, "action"), actions[i].name) == 0) {
            begin(call, &actions[i]);
            return;
        }
    }
    call_fail(call, "there is no such action");
}

static void undo_control(struct call *call)
{
    const char *method = call_text(call, "method"), *player = call_text(call, "player");

    for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
        if (strcmp(method, actions[i].method) == 0 && g_dbus_is_name(player) &&
            g_str_has_prefix(player, PREFIX)) {
            struct search *search = g_new0(struct search, 1);

            search->call = call_ref(call);
            search->action = &actions[i];
            search->best = g_strdup(player);
            control(search, method);
            return;
        }
    }
    call_fail(call, "the log does not say how");
}

static void run_playing(struct call *call)
{
    begin(call, NULL);
}

void media_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "media_control",
            .description = "Control the music or film player.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"action\": {\"type\": "
                          "\"string\", \"enum\": [\"play\", \"pause\", \"toggle\", \"next\", "
                          "\"previous\", \"stop\"]}}, \"required\": [\"action\"]}",
            .question = N_("Control the player?"),
            .run = run_control,
            .undo = undo_control,
        },
        {
            .name = "now_playing",
            .description = "Tell what the music or film player plays.",
            .parameters = NO_PARAMETERS,
            .harmless = true,
            .run = run_playing,
        },
    };

    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}
