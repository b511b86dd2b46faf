/* SPDX-License-Identifier: MIT */
#include "session/registry.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

#define LICENCE "LFM Open License v1.0"

enum quant { Q4_0, QAD_Q4_0, Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, BF16, _QUANT_N };

#define EVERY _QUANT_N /* quantisations share the file */

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
#define VL_SET    (1u << Q4_0 | 1u << Q8_0 | 1u << F16)
#define VL25_SET  (1u << Q4_0 | 1u << Q4_K_M | 1u << Q8_0)
#define AUDIO_SET (1u << Q8_0 | 1u << F16)
#define AUDIO25_SET (1u << Q4_0 | 1u << Q8_0 | 1u << F16)
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
    {"LFM2.5-VL-450M", 354.5, 32768, Q4_0, VL25_SET, MODEL_CHAT},
    {"LFM2.5-VL-1.6B", 1170.3, 32768, Q4_0, VL25_SET, MODEL_CHAT},
    {"LFM2.5-VL-3B", 2569.3, 32768, Q4_K_M, VL25_SET, MODEL_CHAT},
    {"LFM2-VL-450M", 354.5, 32768, Q4_0, VL_SET, MODEL_CHAT},
    {"LFM2-VL-1.6B", 1170.3, 32768, Q4_0, VL_SET, MODEL_CHAT},
    {"LFM2-VL-3B", 2569.3, 32768, Q4_0, VL_SET, MODEL_CHAT},
    {"LFM2.5-Audio-1.5B", 1170.3, 32768, Q4_0, AUDIO25_SET, MODEL_CHAT},
    {"LFM2-Audio-1.5B", 1170.3, 32768, Q8_0, AUDIO_SET, MODEL_CHAT},
    {"LFM2.5-ColBERT-350M", 354.6, 512, Q8_0, LFM25_SET, MODEL_RETRIEVAL},
    {"LFM2.5-Embedding-350M", 354.5, 512, Q8_0, LFM25_SET, MODEL_RETRIEVAL},
    {"LFM2-ColBERT-350M", 354.6, 512, Q8_0, LFM2_SET, MODEL_RETRIEVAL},
};

/*
 * Companions, and text files whose exact contents are known. A commit is part of the address, so
 * what is pinned cannot change.
 */
static const struct {
    const char *name; /* of the family */
    enum quant quant; /* of the text model, or EVERY */
    enum model_file file;
    const char *file_name; /* NULL: that of a text file */
    uint64_t size_bytes;   /* unless size_exact, about right */
    bool size_exact;
    const char *revision, *sha256;
} pins[] = {
    {"LFM2.5-1.2B-Instruct", Q4_0, FILE_TEXT, NULL, 695751488, true,
     "8ed288026e23958ad9dfa92d53ed773a8eee7125",
     "2ea801949d760cdf1a2cc04a54262c22c3c0c54f0769d57760c9adeb0e59233f"},
    {"LFM2.5-1.2B-Instruct", Q4_K_M, FILE_TEXT, NULL, 730895168, true,
     "8ed288026e23958ad9dfa92d53ed773a8eee7125",
     "b1b3de114215d9507409a662a501a631095a479a419584e8a2ded6304b19b4f5"},
    {"LFM2.5-1.2B-Instruct", QAD_Q4_0, FILE_TEXT, NULL, 695755488, true,
     "8ed288026e23958ad9dfa92d53ed773a8eee7125",
     "bb741ebb106d543e9de114b843a3d3d73d51c74b5801e69da2abde821a0cb3e1"},
    {"LFM2.5-8B-A1B", Q4_K_M, FILE_TEXT, NULL, 5155564768, true,
     "49c14831707011e64d70b2ebd8462ba08d608434",
     "4923ec14f06b968b74d663e5949867d2d9c3bf13a20b8be1a9f9af39989b2bb0"},
    {"LFM2.5-2.6B", Q4_K_M, FILE_TEXT, NULL, 1674455040, true,
     "84022ce711b28455e8c4fc364ce68c00cf995875",
     "02a8b7e17487d326e46d68ce0ba24211e1b80a14c4cd0597fa73c1cd697f52ed"},
    {"LFM2.5-350M", Q8_0, FILE_TEXT, NULL, 379217632, true,
     "bb7ee58b243e4cede04187e323e760b04f8a0091",
     "be036a757295e550098b85e13f6af2735d0fa73b41e1156a40c7d8e8e32a5766"},
    {"LFM2.5-350M", Q4_K_M, FILE_TEXT, NULL, 229312224, true,
     "657e078c94084481950a2d555a941481f715536b",
     "7e6f72643caafc9a68256686638c4d7916f2cec76d1df478d4c3ddcd95a6aed4"},
    {"LFM2.5-350M", QAD_Q4_0, FILE_TEXT, NULL, 219312832, true,
     "657e078c94084481950a2d555a941481f715536b",
     "3d10b6ab8fc91a919534b9558e266255aca0bbc7f6d015963599aa9e74e05b1d"},
    {"LFM2.5-230M", Q4_K_M, FILE_TEXT, NULL, 153406304, true,
     "03502067c64ce32ac4fe87b0cec0310a1a13d3e9",
     "7bbd90384d3deffe4c646ec9643b212802d32d4ce417c90a1ec9282100650062"},
    {"LFM2.5-VL-450M", Q4_0, FILE_TEXT, NULL, 219311264, true,
     "1abed04b6fe71314d8c446a1371c03d7c332266d",
     "6d2757dd0f0b98aea7dc90477bb5b3a0df1089be85ef92943f8cecb05121ccbf"},
    {"LFM2.5-VL-450M", Q4_K_M, FILE_TEXT, NULL, 229313568, true,
     "1abed04b6fe71314d8c446a1371c03d7c332266d",
     "1093f1331319199bbcacdbd7ecc9aa6e5678db6b55073948d0f508be90c8ab68"},
    {"LFM2.5-VL-1.6B", Q4_0, FILE_TEXT, NULL, 695752480, true,
     "0df8719db7180cedababc2bc589abfe5e8ebcd1f",
     "8186364a4e7c3ad30f6dd3d3b7a4e0074c77dd91eed6cad5d8be9090ce285804"},
    {"LFM2.5-VL-1.6B", Q4_K_M, FILE_TEXT, NULL, 730896256, true,
     "36fc16bc95133424921bcc3da009e83b2f23ffb5",
     "aefc3c97c9eb30d9c0dd6af4c38250f5f5106b57c8cf92de7914c7d0a9c94da2"},
    {"LFM2.5-VL-3B", Q8_0, FILE_TEXT, NULL, 2874779680, true,
     "6f730e9a2c454e8af9adc29db58e638e01e5957f",
     "69b49ceddf61c65cce4a8938a0791c364a8d38cd2d87db2ca7ea359232a8b17e"},
    {"LFM2-2.6B-Exp", Q4_K_M, FILE_TEXT, NULL, 1639166304, true,
     "7d9bef941a2642e1d00967564fd55e1dcecf0d6a",
     "95b9322dc81f577be1d966f508bc2fa3ec2cda56a556347d3cdf71cfefaba591"},
    {"LFM2-2.6B-Transcript", Q4_K_M, FILE_TEXT, NULL, 1563669248, true,
     "586791c82a1699507624755ffe4fcdef0ff8ed95",
     "74832bbf09a5321bfd119e13c6c1fd6361517d3f085545cf00b79c7dc8cceac6"},
    {"LFM2.5-VL-450M", EVERY, FILE_VISION, "mmproj-LFM2.5-VL-450m-Q8_0.gguf", 102815168, true,
     "1abed04b6fe71314d8c446a1371c03d7c332266d",
     "ebfc428baa37efad8bae93864f914b2634a09009f91ad59f974fe1a1565d8561"},
    {"LFM2.5-VL-1.6B", EVERY, FILE_VISION, "mmproj-LFM2.5-VL-1.6b-Q8_0.gguf", 583109888, true,
     "36fc16bc95133424921bcc3da009e83b2f23ffb5",
     "2ce89e610c56f3198ece2b86cf61743a08b9307279c89125eb2412ebb908689d"},
    {"LFM2.5-VL-3B", EVERY, FILE_VISION, "mmproj-LFM2.5-VL-3B-Q8_0.gguf", 583109984, true,
     "6f730e9a2c454e8af9adc29db58e638e01e5957f",
     "ecbbe7097f696dba67172738d79c9f01132cdb6c0b457606315e268df3d67e64"},
    {"LFM2-VL-450M", EVERY, FILE_VISION, "mmproj-LFM2-VL-450M-Q8_0.gguf", 103890016, false,
     "main", NULL},
    {"LFM2-VL-1.6B", EVERY, FILE_VISION, "mmproj-LFM2-VL-1.6B-Q8_0.gguf", 564115648, true,
     "6121de267003bb4d4f325fe10abdc735aee06747",
     "65ec437db88d65fff93f472d00c145e09880769ac67fedff5cd1c0f8d8301d87"},
    {"LFM2-VL-3B", EVERY, FILE_VISION, "mmproj-LFM2-VL-3B-Q8_0.gguf", 583000000, false,
     "main", NULL},
    {"LFM2.5-Audio-1.5B", Q4_0, FILE_TEXT, NULL, 695750880, true,
     "7d525f883a077e20afb782f2ff618edcae0e39e4",
     "3583bee853be20331ca342b0593fefd8acc43fb61a41ec6f1a1dc7465823e0d8"},
    {"LFM2.5-Audio-1.5B", Q4_0, FILE_EAR, "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf", 219511136, true,
     "7d525f883a077e20afb782f2ff618edcae0e39e4",
     "6b483682c263b100f8cc8022d61507e446b1d320b9febc328e7960f72d03f7ea"},
    {"LFM2.5-Audio-1.5B", Q4_0, FILE_VOCODER,
     "vocoder-LFM2.5-Audio-1.5B-Q4_0.gguf", 108986560, true,
     "7d525f883a077e20afb782f2ff618edcae0e39e4",
     "423cfcb054f41b69a5706226c243abc96d2531c3aff1121f7a2ed17149b79c95"},
    {"LFM2.5-Audio-1.5B", Q4_0, FILE_DETOKENIZER,
     "tokenizer-LFM2.5-Audio-1.5B-Q4_0.gguf", 50546112, true,
     "7d525f883a077e20afb782f2ff618edcae0e39e4",
     "01ec6afe4578bb1e02a4d43d87e7e5827d6b3d94d2d36912ee931b9c3050f1c1"},
    {"LFM2.5-Audio-1.5B", Q8_0, FILE_EAR,
     "mmproj-LFM2.5-Audio-1.5B-Q8_0.gguf", 332700000, false, "main", NULL},
    {"LFM2.5-Audio-1.5B", Q8_0, FILE_VOCODER,
     "vocoder-LFM2.5-Audio-1.5B-Q8_0.gguf", 280000000, false, "main", NULL},
    {"LFM2.5-Audio-1.5B", Q8_0, FILE_DETOKENIZER,
     "tokenizer-LFM2.5-Audio-1.5B-Q8_0.gguf", 77000000, false, "main", NULL},
    {"LFM2.5-Audio-1.5B", F16, FILE_EAR,
     "mmproj-LFM2.5-Audio-1.5B-F16.gguf", 431000000, false, "main", NULL},
    {"LFM2.5-Audio-1.5B", F16, FILE_VOCODER,
     "vocoder-LFM2.5-Audio-1.5B-F16.gguf", 387000000, false, "main", NULL},
    {"LFM2.5-Audio-1.5B", F16, FILE_DETOKENIZER,
     "tokenizer-LFM2.5-Audio-1.5B-F16.gguf", 145000000, false, "main", NULL},
    {"LFM2-Audio-1.5B", Q8_0, FILE_EAR,
     "mmproj-audioencoder-LFM2-Audio-1.5B-Q8_0.gguf", 332716640, false, "main", NULL},
    {"LFM2-Audio-1.5B", Q8_0, FILE_VOCODER,
     "audiodecoder-LFM2-Audio-1.5B-Q8_0.gguf", 375009888, false, "main", NULL},
    {"LFM2-Audio-1.5B", F16, FILE_EAR,
     "mmproj-audioencoder-LFM2-Audio-1.5B-F16.gguf", 431000000, false, "main", NULL},
    {"LFM2-Audio-1.5B", F16, FILE_VOCODER,
     "audiodecoder-LFM2-Audio-1.5B-F16.gguf", 596000000, false, "main", NULL},
};

struct sampling registry_sampling(const char *name)
{
    static const struct sampling greedy = SAMPLING_GREEDY;
    struct sampling s = greedy;

    /* Task models ("nanos") and the text of those that talk are used greedily. */
    if (strcasestr(name, "-extract") || strcasestr(name, "-math") || strcasestr(name, "-rag") ||
        strcasestr(name, "-tool") || strcasestr(name, "-enjp") || strcasestr(name, "-audio"))
        return s;
    if (strncasecmp(name, "LFM2", 4) == 0 && strcasestr(name, "-VL")) {
        s.temperature = 0.1f;
        s.min_p = 0.15f;
        s.repetition_penalty = 1.05f;
    } else if (strncasecmp(name, "LFM2.5-8B-A1B", 13) == 0) {
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

static void describe(const struct family *family, enum quant quant, struct registry_model *ret)
{
    *ret = (struct registry_model){
        .licence = LICENCE,
        .role = family->role,
        .context = family->context,
        .sampling = registry_sampling(family->name),
        .files[FILE_TEXT] = {
            .revision = "main",
            .size_bytes = (uint64_t)(family->parameters * 1e6 * quants[quant].bits / 8),
        },
    };
    snprintf(ret->id, sizeof(ret->id), "%s%s%s", family->name, quant == family->usual ? "" : ":",
             quant == family->usual ? "" : quants[quant].suffix);
    lower(ret->id);
    snprintf(ret->repository, sizeof(ret->repository), "LiquidAI/%s-GGUF", family->name);
    snprintf(ret->title, sizeof(ret->title), "%s (%s)", family->name, quants[quant].name);
    snprintf(ret->files[FILE_TEXT].name, sizeof(ret->files[FILE_TEXT].name), "%s-%s.gguf",
             family->name, quants[quant].name);
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        struct registry_file *file = &ret->files[pins[i].file];

        if ((pins[i].quant != quant && pins[i].quant != EVERY) ||
            strcmp(pins[i].name, family->name) != 0)
            continue;
        if (pins[i].file_name)
            snprintf(file->name, sizeof(file->name), "%s", pins[i].file_name);
        file->revision = pins[i].revision;
        file->sha256 = pins[i].sha256;
        file->size_bytes = pins[i].size_bytes;
        file->size_exact = pins[i].size_exact;
    }
}

size_t registry_n(void)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        n += (size_t)__builtin_popcount(families[i].quants);
    return n;
}

bool registry_at(size_t i, struct registry_model *ret)
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
