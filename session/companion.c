/* SPDX-License-Identifier: MIT */
#include "session/companion.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "audio/in/encoder.h"
#include "audio/out/depthformer.h"
#include "audio/out/mimi.h"
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
    {"vocoder", 1u << FILE_VOCODER | 1u << FILE_DETOKENIZER},
    {"audiodecoder", 1u << FILE_VOCODER | 1u << FILE_DETOKENIZER},
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

/* Codes must be known to who turns them into sound. */
static int check_codes(const char *vocoder_path, const char *path, struct error *err)
{
    struct depthformer_info depthformer;
    struct vocoder_info vocoder;
    int r = vocoder_plan(vocoder_path, path, false, &vocoder, err);

    if (r == 0)
        r = depthformer_plan(vocoder_path, false, &depthformer, err);
    if (r == 0 && vocoder.n_codes < depthformer.n_codes)
        r = error_set(err, ERROR_UNSUPPORTED_FORMAT,
                      "%.200s makes sound of %zu codes of a book, but %.200s draws them of %zu.",
                      path, vocoder.n_codes, vocoder_path, depthformer.n_codes);
    return r;
}

/* A file of its own; or a vocoder file, if it has a Mimi in it. */
static int check_detokenizer(const char *path, const char *vocoder_path, struct error *err)
{
    const char *name = strrchr(path, '/') + 1;

    if ((files_of(name) & 1u << FILE_VOCODER) && !mimi_is_in(path))
        return find_word(name, "audiodecoder")
                   ? error_set(err, ERROR_UNSUPPORTED_FORMAT,
                               "%.200s has no Mimi in it (tensors 'quantizer.semantic_rvq' and "
                               "'decoder_transformer'), and there is no tokenizer file of its "
                               "name: its codes cannot be turned into sound.",
                               path)
                   : 1;
    return vocoder_path ? check_codes(vocoder_path, path, err) : 0;
}

int companion_check(enum model_file file, const char *path, const char *vocoder_path,
                    uint32_t *ret_n_embd, struct error *err)
{
    *ret_n_embd = 0;
    if (!(files_of(strrchr(path, '/') + 1) & 1u << file))
        return 1;
    if (file == FILE_VOCODER)
        return check_vocoder(path, ret_n_embd, err);
    if (file == FILE_DETOKENIZER)
        return check_detokenizer(path, vocoder_path, err);
    return check_projector(file, path, ret_n_embd, err);
}
