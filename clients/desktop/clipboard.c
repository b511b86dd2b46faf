/* SPDX-License-Identifier: MIT */
/*
 * The clipboard: that of the program's window, else by wl-clipboard under Wayland and xclip under
 * X, because a program without a window has none.
 */
#include <string.h>

#include "clients/desktop/clipboard.h"
#include "clients/desktop/internal.h"
#include "clients/desktop/process.h"

#define TEXT_MAX        ((size_t)16 << 10) /* bytes that are read */
#define TIMEOUT_SECONDS 5

const char *const *clipboard_command(bool write)
{
    static const char *const wl_copy[] = {"wl-copy", NULL};
    static const char *const wl_paste[] = {"wl-paste", "--no-newline", "--type", "text", NULL};
    static const char *const x_copy[] = {"xclip", "-selection", "clipboard", "-in", NULL};
    static const char *const x_paste[] = {"xclip", "-selection", "clipboard", "-out", NULL};
    const char *const *both[][2] = {{wl_paste, wl_copy}, {x_paste, x_copy}};
    const char *const displays[] = {"WAYLAND_DISPLAY", "DISPLAY"};

    for (size_t i = 0; i < G_N_ELEMENTS(both); i++) {
        g_autofree char *found = g_find_program_in_path(both[i][write][0]);

        if (found && g_getenv(displays[i]))
            return both[i][write];
    }
    return NULL;
}

static void tell(struct call *call, const char *text)
{
    g_autofree char *plain = NULL;
    struct json_object *result;

    if (!text || !*text) {
        call_fail(call, "there is no text in the clipboard");
        return;
    }
    plain = desktop_plain(text, TEXT_MAX, true);
    result = json_object_new_object();
    json_object_object_add(result, "result", json_object_new_string(plain));
    call_done(call, result, _("The clipboard was read."));
}

void desktop_clipboard_text(void *request, const char *text)
{
    struct call *call = request;

    tell(call, text);
    call_unref(call);
}

static void on_pasted(const struct process_result *result, void *userdata)
{
    struct call *call = userdata;

    /* Both programs fail when there is nothing, or a picture. */
    tell(call, result->ok ? result->output : NULL);
    call_unref(call);
}

static void on_copied(const struct process_result *result, void *userdata)
{
    struct call *call = userdata;

    if (result->ok)
        call_done(call, NULL, _("The text is in the clipboard."));
    else
        call_fail(call, "the clipboard cannot be had: %s", result->why);
    call_unref(call);
}

static void run_program(struct call *call, const char *input, bool write, process_ended ended)
{
    const struct process_limits limits = {TIMEOUT_SECONDS, 16 * TEXT_MAX, write};
    const char *const *argv = clipboard_command(write);

    if (argv)
        process_run(argv, NULL, NULL, input, limits, call->cancellable, ended, call_ref(call));
    else
        call_fail(call, "the clipboard needs wl-clipboard or xclip, and a display");
}

static void run_read(struct call *call)
{
    const struct desktop_host *host = &call->desktop->host;

    if (host->clipboard_read)
        host->clipboard_read(call_ref(call), call->desktop->userdata);
    else
        run_program(call, NULL, false, on_pasted);
}

static void run_copy(struct call *call)
{
    const struct desktop_host *host = &call->desktop->host;

    if (!host->clipboard_write)
        run_program(call, call_text(call, "text"), true, on_copied);
    else if (host->clipboard_write(call_text(call, "text"), call->desktop->userdata))
        call_done(call, NULL, _("The text is in the clipboard."));
    else
        call_fail(call, "the clipboard cannot be had");
}

void clipboard_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "copy_text",
            .description = "Put a text into the clipboard.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": "
                          "\"string\"}}, \"required\": [\"text\"]}",
            .question = N_("Put this into the clipboard?"),
            .run = run_copy,
        },
        {
            .name = "read_clipboard",
            .description = "Read the text in the clipboard.",
            .parameters = NO_PARAMETERS,
            .question = N_("Read the clipboard?"),
            .run = run_read,
        },
    };

    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}
