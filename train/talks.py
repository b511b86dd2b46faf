# SPDX-License-Identifier: MIT
"""What the speaking model is trained on: spoken sentences as codes, and rows that hold them.

    python train/talks.py --codec RUN/codec.pt --out FOLDER --spoken N --chats N

writes shards of sentences and of spoken exchanges, each made from its number alone. A row is one
conversation as the model reads it: tokens, frames of codes and rows of a heard sentence at
consecutive positions.
"""

import argparse
import os
import pathlib
import random
import re
from dataclasses import dataclass, field

import torch

import codec
import conformer
import data
import sentences
import speech
import voice

SHARD = 400  # sentences
LONGEST = 66  # frames
ANSWERS = 0.35  # of the sentences are what the assistant says
ECHOED = 0.15  # of the texts are letters and keys
LETTERS = """ay,be,see,dee,e,eff,gee,aitch,i,jay,kay,el,em,en,oh,pea,cue,are,ess,tea,you,vee,
double you,ex,why,zed""".replace("\n", "").split(",")  # as session/spoken.c writes them
KEYS = """space,enter,tab,escape,shift,control,alt,up,down,left,right,delete,backspace,home,end,
page up,page down,comma,dot,question mark,exclamation mark,colon,semicolon,dash,slash,quote,
new line,plus,minus,star,equals,percent,at,zero,one,two,three,four,five,six,seven,eight,nine,
insert,menu,button,check box,link,heading,list,dialog""".replace("\n", "").split(",")
SPEAK, LISTEN = "Perform TTS. Use the US female voice.", "Perform ASR."
CONVERSE = "Respond with interleaved text and audio."
TEXT_RUN, AUDIO_RUN = 6, 12  # tokens and frames that take turns in a conversation
# Of six heads of an attention layer, those that are told where to look: at the text that is said
# or written next, at the text after it, and at what was heard before. The first of every group
# copies (circuit.py).
SPOKEN_HEAD, AFTER_HEAD, BEFORE_HEAD = 1, 4, 2
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


def answer(rng):
    """What the assistant says, mostly in words that it knows."""
    while True:
        intent = rng.choices(sentences.DOMAIN, [data.WEIGHTS[i] for i in sentences.DOMAIN])[0]
        where = data.setting(rng, None, now=True, tools=False)
        said = written(data.exchange(rng, intent, None, where)[-1]["content"])
        if rng.random() < 0.15 or sentences.KNOWN.issuperset(sentences.spoken(said).split()):
            return said


def echoed(rng):
    """What a screen reader has said: a letter or a key, some letters in a row."""
    if rng.random() < 0.3:
        return rng.choice(KEYS)
    said = " ".join(rng.choices(LETTERS, k=rng.choice([1, 1, 1, 1, 2, 3, 4])))
    return "capital " + said if rng.random() < 0.1 else said


def text(rng, split=None):
    """A text to be read aloud: an answer of the assistant, any sentence, letters and keys."""
    while True:
        if split is None and rng.random() < ECHOED:
            return echoed(rng)
        if rng.random() < ANSWERS:
            said = answer(rng)
        else:
            said = sentences.sentence(rng, split)
            if rng.random() < 0.6:
                said = said[0].upper() + said[1:] + rng.choice(".....?!")
        if sentences.is_held_out(sentences.spoken(said)) == (split == "test"):
            return said


KINDS = {"small talk": 5, "clock": 6, "refusal": 4, "alarm": 3, "timer": 3, "volume": 3, "app": 2,
         "note": 1, "phone": 2, "calc": 2, "units": 1}  # of spoken exchanges
CLIP_VOICES = {name: weight for name, weight in speech.VOICES.items() if "festival" not in name}


@dataclass
class Chat:
    """A spoken request, the tool call that it needs (or ""), its result, the spoken reply."""
    system: str
    clip: tuple  # of speech.py, without words and voice
    call: str
    result: str
    reply: Utterance
    silence: list  # codes of a silent frame


def exchange(rng, split=None):
    """The messages of an exchange whose request can be spoken, and its system turn."""
    while True:
        intent = rng.choices(list(KINDS), list(KINDS.values()))[0]
        where = data.setting(rng, None, now=intent == "clock" or rng.random() < 0.5, tools=False)
        where.text = CONVERSE
        messages = data.exchange(rng, intent, None, where)
        words = sentences.spoken(messages[0]["content"])
        if sentences.is_held_out(words) == (split == "test") and words.count(" ") < 16 and \
                sentences.KNOWN.issuperset(words.split()):
            return messages, words, where.system()


def chat(rng, coder):
    """One training exchange, or None when its reply is not read word by word."""
    messages, words, system = exchange(rng)
    reply = utterance(written(messages[-1]["content"]), coder)
    if reply is None:
        return None
    voices = rng.choices(list(CLIP_VOICES), list(CLIP_VOICES.values()))
    clip = speech.clip_of(words, voices[0], rng.uniform(0.82, 1.25), rng.randint(25, 75))
    call, result = (m["content"] for m in messages[1:3]) if len(messages) > 2 else ("", "")
    silence, _ = coder.encode(codec.frames_of(torch.zeros(codec.FRAME)))
    return Chat(system, clip[2:], call, result, reply, silence[0].tolist())


def packed(item):
    """Plain parts of an utterance or a chat, as they are stored."""
    parts = dict(vars(item))
    return parts if isinstance(item, Utterance) else {**parts, "reply": vars(item.reply)}


def unpacked(parts):
    if "reply" in parts:
        return Chat(**{**parts, "reply": Utterance(**parts["reply"])})
    return Utterance(**parts)


def make(folder, kind, count, coder, seed=1):
    """Makes the missing ones of the first `count` shards of utterances ("spoken") or "chats"."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{kind}-{i}.pt"
        if path.exists():
            continue
        rng, made = random.Random(f"{seed}/{kind} {i}"), []
        while len(made) < SHARD:
            found = chat(rng, coder) if kind == "chats" else utterance(text(rng), coder)
            made += [found] if found else []
        part = path.with_suffix(".part")
        torch.save([packed(item) for item in made], part)
        os.replace(part, path)
        print("made", path, flush=True)


def load(folder, kind, have=()):
    """All items of a folder: `have`, which was loaded before, and those of later shards."""
    found = list(have)
    while (path := pathlib.Path(folder) / f"{kind}-{len(found) // SHARD}.pt").exists():
        found += map(unpacked, torch.load(path))
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
    phones: list = field(default_factory=list)  # [3] of every frame
    told: list = field(default_factory=list)  # (head, position, the position that it looks at)
    soft: list = field(default_factory=list)  # (position, rows) that need no encoder
    # (position, features, first position of the transcript, its ids; or None twice) of heard sound
    heard: list = field(default_factory=list)

    def __len__(self):
        return len(self.ids)

    def tokens(self, ids, learnt=False):
        if learnt:
            self.words += range(len(self), len(self) + len(ids))
        self.ids += ids

    def sound(self, features):
        self.heard.append((len(self), features, None, None))
        self.ids += [0] * -(-len(features) // conformer.STRIDE)

    def rows(self, rows, places):
        """Rows as an encoder would give them; `places` are those where pieces begin."""
        self.told += before(len(self), len(rows), places)
        self.soft.append((len(self), rows))
        self.ids += [0] * len(rows)

    def frame(self, codes, spoken, after, phones):
        self.told += [(SPOKEN_HEAD, len(self) - 1, spoken), (AFTER_HEAD, len(self) - 1, after)]
        self.frames.append(codes)
        self.at.append(len(self))
        self.phones.append(phones)
        self.ids.append(0)


def before(first, count, places):
    """What the rows of a sound are told: where the piece before theirs begins."""
    last = [max((p for p in places if p < i), default=None) for i in range(count)]
    return [(BEFORE_HEAD, first + i, first + p) for i, p in enumerate(last) if p is not None]


def copied(first, where):
    """What tokens from position `first` are told: where they and the next are copied from."""
    return [told for i, place in enumerate(where) for told in (
        (SPOKEN_HEAD, first + i - 1, place),
        (AFTER_HEAD, first + i - 1, where[min(i + 1, len(where) - 1)]))]


NO_PHONES = [voice.PHONE["pau"]] * 3


def framed(said):
    """Codes of an utterance with the end."""
    return said.codes.tolist() + [[codec.END] * codec.BOOKS]


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

    def read(self, text, system=SPEAK):
        """A conversation up to the sound of a text that is to be read aloud."""
        row = self.begun(system)
        for part in ("<|im_start|>user\n", text, "<|im_end|>\n<|im_start|>assistant\n"):
            row.tokens(self.ids(part))
        return row

    def spoken(self, said, system=SPEAK):
        """A text that is read aloud."""
        row, (ids, numbers) = self.read(said.text, system), self.pieces(said)
        last = len(row) - len(self.ids("<|im_end|>\n<|im_start|>assistant\n"))
        first = last - len(ids)
        row.tokens(self.ids(AUDIO_START), True)
        for frame, number, phones in zip(framed(said), numbers, said.phones.tolist()):
            row.frame(frame, first + number, min(first + number + 1, last), phones)
        row.tokens(self.ids(END), True)
        return row

    def asked(self, system, sound):
        """A conversation up to the reply to what was heard: features, or (rows, places)."""
        row = self.begun(system)
        row.tokens(self.ids("<|im_start|>user\n"))
        if isinstance(sound, tuple):
            row.rows(*sound)
        else:
            row.sound(sound)
        row.tokens(self.ids("<|im_end|>\n<|im_start|>assistant\n"))
        return row

    def heard(self, words, sound):
        """A transcript."""
        row, ids = self.asked(LISTEN, sound), self.ids(words)
        if row.heard:
            row.heard = [(*row.heard[0][:2], len(row), ids)]
        else:
            first, rows = row.soft[0]
            row.told += copied(len(row), [first + p for p in (*sound[1], len(rows))])
        row.tokens(ids + self.ids(END), True)
        return row

    def begins(self, system, messages, sound):
        """A spoken exchange up to the first sound of its reply."""
        row, reply = self.asked(system, sound), messages[-1]["content"]
        if len(messages) > 2:
            self.called(row, *(m["content"] for m in messages[1:3]))
        row.tokens(self.ids(written(reply) + TEXT_END)[:TEXT_RUN], True)
        return row

    def called(self, row, call, result):
        """A tool call and what came of it, up to the reply."""
        self.silent(row, call)
        row.tokens(self.ids(f"\n<|im_start|>tool\n{result}<|im_end|>\n<|im_start|>assistant\n"))

    def silent(self, row, text):
        """A reply in words alone: when the machine asks for sound, it gets the end of it."""
        left = TEXT_RUN
        for token in self.ids(text + END):
            if left == 0:
                row.frame([codec.END] * codec.BOOKS, len(row) - 1, len(row) - 1, NO_PHONES)
                left = AUDIO_RUN - 1
            row.tokens([token], True)
            left -= 1

    def voiced(self, row, said, silence):
        """A reply in words and sound. What is spoken has been written before: when a sound would
        overtake the words, some silence comes first."""
        ids, numbers = self.pieces(said)
        ids = ids + self.ids(TEXT_END)
        for delay in range(AUDIO_RUN + 1):
            frames = [(silence, 0, NO_PHONES)] * delay + \
                list(zip(framed(said), numbers, said.phones.tolist()))
            written = [min(len(ids), TEXT_RUN * (1 + i // AUDIO_RUN)) for i in range(len(frames))]
            if all(number < n for (_, number, _), n in zip(frames, written)):
                break
        else:
            return False
        places = []
        for i, (frame, number, phones) in enumerate(frames):
            if i % AUDIO_RUN == 0:
                for token in ids[len(places):len(places) + TEXT_RUN]:
                    places.append(len(row))
                    row.tokens([token], True)
            row.frame(frame, places[number], places[min(number + 1, len(places) - 1)], phones)
        row.tokens(self.ids(END), True)
        return True

    def chat(self, chat, features):
        """A spoken exchange, or None when its words are too slow for its sound."""
        row = self.asked(chat.system, features)
        if chat.call:
            self.called(row, chat.call, chat.result)
        return row if self.voiced(row, chat.reply, chat.silence) else None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--codec", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--spoken", type=int, default=0, help="shards of sentences")
    p.add_argument("--chats", type=int, default=0, help="shards of exchanges")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(1)
    saved = torch.load(args.codec)
    coder = codec.Codec(saved["mean"], saved["books"])
    for kind, count in (("spoken", args.spoken), ("chats", args.chats)):
        make(pathlib.Path(args.out), kind, count, coder, args.seed)
        print(len(load(args.out, kind)), kind)


if __name__ == "__main__":
    main()
