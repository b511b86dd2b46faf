/* SPDX-License-Identifier: MIT */
#include <glib/gi18n.h>
#include <string.h>

#include "clients/assistant/parts.h"

/* --- settings ------------------------------------------------------------------------------- */

static void save(AssistantWindow *self)
{
    if (!settings_write(&self->settings))
        window_tell(self, GTK_MESSAGE_WARNING, false,
                    _("The settings could not be written; they hold until the window is closed."));
}

void choices_on_keep(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;

    g_simple_action_set_state(action, parameter);
    self->settings.keep = g_variant_get_boolean(parameter);
    save(self);
}

void choices_on_microphone(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;
    const char *mode = g_variant_get_string(parameter, NULL);

    g_simple_action_set_state(action, parameter);
    self->settings.open_microphone = strcmp(mode, "open") == 0;
    save(self);
    window_update(self);
}

static void on_shortcut(GSimpleAction *action, GVariant *parameter, gpointer userdata)
{
    AssistantWindow *self = userdata;

    g_simple_action_set_state(action, parameter);
    self->settings.shortcut = g_variant_get_boolean(parameter);
    if (self->settings.shortcut)
        shortcut_bind(self->shortcut);
    else
        shortcut_unbind(self->shortcut);
    save(self);
}

static void on_shortcut_available(bool available, void *userdata)
{
    static const GActionEntry action = {
        .name = "shortcut", .state = "false", .change_state = on_shortcut};
    AssistantWindow *self = userdata;

    if (!available)
        return;
    g_action_map_add_action_entries(G_ACTION_MAP(self), &action, 1, self);
    if (self->settings.shortcut)
        g_action_group_change_action_state(G_ACTION_GROUP(self), "shortcut",
                                           g_variant_new_boolean(TRUE));
}

static void on_shortcut_bound(const char *trigger, const char *sentence, void *userdata)
{
    AssistantWindow *self = userdata;
    g_autofree char *told = NULL;

    if (trigger) {
        told = g_strdup_printf(_("Talk from everywhere with %s."),
                               trigger[0] ? trigger : _("the key that you chose"));
        window_remark(self, told);
        return;
    }
    g_simple_action_set_state(
        G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self), "shortcut")),
        g_variant_new_boolean(FALSE));
    self->settings.shortcut = false;
    save(self);
    if (sentence)
        window_tell(self, GTK_MESSAGE_WARNING, false, sentence);
}

static void on_shortcut_pressed(void *userdata)
{
    talking_down(userdata);
}

static void on_shortcut_released(void *userdata)
{
    talking_up(userdata);
}

const struct shortcut_events choices_shortcut = {on_shortcut_available, on_shortcut_bound,
                                                 on_shortcut_pressed, on_shortcut_released};

/* --- models and tools ----------------------------------------------------------------------- */

const struct installed_model *choices_model(AssistantWindow *self)
{
    for (guint i = 0; self->settings.model && i < self->models->len; i++) {
        const struct installed_model *model = self->models->pdata[i];

        if (strcmp(model->id, self->settings.model) == 0)
            return model;
    }
    return NULL; /* the daemon's choice */
}

static bool somebody(AssistantWindow *self, bool (*is)(const struct installed_model *model))
{
    for (guint i = 0; i < self->models->len; i++) {
        if (is(self->models->pdata[i]))
            return true;
    }
    return false;
}

static bool is_any(const struct installed_model *model G_GNUC_UNUSED)
{
    return true;
}

static bool is_seeing(const struct installed_model *model)
{
    return model->sees;
}

static bool is_talking(const struct installed_model *model)
{
    return model->hears && model->speaks;
}

/* False after a notice: nobody can do what is asked. */
bool choices_able(AssistantWindow *self, bool pictures, bool talk)
{
    const char *sentence = NULL;

    if (!somebody(self, is_any))
        sentence = _("No model is installed. To fetch one, run this in a terminal:\n"
                     "lfmctl pull lfm2.5-1.2b-instruct");
    else if (pictures && !somebody(self, is_seeing))
        sentence = _("No model that can look at pictures is installed. To fetch one, run this in a "
                     "terminal:\nlfmctl pull lfm2.5-vl-450m");
    else if (talk && !somebody(self, is_talking))
        sentence = _("No model that hears and speaks is installed. To fetch one, run this in a "
                     "terminal:\nlfmctl pull lfm2.5-audio-1.5b");
    if (sentence)
        window_tell(self, GTK_MESSAGE_WARNING, true, sentence);
    return !sentence;
}

static void got_tools(struct json_object *tools, const char *const *problems, void *userdata)
{
    AssistantWindow *self = userdata;

    g_free(self->tools);
    self->tools = g_strdup(json_object_to_json_string_ext(tools, JSON_C_TO_STRING_PLAIN));
    for (; problems && *problems; problems++)
        window_remark(self, *problems);
    window_proceed(self);
}

/* Those for the model of new conversations. */
static void list_tools(AssistantWindow *self)
{
    const struct installed_model *model = choices_model(self);

    g_clear_pointer(&self->tools, g_free);
    if (!model && self->models->len > 0)
        model = self->models->pdata[0];
    desktop_list(self->deeds.desktop, model ? model->id : NULL, got_tools, self);
}

void choices_on_model(AssistantWindow *self)
{
    const guint index = gtk_drop_down_get_selected(self->models_list);

    g_free(self->settings.model);
    self->settings.model =
        index == 0 || index > self->models->len
            ? NULL
            : g_strdup(((struct installed_model *)self->models->pdata[index - 1])->id);
    save(self);
    list_tools(self);
    exchange_anew(self);
}

static void show_models(AssistantWindow *self)
{
    g_autoptr(GtkStringList) names = gtk_string_list_new(NULL);
    guint index = 0;

    gtk_string_list_append(names, _("Automatic"));
    for (guint i = 0; i < self->models->len; i++) {
        const struct installed_model *model = self->models->pdata[i];

        gtk_string_list_append(names, model->id);
        if (g_strcmp0(model->id, self->settings.model) == 0)
            index = i + 1;
    }
    g_signal_handlers_block_by_func(self->models_list, choices_on_model, self);
    gtk_drop_down_set_model(self->models_list, G_LIST_MODEL(names));
    gtk_drop_down_set_selected(self->models_list, index);
    g_signal_handlers_unblock_by_func(self->models_list, choices_on_model, self);
}

void choices_on_models(GPtrArray *models, void *userdata)
{
    AssistantWindow *self = userdata;
    const struct installed_model *model;

    g_clear_pointer(&self->models, g_ptr_array_unref);
    self->models = models;
    show_models(self);
    model = choices_model(self);
    if (!model && models->len > 0)
        model = models->pdata[0];
    if (!self->conversation)
        cost_watch(&self->cost, self->bus, model ? model->path : NULL);
    choices_able(self, false, false);
    list_tools(self);
    kept_refresh(&self->kept);
}
