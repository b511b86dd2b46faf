/* SPDX-License-Identifier: MIT */
/* Date and time, and the calculator. */
#include "clients/desktop/calculate.h"
#include "clients/desktop/internal.h"

/* {"result": text} */
static struct json_object *text_result(const char *text)
{
    struct json_object *result = json_object_new_object();

    json_object_object_add(result, "result", json_object_new_string(text));
    return result;
}

/* The words are English everywhere, as in the clock line of the system text. */
static void run_get_time(struct call *call)
{
    static const char *const days[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                       "Friday", "Saturday", "Sunday"};
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *text = g_strdup_printf(
        "%s, %d %s %d, %02d:%02d (%s)", days[g_date_time_get_day_of_week(now) - 1],
        g_date_time_get_day_of_month(now), months[g_date_time_get_month(now) - 1],
        g_date_time_get_year(now), g_date_time_get_hour(now), g_date_time_get_minute(now),
        g_date_time_get_timezone_abbreviation(now));

    call_done(call, text_result(text), _("It is %s."), text);
}

static void run_calculate(struct call *call)
{
    char result[CALCULATE_RESULT];
    struct error err = ERROR_INIT;
    struct json_object *out;

    if (calculate(call_text(call, "expr"), result, &err) < 0) {
        call_fail(call, "%s", err.text);
        return;
    }
    /* The digits as they are: a double would round them. */
    out = json_object_new_object();
    json_object_object_add(out, "result", json_object_new_double_s(0, result));
    call_done(call, out, "%s = %s", call_text(call, "expr"), result);
}

void clock_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "calculate",
            .description = "Compute an expression.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"expr\": {\"type\": "
                          "\"string\"}}, \"required\": [\"expr\"]}",
            .harmless = true,
            .trained = true,
            .run = run_calculate,
        },
        {
            .name = "get_time",
            .description = "Tell the date and time.",
            .parameters = NO_PARAMETERS,
            .harmless = true,
            .run = run_get_time,
        },
    };

    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}
