/* SPDX-License-Identifier: MIT */
#include "clients/typing.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/desktop/clipboard.h"
#include "clients/desktop/process.h"
#include "clients/portal.h"
#include "clients/status.h"
#include "clients/terminal.h"

#define UINPUT          "/dev/uinput"
#define PROGRAM_SECONDS 60

static const char *const by_xdotool[] = {"xdotool", "type", "--clearmodifiers", "--file", "-",
                                         NULL};
/* A window gets to know the new keyboard first, or it misses the first key. */
static const char *const by_wtype[] = {"wtype", "-s", "100", "-", NULL};
static const char *const by_ydotool[] = {"ydotool", "type", "--file", "-", NULL};

struct typing {
    const char *const *program; /* NULL: the portal */
    struct portal *portal;
};

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);

    return value && *value;
}

static bool is_there(const char *program)
{
    g_autofree char *path = g_find_program_in_path(program);

    return path;
}

struct outcome {
    bool ended, ok;
};

static void on_ended(const struct process_result *result, void *userdata)
{
    *(struct outcome *)userdata = (struct outcome){true, result->ok};
}

/* Wait for its end. */
static bool run(const char *const *program, const char *input)
{
    const struct process_limits limits = {PROGRAM_SECONDS, 4096, true};
    struct outcome outcome = {0};

    process_run(program, NULL, NULL, input, limits, NULL, on_ended, &outcome);
    while (!outcome.ended)
        g_main_context_iteration(NULL, TRUE);
    return outcome.ok;
}

static int choose(sd_bus *bus, struct typing *typing)
{
    int status;

    if (!is_set("WAYLAND_DISPLAY") && !is_set("DISPLAY")) {
        terminal_error("There are no windows here: neither WAYLAND_DISPLAY nor DISPLAY is set.");
        return STATUS_ERROR;
    }
    if (!is_set("WAYLAND_DISPLAY")) {
        typing->program = by_xdotool;
        if (is_there(by_xdotool[0]))
            return STATUS_OK;
        terminal_error("Typing into a window of X11 needs xdotool, which is not installed. "
                       "--to clipboard may do.");
        return STATUS_ERROR;
    }
    typing->program = by_wtype;
    if (is_there(by_wtype[0]) && run(by_wtype, "")) /* it types nothing, if it can */
        return STATUS_OK;
    typing->program = NULL;
    status = portal_open(bus, &typing->portal);
    if (status != STATUS_OK || typing->portal)
        return status;
    typing->program = by_ydotool;
    if (access(UINPUT, W_OK) == 0 && is_there(by_ydotool[0]))
        return STATUS_OK;
    terminal_error("This desktop lets nobody type into its windows: wtype %s, there is no portal "
                   "RemoteDesktop, and ydotool %s. --to clipboard may do.",
                   is_there(by_wtype[0]) ? "gets no virtual keyboard" : "is not installed",
                   is_there(by_ydotool[0]) ? "may not write to " UINPUT : "is not installed");
    return STATUS_ERROR;
}

int typing_open(sd_bus *bus, struct typing **ret)
{
    struct typing *typing = calloc(1, sizeof(*typing));
    int status;

    if (!typing) {
        terminal_error("There is not enough memory.");
        return STATUS_ERROR;
    }
    status = choose(bus, typing);
    if (status != STATUS_OK)
        typing_close(typing);
    else
        *ret = typing;
    return status;
}

struct typing *typing_close(struct typing *typing)
{
    if (typing)
        portal_close(typing->portal);
    free(typing);
    return NULL;
}

int typing_type(struct typing *typing, const char *text)
{
    g_autofree char *plain = g_strdup(text);

    for (char *c = plain; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = ' ';
    if (!typing->program)
        return portal_type(typing->portal, plain);
    if (run(typing->program, plain))
        return STATUS_OK;
    terminal_error("%s could not type what was said: \"%s\".", typing->program[0], text);
    return STATUS_ERROR;
}

/* --- the clipboard -------------------------------------------------------------------------- */

int clipboard_check(void)
{
    if (clipboard_command(true))
        return STATUS_OK;
    terminal_error("The clipboard needs a display, and wl-clipboard on Wayland or xclip on X11.");
    return STATUS_ERROR;
}

int clipboard_set(const char *text)
{
    const char *const *program = clipboard_command(true);

    if (program && run(program, text))
        return STATUS_OK;
    terminal_error("The clipboard did not take what was said: \"%s\".", text);
    return STATUS_ERROR;
}
