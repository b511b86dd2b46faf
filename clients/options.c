/* SPDX-License-Identifier: MIT */
#include "clients/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "clients/status.h"

enum {
    OPTION_TOOLS = 256,
    OPTION_NO_TOOLS,
    OPTION_TOOL_COMMAND,
    OPTION_DRY_RUN_TOOLS,
    OPTION_NO_CLOCK,
    OPTION_FORMAT,
    OPTION_TITLE,
    OPTION_STOP,
    OPTION_KEEP,
    OPTION_BACKGROUND,
    OPTION_JSON,
    OPTION_STATS,
    OPTION_THINKING,
    OPTION_CONTEXT,
    OPTION_TEMPERATURE,
    OPTION_TOP_P,
    OPTION_MIN_P,
    OPTION_TOP_K,
    OPTION_SEED,
    OPTION_DETAIL,
    OPTION_MAX_ENCODE_MS,
    OPTION_MIN_IMAGE_TOKENS,
    OPTION_MAX_IMAGE_TOKENS,
    OPTION_MIN_TILES,
    OPTION_MAX_TILES,
    OPTION_NO_TILING,
    OPTION_NO_THUMBNAIL,
    OPTION_VOICE,
    OPTION_RATE,
    OPTION_PITCH,
    OPTION_TIMES,
    OPTION_NOW,
    OPTION_MODE,
    OPTION_HANGOVER,
    OPTION_INPUT,
    OPTION_TO,
    OPTION_SOURCE,
    OPTION_SILENCE,
    OPTION_COLOR,
    OPTION_VERSION,
};

/* Which verbs take an option: a letter each, see `verbs`; "*": all. */
static const struct rule {
    const char *name;
    int has_argument, code;
    const char *verbs;
} rules[] = {
    {"model", required_argument, 'm', "acidtvlw"},
    {"image", required_argument, 'i', "a"},
    {"detail", required_argument, OPTION_DETAIL, "acid"},
    {"max-encode-ms", required_argument, OPTION_MAX_ENCODE_MS, "acid"},
    {"min-image-tokens", required_argument, OPTION_MIN_IMAGE_TOKENS, "aci"},
    {"max-image-tokens", required_argument, OPTION_MAX_IMAGE_TOKENS, "aci"},
    {"min-tiles", required_argument, OPTION_MIN_TILES, "aci"},
    {"max-tiles", required_argument, OPTION_MAX_TILES, "aci"},
    {"no-tiling", no_argument, OPTION_NO_TILING, "aci"},
    {"no-thumbnail", no_argument, OPTION_NO_THUMBNAIL, "aci"},
    {"session", required_argument, 'S', "acl"},
    {"system", required_argument, 's', "acl"},
    {"tools", required_argument, OPTION_TOOLS, "acl"},
    {"no-tools", no_argument, OPTION_NO_TOOLS, "acl"},
    {"tool-command", required_argument, OPTION_TOOL_COMMAND, "acl"},
    {"dry-run-tools", no_argument, OPTION_DRY_RUN_TOOLS, "acl"},
    {"no-clock", no_argument, OPTION_NO_CLOCK, "acl"},
    {"format", required_argument, OPTION_FORMAT, "a"},
    {"title", required_argument, OPTION_TITLE, "acl"},
    {"stop", required_argument, OPTION_STOP, "ac"},
    {"keep", no_argument, OPTION_KEEP, "acl"},
    {"background", no_argument, OPTION_BACKGROUND, "atv"},
    {"voice", required_argument, OPTION_VOICE, "v"},
    {"rate", required_argument, OPTION_RATE, "v"},
    {"pitch", required_argument, OPTION_PITCH, "v"},
    {"output", required_argument, 'o', "vl"},
    {"input", required_argument, OPTION_INPUT, "l"},
    {"times", no_argument, OPTION_TIMES, "t"},
    {"now", no_argument, OPTION_NOW, "v"},
    {"mode", required_argument, OPTION_MODE, "l"},
    {"hangover", required_argument, OPTION_HANGOVER, "lw"},
    {"to", required_argument, OPTION_TO, "w"},
    {"source", required_argument, OPTION_SOURCE, "w"},
    {"silence", required_argument, OPTION_SILENCE, "w"},
    {"json", no_argument, OPTION_JSON, "acsmpPSidtlDrTw"},
    {"stats", no_argument, OPTION_STATS, "ac"},
    {"thinking", no_argument, OPTION_THINKING, "ac"},
    {"max-tokens", required_argument, 'n', "ac"},
    {"context", required_argument, OPTION_CONTEXT, "ac"},
    {"temperature", required_argument, OPTION_TEMPERATURE, "ac"},
    {"top-p", required_argument, OPTION_TOP_P, "ac"},
    {"min-p", required_argument, OPTION_MIN_P, "ac"},
    {"top-k", required_argument, OPTION_TOP_K, "ac"},
    {"seed", required_argument, OPTION_SEED, "ac"},
    {"all", no_argument, 'a', "mT"},
    {"quiet", no_argument, 'q', "*"},
    {"color", required_argument, OPTION_COLOR, "*"},
    {"help", no_argument, 'h', "*"},
    {"version", no_argument, OPTION_VERSION, "*"},
};

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
    fputs("usage: lfmctl VERB [OPTION...] [ARGUMENT...]\n"
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

static bool read_whole(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && !errno && *ret <= max;
}

static bool read_real(const char *text, double min, double max, double *ret)
{
    char *end;

    *ret = strtod(text, &end);
    return *text && !*end && isfinite(*ret) && *ret >= min && *ret <= max;
}

static int bad_value(const char *name, const char *expected)
{
    terminal_error("--%s must be %s, not '%.60s'.", name, expected, optarg);
    return STATUS_USAGE;
}

static uint32_t *image_number(struct options *o, int code)
{
    return code == OPTION_MIN_IMAGE_TOKENS   ? &o->min_image_tokens
           : code == OPTION_MAX_IMAGE_TOKENS ? &o->max_image_tokens
           : code == OPTION_MIN_TILES        ? &o->min_tiles
           : code == OPTION_MAX_TILES        ? &o->max_tiles
                                             : &o->max_encode_ms;
}

static int take(struct options *o, const struct rule *rule)
{
    uint64_t n;

    switch (rule->code) {
    case 'm':
        o->model = optarg;
        break;
    case 'S':
        o->session = optarg;
        break;
    case 's':
        o->system = optarg;
        break;
    case OPTION_TOOLS:
        o->tools = optarg;
        break;
    case OPTION_NO_TOOLS:
        o->no_tools = true;
        break;
    case OPTION_TOOL_COMMAND:
        o->tool_command = optarg;
        break;
    case OPTION_DRY_RUN_TOOLS:
        o->dry_run_tools = true;
        break;
    case OPTION_NO_CLOCK:
        o->no_clock = true;
        break;
    case OPTION_FORMAT:
        o->format = optarg;
        break;
    case OPTION_TITLE:
        o->title = optarg;
        break;
    case OPTION_STOP:
        if (o->n_stop == STOPS_MAX) {
            terminal_error("There are more than %d stop texts.", STOPS_MAX);
            return STATUS_USAGE;
        }
        o->stop[o->n_stop++] = optarg;
        break;
    case OPTION_KEEP:
        o->keep = true;
        break;
    case OPTION_BACKGROUND:
        o->background = true;
        break;
    case OPTION_JSON:
        o->json = true;
        break;
    case OPTION_STATS:
        o->stats = true;
        break;
    case OPTION_THINKING:
        o->thinking = true;
        break;
    case 'a':
        o->all = true;
        break;
    case 'q':
        o->quiet = true;
        break;
    case 'n':
    case OPTION_CONTEXT:
        if (!read_whole(optarg, UINT32_MAX, &n) || n == 0)
            return bad_value(rule->name, "a whole number above 0");
        *(rule->code == 'n' ? &o->max_tokens : &o->context) = (uint32_t)n;
        break;
    case 'i':
        if (o->n_images == IMAGES_MAX) {
            terminal_error("There are more than %d pictures.", IMAGES_MAX);
            return STATUS_USAGE;
        }
        o->images[o->n_images++] = optarg;
        break;
    case OPTION_DETAIL:
        if (strcmp(optarg, "low") != 0 && strcmp(optarg, "auto") != 0 &&
            strcmp(optarg, "high") != 0)
            return bad_value(rule->name, "low, auto or high");
        o->detail = optarg;
        break;
    case OPTION_NO_TILING:
        o->no_tiling = true;
        break;
    case OPTION_NO_THUMBNAIL:
        o->no_thumbnail = true;
        break;
    case OPTION_MAX_ENCODE_MS:
    case OPTION_MIN_IMAGE_TOKENS:
    case OPTION_MAX_IMAGE_TOKENS:
    case OPTION_MIN_TILES:
    case OPTION_MAX_TILES:
        if (!read_whole(optarg, UINT32_MAX, &n) || n == 0)
            return bad_value(rule->name, "a whole number above 0");
        *image_number(o, rule->code) = (uint32_t)n;
        break;
    case OPTION_TOP_K:
        if (!read_whole(optarg, UINT32_MAX, &n))
            return bad_value(rule->name, "a whole number");
        o->top_k = (uint32_t)n;
        o->has_top_k = true;
        break;
    case OPTION_SEED:
        if (!read_whole(optarg, UINT64_MAX, &o->seed))
            return bad_value(rule->name, "a whole number");
        o->has_seed = true;
        break;
    case OPTION_TEMPERATURE:
        if (!read_real(optarg, 0, 100, &o->temperature))
            return bad_value(rule->name, "a number from 0 to 100");
        o->has_temperature = true;
        break;
    case OPTION_TOP_P:
        if (!read_real(optarg, 0, 1, &o->top_p))
            return bad_value(rule->name, "a number from 0 to 1");
        o->has_top_p = true;
        break;
    case OPTION_MIN_P:
        if (!read_real(optarg, 0, 1, &o->min_p))
            return bad_value(rule->name, "a number from 0 to 1");
        o->has_min_p = true;
        break;
    case OPTION_VOICE:
        o->voice = optarg;
        break;
    case OPTION_RATE:
        if (!read_real(optarg, 0.3, 8, &o->rate))
            return bad_value(rule->name, "a number from 0.3 to 8");
        break;
    case OPTION_PITCH:
        if (!read_real(optarg, 0.5, 2, &o->pitch))
            return bad_value(rule->name, "a number from 0.5 to 2");
        break;
    case 'o':
        o->output = optarg;
        break;
    case OPTION_TIMES:
        o->times = true;
        break;
    case OPTION_NOW:
        o->now = true;
        break;
    case OPTION_INPUT:
        o->input = optarg;
        break;
    case OPTION_TO:
        if (strcmp(optarg, "stdout") != 0 && strcmp(optarg, "clipboard") != 0 &&
            strcmp(optarg, "window") != 0)
            return bad_value(rule->name, "stdout, clipboard or window");
        o->to = optarg;
        break;
    case OPTION_SOURCE:
        if (strcmp(optarg, "microphone") != 0 && strcmp(optarg, "monitor") != 0)
            return bad_value(rule->name, "microphone or monitor");
        o->source = optarg;
        break;
    case OPTION_SILENCE:
        if (!read_whole(optarg, 600, &n))
            return bad_value(rule->name, "seconds, up to 600; 0: for ever");
        o->silence_ms = n > 0 ? (uint32_t)n * 1000 : UINT32_MAX;
        break;
    case OPTION_MODE:
        if (strcmp(optarg, "open") != 0 && strcmp(optarg, "half-duplex") != 0 &&
            strcmp(optarg, "push") != 0)
            return bad_value(rule->name, "open, half-duplex or push");
        o->mode = optarg;
        break;
    case OPTION_HANGOVER:
        if (!read_whole(optarg, 600000, &n) || n == 0)
            return bad_value(rule->name, "milliseconds, 1 to 600000");
        o->hangover_ms = (uint32_t)n;
        break;
    case OPTION_COLOR:
        if (strcmp(optarg, "auto") == 0)
            o->colour = COLOUR_AUTO;
        else if (strcmp(optarg, "always") == 0)
            o->colour = COLOUR_ALWAYS;
        else if (strcmp(optarg, "never") == 0)
            o->colour = COLOUR_NEVER;
        else
            return bad_value(rule->name, "auto, always or never");
        break;
    }
    return STATUS_OK;
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
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        table[i] = (struct option){rules[i].name, rules[i].has_argument, NULL, rules[i].code};
    opterr = 0;
    while ((code = getopt_long(argc, argv, ":m:S:s:n:i:o:aqh", table, NULL)) != -1) {
        const struct rule *rule = NULL;

        for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
            if (rules[i].code == code) {
                rule = &rules[i];
                given[i] = true;
            }
        }
        if (code == 'h') {
            options_help();
            return -1;
        }
        if (code == OPTION_VERSION) {
            puts("lfmctl " LFMD_VERSION);
            return -1;
        }
        if (!rule) {
            terminal_error(code == ':' ? "'%.60s' needs a value."
                                       : "There is no option '%.60s'. \"lfmctl help\" lists them.",
                           argv[optind - 1]);
            return STATUS_USAGE;
        }
        status = take(o, rule);
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
