/* SPDX-License-Identifier: MIT */
#include "ipc/errors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void fill(sd_bus_error *error, const struct error *err)
{
    char name[128];

    snprintf(name, sizeof(name), ERRORS_PREFIX "%s", error_name(err->code));
    sd_bus_error_set(error, name, err->text);
}

int errors_return(sd_bus_error *ret_error, int r, const struct error *err)
{
    struct error own = *err;

    if (r >= 0)
        return r;
    errors_message(&own, r);
    fill(ret_error, &own);
    return r;
}

void errors_reply(sd_bus_message *call, const struct error *err)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;

    fill(&error, err);
    sd_bus_reply_method_error(call, &error);
    sd_bus_error_free(&error);
}

int errors_message(struct error *err, int r)
{
    if (r == -ENOMEM)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for this call.");
    if (r == -EBADMSG || r == -ENXIO || r == -EINVAL)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The message has other contents than its "
                         "signature says.");
    return error_set(err, ERROR_INTERNAL, "The call failed: %s.", strerror(-r));
}
