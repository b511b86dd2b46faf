/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * "Ask about this image" in Thunar's menu.
 *
 * Thunar keeps all custom actions of a person in one file of that person's, uca.xml, so that no
 * package can bring one along: these verbs put ours in and take it out, and leave the rest as it
 * is.
 *
 * Both tell what they did, or what went wrong, and return the exit status.
 */

int thunar_install(void);
int thunar_remove(void);
