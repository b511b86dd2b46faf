/* SPDX-License-Identifier: MIT */
#include "audio/modes.h"

#include <assert.h>

void modes_begin(struct modes *modes, enum modes_kind kind, const struct modes_tokens *tokens,
                 int32_t end_code, size_t n_max)
{
    *modes = (struct modes){
        .kind = kind,
        .tokens = *tokens,
        .end_code = end_code,
        .next = n_max > 0 ? MODES_TEXT : MODES_STOP,
        .n_left = n_max,
        .run = MODES_TEXT_RUN,
    };
}

/* One step is over; true once no more may follow. */
static bool spent(struct modes *modes)
{
    assert(modes->n_left > 0);
    modes->run--;
    return --modes->n_left == 0;
}

bool modes_text(struct modes *modes, uint32_t id)
{
    const bool last = spent(modes);

    assert(modes->next == MODES_TEXT);
    if (id == modes->tokens.end) {
        modes->next = MODES_STOP;
        modes->complete = true;
        return modes->kind == MODES_SEQUENTIAL;
    }
    if (modes->kind == MODES_SEQUENTIAL) {
        if (id == modes->tokens.audio_start)
            modes->next = MODES_AUDIO;
    } else {
        modes->text_done |= id == modes->tokens.text_end;
        if (modes->run == 0 || modes->text_done) {
            modes->next = MODES_AUDIO;
            modes->run = MODES_AUDIO_RUN;
        }
    }
    if (last)
        modes->next = MODES_STOP;
    return true;
}

bool modes_frame(struct modes *modes, int32_t codes[CODEBOOKS])
{
    const bool last = spent(modes), heard = codes[0] != modes->end_code;

    assert(modes->next == MODES_AUDIO);
    if (modes->kind == MODES_INTERLEAVED && modes->run == 0 && !modes->text_done) {
        modes->next = MODES_TEXT;
        modes->run = MODES_TEXT_RUN;
    }
    if (!heard) {
        for (int i = 0; i < CODEBOOKS; i++)
            codes[i] = modes->end_code;
        modes->next = MODES_TEXT; /* the run goes on as it was */
    }
    if (last)
        modes->next = MODES_STOP;
    return heard;
}
