/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * vp (kernels_body.h) where four products of bytes go into a 32-bit sum at once: a sum in progress
 * is the sum itself. For a vec_X.h, after its vi.
 */

typedef vi vp;

#define VP_STEPS(bits) 8

ALWAYS vp vp_begin(vi acc)
{
    return acc;
}

ALWAYS vi vp_end(vp part, vi acc)
{
    (void)acc;
    return part;
}
