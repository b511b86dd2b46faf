/* SPDX-License-Identifier: MIT */
/*
 * lfm-run: the engine without the daemon, one verb for each thing that it computes.
 *
 *     lfm-run VERB --model FILE [options] < input > output
 *
 * A bad argument or input: exit 2, one sentence on stderr, nothing on stdout.
 */

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/run.h"

static const struct run_verb *const groups[] = {
    run_audio_verbs,
    run_generate_verbs,
    run_image_verbs,
    run_model_verbs,
    run_speech_verbs,
    run_text_verbs,
    run_vl_verbs,
    run_wave_verbs,
};

static const struct run_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        for (const struct run_verb *verb = groups[i]; verb->name; verb++)
            if (strcmp(verb->name, name) == 0)
                return verb;
    return NULL;
}

static void print_usage(void)
{
    puts("usage: lfm-run VERB --model FILE [--threads N] [--kv f32|f16|q8_0] [--precise]");
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        for (const struct run_verb *verb = groups[i]; verb->name; verb++)
            printf("  %-14s %s\n", verb->name, verb->options);
}

int main(int argc, char **argv)
{
    struct run_options options;
    struct error error = ERROR_INIT;
    const struct run_verb *verb;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_usage();
        return 0;
    }
    verb = argc > 1 ? find_verb(argv[1]) : NULL;
    if (!verb)
        error_set(&error, ERROR_INVALID_ARGUMENT,
                  "lfm-run has no verb \"%s\"; lfm-run --help lists them.",
                  argc > 1 ? argv[1] : "");
    if (!verb || run_options_parse(verb, argv + 2, argc - 2, &options, &error) < 0 ||
        verb->run(&options, &error) < 0) {
        fprintf(stderr, "%s\n", error.text);
        return 2;
    }
    return 0;
}
