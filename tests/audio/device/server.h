/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A real PulseAudio of the test's own: a runtime directory of its own, no hardware. Sink "spk" is a
 * loudspeaker that nobody hears, source "mic" a microphone that hears it, through "default" of
 * ALSA.
 *
 * A null sink that nobody records loses the first two seconds, so parec keeps it warm. The server
 * runs with real-time priority where that is allowed, as it does on a desktop: the tests are about
 * our threads on a busy machine, not about the server's.
 */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char server_folder[] = "/tmp/lfmd-sound-XXXXXX";
static pid_t server_pid, server_warm_pid;

static inline void server_sleep(unsigned msec)
{
    const struct timespec time = {.tv_sec = msec / 1000, .tv_nsec = msec % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* A child that ends with the test; its words go to a file of the folder. */
static inline pid_t server_spawn(const char *const *argv)
{
    const struct sched_param priority = {.sched_priority = 5};
    const pid_t parent = getpid(), pid = fork();

    if (pid == 0) {
        char path[sizeof(server_folder) + 64];
        int fd;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
        snprintf(path, sizeof(path), "%s/%s.log", server_folder, argv[0]);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        sched_setscheduler(0, SCHED_RR, &priority);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    return pid;
}

/* 0 when the command ended so. */
static inline int server_run(const char *command)
{
    char line[1024];

    snprintf(line, sizeof(line), "%s >>%s/commands.log 2>&1", command, server_folder);
    return system(line);
}

/* Start the server and wait until it answers. */
static inline bool server_start(void)
{
    static const char *const argv[] = {
        "pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1",
        "--disable-shm=yes", "--log-target=stderr", "-L", "module-native-protocol-unix", "-L",
        "module-null-sink sink_name=spk rate=48000 channels=2", "-L",
        "module-remap-source source_name=mic master=spk.monitor", NULL};
    static const char *const warm[] = {"parec", "--latency-msec=20", "-d", "mic", "--raw",
                                       "/dev/null", NULL};

    server_pid = server_spawn(argv);
    for (unsigned i = 0; i < 200 && server_run("pactl info") != 0; i++)
        server_sleep(50);
    if (server_run("pactl set-default-sink spk") != 0 ||
        server_run("pactl set-default-source mic") != 0)
        return false;
    server_warm_pid = server_spawn(warm);
    server_sleep(2500); /* until the sink is warm */
    return true;
}

static inline void server_kill(void)
{
    const pid_t pids[] = {server_warm_pid, server_pid};

    for (unsigned i = 0; i < 2; i++) {
        if (pids[i] <= 0)
            continue;
        kill(pids[i], SIGKILL);
        while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
            ;
    }
    server_pid = server_warm_pid = 0;
}

/* The environment of the test and of its servers, before anything looks for sound. */
static inline bool server_prepare(void)
{
    static const char config[] =
        "pcm.!default { type pulse hint { show on description \"Pulse\" } }\n"
        "ctl.!default { type pulse }\n";
    char path[sizeof(server_folder) + 16];
    FILE *file;

    if (!mkdtemp(server_folder)) /* mode 700 */
        return false;
    setenv("XDG_RUNTIME_DIR", server_folder, 1);
    setenv("HOME", server_folder, 1);
    unsetenv("PULSE_SERVER");
    unsetenv("DBUS_SESSION_BUS_ADDRESS");
    unsetenv("DISPLAY");
    snprintf(path, sizeof(path), "%s/.asoundrc", server_folder);
    file = fopen(path, "we");
    if (!file)
        return false;
    fputs(config, file);
    return fclose(file) == 0;
}

static inline int server_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void server_clean(void)
{
    server_kill();
    nftw(server_folder, server_remove, 16, FTW_DEPTH | FTW_PHYS);
}
