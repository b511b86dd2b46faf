/* SPDX-License-Identifier: MIT */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DESCRIPTORS_MAX 64

static int failed(struct error *err, const char *wall, int r)
{
    return error_set(err, ERROR_INTERNAL,
                     "The sandbox of the decoder cannot be set up, so nothing is decoded: %s: %s.",
                     wall, strerror(r < 0 ? -r : errno));
}

/* ---- rlimits ---- */

int sandbox_limit(const struct sandbox_limits *limits, struct error *err)
{
    const struct {
        int resource;
        rlim_t soft, hard;
    } table[] = {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they reserve terabytes */
        {RLIMIT_AS, limits->memory_bytes, limits->memory_bytes},
#endif
        {RLIMIT_CPU, limits->cpu_seconds, limits->cpu_seconds + 1}, /* a signal that can be told */
        {RLIMIT_FSIZE, limits->output_bytes, limits->output_bytes},
        {RLIMIT_NOFILE, DESCRIPTORS_MAX, DESCRIPTORS_MAX},
        {RLIMIT_CORE, 0, 0},
    };
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct rlimit now;

        if (getrlimit(table[i].resource, &now) < 0 ||
            setrlimit(table[i].resource, &(struct rlimit){MIN(table[i].soft, now.rlim_max),
                                                          MIN(table[i].hard, now.rlim_max)}) < 0)
            return failed(err, "a limit", 0);
    }

    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) { /* a wish: some systems have no /proc */
        (void)!write(fd, "1000", 4);
        close(fd);
    }
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return failed(err, "a process of its own", 0);
    return 0;
}

/* ---- landlock ---- */

/* What the system's text libraries read: fonts, where they are, and the index of both. */
static const char *const font_folders[] = {
    "/etc/fonts",
    "/usr/share/fontconfig",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/var/cache/fontconfig",
};

/*
 * Returns 1 when the kernel restricts this thread and those it starts, 0 when it has no landlock.
 *
 * Every right that the kernel knows is taken: each version added some at the end of the bit set.
 */
static int landlock(bool fonts, struct error *err)
{
    static const int n_rights[] = {0, 13, 14, 15, 15, 16};
    const long version =
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_ruleset_attr rules = {0};
    _cleanup_(closep) int fd = -1;

    if (version <= 0)
        return 0;
    rules.handled_access_fs =
        (UINT64_C(1) << n_rights[MIN((size_t)version, ARRAY_LEN(n_rights) - 1)]) - 1;
    fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (fd < 0)
        return failed(err, "landlock", 0);
    for (size_t i = 0; fonts && i < ARRAY_LEN(font_folders); i++) {
        _cleanup_(closep) int folder = open(font_folders[i], O_PATH | O_CLOEXEC);
        const struct landlock_path_beneath_attr beneath = {
            .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
            .parent_fd = folder,
        };

        if (folder >= 0 &&
            syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
            return failed(err, "landlock", 0);
    }
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return failed(err, "landlock", 0);
    return 1;
}

/* ---- seccomp ---- */

/* Memory, time, threads, the end; and descriptors that are open already. */
static const int allowed[] = {
    SCMP_SYS(brk),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(close),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(fstat),
    SCMP_SYS(ftruncate),
    SCMP_SYS(futex),
    SCMP_SYS(getcpu),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(lseek),
    SCMP_SYS(madvise),
    SCMP_SYS(membarrier),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
    SCMP_SYS(nanosleep),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(read),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sysinfo),
    SCMP_SYS(time),
    SCMP_SYS(uname),
    SCMP_SYS(write),
    SCMP_SYS(writev),
};

/* More, to find and read fonts. Landlock says which. */
static const int allowed_fonts[] = {
    SCMP_SYS(access),     SCMP_SYS(faccessat),  SCMP_SYS(faccessat2), SCMP_SYS(fstatfs),
    SCMP_SYS(getdents64), SCMP_SYS(newfstatat), SCMP_SYS(readlink),   SCMP_SYS(readlinkat),
    SCMP_SYS(stat),       SCMP_SYS(lstat),      SCMP_SYS(statfs),     SCMP_SYS(statx),
};

#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define WRITE_FLAGS (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)

static int seccomp(bool fonts, bool may_close, struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = filter ? 0 : -ENOMEM;

#define ALLOW(name, n, ...)                                                                        \
    if (r == 0)                                                                                    \
    r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(name), n, ##__VA_ARGS__)

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    /* Memory is never written and executed; a thread signals its own process only. */
    ALLOW(mmap, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    ALLOW(mprotect, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    ALLOW(tgkill, 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    ALLOW(fcntl, 1, SCMP_A1(SCMP_CMP_EQ, F_GETFL));
    ALLOW(fcntl, 1, SCMP_A1(SCMP_CMP_EQ, F_GETFD));
    ALLOW(prlimit64, 1, SCMP_A2(SCMP_CMP_EQ, 0)); /* asking only */
    ALLOW(newfstatat, 1, SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));

    /* Threads: their flags can be seen in clone(), but not in clone3(), which glibc tries first. */
    ALLOW(clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, THREAD_FLAGS, THREAD_FLAGS));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    ALLOW(prctl, 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    ALLOW(prctl, 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS));

    for (size_t i = 0; fonts && r == 0 && i < ARRAY_LEN(allowed_fonts); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_fonts[i], 0);
    if (fonts) {
        ALLOW(open, 1, SCMP_A1(SCMP_CMP_MASKED_EQ, WRITE_FLAGS, 0));
        ALLOW(openat, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, WRITE_FLAGS, 0));
    }
    if (may_close) { /* the next filter can only take more away */
        ALLOW(seccomp, 0);
        ALLOW(landlock_create_ruleset, 0);
        ALLOW(landlock_restrict_self, 0);
    }
#undef ALLOW
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r < 0 ? failed(err, "seccomp", r) : 0;
}

int sandbox_enter(enum sandbox kind, struct error *err)
{
    int r;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return failed(err, "no new privileges", 0);
    r = landlock(kind == SANDBOX_FONTS, err);
    if (r < 0)
        return r;
    return seccomp(kind == SANDBOX_FONTS && r > 0, kind == SANDBOX_FONTS, err);
}
