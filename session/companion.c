/* SPDX-License-Identifier: MIT */
#include "session/companion.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "audio/in/encoder.h"
#include "audio/out/depthformer.h"
#include "audio/out/vocoder.h"
#include "base/cleanup.h"
#include "tensor/dtype.h"
#include "tensor/gguf.h"
#include "vision/vision.h"

#define SEPARATORS "-_."

static const struct {
    const char *mark;
    unsigned files; /* that it stands for, 1 << enum model_file */
} marks[] = {
    {"mmproj", 1u << FILE_VISION | 1u << FILE_EAR},
    {"audioencoder", 1u << FILE_EAR},
    {"vocoder", 1u << FILE_VOCODER},
    {"audiodecoder", 1u << FILE_VOCODER},
    {"tokenizer", 1u << FILE_DETOKENIZER},
};

const char *companion_noun(enum model_file file)
{
    static const char *const nouns[_FILE_N] = {
        [FILE_VISION] = "vision",         [FILE_EAR] = "audio",  [FILE_VOCODER] = "vocoder",
        [FILE_DETOKENIZER] = "tokenizer", [FILE_TEXT] = "text",
    };

    return nouns[file];
}

bool companion_is_quantisation(const char *text)
{
    for (uint32_t type = 0; type < _DTYPE_N; type++) {
        const struct dtype_info *info = dtype_info(type);
        size_t length = info ? strlen(info->name) : 0;

        if (length > 0 && strncasecmp(text, info->name, length) == 0 &&
            (!text[length] || (text[length] == '_' && strchr("SMLsml", text[length + 1]) &&
                               text[length + 1] && !text[length + 2])))
            return true;
    }
    return false;
}

/* Where a name has a word, or NULL. */
static char *find_word(const char *name, const char *word)
{
    const size_t length = strlen(word);

    for (const char *p = name; (p = strcasestr(p, word)); p++)
        if ((p == name || strchr(SEPARATORS, p[-1])) && strchr(SEPARATORS, p[length]))
            return (char *)p;
    return NULL;
}

/* The files that a name can stand for. */
static unsigned files_of(const char *name)
{
    unsigned files = 0;

    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (find_word(name, marks[i].mark))
            files |= marks[i].files;
    return files;
}

bool companion_is_marked(const char *file)
{
    return files_of(file) != 0;
}

/* Take a word out of a name, and one of the separators that it had. */
static void remove_word(char *name, const char *word)
{
    char *begin = find_word(name, word), *end;

    if (!begin)
        return;
    end = begin + strlen(word);
    if (*end)
        end++;
    else if (begin > name)
        begin--;
    memmove(begin, end, strlen(end) + 1);
}

void companion_stem(const char *file, char ret[NAME_MAX + 1])
{
    const size_t length = MIN(strlen(file) - strlen(".gguf"), (size_t)NAME_MAX);

    memcpy(ret, file, length);
    ret[length] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        remove_word(ret, marks[i].mark);
}

static bool cut_quantisation(char *stem)
{
    for (char *p = stem; (p = strpbrk(p, SEPARATORS)); p++)
        if (companion_is_quantisation(p + 1)) {
            *p = '\0';
            return true;
        }
    return false;
}

void companion_cut(char *stem)
{
    while (cut_quantisation(stem))
        ;
}

static int check_vision(const char *path, uint32_t *ret_n_embd, struct error *err)
{
    struct vision_info info;
    int r = vision_plan(path, false, &info, err);

    if (r == 0)
        *ret_n_embd = info.shape.n_embd;
    return r;
}

static int check_ear(const char *path, uint32_t *ret_n_embd, struct error *err)
{
    struct audio_encoder_info info;
    int r = audio_encoder_plan(path, false, &info, err);

    if (r == 0)
        *ret_n_embd = info.shape.n_embd;
    return r;
}

/* An mmproj file has an eye or an ear; one that says neither is taken for an eye. */
static int check_projector(enum model_file file, const char *path, uint32_t *ret_n_embd,
                           struct error *err)
{
    struct gguf *gguf = gguf_open(path, err);
    bool sees = false, hears = false;
    int r = 1;

    if (!gguf)
        return -EINVAL;
    gguf_bool(gguf, "clip.has_vision_encoder", &sees, NULL);
    gguf_bool(gguf, "clip.has_audio_encoder", &hears, NULL);
    if (file == FILE_EAR && hears)
        r = check_ear(path, ret_n_embd, err);
    else if (file == FILE_VISION && (sees || !hears))
        r = check_vision(path, ret_n_embd, err);
    gguf_free(gguf);
    return r;
}

static int check_vocoder(const char *path, uint32_t *ret_n_embd, struct error *err)
{
    struct depthformer_info info;
    int r = depthformer_plan(path, false, &info, err);

    if (r == 0)
        *ret_n_embd = (uint32_t)info.n_embd;
    return r;
}

int companion_check(enum model_file file, const char *path, const char *vocoder_path,
                    uint32_t *ret_n_embd, struct error *err)
{
    struct vocoder_info info;

    *ret_n_embd = 0;
    if (!(files_of(strrchr(path, '/') + 1) & 1u << file))
        return 1;
    if (file == FILE_VOCODER)
        return check_vocoder(path, ret_n_embd, err);
    if (file == FILE_DETOKENIZER)
        return vocoder_path ? vocoder_plan(vocoder_path, path, false, &info, err) : 0;
    return check_projector(file, path, ret_n_embd, err);
}
