# SPDX-License-Identifier: MIT
"""How well the speech of the shipped files is understood by a recogniser that does not know them.

    python train/evaluate_talk.py LFM-RUN FOLDER --codec RUN/codec.pt --json models/eval/talk.json

Debian's pocketsphinx with its US English model and word pairs of the same domain writes down what
it hears of texts that training never draws: of the voice itself, of its codes, and of what the
model reads; all sound of the last two comes out of the engine. Only the differences count. "any"
has sentences without much sense, too. Then spoken requests are answered.
"""

import argparse
import collections
import json
import math
import pathlib
import random
import re
import subprocess
import tempfile
import wave

import numpy as np
import torch

import codec
import export_gguf
import sentences
import speech
import talks
import tokenizer as tokens
import voice
from export_talk import HOW_TO_SPEAK
from train_listen import errors

MODEL = pathlib.Path("/usr/share/pocketsphinx/model/en-us")
PAIRS_FROM = 8000  # sentences
NAME = "lfmd-talk-q8_0.gguf"
LIMIT = 120  # tokens and frames of a reply


def write_wave(path, samples):
    """At 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


class Recogniser:
    """pocketsphinx with word pairs from the sentences' generator."""

    def __init__(self, folder):
        self.folder = folder
        spelled = collections.defaultdict(list)
        for line in open(MODEL / "cmudict-en-us.dict"):
            spelled[re.sub(r"\(\d+\)$", "", line.split()[0])].append(line)
        rng, pairs = random.Random("pairs"), collections.Counter()
        self.words = set(spelled) & sentences.KNOWN
        for _ in range(PAIRS_FROM):
            said = sentences.spoken(talks.text(rng)).split()
            if self.words.issuperset(said):
                pairs.update(zip(["<s>", *said], [*said, "</s>"]))
        (folder / "words.dict").write_text("".join(
            line for word in sorted(self.words) for line in spelled[word]))
        (folder / "pairs.arpa").write_text(self.arpa(pairs))

    def arpa(self, pairs, discount=0.5):
        """Absolute discounting; every word may follow every other."""
        first, kinds, words = (collections.Counter() for _ in range(3))
        for (a, b), count in pairs.items():
            first[a] += count
            kinds[a] += 1
            words[b] += count
        names = sorted(self.words | {"</s>"})
        total = sum(words[name] + 0.5 for name in names)
        share = {name: (words[name] + 0.5) / total for name in names}
        seen = collections.Counter()
        for a, b in pairs:
            seen[a] += share[b]
        lines = ["\\data\\", f"ngram 1={len(names) + 1}", f"ngram 2={len(pairs)}", "",
                 "\\1-grams:"]
        for name in ["<s>", *names]:
            back = discount * kinds[name] / first[name] / (1 - seen[name]) if first[name] else 1
            lines.append(f"{math.log10(share.get(name, 1e-9)):.4f} {name} {math.log10(back):.4f}")
        lines += ["", "\\2-grams:"]
        for (a, b), count in sorted(pairs.items()):
            left = discount * kinds[a] / first[a]
            lines.append(f"{math.log10((count - discount) / first[a] + left * share[b]):.4f} "
                         f"{a} {b}")
        return "\n".join([*lines, "", "\\end\\", ""])

    def heard(self, sounds):
        """What it hears in sounds at 24 kHz."""
        for i, sound in enumerate(sounds):
            x = np.pad(speech.resample(sound, codec.RATE, speech.RATE), 4000)
            x += 1e-4 * np.random.default_rng(i).standard_normal(len(x))
            write_wave(self.folder / f"{i}.wav", x)
        control, told = self.folder / "control", self.folder / "told"
        control.write_text("".join(f"{i}\n" for i in range(len(sounds))))
        subprocess.run(["pocketsphinx_batch", "-hmm", MODEL / "en-us", "-dict",
                        self.folder / "words.dict", "-lm", self.folder / "pairs.arpa", "-lw", "6.5",
                        "-ctl", control, "-cepdir", self.folder, "-cepext", ".wav", "-adcin", "yes",
                        "-adchdr", "44", "-hyp", told, "-logfn", "/dev/null"], check=True)
        found = dict(re.match(r"(.*)\((\d+) -?\d+\)$", line).group(2, 1)
                     for line in told.read_text().splitlines())
        return [found.get(str(i), "").split() for i in range(len(sounds))]


    def judged(self, texts, sounds, show):
        """Word errors in sounds that should say the texts."""
        wrong = total = 0
        for text, found in zip(texts, self.heard(sounds)):
            wanted = sentences.spoken(text).split()
            wrong, total = wrong + errors(wanted, found), total + len(wanted)
            if show and wanted != found:
                print(f"  {' '.join(wanted)} | {' '.join(found)}")
        return {"texts": len(texts), "words": total, "errors": wrong,
                "word error rate": round(100 * wrong / total, 1),
                "seconds": round(sum(map(len, sounds)) / codec.RATE, 1)}


class Engine:
    """The shipped files in `lfm-run`."""

    def __init__(self, program, models, folder):
        self.program, self.models, self.folder = program, models, folder
        _, pieces, merges = export_gguf.read(models / NAME)
        self.vocabulary = tokens.Tokenizer.from_str(json.dumps(tokens.state_of(pieces, merges)))
        self.builder = talks.Builder(self.vocabulary)
        self.sampling = {key: HOW_TO_SPEAK[f"lfmd.speech.{key}"]
                         for key in ("temperature", "top_k")}

    def run(self, verb, **options):
        named = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        return subprocess.run([self.program, verb, *named], check=True, text=True,
                              capture_output=True).stdout

    def sound(self, codes):
        """Samples of frames of codes."""
        if not codes:
            return np.zeros(codec.FRAME)
        asked, out = self.folder / "codes.json", self.folder / "sound.f32"
        asked.write_text(json.dumps(codes))
        self.run("codes-to-wave", vocoder=self.models / f"vocoder-{NAME}",
                 tokenizer=self.models / f"tokenizer-{NAME}", codes=asked, out=out)
        return np.fromfile(out, "<f4")

    def reply(self, segments, mode, seed):
        """Ids and frames of the reply to a prompt."""
        asked = self.folder / "request.json"
        asked.write_text(json.dumps({"segments": segments, "mode": mode, "seed": seed,
                                     "max_new_tokens": LIMIT, **self.sampling}))
        events = json.loads(self.run(
            "audio-generate", model=self.models / NAME, mmproj=self.models / f"mmproj-{NAME}",
            vocoder=self.models / f"vocoder-{NAME}", request=asked))
        return ([event[0] for event in events if len(event) == 1],
                [event for event in events if len(event) > 1 and event[0] < codec.CODES])

    def read(self, text, seed):
        """Frames of a text that is read aloud."""
        row = self.builder.read(text)
        return self.reply([{"ids": row.ids}], "sequential", seed)[1]

    def answer(self, system, samples, seed):
        """Text and frames of the reply to sound at 16 kHz."""
        row = self.builder.asked(system, [None])  # one row where the sound is
        place = row.heard[0][0]
        write_wave(self.folder / "asked.wav", samples)
        ids, frames = self.reply([{"ids": row.ids[:place]}, {"audio": "asked.wav"},
                                  {"ids": row.ids[place + 1:]}], "interleaved", seed)
        return self.vocabulary.decode(ids, skip_special_tokens=False), frames


def texts(count, kind, words):
    """Held-out texts whose words the recogniser knows."""
    draw = {"answers": talks.answer, "requests": lambda rng: sentences.dialogue(rng, None, False),
            "any": lambda rng: sentences.sentence(rng, "test")}[kind]
    rng, out = random.Random(f"read aloud {kind}"), []
    while len(out) < count:
        text = draw(rng)
        said = sentences.spoken(text)
        if text not in out and sentences.is_held_out(said) and words.issuperset(said.split()):
            out.append(text)
    return out


def chats(count, engine, recogniser, show):
    """Noisy requests that training never draws: exact words, exact calls, and how replies sound."""
    rng, right, replies = random.Random("chats"), collections.Counter(), []
    voices = [name for name in talks.CLIP_VOICES] + speech.HELD_OUT
    for i in range(count):
        messages, words, system = talks.exchange(rng, "test")
        samples, hz, _ = speech.say(words, voices[i % len(voices)], rng.uniform(0.85, 1.2),
                                    rng.randint(30, 70))
        samples = speech.recorded(rng, speech.resample(samples, hz, speech.RATE),
                                  rng.uniform(5, 35))
        text, frames = engine.answer(system, samples, i)
        call = len(messages) > 2
        wanted = messages[1]["content"] if call else \
            talks.written(messages[1]["content"]) + talks.TEXT_END
        right["calls" if call else "replies"] += 1
        right["calls exact" if call else "replies exact"] += text == wanted
        if show and text != wanted:
            print(f"  {words} | {text}")
        if not call and text == wanted:
            replies.append((talks.written(messages[1]["content"]), engine.sound(frames)))
    return {**right, "sound of exact replies": recogniser.judged(*zip(*replies), show)
            if replies else None}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("program", help="lfm-run")
    p.add_argument("models", type=pathlib.Path, help="folder of the GGUF files")
    p.add_argument("--codec", required=True, help="codec.pt of train_codec.py")
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--kinds", nargs="+", default=["answers", "requests", "any"])
    p.add_argument("--parts", nargs="+", default=["voice", "codes", "model"])
    p.add_argument("--chats", type=int, default=0, help="spoken exchanges")
    p.add_argument("--temperature", type=float, help="another one than the file's")
    p.add_argument("--json", type=pathlib.Path)
    p.add_argument("--show", action="store_true", help="print what was misheard")
    args = p.parse_args()
    torch.set_num_threads(1)
    saved, report = torch.load(args.codec), {}
    if args.json and args.json.exists():  # other parts may be measured at another time
        report = json.loads(args.json.read_text())["speech"]
    coder = codec.Codec(saved["mean"], saved["books"])
    with tempfile.TemporaryDirectory() as name:
        recogniser = Recogniser(pathlib.Path(name))
        engine = Engine(args.program, args.models, pathlib.Path(name))
        if args.temperature is not None:
            engine.sampling["temperature"] = args.temperature
        for kind in args.kinds:
            said = texts(args.count, kind, recogniser.words)
            original = [voice.speak(sentences.spoken(text)).sound for text in said]
            for part in args.parts:
                if part == "codes":
                    codes = [coder.encode(codec.frames_of(torch.from_numpy(sound)))[0].tolist()
                             for sound in original]
                elif part == "model":
                    codes = [engine.read(text, i) for i, text in enumerate(said)]
                sounds = original if part == "voice" else map(engine.sound, codes)
                report[f"{kind}, {part}"] = recogniser.judged(said, list(sounds), args.show)
                print(kind, part, report[f"{kind}, {part}"], flush=True)
        if args.chats:
            report["chat"] = chats(args.chats, engine, recogniser, args.show)
            print(report["chat"])
    if args.json:
        args.json.write_text(json.dumps({"speech": report, "sampling": engine.sampling},
                                        indent=1) + "\n")


if __name__ == "__main__":
    main()
