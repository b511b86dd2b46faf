/* SPDX-License-Identifier: MIT */
#include "daemon/paths.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

char *paths_home(const char *name, const char *below)
{
    const char *value = getenv(name), *home = getenv("HOME");
    char *path;

    if (value && *value == '/')
        return strdup(value);
    if (!home || *home != '/')
        return NULL;
    return asprintf(&path, "%s/%s", home, below) < 0 ? NULL : path;
}

char *paths_list(const char *name, const char *otherwise)
{
    const char *value = getenv(name);

    return strdup(value && *value ? value : otherwise);
}

/* mkdir -p with mode 0700 for what is new. */
static bool make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        int r;

        *slash = '\0';
        r = mkdir(path, 0700);
        *slash = '/';
        if (r < 0 && errno != EEXIST)
            return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

char *paths_state(void)
{
    _cleanup_(freep) char *home = paths_home("XDG_STATE_HOME", ".local/state");
    char *path;

    if (!home || asprintf(&path, "%s/lfmd", home) < 0)
        return NULL;
    if (!make_directories(path)) {
        free(path);
        return NULL;
    }
    return path;
}

/* Append PREFIX/SUFFIX unless it is there already; both are copied. */
static bool append(char ***paths, size_t *n, const char *prefix, const char *suffix)
{
    char **grown, *path;

    if (asprintf(&path, "%s%s", prefix, suffix) < 0)
        return false;
    for (size_t i = 0; i < *n; i++) {
        if (!strcmp((*paths)[i], path)) {
            free(path);
            return true;
        }
    }
    grown = reallocarray(*paths, *n + 2, sizeof(*grown));
    if (!grown) {
        free(path);
        return false;
    }
    grown[(*n)++] = path;
    grown[*n] = NULL;
    *paths = grown;
    return true;
}

/* Whether models were installed with this program; one that was only built has none. */
static bool is_installed(void)
{
    _cleanup_(freep) char *self = realpath("/proc/self/exe", NULL);
    _cleanup_(freep) char *folder = realpath(LFMD_LIBEXECDIR, NULL);
    const size_t n = folder ? strlen(folder) : 0;

    return self && n > 0 && strncmp(self, folder, n) == 0 && self[n] == '/';
}

char **paths_models(char *const *more)
{
    _cleanup_(freep) char *home = paths_home("XDG_DATA_HOME", ".local/share");
    _cleanup_(freep) char *list = paths_list("XDG_DATA_DIRS", "/usr/local/share:/usr/share");
    char **paths = NULL, *rest, *directory;
    size_t n = 0;

    if (!home || !list || !append(&paths, &n, home, "/lfmd/models"))
        goto fail;
    for (; more && *more; more++)
        if (!append(&paths, &n, *more, ""))
            goto fail;
    for (directory = strtok_r(list, ":", &rest); directory; directory = strtok_r(NULL, ":", &rest))
        if (*directory == '/' && !append(&paths, &n, directory, "/lfmd/models"))
            goto fail;
    if (is_installed() && !append(&paths, &n, LFMD_DATADIR, "/lfmd/models"))
        goto fail;
    return paths;

fail:
    return paths_free(paths);
}

char **paths_free(char **paths)
{
    for (char **path = paths; path && *path; path++)
        free(*path);
    free(paths);
    return NULL;
}
