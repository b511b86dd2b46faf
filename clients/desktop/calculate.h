/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The calculator that answers a model's calculate(expr="...") calls: exact fractions, so that
 * 0.1+0.2 is 0.3. Numbers, + - * / ^ %, unary minus, parentheses; x, × and ÷ as people write them.
 *
 *   sum     = product { ("+" | "-") product }
 *   product = power { ("*" | "/") power }
 *   power   = ["-"] atom [ "^" power ] { "%" }
 *   atom    = number | "(" sum ")"
 *
 * Threads: any; no state.
 */

#include <stddef.h>

#include "base/error.h"

#define CALCULATE_TEXT_MAX 1024
#define CALCULATE_RESULT   80

/*
 * ret: [CALCULATE_RESULT], a decimal number: exact where ten decimals hold it, else rounded to four
 * decimals, or to four digits when it is smaller than that.
 */
int calculate(const char *text, char *ret, struct error *err);
