/* SPDX-License-Identifier: MIT */

/*
 * The walls, tried from inside: a child enters the sandbox as lfmd-image does, and then tries what
 * somebody would try who had taken a decoder over. What came of each try is written into memory
 * that the child shares with the test.
 */

#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

static const struct sandbox_limits limits = {
    .memory_bytes = UINT64_C(256) << 20,
    .output_bytes = 1 << 20,
    .cpu_seconds = 1,
};

/* ---- tries: 0 or more when it worked ---- */

static void *page;

static int try_open(void)
{
    return open("/etc/passwd", O_RDONLY);
}

static int try_open_relative(void)
{
    return openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY);
}

static int try_openat2(void)
{
    return (int)syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", (uint64_t[3]){0}, 24);
}

static int try_open_own_memory(void)
{
    return open("/proc/self/mem", O_RDWR);
}

static int try_create(void)
{
    return open("/tmp/lfmd-out-of-the-sandbox", O_WRONLY | O_CREAT, 0600);
}

static int try_unlink(void)
{
    return unlink("/tmp/lfmd-out-of-the-sandbox");
}

static int try_mkdir(void)
{
    return mkdir("/tmp/lfmd-out-of-the-sandbox", 0700);
}

static int try_chdir(void)
{
    return chdir("/");
}

static int try_chmod(void)
{
    return fchmod(STDIN_FILENO, 0777);
}

static int try_socket_unix(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int try_socket_inet(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}

static int try_socket_netlink(void)
{
    return socket(AF_NETLINK, SOCK_RAW, 0);
}

static int try_socketpair(void)
{
    int fds[2];

    return socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}

/* The descriptor is a socket that was open before. */
static int try_connect(void)
{
    return connect(STDIN_FILENO, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX},
                   sizeof(struct sockaddr_un));
}

static int try_send(void)
{
    return (int)sendto(STDIN_FILENO, "x", 1, 0, NULL, 0);
}

static int try_fork(void)
{
    const pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid;
}

static int try_clone3(void)
{
    const int r = (int)syscall(SYS_clone3, (uint64_t[8]){0, 0, 0, 0, SIGCHLD}, 64);

    if (r == 0)
        _exit(0);
    return r;
}

static int try_exec(void)
{
    return execl("/bin/true", "true", (char *)NULL);
}

static int try_execveat(void)
{
    return (int)syscall(SYS_execveat, AT_FDCWD, "/bin/true", (char *[]){NULL}, (char *[]){NULL}, 0);
}

static int try_ptrace_parent(void)
{
    return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int try_read_parent(void)
{
    struct {
        void *base;
        size_t size;
    } here = {&here, sizeof(here)};

    return (int)syscall(SYS_process_vm_readv, getppid(), &here, 1, &here, 1, 0);
}

static int try_signal_parent(void)
{
    return kill(getppid(), 0);
}

static int try_signal_thread_of_parent(void)
{
    return (int)syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static int try_executable_memory(void)
{
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? -1 : 0;
}

static int try_make_executable(void)
{
    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int try_pkey_executable(void)
{
    return (int)syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1);
}

static int try_memfd(void)
{
    return memfd_create("x", 0);
}

static int try_unshare(void)
{
    return unshare(CLONE_NEWUSER);
}

static int try_mount(void)
{
    return mount("none", "/tmp", "tmpfs", 0, NULL);
}

static int try_io_uring(void)
{
    return (int)syscall(SYS_io_uring_setup, 4, (char[128]){0});
}

static int try_bpf(void)
{
    return (int)syscall(SYS_bpf, 0, (char[64]){0}, 64);
}

static int try_userfaultfd(void)
{
    return (int)syscall(SYS_userfaultfd, 0);
}

static int try_keyring(void)
{
    return (int)syscall(SYS_keyctl, 0, -3, 1);
}

static int try_more_memory(void)
{
    return setrlimit(RLIMIT_AS, &(struct rlimit){limits.memory_bytes, limits.memory_bytes});
}

static int try_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int try_ioctl(void)
{
    return (int)syscall(SYS_ioctl, STDIN_FILENO, 0x5401, (char[256]){0});
}

static const struct {
    const char *name;
    int (*try)(void);
} tries[] = {
    {"open a file", try_open},
    {"open a folder", try_open_relative},
    {"open with openat2", try_openat2},
    {"open its own memory", try_open_own_memory},
    {"create a file", try_create},
    {"remove a file", try_unlink},
    {"make a folder", try_mkdir},
    {"change its folder", try_chdir},
    {"change a mode", try_chmod},
    {"make a unix socket", try_socket_unix},
    {"make an internet socket", try_socket_inet},
    {"make a netlink socket", try_socket_netlink},
    {"make a pair of sockets", try_socketpair},
    {"connect a socket", try_connect},
    {"send", try_send},
    {"fork", try_fork},
    {"fork with clone3", try_clone3},
    {"execute", try_exec},
    {"execute with execveat", try_execveat},
    {"trace its parent", try_ptrace_parent},
    {"read its parent", try_read_parent},
    {"signal its parent", try_signal_parent},
    {"signal a thread of its parent", try_signal_thread_of_parent},
    {"get memory to write and execute", try_executable_memory},
    {"make memory executable", try_make_executable},
    {"make memory executable with a key", try_pkey_executable},
    {"make a memfd", try_memfd},
    {"enter a namespace", try_unshare},
    {"mount", try_mount},
    {"use io_uring", try_io_uring},
    {"load a program into the kernel", try_bpf},
    {"catch page faults", try_userfaultfd},
    {"use keys", try_keyring},
    {"set a limit", try_more_memory},
    {"become dumpable", try_dumpable},
    {"control a device", try_ioctl},
};

/* ---- the child ---- */

struct report {
    struct error err;
    int error[ARRAY_LEN(tries)]; /* errno, or 0 when a try worked */
    bool fonts, fonts_written, thread, memory;
};

static void *nothing(void *arg)
{
    *(bool *)arg = true;
    return NULL;
}

static void try_all(struct report *report)
{
    pthread_t thread;

    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        errno = 0;
        report->error[i] = tries[i].try() < 0 ? errno : 0;
    }
    report->fonts = open("/etc/fonts/fonts.conf", O_RDONLY) >= 0;
    report->fonts_written = open("/etc/fonts/fonts.conf", O_RDWR) >= 0;
    if (pthread_create(&thread, NULL, nothing, &report->thread) == 0)
        pthread_join(thread, NULL);
    report->memory = malloc(limits.memory_bytes) != NULL;
}

/* Run in a child, which does not come back; returns how it ended. */
static int in_child(void (*run)(struct report *), const enum sandbox *kinds, size_t n_kinds,
                    struct report *report)
{
    struct report *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0, fds[2];
    pid_t pid;

    assert_ptr_not_equal(shared, MAP_FAILED);
    memset(shared, 0, sizeof(*shared));
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || dup2(fds[0], STDIN_FILENO) < 0 ||
            dup2(memfd_create("out", 0), STDOUT_FILENO) < 0 ||
            sandbox_limit(&limits, &shared->err) < 0)
            _exit(2);
        for (size_t i = 0; i < n_kinds; i++)
            if (sandbox_enter(kinds[i], &shared->err) < 0)
                _exit(3);
        run(shared);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    *report = *shared;
    munmap(shared, sizeof(*shared));
    return status;
}

static void expect_walls(const enum sandbox *kinds, size_t n_kinds, bool fonts)
{
    struct report report;
    const int status = in_child(try_all, kinds, n_kinds, &report);

    if (status != 0)
        fail_msg("the child ended with %#x: %s", status, report.err.text);
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        const int e = report.error[i];

        /* Landlock says EACCES; glibc is told by ENOSYS that clone3() does not exist. */
        if (e != EPERM && e != EACCES && e != ENOSYS)
            fail_msg("the sandbox does not refuse to %s: %s", tries[i].name, strerror(e));
    }
    assert_int_equal(report.fonts, fonts);
    assert_false(report.fonts_written);
    assert_true(report.thread);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* nor is the limit set there */
    assert_false(report.memory);
#endif
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void test_a_closed_sandbox_leaves_nothing_but_computing(void **state)
{
    (void)state;
    expect_walls((enum sandbox[]){SANDBOX_CLOSED}, 1, false);
}

static void test_fonts_can_be_read_and_nothing_else(void **state)
{
    (void)state;
    expect_walls((enum sandbox[]){SANDBOX_FONTS}, 1,
                 has_landlock() && access("/etc/fonts/fonts.conf", R_OK) == 0);
}

static void test_a_sandbox_with_fonts_can_be_closed(void **state)
{
    (void)state;
    expect_walls((enum sandbox[]){SANDBOX_FONTS, SANDBOX_CLOSED}, 2, false);
}

/* A closed one stays closed: what the second call needs is no longer allowed. */
static void reopen(struct report *report)
{
    if (sandbox_enter(SANDBOX_FONTS, NULL) == 0)
        report->fonts = true;
    report->fonts |= open("/etc/fonts/fonts.conf", O_RDONLY) >= 0;
}

static void test_a_closed_sandbox_cannot_be_opened_again(void **state)
{
    struct report report;

    (void)state;
    assert_int_equal(in_child(reopen, (enum sandbox[]){SANDBOX_CLOSED}, 1, &report), 0);
    assert_false(report.fonts);
}

static void write_too_much(struct report *report)
{
    static const char byte = 0;

    report->fonts = pwrite(STDOUT_FILENO, &byte, 1, (off_t)limits.output_bytes - 1) == 1;
    report->fonts_written = pwrite(STDOUT_FILENO, &byte, 1, (off_t)limits.output_bytes) == 1;
}

static void grow_too_much(struct report *report)
{
    report->fonts = ftruncate(STDOUT_FILENO, (off_t)limits.output_bytes) == 0;
    report->fonts_written = ftruncate(STDOUT_FILENO, (off_t)limits.output_bytes + 1) == 0;
}

static void compute_for_ever(struct report *report)
{
    for (;;)
        report->fonts = getpid() > 0;
}

static void test_a_limit_ends_the_child(void **state)
{
    static const struct {
        void (*run)(struct report *);
        int signal;
    } table[] = {
        {write_too_much, SIGXFSZ},
        {grow_too_much, SIGXFSZ},
        {compute_for_ever, SIGXCPU},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct report report;
        const int status = in_child(table[i].run, (enum sandbox[]){SANDBOX_CLOSED}, 1, &report);

        assert_true(report.fonts);
        assert_false(report.fonts_written);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != table[i].signal)
            fail_msg("row %zu ended with %#x", i, status);
    }
}

/* ---- inside the unit ---- */

static scmp_filter_ctx unit_filter;

/* A system call, or a group of them as systemd of this machine has it. */
static void allow(const char *name)
{
    char command[128], line[128];
    FILE *group;

    if (name[0] != '@') {
        seccomp_rule_add(unit_filter, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(name), 0);
        return;
    }
    snprintf(command, sizeof(command), "systemd-analyze syscall-filter %s 2>/dev/null", name);
    group = popen(command, "r");
    assert_non_null(group);
    for (bool first = true; fgets(line, sizeof(line), group); first = false) {
        const char *word = strtok(line, " \n");

        if (!first && word && word[0] != '#')
            allow(word);
    }
    pclose(group);
}

static void enter_inside_the_unit(struct report *report)
{
    report->thread = seccomp_load(unit_filter) == 0;
    report->fonts = sandbox_enter(SANDBOX_FONTS, &report->err) == 0;
    report->memory = sandbox_enter(SANDBOX_CLOSED, &report->err) == 0;
}

/* What the service manager forbids to the daemon, it forbids to the decoder too. */
static void test_the_unit_of_the_daemon_lets_the_walls_be_built(void **state)
{
    static const char key[] = "SystemCallFilter=";
    FILE *unit = fopen(LFMD_SOURCE_ROOT "/systemd/lfmd.service.in", "re");
    struct report report;
    char line[512];
    int status;

    (void)state;
    if (system("systemd-analyze syscall-filter @system-service >/dev/null 2>&1") != 0)
        skip();
    unit_filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    assert_non_null(unit_filter);
    assert_non_null(unit);
    while (fgets(line, sizeof(line), unit)) {
        char *rest = NULL;

        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        for (char *word = strtok_r(line + strlen(key), " \n", &rest); word;
             word = strtok_r(NULL, " \n", &rest))
            allow(word);
    }
    fclose(unit);
    status = in_child(enter_inside_the_unit, NULL, 0, &report);
    if (status != 0 || !report.thread || !report.fonts || !report.memory)
        fail_msg("the child ended with %#x: %s", status, report.err.text);
    seccomp_release(unit_filter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_closed_sandbox_leaves_nothing_but_computing),
        cmocka_unit_test(test_fonts_can_be_read_and_nothing_else),
        cmocka_unit_test(test_a_sandbox_with_fonts_can_be_closed),
        cmocka_unit_test(test_a_closed_sandbox_cannot_be_opened_again),
        cmocka_unit_test(test_a_limit_ends_the_child),
        cmocka_unit_test(test_the_unit_of_the_daemon_lets_the_walls_be_built),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
