/* SPDX-License-Identifier: MIT */
#include "clients/options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/status.h"

static const struct {
    const char *name;
    char letter;
} verbs[] = {
    {"ask", 'a'},  {"chat", 'c'}, {"sessions", 's'}, {"models", 'm'},
    {"pull", 'P'}, {"ps", 'p'},   {"status", 'S'},   {"image", 'i'},
    {"describe", 'd'}, {"transcribe", 't'}, {"say", 'v'}, {"listen", 'l'}, {"dictate", 'w'},
    {"devices", 'D'}, {"permissions", 'r'}, {"tools", 'T'}, {"silence", '\0'},
    {"toggle", '\0'}, {"help", '\0'},
};

void options_help(void)
{
    fputs(
        "usage: lfmctl VERB [OPTION...] [ARGUMENT...]\n"
        "\n"
        "  ask [QUESTION...]        ask once; standard input is added, \"-\" waits for it\n"
        "  chat                     a conversation in the terminal\n"
        "  describe FILE...         what pictures show, and the words in them\n"
        "  image plan FILE...       how pictures would be looked at, and how long that takes\n"
        "  transcribe FILE...       what is said in recordings; --times: and when\n"
        "  say [TEXT...]            a text aloud, or with -o into a WAV file; --voice NAME,\n"
        "                           --rate X, --pitch X; --now: in place of what is being said\n"
        "  silence                  nothing more of what is being said aloud\n"
        "  listen                   speak and be answered; --mode open, half-duplex or push;\n"
        "                           --hangover MS: silence that ends your turn;\n"
        "                           --input FILE -o FILE: one turn, from WAV to WAV\n"
        "  dictate                  write down what you say, until you are silent or press a key;\n"
        "                           --to stdout, clipboard or window; --silence SECONDS;\n"
        "                           --source monitor: what the computer plays\n"
        "  toggle                   the assistant's window listens, or ends your turn: for a key\n"
        "  devices                  microphones and loudspeakers\n"
        "  permissions [list]       which programs may use the microphone\n"
        "  permissions allow|deny|ask PROGRAM\n"
        "  tools [list]             what a model may do on this desktop\n"
        "  tools run NAME [JSON]    try one; allow NAME: for good, revoke NAME: ask again\n"
        "  tools log;  tools undo [ID]\n"
        "  sessions [list]          kept conversations\n"
        "  sessions show|remove ID\n"
        "  models [list]            what is installed and what can be fetched\n"
        "  models pull|verify|remove|load|unload MODEL\n"
        "  pull MODEL               short for \"models pull\"\n"
        "  ps                       models in memory\n"
        "  status                   the daemon\n"
        "\n"
        "  -m, --model ID           which model\n"
        "  -i, --image FILE         ask about a picture, or several; \"-\" is standard input\n"
        "      --detail WHAT        low, auto or high; --max-encode-ms N: time for a picture\n"
        "      --max-image-tokens N --min-image-tokens N, --min-tiles N, --max-tiles N,\n"
        "                           --no-tiling, --no-thumbnail\n"
        "  -s, --system TEXT        instructions for the model\n"
        "      --keep               the conversation survives; --title TEXT names it\n"
        "  -S, --session ID         go on with a kept one\n"
        "      --tools FILE         tools that the model may call (JSON); desktop: those of\n"
        "                           \"lfmctl tools\"; --no-tools: none\n"
        "      --tool-command PROG  answers calls: PROG NAME, arguments on its standard input\n"
        "      --dry-run-tools      answer every call with {\"ok\": true}\n"
        "      --format FILE        the answer is JSON that fits this JSON Schema; json: any\n"
        "  -n, --max-tokens N       --stop TEXT, --context N\n"
        "      --temperature X      --top-p X, --min-p X, --top-k N, --seed N\n"
        "      --thinking           show what a reasoning model thinks\n"
        "      --no-clock           do not tell lfmd's own model the time\n"
        "      --background         let other questions go first\n"
        "      --stats              time to first token, tokens per second\n"
        "      --json               JSON, one object a line\n"
        "  -a, --all                every quantisation (models), all there is (tools)\n"
        "  -q, --quiet              only the answer and errors\n"
        "      --color WHEN         auto, always or never\n"
        "  -h, --help               --version\n"
        "\n"
        "Exit status: 0 done, 1 failed, 2 usage, 3 no daemon, 4 no such model, 5 not allowed,\n"
        "130 interrupted. lfmctl(1) has the details.\n",
        stdout);
}

/* --- values ---------------------------------------------------------------------------------- */

struct rule {
    const char *name;
    char letter;       /* 0: none */
    const char *verbs; /* that it means something to: a letter each, see `verbs`; "*": all */
    /* Take optarg, or that it is there: STATUS_OK, or STATUS_USAGE after a sentence. NULL: it ends
     * the program. */
    int (*take)(struct options *o, const struct rule *rule);
    size_t offset; /* of the member that it sets */
    size_t given;  /* of the one that says so; 0: there is none */
    double min, max;
    const char *expected; /* of its value, for the sentence */
    const char *words[4]; /* that it may be */
};

static void *member(struct options *o, size_t offset)
{
    return (char *)o + offset;
}

static bool read_whole(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && !errno && *ret <= max;
}

static int bad_value(const struct rule *rule)
{
    terminal_error("--%s must be %s, not '%.60s'.", rule->name, rule->expected, optarg);
    return STATUS_USAGE;
}

static int take_flag(struct options *o, const struct rule *rule)
{
    *(bool *)member(o, rule->offset) = true;
    return STATUS_OK;
}

static int take_text(struct options *o, const struct rule *rule)
{
    *(const char **)member(o, rule->offset) = optarg;
    return STATUS_OK;
}

static int take_word(struct options *o, const struct rule *rule)
{
    for (const char *const *word = rule->words; *word; word++)
        if (strcmp(optarg, *word) == 0)
            return take_text(o, rule);
    return bad_value(rule);
}

static int take_count(struct options *o, const struct rule *rule)
{
    uint64_t n;

    if (!read_whole(optarg, (uint64_t)rule->max, &n) || n < (uint64_t)rule->min)
        return bad_value(rule);
    *(uint32_t *)member(o, rule->offset) = (uint32_t)n;
    if (rule->given)
        *(bool *)member(o, rule->given) = true;
    return STATUS_OK;
}

static int take_real(struct options *o, const struct rule *rule)
{
    char *end;
    const double value = strtod(optarg, &end);

    if (!*optarg || *end || !(value >= rule->min && value <= rule->max))
        return bad_value(rule);
    *(double *)member(o, rule->offset) = value;
    if (rule->given)
        *(bool *)member(o, rule->given) = true;
    return STATUS_OK;
}

static int take_seed(struct options *o, const struct rule *rule)
{
    o->has_seed = true;
    return read_whole(optarg, UINT64_MAX, &o->seed) ? STATUS_OK : bad_value(rule);
}

static int take_silence(struct options *o, const struct rule *rule)
{
    uint64_t n;

    if (!read_whole(optarg, 600, &n))
        return bad_value(rule);
    o->silence_ms = n > 0 ? (uint32_t)n * 1000 : UINT32_MAX;
    return STATUS_OK;
}

static int take_colour(struct options *o, const struct rule *rule)
{
    if (strcmp(optarg, "auto") == 0)
        o->colour = COLOUR_AUTO;
    else if (strcmp(optarg, "always") == 0)
        o->colour = COLOUR_ALWAYS;
    else if (strcmp(optarg, "never") == 0)
        o->colour = COLOUR_NEVER;
    else
        return bad_value(rule);
    return STATUS_OK;
}

static int take_stop(struct options *o, const struct rule *rule)
{
    (void)rule;
    if (o->n_stop == STOPS_MAX) {
        terminal_error("There are more than %d stop texts.", STOPS_MAX);
        return STATUS_USAGE;
    }
    o->stop[o->n_stop++] = optarg;
    return STATUS_OK;
}

static int take_image(struct options *o, const struct rule *rule)
{
    (void)rule;
    if (o->n_images == IMAGES_MAX) {
        terminal_error("There are more than %d pictures.", IMAGES_MAX);
        return STATUS_USAGE;
    }
    o->images[o->n_images++] = optarg;
    return STATUS_OK;
}

/* --- options --------------------------------------------------------------------------------- */

#define AT(member)     .offset = offsetof(struct options, member)
#define GIVEN(member)  .given = offsetof(struct options, member)
#define FLAG(member)   .take = take_flag, AT(member)
#define TEXT(member)   .take = take_text, AT(member)
#define COUNT(member)                                                                              \
    .take = take_count, AT(member), .min = 1, .max = UINT32_MAX,                                   \
    .expected = "a whole number above 0"

static const struct rule rules[] = {
    /* clang-format off */
    {"model", 'm', "acidtvlw", TEXT(model)},
    {"image", 'i', "a", .take = take_image},
    {"detail", 0, "acid", .take = take_word, AT(detail),
     .expected = "low, auto or high", .words = {"low", "auto", "high"}},
    {"max-encode-ms", 0, "acid", COUNT(max_encode_ms)},
    {"min-image-tokens", 0, "aci", COUNT(min_image_tokens)},
    {"max-image-tokens", 0, "aci", COUNT(max_image_tokens)},
    {"min-tiles", 0, "aci", COUNT(min_tiles)},
    {"max-tiles", 0, "aci", COUNT(max_tiles)},
    {"no-tiling", 0, "aci", FLAG(no_tiling)},
    {"no-thumbnail", 0, "aci", FLAG(no_thumbnail)},
    {"session", 'S', "acl", TEXT(session)},
    {"system", 's', "acl", TEXT(system)},
    {"tools", 0, "acl", TEXT(tools)},
    {"no-tools", 0, "acl", FLAG(no_tools)},
    {"tool-command", 0, "acl", TEXT(tool_command)},
    {"dry-run-tools", 0, "acl", FLAG(dry_run_tools)},
    {"no-clock", 0, "acl", FLAG(no_clock)},
    {"format", 0, "a", TEXT(format)},
    {"title", 0, "acl", TEXT(title)},
    {"stop", 0, "ac", .take = take_stop},
    {"keep", 0, "acl", FLAG(keep)},
    {"background", 0, "atv", FLAG(background)},
    {"voice", 0, "v", TEXT(voice)},
    {"rate", 0, "v", .take = take_real, AT(rate), .min = 0.3, .max = 8,
     .expected = "a number from 0.3 to 8"},
    {"pitch", 0, "v", .take = take_real, AT(pitch), .min = 0.5, .max = 2,
     .expected = "a number from 0.5 to 2"},
    {"output", 'o', "vl", TEXT(output)},
    {"input", 0, "l", TEXT(input)},
    {"times", 0, "t", FLAG(times)},
    {"now", 0, "v", FLAG(now)},
    {"mode", 0, "l", .take = take_word, AT(mode), .expected = "open, half-duplex or push",
     .words = {"open", "half-duplex", "push"}},
    {"hangover", 0, "lw", .take = take_count, AT(hangover_ms), .min = 1, .max = 600000,
     .expected = "milliseconds, 1 to 600000"},
    {"to", 0, "w", .take = take_word, AT(to), .expected = "stdout, clipboard or window",
     .words = {"stdout", "clipboard", "window"}},
    {"source", 0, "w", .take = take_word, AT(source), .expected = "microphone or monitor",
     .words = {"microphone", "monitor"}},
    {"silence", 0, "w", .take = take_silence, .expected = "seconds, up to 600; 0: for ever"},
    {"json", 0, "acsmpPSidtlDrTw", FLAG(json)},
    {"stats", 0, "ac", FLAG(stats)},
    {"thinking", 0, "ac", FLAG(thinking)},
    {"max-tokens", 'n', "ac", COUNT(max_tokens)},
    {"context", 0, "ac", COUNT(context)},
    {"temperature", 0, "ac", .take = take_real, AT(temperature), GIVEN(has_temperature),
     .max = 100, .expected = "a number from 0 to 100"},
    {"top-p", 0, "ac", .take = take_real, AT(top_p), GIVEN(has_top_p),
     .max = 1, .expected = "a number from 0 to 1"},
    {"min-p", 0, "ac", .take = take_real, AT(min_p), GIVEN(has_min_p),
     .max = 1, .expected = "a number from 0 to 1"},
    {"top-k", 0, "ac", .take = take_count, AT(top_k), GIVEN(has_top_k),
     .max = UINT32_MAX, .expected = "a whole number"},
    {"seed", 0, "ac", .take = take_seed, .expected = "a whole number"},
    {"all", 'a', "mT", FLAG(all)},
    {"quiet", 'q', "*", FLAG(quiet)},
    {"color", 0, "*", .take = take_colour, .expected = "auto, always or never"},
    {"help", 'h', "*", .take = NULL},
    {"version", 0, "*", .take = NULL},
    /* clang-format on */
};

/* What getopt_long() knows it by. */
static int code_of(size_t i)
{
    return rules[i].letter ? rules[i].letter : 256 + (int)i;
}

static int check_verb(const struct options *o, const bool *given)
{
    for (size_t v = 0; v < ARRAY_LEN(verbs); v++) {
        if (strcmp(verbs[v].name, o->verb) != 0)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
            if (given[i] && rules[i].verbs[0] != '*' &&
                !(verbs[v].letter && strchr(rules[i].verbs, verbs[v].letter))) {
                terminal_error("--%s means nothing to \"lfmctl %s\".", rules[i].name, o->verb);
                return STATUS_USAGE;
            }
        }
        return STATUS_OK;
    }
    terminal_error("There is no verb '%.60s'. \"lfmctl help\" lists them.", o->verb);
    return STATUS_USAGE;
}

int options_read(struct options *o, int argc, char **argv)
{
    struct option table[ARRAY_LEN(rules) + 1] = {{0}};
    bool given[ARRAY_LEN(rules)] = {false};
    int code, status;

    *o = (struct options){0};
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const bool alone = !rules[i].take || rules[i].take == take_flag;

        table[i] = (struct option){rules[i].name, alone ? no_argument : required_argument, NULL,
                                   code_of(i)};
    }
    opterr = 0;
    while ((code = getopt_long(argc, argv, ":m:S:s:n:i:o:aqh", table, NULL)) != -1) {
        size_t i = 0;

        while (i < ARRAY_LEN(rules) && code_of(i) != code)
            i++;
        if (i == ARRAY_LEN(rules)) {
            terminal_error(code == ':' ? "'%.60s' needs a value."
                                       : "There is no option '%.60s'. \"lfmctl help\" lists them.",
                           argv[optind - 1]);
            return STATUS_USAGE;
        }
        if (!rules[i].take) {
            if (code == 'h')
                options_help();
            else
                puts("lfmctl " LFMD_VERSION);
            return -1;
        }
        given[i] = true;
        status = rules[i].take(o, &rules[i]);
        if (status != STATUS_OK)
            return status;
    }
    o->verb = argv[optind];
    if (!o->verb) {
        terminal_error("What shall be done? \"lfmctl help\" lists the verbs.");
        return STATUS_USAGE;
    }
    o->arguments = argv + optind + 1;
    o->n_arguments = (unsigned)(argc - optind - 1);
    if (o->session && (o->model || o->system || o->tools || o->keep || o->context || o->title)) {
        terminal_error("A kept session has its model, system text, tools, title and context: "
                       "--session goes without those options.");
        return STATUS_USAGE;
    }
    if (o->tools && o->no_tools) {
        terminal_error("--tools and --no-tools contradict each other.");
        return STATUS_USAGE;
    }
    return check_verb(o, given);
}
