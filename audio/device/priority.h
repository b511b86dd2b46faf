/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Real-time priority for the threads of the sound callbacks, so that the engine's threads on all
 * processors do not make them late; and a better nice level, not real time, for the threads that
 * make what is played, so that other programs do not.
 *
 * RealtimeKit is asked on the system bus; where it is not, or says no, the kernel is asked (root,
 * or a user with RLIMIT_RTPRIO). RealtimeKit wants RLIMIT_RTTIME: a real-time thread that computes
 * for 200 ms without sleeping ends the process with SIGXCPU, so the limit is set in both cases. A
 * callback needs microseconds.
 *
 * The bus is this file's own matter, hidden in it: a function pointer from above would only carry
 * the same three calls through two more headers.
 *
 * Threads: any that may block for a second.
 * Source:  org.freedesktop.RealtimeKit1, MakeThreadRealtimeWithPID, MakeThreadHighPriorityWithPID;
 *          sched(7), getrlimit(2), setpriority(2)
 */

#include <sys/types.h>

#include "base/error.h"

#define PRIORITY_WANTED 10 /* 1 to 99; RealtimeKit's usual maximum is 20 */

enum priority_way { PRIORITY_REALTIME_KIT = 1, PRIORITY_KERNEL };

/*
 * Make the thread (of this process) SCHED_RR. Returns the way it was had, or -EACCES with what both
 * said: sound goes on without, and may stutter on a busy machine.
 */
int priority_raise(pid_t thread_id, struct error *err);

#define PRIORITY_NICE (-11) /* RealtimeKit's usual minimum is -15 */
/* More are not asked for: RealtimeKit serves 25 threads of a user, and 25 requests in 20 s. */
#define PRIORITY_THREADS_MAX 8

/*
 * Give the first PRIORITY_THREADS_MAX of these threads (of this process) PRIORITY_NICE: RealtimeKit
 * is asked, else the kernel (root, or RLIMIT_NICE). Returns how many have it; the others go on as
 * they are. A process whose own level is not 0 keeps what its user has chosen: none is changed.
 */
size_t priority_lift(const pid_t *thread_ids, size_t n);
/* The threads get the level of the one that calls; nobody has to be asked. */
void priority_drop(const pid_t *thread_ids, size_t n);
