/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A constraint from its two parts, for tests and fuzzing that have no tokenizer.
 */

#include "text/constraint.h"
#include "text/schema.h"
#include "text/vocabulary.h"

enum constraint_form {
    CONSTRAINT_ANSWER,     /* the grammar is of the whole reply */
    CONSTRAINT_CALLS,      /* the grammar is of what stands between the call tokens */
    CONSTRAINT_CALL_FIRST, /* the same, and the reply begins with it */
};

/* Takes the grammar, also on failure; NULL grammar: its error is already written. */
struct constraint *constraint_new(const struct vocabulary *vocabulary, struct grammar *grammar,
                                  enum constraint_form form, struct error *err);
