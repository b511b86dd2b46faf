/* SPDX-License-Identifier: MIT */
#include "session/registry.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

#define LICENCE "LFM Open License v1.0"

enum quant { Q4_0, QAD_Q4_0, Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, BF16, _QUANT_N };

/* Bits of one weight in a file of this kind, block scales and the finer tensors included. */
static const struct {
    const char *name, *suffix;
    double bits;
} quants[_QUANT_N] = {
    [Q4_0] = {"Q4_0", "q4_0", 4.95},       [QAD_Q4_0] = {"QAD-Q4_0", "qad-q4_0", 4.95},
    [Q4_K_M] = {"Q4_K_M", "q4_k_m", 5.17}, [Q5_K_M] = {"Q5_K_M", "q5_k_m", 5.87},
    [Q6_K] = {"Q6_K", "q6_k", 6.61},       [Q8_0] = {"Q8_0", "q8_0", 8.56},
    [F16] = {"F16", "f16", 16.04},         [BF16] = {"BF16", "bf16", 16.04},
};

#define QUANTISED (1u << Q4_0 | 1u << Q4_K_M | 1u << Q5_K_M | 1u << Q6_K | 1u << Q8_0)
#define LFM2_SET  (QUANTISED | 1u << F16)
#define LFM25_SET (QUANTISED | 1u << BF16)
#define QAD       (1u << QAD_Q4_0) /* Q4_0 that was trained for, where the publisher has it */

static const struct family {
    const char *name;  /* of the repository, without "-GGUF", and of its files */
    double parameters; /* millions */
    uint32_t context;
    enum quant usual;
    unsigned quants;
    enum model_role role;
} families[] = {
    {"LFM2.5-230M", 229.7, 32768, Q8_0, LFM25_SET, MODEL_CHAT},
    {"LFM2.5-350M", 354.5, 32768, Q8_0, LFM25_SET | QAD, MODEL_CHAT},
    {"LFM2.5-1.2B-Instruct", 1170.3, 32768, Q4_0, LFM25_SET | QAD, MODEL_CHAT},
    {"LFM2.5-1.2B-Thinking", 1170.3, 32768, Q4_K_M, LFM25_SET, MODEL_CHAT},
    {"LFM2.5-1.2B-JP", 1170.3, 32768, Q4_K_M, LFM25_SET, MODEL_CHAT},
    {"LFM2.5-2.6B", 2569.3, 32768, Q4_K_M, LFM25_SET, MODEL_CHAT},
    {"LFM2.5-8B-A1B", 8467.9, 131072, Q4_K_M, LFM25_SET, MODEL_CHAT},
    {"LFM2-350M", 354.5, 32768, Q4_0, LFM2_SET, MODEL_CHAT},
    {"LFM2-700M", 742.5, 32768, Q4_0, LFM2_SET, MODEL_CHAT},
    {"LFM2-1.2B", 1170.3, 32768, Q4_0, LFM2_SET, MODEL_CHAT},
    {"LFM2-1.2B-Tool", 1170.3, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-1.2B-RAG", 1170.3, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-1.2B-Extract", 1170.3, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-350M-Extract", 354.5, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-350M-Math", 354.5, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-350M-ENJP-MT", 354.5, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-2.6B", 2569.3, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-2.6B-Exp", 2569.3, 32768, Q4_K_M, QUANTISED, MODEL_CHAT},
    {"LFM2-2.6B-Transcript", 2569.3, 32768, Q4_K_M, QUANTISED, MODEL_CHAT},
    {"LFM2-8B-A1B", 8339.9, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2-24B-A2B", 23800, 32768, Q4_K_M, LFM2_SET, MODEL_CHAT},
    {"LFM2.5-ColBERT-350M", 354.6, 512, Q8_0, LFM25_SET, MODEL_RETRIEVAL},
    {"LFM2.5-Embedding-350M", 354.5, 512, Q8_0, LFM25_SET, MODEL_RETRIEVAL},
    {"LFM2-ColBERT-350M", 354.6, 512, Q8_0, LFM2_SET, MODEL_RETRIEVAL},
};

/* Files whose exact contents are known. A commit is part of the address, so it cannot change. */
static const struct {
    const char *name;
    enum quant quant;
    uint64_t size_bytes;
    const char *revision, *sha256;
} pins[] = {
    {"LFM2.5-1.2B-Instruct", Q4_0, 695751488, "8ed288026e23958ad9dfa92d53ed773a8eee7125",
     "2ea801949d760cdf1a2cc04a54262c22c3c0c54f0769d57760c9adeb0e59233f"},
    {"LFM2.5-1.2B-Instruct", Q4_K_M, 730895168, "8ed288026e23958ad9dfa92d53ed773a8eee7125",
     "b1b3de114215d9507409a662a501a631095a479a419584e8a2ded6304b19b4f5"},
    {"LFM2.5-1.2B-Instruct", QAD_Q4_0, 695755488, "8ed288026e23958ad9dfa92d53ed773a8eee7125",
     "bb741ebb106d543e9de114b843a3d3d73d51c74b5801e69da2abde821a0cb3e1"},
    {"LFM2.5-8B-A1B", Q4_K_M, 5155564768, "49c14831707011e64d70b2ebd8462ba08d608434",
     "4923ec14f06b968b74d663e5949867d2d9c3bf13a20b8be1a9f9af39989b2bb0"},
    {"LFM2.5-2.6B", Q4_K_M, 1674455040, "84022ce711b28455e8c4fc364ce68c00cf995875",
     "02a8b7e17487d326e46d68ce0ba24211e1b80a14c4cd0597fa73c1cd697f52ed"},
    {"LFM2.5-350M", Q8_0, 379217632, "bb7ee58b243e4cede04187e323e760b04f8a0091",
     "be036a757295e550098b85e13f6af2735d0fa73b41e1156a40c7d8e8e32a5766"},
    {"LFM2.5-350M", Q4_K_M, 229312224, "657e078c94084481950a2d555a941481f715536b",
     "7e6f72643caafc9a68256686638c4d7916f2cec76d1df478d4c3ddcd95a6aed4"},
    {"LFM2.5-350M", QAD_Q4_0, 219312832, "657e078c94084481950a2d555a941481f715536b",
     "3d10b6ab8fc91a919534b9558e266255aca0bbc7f6d015963599aa9e74e05b1d"},
    {"LFM2.5-230M", Q4_K_M, 153406304, "03502067c64ce32ac4fe87b0cec0310a1a13d3e9",
     "7bbd90384d3deffe4c646ec9643b212802d32d4ce417c90a1ec9282100650062"},
    {"LFM2-2.6B-Exp", Q4_K_M, 1639166304, "7d9bef941a2642e1d00967564fd55e1dcecf0d6a",
     "95b9322dc81f577be1d966f508bc2fa3ec2cda56a556347d3cdf71cfefaba591"},
    {"LFM2-2.6B-Transcript", Q4_K_M, 1563669248, "586791c82a1699507624755ffe4fcdef0ff8ed95",
     "74832bbf09a5321bfd119e13c6c1fd6361517d3f085545cf00b79c7dc8cceac6"},
};

struct sampling registry_sampling(const char *name)
{
    static const struct sampling greedy = SAMPLING_GREEDY;
    struct sampling s = greedy;

    /* Task models ("nanos") are used greedily. */
    if (strcasestr(name, "-extract") || strcasestr(name, "-math") || strcasestr(name, "-rag") ||
        strcasestr(name, "-tool") || strcasestr(name, "-enjp"))
        return s;
    if (strncasecmp(name, "LFM2.5-8B-A1B", 13) == 0) {
        s.temperature = 0.2f;
        s.top_k = 80;
        s.repetition_penalty = 1.05f;
    } else if (strncasecmp(name, "LFM2.5", 6) == 0) {
        s.temperature = 0.1f;
        s.top_k = 50;
        s.top_p = 0.1f;
        s.repetition_penalty = 1.05f;
    } else if (strncasecmp(name, "LFM2", 4) == 0) {
        s.temperature = 0.3f;
        s.min_p = 0.15f;
        s.repetition_penalty = 1.05f;
    }
    return s;
}

static void lower(char *text)
{
    for (; *text; text++) {
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text + 'a' - 'A');
    }
}

static void describe(const struct family *family, enum quant quant, struct registry_file *ret)
{
    *ret = (struct registry_file){
        .revision = "main",
        .licence = LICENCE,
        .size_bytes = (uint64_t)(family->parameters * 1e6 * quants[quant].bits / 8),
        .role = family->role,
        .context = family->context,
        .sampling = registry_sampling(family->name),
    };
    snprintf(ret->id, sizeof(ret->id), "%s%s%s", family->name, quant == family->usual ? "" : ":",
             quant == family->usual ? "" : quants[quant].suffix);
    lower(ret->id);
    snprintf(ret->repository, sizeof(ret->repository), "LiquidAI/%s-GGUF", family->name);
    snprintf(ret->title, sizeof(ret->title), "%s (%s)", family->name, quants[quant].name);
    snprintf(ret->file, sizeof(ret->file), "%s-%s.gguf", family->name, quants[quant].name);
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        if (pins[i].quant != quant || strcmp(pins[i].name, family->name) != 0)
            continue;
        ret->revision = pins[i].revision;
        ret->sha256 = pins[i].sha256;
        ret->size_bytes = pins[i].size_bytes;
        ret->size_exact = true;
    }
}

size_t registry_n(void)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        n += (size_t)__builtin_popcount(families[i].quants);
    return n;
}

bool registry_at(size_t i, struct registry_file *ret)
{
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        for (int quant = 0; quant < _QUANT_N; quant++) {
            if (!(families[f].quants & 1u << quant))
                continue;
            if (i-- == 0) {
                describe(&families[f], (enum quant)quant, ret);
                return true;
            }
        }
    }
    return false;
}
