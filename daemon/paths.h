/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where things are: the XDG base directories.
 *
 * A relative path in a variable of the specification is invalid and counts as unset. State lies in
 * XDG_STATE_HOME with and without systemd: StateDirectory= of a user unit of systemd 252 is below
 * ~/.config, and kept sessions must be the same ones however the daemon was started.
 *
 * Memory: results are malloc'd; NULL: out of memory, or no home directory.
 * Threads: bus thread.
 */

/* $NAME, or $HOME/below. */
char *paths_home(const char *name, const char *below);

/* $NAME, a list with colons, or `otherwise`. */
char *paths_list(const char *name, const char *otherwise);

/* $XDG_STATE_HOME/lfmd, made with mode 0700 when absent. */
char *paths_state(void);

/*
 * Where models are looked for, NULL-terminated: $XDG_DATA_HOME/lfmd/models, which is the user's
 * own; then `more` (NULL-terminated, or NULL); then lfmd/models below $XDG_DATA_DIRS and below
 * the data directory that lfmd was installed to, where it is that one that runs. Freed with
 * paths_free().
 */
char **paths_models(char *const *more);
char **paths_free(char **paths);
