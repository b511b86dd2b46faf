/* SPDX-License-Identifier: MIT */

/*
 * lfmd-monitor: what the machine plays, into a pipe.
 *
 *     lfmd-monitor >PIPE
 *
 * Records the monitor of the default sink of a PulseAudio server, or of a PipeWire that speaks its
 * protocol: 16 kHz, mono, 16 bits, in the machine's order of bytes, until nobody reads or the server
 * goes away. A process of its own, because PortAudio does not know of monitors and a call of libpulse
 * may wait for its server for ever.
 */

#include <errno.h>
#include <pulse/simple.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define RATE_HZ 16000
#define BLOCK   320 /* samples, 20 ms */

int main(void)
{
    static const pa_sample_spec spec = {
        .format = PA_SAMPLE_S16NE, .rate = RATE_HZ, .channels = 1};
    const pa_buffer_attr attributes = {
        .maxlength = UINT32_MAX, .fragsize = BLOCK * sizeof(int16_t)};
    int16_t block[BLOCK];
    pa_simple *stream;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    stream = pa_simple_new(NULL, "lfmd", PA_STREAM_RECORD, "@DEFAULT_MONITOR@", "Captions", &spec,
                           NULL, &attributes, NULL);
    if (!stream)
        return 1;
    while (pa_simple_read(stream, block, sizeof(block), NULL) == 0) {
        for (size_t done = 0; done < sizeof(block);) {
            const ssize_t n = write(STDOUT_FILENO, (const char *)block + done, sizeof(block) - done);

            if (n < 0 && errno != EINTR)
                return 0;
            done += n > 0 ? (size_t)n : 0;
        }
    }
    return 1;
}
