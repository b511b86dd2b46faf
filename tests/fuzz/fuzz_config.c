/* SPDX-License-Identifier: MIT */

/*
 * Input: the text of a configuration file. Whatever it says, each problem is a line of the report
 * that people can read, and the values stay in their ranges.
 */

#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/utf8.h"
#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_report report = {0};
    struct config *config = config_new();
    unsigned n;

    if (!config)
        return 0;
    n = config_parse(config, "lfmd.conf", size ? (const char *)data : "", size, &report);
    if (n != report.n || !n != !report.text)
        abort();
    if (n && (!utf8_valid(report.text, report.length) || strlen(report.text) != report.length ||
              strncmp(report.text, "lfmd.conf:", 10) != 0))
        abort();
    if (config->threads > 256 || config->context < 256 || config->keep_alive_sec < CONFIG_FOREVER ||
        config->log_level < LOG_ERR || config->log_level > LOG_DEBUG)
        abort();
    for (char **directory = config->directories; directory && *directory; directory++)
        if (**directory != '/')
            abort();
    config_report_done(&report);
    config_free(config);
    return 0;
}
