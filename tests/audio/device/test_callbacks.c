/* SPDX-License-Identifier: MIT */
/* Proves that the callbacks, on a real sound server and in all that they can meet (tone,
 * interruption, underrun, full and empty rings, blocks at another rate, ducking), allocate nothing,
 * take no lock, make no system call and touch no page that was not there: PortAudio is given a
 * wrapper that turns guards on around them. The first callback of a thread is free: it publishes
 * the thread's id.
 *
 * Allocation and locks are this program's own functions, which every library then uses; system
 * calls are trapped by the kernel (syscall user dispatch). That the guards catch is tested. */
#include <dlfcn.h>
#include <math.h>
#include <portaudio.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "audio/device/capture.h"
#include "audio/device/playback.h"
#include "audio/device/priority.h"
#include "audio/device/pcm_stream.h"
#include "server.h"

/* linux/prctl.h of Debian 12 has them, the C library's sys/prctl.h includes it. */
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#error "the kernel's headers are older than 5.11"
#endif

static _Thread_local volatile bool inside;
static _Thread_local volatile char selector; /* what the kernel looks at: 0 allows */
static _Thread_local bool armed;
static atomic_uint n_guarded, n_faults;
static atomic_int trap_errno;

static void caught(const char *what)
{
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    inside = false;
    if (write(STDERR_FILENO, what, strlen(what)) >= 0 &&
        write(STDERR_FILENO, " inside a callback\n", 19) >= 0)
        abort();
    abort();
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
    char what[] = "system call 000";

    (void)signal;
    (void)context;
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    for (int n = info->si_syscall, i = 14; i > 11; i--, n /= 10)
        what[i] = (char)('0' + n % 10);
    caught(what);
}

/* --- allocation and locks -------------------------------------------------------------------- */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

void *malloc(size_t size)
{
    if (inside)
        caught("malloc");
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    if (inside)
        caught("calloc");
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    if (inside)
        caught("realloc");
    return __libc_realloc(p, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    if (inside)
        caught("posix_memalign");
    *ret = __libc_memalign(alignment, size);
    return *ret ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    if (inside)
        caught("aligned_alloc");
    return __libc_memalign(alignment, size);
}

void free(void *p)
{
    if (inside)
        caught("free");
    __libc_free(p);
}

/* Also a lock that is free, which needs no system call. */
#define GUARDED(name, parameter)                                                                   \
    int name(parameter p)                                                                          \
    {                                                                                              \
        static int (*real)(parameter);                                                             \
                                                                                                   \
        if (inside)                                                                                \
            caught(#name);                                                                         \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return real(p);                                                                            \
    }
GUARDED(pthread_mutex_lock, pthread_mutex_t *)
GUARDED(pthread_mutex_trylock, pthread_mutex_t *)
GUARDED(pthread_rwlock_rdlock, pthread_rwlock_t *)
GUARDED(pthread_rwlock_wrlock, pthread_rwlock_t *)
GUARDED(pthread_spin_lock, pthread_spinlock_t *)
GUARDED(pthread_cond_signal, pthread_cond_t *)
GUARDED(pthread_cond_broadcast, pthread_cond_t *)
GUARDED(sem_post, sem_t *)
GUARDED(sem_wait, sem_t *)

/* --- the wrapper ----------------------------------------------------------------------------- */

struct wrapped {
    PaStreamCallback *callback;
    void *userdata;
};

static double only_rate_hz; /* 0: all */

static int guard(const void *input, void *output, unsigned long n_frames,
                 const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags, void *userdata)
{
    const struct wrapped *wrapped = userdata;
    struct rusage before, after;
    int r;

    if (!armed) {
        armed = true;
        if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) < 0)
            atomic_store(&trap_errno, errno);
        return wrapped->callback(input, output, n_frames, time, flags, wrapped->userdata);
    }
    getrusage(RUSAGE_THREAD, &before);
    inside = true;
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    r = wrapped->callback(input, output, n_frames, time, flags, wrapped->userdata);
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    inside = false;
    getrusage(RUSAGE_THREAD, &after);
    atomic_fetch_add(&n_guarded, 1);
    atomic_fetch_add(&n_faults, (unsigned)(after.ru_minflt - before.ru_minflt + after.ru_majflt -
                                           before.ru_majflt));
    return r;
}

PaError Pa_OpenStream(PaStream **stream, const PaStreamParameters *input,
                      const PaStreamParameters *output, double rate_hz, unsigned long n_frames,
                      PaStreamFlags flags, PaStreamCallback *callback, void *userdata)
{
    static struct wrapped slots[16];
    static unsigned n_slots;
    PaError (*real)(PaStream **, const PaStreamParameters *, const PaStreamParameters *, double,
                    unsigned long, PaStreamFlags, PaStreamCallback *, void *);

    if (only_rate_hz > 0 && rate_hz != only_rate_hz)
        return paInvalidSampleRate;
    assert_in_range(n_slots, 0, 15);
    slots[n_slots] = (struct wrapped){callback, userdata};
    *(void **)&real = dlsym(RTLD_NEXT, "Pa_OpenStream");
    return real(stream, input, output, rate_hz, n_frames, flags, guard, &slots[n_slots++]);
}

/* --- what must be caught --------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *volatile kept;

static int does_nothing(const void *input, void *output, unsigned long n,
                        const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags,
                        void *userdata)
{
    (void)input, (void)output, (void)n, (void)time, (void)flags, (void)userdata;
    return paContinue;
}

static int allocates(const void *input, void *output, unsigned long n,
                     const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags,
                     void *userdata)
{
    (void)input, (void)output, (void)n, (void)time, (void)flags, (void)userdata;
    kept = malloc(8);
    return paContinue;
}

static int locks(const void *input, void *output, unsigned long n,
                 const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags, void *userdata)
{
    (void)input, (void)output, (void)n, (void)time, (void)flags, (void)userdata;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return paContinue;
}

static int calls(const void *input, void *output, unsigned long n,
                 const PaStreamCallbackTimeInfo *time, PaStreamCallbackFlags flags, void *userdata)
{
    (void)input, (void)output, (void)n, (void)time, (void)flags, (void)userdata;
    syscall(SYS_getppid);
    return paContinue;
}

static void test_the_guards_catch(void **state)
{
    static const struct {
        PaStreamCallback *callback;
        bool caught;
    } cases[] = {{does_nothing, false}, {allocates, true}, {locks, true}, {calls, true}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const pid_t pid = fork();
        int status;

        if (pid == 0) {
            struct wrapped wrapped = {does_nothing, NULL};
            const struct rlimit none = {0, 0};

            setrlimit(RLIMIT_CORE, &none);
            signal(SIGABRT, SIG_DFL);
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
            guard(NULL, NULL, 0, NULL, 0, &wrapped);
            wrapped.callback = cases[i].callback;
            guard(NULL, NULL, 0, NULL, 0, &wrapped);
            _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (cases[i].caught)
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        else
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

/* --- the callbacks --------------------------------------------------------------------------- */

static struct capture *capture;
static struct playback *playback;
static float tone[PLAYBACK_RATE_HZ];

static void listen_for(unsigned msec)
{
    float frame[CAPTURE_FRAME];

    for (unsigned i = 0; i < msec / 10; i++) {
        server_sleep(10);
        while (capture_read(capture, frame))
            ;
    }
}

static void open_both(unsigned rate_hz)
{
    struct error err = ERROR_INIT;
    struct device microphone, loudspeaker;

    assert_int_equal(device_find(NULL, DEVICE_CAPTURE, &microphone, &err), 0);
    assert_int_equal(device_find(NULL, DEVICE_PLAYBACK, &loudspeaker, &err), 0);
    only_rate_hz = rate_hz;
    assert_int_equal(capture_open(capture, &microphone, 100, &err), 0);
    assert_int_equal(playback_open(playback, &loudspeaker, 0, 100, &err), 0);
}

static void test_the_callbacks_do_nothing_that_may_wait(void **state)
{
    struct capture_counts in;
    struct playback_counts out;
    struct error err = ERROR_INIT;
    uint32_t generation;

    (void)state;
    for (size_t i = 0; i < PLAYBACK_RATE_HZ; i++)
        tone[i] = (float)sin(2 * M_PI * 440 * (double)i / PLAYBACK_RATE_HZ) * 0.25f;
    capture = capture_new(200, &err);
    playback = playback_new(2000, &err);
    assert_non_null(capture);
    assert_non_null(playback);
    open_both(0);
    listen_for(300);

    generation = playback_generation(playback);
    playback_write(playback, generation, tone, PLAYBACK_RATE_HZ);
    listen_for(300);
    playback_duck(playback, true);
    listen_for(200);
    generation = playback_cancel(playback); /* in the midst of it */
    playback_duck(playback, false);
    listen_for(100);
    playback_write(playback, generation, tone, PLAYBACK_RATE_HZ / 4);
    listen_for(600); /* an underrun */
    playback_write(playback, generation, tone, PLAYBACK_RATE_HZ / 4 + 7);
    assert_true(playback_end(playback, generation));
    server_sleep(1500); /* the microphone's ring is full, and the one of what was played */
    playback_counts(playback, &out);
    capture_counts(capture, &in);
    assert_int_equal(out.n_underruns, 1);
    assert_true(in.n_overruns > 0);

    /* Blocks for the old rate are in the ring of a device with another. */
    playback_write(playback, generation, tone, PLAYBACK_RATE_HZ);
    open_both(44100);
    listen_for(300);
    playback_write(playback, generation, tone, PLAYBACK_RATE_HZ / 4);
    assert_true(playback_end(playback, generation));
    listen_for(500);
    assert_true(playback_is_idle(playback));

    capture = capture_free(capture);
    playback = playback_free(playback);
    assert_true(atomic_load(&n_guarded) > 300);
    assert_int_equal(atomic_load(&trap_errno), 0);
    assert_int_equal(atomic_load(&n_faults), 0);
}

static int set_up(void **state)
{
    const struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    struct error err = ERROR_INIT;

    (void)state;
    sigaction(SIGSYS, &trap, NULL);
    if (!server_prepare() || !server_start() || device_init(&err) < 0) {
        print_error("no sound server: %s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_done();
    server_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_guards_catch),
        cmocka_unit_test(test_the_callbacks_do_nothing_that_may_wait),
    };

    return cmocka_run_group_tests_name("callbacks", tests, set_up, tear_down);
}
