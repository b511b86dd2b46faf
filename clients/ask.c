/* SPDX-License-Identifier: MIT */
/* lfmctl ask: one question, its answer on stdout. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/conversation.h"
#include "clients/tools.h"
#include "clients/verbs.h"

#define QUESTION_MAX  ((size_t)4 << 20)
#define PATIENCE_MSEC 1000 /* for a standard input that says nothing */

struct text {
    char *bytes;
    size_t length;
};

/* STATUS_OK, or a status after a sentence. */
static int append(struct text *text, const char *bytes, size_t n)
{
    char *grown;

    if (n > QUESTION_MAX - text->length) {
        terminal_error("The question is longer than %zu MB.", QUESTION_MAX >> 20);
        return STATUS_ERROR;
    }
    grown = realloc(text->bytes, text->length + n + 1);
    if (!grown) {
        terminal_error("There is no memory for the question.");
        return STATUS_ERROR;
    }
    text->bytes = grown;
    memcpy(grown + text->length, bytes, n);
    text->length += n;
    grown[text->length] = '\0';
    return STATUS_OK;
}

static int append_input(struct text *text)
{
    char chunk[65536];
    int status = STATUS_OK, r;
    ssize_t n;

    while (status == STATUS_OK) {
        r = terminal_wait(STDIN_FILENO, -1);
        if (terminal_interrupts() > 0)
            return STATUS_INTERRUPTED;
        if (r < 0)
            continue;
        n = read(STDIN_FILENO, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            terminal_error("Standard input cannot be read: %s.", strerror(errno));
            return STATUS_ERROR;
        }
        if (n == 0)
            break;
        status = append(text, chunk, (size_t)n);
    }
    return status;
}

/*
 * Is there something on standard input that belongs to the question? A terminal or a device: no.
 * A pipe that nobody writes to: after a second, no, and that is said.
 */
static bool input_is_meant(bool has_question)
{
    struct stat st;

    if (fstat(STDIN_FILENO, &st) < 0 || S_ISCHR(st.st_mode))
        return !has_question && !isatty(STDIN_FILENO);
    if (!has_question || S_ISREG(st.st_mode))
        return true;
    if (terminal_wait(STDIN_FILENO, PATIENCE_MSEC) > 0)
        return true;
    if (terminal_interrupts() == 0)
        terminal_note("(nothing on standard input for a second; \"-\" waits for it)");
    return false;
}

static bool picture_on_input(const struct options *options)
{
    for (unsigned i = 0; i < options->n_images; i++)
        if (strcmp(options->images[i], "-") == 0)
            return true;
    return false;
}

/* The arguments, and standard input after them or in place of "-". */
static int question_read(const struct options *options, struct text *text)
{
    bool taken = false;
    int status = STATUS_OK;

    for (unsigned i = 0; i < options->n_arguments && status == STATUS_OK; i++) {
        const char *word = options->arguments[i];

        if (i > 0)
            status = append(text, " ", 1);
        if (status == STATUS_OK && strcmp(word, "-") == 0 && !taken) {
            taken = true;
            status = append_input(text);
        } else if (status == STATUS_OK) {
            status = append(text, word, strlen(word));
        }
    }
    if (status == STATUS_OK && !taken && !picture_on_input(options) &&
        input_is_meant(text->length > 0)) {
        size_t before = text->length;

        if (before > 0)
            status = append(text, "\n\n", 2);
        if (status == STATUS_OK)
            status = append_input(text);
        if (before > 0 && text->length == before + 2)
            text->length = before; /* an empty one adds nothing */
    }
    while (text->length > 0 && strchr("\n\r \t", text->bytes[text->length - 1]))
        text->length--;
    if (text->bytes)
        text->bytes[text->length] = '\0';
    return status;
}

int ask_run(sd_bus *bus, const struct options *options)
{
    struct conversation conversation = {0};
    struct pictures pictures = {0};
    struct text text = {0};
    int status = STATUS_OK;

    for (unsigned i = 0; i < options->n_images && status == STATUS_OK; i++)
        status = pictures_add(&pictures, options->images[i]);
    if (status == STATUS_OK)
        status = question_read(options, &text);
    if (status == STATUS_OK && text.length == 0) {
        terminal_error(options->n_images
                           ? "What is the question? \"lfmctl describe FILE\" goes without one."
                           : "What is the question? \"lfmctl ask QUESTION\" or on standard input.");
        status = STATUS_USAGE;
    }
    if (status == STATUS_OK && (!utf8_valid(text.bytes, text.length) ||
                                memchr(text.bytes, 0, text.length))) {
        terminal_error("The question is not UTF-8 text.");
        status = STATUS_ERROR;
    }
    if (status == STATUS_OK)
        status = conversation_open(&conversation, bus, options);
    if (status == STATUS_OK)
        status = conversation_ask(&conversation, text.bytes, &pictures);
    if (status == STATUS_OK && options->keep && !options->json)
        terminal_note("kept: lfmctl ask --session %s ...", conversation.id);
    if (status == STATUS_OK)
        status = tools_wait_for_timers();
    conversation_close(&conversation);
    pictures_done(&pictures);
    free(text.bytes);
    return status;
}
