/* SPDX-License-Identifier: MIT */
#include "text/row_id.h"

/* The finaliser of splitmix64: every bit of x changes about half of the result. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint32_t row_id(const uint64_t key[2], size_t place)
{
    /* 30 bits under the flag: never TOKEN_NONE. */
    return ROW_ID | (uint32_t)(mix(key[0] + mix(key[1] + mix(place))) >> 34);
}
