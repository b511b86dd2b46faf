# SPDX-License-Identifier: MIT
"""Byte-level BPE of the default model, for the pre-tokeniser `lfm2`.

Merges are learnt on runs of letters and on runs of punctuation alone, so that an unknown word falls
into the same pieces after a space, a quote or an opening bracket: what the model has to copy looks
the same on both sides. Only then a space is merged with whole known words. Digits never merge.
"""

import collections
import json
import random
import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import data

# The first 14 names and ids are those of the released 65k vocabulary. The reserved ones wait for
# the audio tokens of models that grow from this one. The marks of tiles stand at the end, since the
# vocabulary had its numbers before there were pictures.
SPECIALS = ["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>",
            "<|fim_suf|>", "<|im_start|>", "<|im_end|>", "<|tool_list_start|>", "<|tool_list_end|>",
            "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_response_start|>",
            "<|tool_response_end|>", "<image>", "<|image_start|>", "<|image_end|>",
            "<|img_thumbnail|>"] + [f"<|reserved_{n}|>" for n in range(8, 22)]
AUDIO = ["<|audio_start|>", "<|text_end|>"]  # take the places of the first reserved ones
TILES = [f"<|img_row_{row}_col_{col}|>" for row in range(1, 11) for col in range(1, 11)]
LFM2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TRAIN_SPLIT = r"\p{L}+|\p{N}|[^\r\n\p{L}\p{N}\s]+|\s"
SPACE = "\u0120"  # the space in the byte alphabet of GPT-2


def build(letter_vocabulary, limit, dialogues, seed):
    """Trains and returns the JSON of a `tokenizers` file."""
    rng = random.Random(seed)
    texts = []
    for _ in range(dialogues):
        _, messages, where = data.conversation(rng)
        text = "".join(part for part, _ in data.render(messages, where))
        for special in SPECIALS:
            text = text.replace(special, " ")
        texts.append(text)
    # Words of the talk keep their weight although most invented words occur once.
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(TRAIN_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trained.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=letter_vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=8, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(m) for m in model["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = SPECIALS + alphabet + [a + b for a, b in merges]
    known = set(pieces)

    counts = collections.Counter(w for text in texts for w in re.findall(r" (\w+|[^\w\s]+)", text))
    for word, count in counts.most_common():
        if count < 15 or len(pieces) >= limit:
            break
        whole = word in known and (len(word) > 1 or not word.isalnum())
        if whole and word.isascii() and not word.isdigit():
            merges.append((SPACE, word))
            pieces.append(SPACE + word)
    return state_of(pieces + TILES, merges)


def state_of(pieces, merges):
    """The JSON of a `tokenizers` file with these pieces and (left, right) merges."""
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for i, s in enumerate(pieces) if s in SPECIALS + AUDIO + TILES],
        "normalizer": None,
        "pre_tokenizer": json.loads(pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LFM2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]).__getstate__()),
        "post_processor": None, "decoder": json.loads(decoders.ByteLevel().__getstate__()),
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {p: i for i, p in enumerate(pieces)},
                  "merges": [list(m) for m in merges]}}


def load(path, letter_vocabulary=1150, limit=1728, dialogues=20000, seed=1):
    """The tokenizer in the file, which is trained first when it is not there."""
    if not path.exists():
        state = build(letter_vocabulary, limit, dialogues, seed)
        path.write_text(json.dumps(state, ensure_ascii=False))
    return Tokenizer.from_file(str(path))


def encode(tokenizer, parts):
    """Token ids and marks of (text, is_learnt) parts."""
    ids, learnt = [], []
    for (_, mark), e in zip(parts, tokenizer.encode_batch_fast([text for text, _ in parts])):
        ids += e.ids
        learnt += [mark] * len(e.ids)
    return ids, learnt
