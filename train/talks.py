# SPDX-License-Identifier: MIT
"""What the speaking model is trained on: spoken sentences as codes, and rows that hold them.

    python train/talks.py --codec RUN/codec.pt --out FOLDER --shards N

writes shards of sentences, each made from its number alone. A row is one conversation as the model
reads it: tokens, frames of codes and rows of a heard sentence at consecutive positions.
"""

import argparse
import os
import pathlib
import random
import re
from dataclasses import dataclass, field

import torch

import codec
import data
import sentences
import voice

SHARD = 400  # sentences
LONGEST = 66  # frames
SPEAK = "Perform TTS. Use the US female voice."
AUDIO_START, TEXT_END, END = "<|audio_start|>", "<|text_end|>", "<|im_end|>"


@dataclass
class Utterance:
    text: str
    codes: torch.Tensor  # int16 [frames, BOOKS]
    chars: list  # character of the text that every frame speaks, its length for the end
    phones: torch.Tensor  # uint8 [frames + 1, 3]: in the middle of the frame, the next two


def written(text):
    """A text with its numbers in words."""
    def said(match):
        return sentences.spoken(match[0]) + (match[0][-1] if match[0][-1] in ".,:;?!" else "")

    text = re.sub(r"(?<!\w)-(?=\d)", "minus ", text)
    return re.sub(r"\d[\d:.*+/-]*%?[?!;]?|[-+*/x%](?= ?\d)", said, text)


def utterance(text, coder):
    """A written text as the voice speaks it, or None for one that it does not read word by word."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    words = sentences.spoken(text)
    if not spans or words.count(" ") + 1 != len(spans):
        return None
    said = voice.speak(words)
    frames = len(said.sound) // codec.FRAME
    if said.segments[-1][2] != -1 or frames > LONGEST or \
            max(word for *_, word in said.segments) + 1 != len(spans):
        return None
    codes, _ = coder.encode(codec.frames_of(torch.from_numpy(said.sound)))
    phones = [phone for _, phone, _ in said.segments] + 2 * [voice.PHONE["pau"]]
    ends = [end for end, _, _ in said.segments]
    chars, following, i = [], [], 0
    for frame in range(frames + 1):
        now = (frame + 0.5) * codec.FRAME / codec.RATE
        while i + 1 < len(ends) and ends[i] < now:
            i += 1
        word = said.segments[i][2]
        if word < 0:
            after = [w for *_, w in said.segments[i:] if w >= 0]
            chars.append(spans[after[0]][0] if after else len(text))
        else:
            inside = [j for j, segment in enumerate(said.segments) if segment[2] == word]
            start, stop = ends[inside[0] - 1] if inside[0] else 0.0, ends[inside[-1]]
            low, high = spans[word]
            part = (now - start) / (stop - start)
            chars.append(min(high - 1, max(low, low + int(part * (high - low)))))
        following.append(phones[i:i + 3])
    return Utterance(text, codes.to(torch.int16), chars, torch.tensor(following, dtype=torch.uint8))


def text(rng, split=None):
    """A text to be read aloud: an answer of the assistant, or any sentence."""
    while True:
        if rng.random() < 0.4:
            intent = rng.choices(sentences.DOMAIN,
                                 [data.WEIGHTS[i] for i in sentences.DOMAIN])[0]
            where = data.setting(rng, None, now=True, tools=False)
            said = written(data.exchange(rng, intent, None, where)[-1]["content"])
        else:
            said = sentences.sentence(rng, split)
            if rng.random() < 0.6:
                said = said[0].upper() + said[1:] + rng.choice(".....?!")
        if sentences.is_held_out(sentences.spoken(said)) == (split == "test"):
            return said


def make(folder, count, coder, seed=1):
    """Makes the missing ones of the first `count` shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"spoken-{i}.pt"
        if path.exists():
            continue
        rng, made = random.Random(f"{seed}/spoken {i}"), []
        while len(made) < SHARD:
            found = utterance(text(rng), coder)
            made += [found] if found else []
        part = path.with_suffix(".part")
        torch.save([vars(said) for said in made], part)
        os.replace(part, path)
        print("made", path, flush=True)


def load(folder, have=()):
    """All utterances of a folder: `have`, which was loaded before, and those of later shards."""
    found = list(have)
    while (path := pathlib.Path(folder) / f"spoken-{len(found) // SHARD}.pt").exists():
        found += [Utterance(**said) for said in torch.load(path)]
    return found


# --- rows -----------------------------------------------------------------------------------------

@dataclass
class Row:
    """One conversation. Positions are those of the model's input; what a position has to foretell
    is at the position after it."""
    ids: list = field(default_factory=list)  # of tokens, 0 where something else stands
    words: list = field(default_factory=list)  # positions of tokens that are learnt
    frames: list = field(default_factory=list)  # codes [BOOKS] ...
    at: list = field(default_factory=list)  # ... and their positions
    spoken: list = field(default_factory=list)  # for every frame, where the text of it stands
    after: list = field(default_factory=list)  # ... and the text that follows
    phones: list = field(default_factory=list)  # [3] of every frame
    heard: list = field(default_factory=list)  # (position, sentence): rows of sound

    def __len__(self):
        return len(self.ids)

    def tokens(self, ids, learnt=False):
        if learnt:
            self.words += range(len(self), len(self) + len(ids))
        self.ids += ids

    def frame(self, codes, spoken, after, phones):
        self.frames.append(codes)
        self.at.append(len(self))
        self.spoken.append(spoken)
        self.after.append(after)
        self.phones.append(phones)
        self.ids.append(0)


class Builder:
    """Rows in the chat form, from a vocabulary."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def ids(self, text):
        return self.vocabulary.encode(text, add_special_tokens=False).ids

    def begun(self, system):
        row = Row()
        row.tokens(self.ids("<|startoftext|>" + (
            f"<|im_start|>system\n{system}<|im_end|>\n" if system else "")))
        return row

    def pieces(self, said):
        """Ids of an utterance's text, and for every frame the number of the piece it speaks."""
        found = self.vocabulary.encode(said.text, add_special_tokens=False)
        starts = [start for start, _ in found.offsets]
        numbers = []
        for char in said.chars:
            number = sum(start <= char for start in starts) - 1
            numbers.append(len(starts) if char == len(said.text) else number)
        return found.ids, numbers

    def spoken(self, said, system=SPEAK):
        """A text that is read aloud."""
        row, (ids, numbers) = self.begun(system), self.pieces(said)
        row.tokens(self.ids("<|im_start|>user\n"))
        first, last = len(row), len(row) + len(ids)
        row.tokens(ids)
        row.tokens(self.ids("<|im_end|>\n<|im_start|>assistant\n"))
        row.tokens(self.ids(AUDIO_START), True)
        codes = said.codes.tolist() + [[codec.END] * codec.BOOKS]
        for frame, number, phones in zip(codes, numbers, said.phones.tolist()):
            row.frame(frame, first + number, min(first + number + 1, last), phones)
        row.tokens(self.ids(END), True)
        return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--codec", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--shards", type=int, required=True)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(1)
    saved = torch.load(args.codec)
    folder = pathlib.Path(args.out)
    make(folder, args.shards, codec.Codec(saved["mean"], saved["books"]), args.seed)
    frames = sum(len(said.codes) for said in load(folder))
    print(f"{frames * codec.FRAME / codec.RATE / 3600:.2f} hours")


if __name__ == "__main__":
    main()
