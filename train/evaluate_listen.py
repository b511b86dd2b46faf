# SPDX-License-Identifier: MIT
"""Word errors of recognition, by the engine with the files as they are shipped.

    python train/evaluate_listen.py build/tools/lfm-run models lfmd-talk-q8_0.gguf \\
        --clips CLIPS --shards N --json models/eval/listen-figures.json

Every cell is a set of noisy clips of sentences that training has never drawn; those found among the
training clips all the same are dropped. "rows" is the greedy reading of the encoder's rows alone,
"answer" what the language model writes.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import wave

import numpy as np
import torch

import export_gguf
import sentences
import speech
import talks
import tokenizer as tokens
import train_listen

KNOWN = list(speech.VOICES)
CELLS = {  # split of the sentences, voices, lowest and highest ratio of speech to noise in dB
    "new sentences": ("test", KNOWN, 5, 35),
    "new values": ("value", KNOWN, 5, 35),
    "new phrasings": ("phrase", KNOWN, 5, 35),
    "words never trained": ("word", KNOWN, 5, 35),
    **{f"new voice {voice}": ("test", [voice], 5, 35) for voice in speech.HELD_OUT},
    **{f"{noise} dB": ("test", KNOWN, noise, noise) for noise in (60, 20, 10, 5, 0)}}
SAMPLE = ["flite:slt", "festival:ked_diphone", "espeak:en-us+f2", "flite:awb", "espeak:en+f3",
          "espeak:en-us+m6"]
LONGEST = 64  # pieces of an answer


class Engine:
    """The engine's command line with one set of files."""

    def __init__(self, program, folder, name):
        self.program, self.name = program, pathlib.Path(folder) / name
        self.mmproj, self.vocoder = (self.name.with_name(f"{kind}-{name}")
                                     for kind in ("mmproj", "vocoder"))
        core, pieces, merges = export_gguf.read(self.name)
        self.reader = train_listen.Reader(core)
        self.work = tempfile.TemporaryDirectory(prefix="listen-")
        folder = pathlib.Path(self.work.name)
        self.wave, self.rows = folder / "in.wav", folder / "rows"
        self.request = folder / "request.json"
        table = folder / "tokenizer.json"
        table.write_text(json.dumps(tokens.state_of(pieces, merges), ensure_ascii=False))
        self.vocabulary = tokens.load(table)

    def run(self, verb, precise=False, **options):
        command = [self.program, verb] + ["--precise"] * precise
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def hears(self, samples):
        with wave.open(str(self.wave), "wb") as file:
            file.setparams((1, 2, speech.RATE, 0, "NONE", ""))
            file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())

    def read(self):
        """Words of the encoder's rows alone."""
        self.run("audio-embed", mmproj=self.mmproj, **{"in": self.wave}, out=self.rows)
        rows = torch.from_numpy(np.fromfile(self.rows, "<f4").reshape(-1, self.reader.gain.numel()))
        path = self.reader(rows).argmax(-1).tolist()
        return self.vocabulary.decode(train_listen.collapsed(path))

    def answer(self, precise=False):
        """Words that the language model answers with."""
        row = talks.Builder(self.vocabulary).asked(talks.LISTEN, [None])  # one row of sound
        place = row.heard[0][0]
        before, after = row.ids[:place], row.ids[place + 1:]
        self.request.write_text(json.dumps({
            "segments": [{"ids": before}, {"audio": self.wave.name}, {"ids": after}],
            "mode": "sequential", "max_new_tokens": LONGEST, "temperature": 0}))
        events = json.loads(self.run("audio-generate", precise, model=self.name, mmproj=self.mmproj,
                                     vocoder=self.vocoder, request=self.request))
        return self.vocabulary.decode([event[0] for event in events if len(event) == 1])


def cell(rng, split, voices, low, high, count, trained):
    out = []
    while len(out) < count:
        made = train_listen.tested(rng, split, voices, count - len(out), low, high)
        out += [clip for clip in made if clip[0] not in trained]
    return out


def write_sample(engine, rng, trained, folder):
    """speech.jsonl, its sounds, and the word errors of this set of files on exactly these.

    They are sounds that it hears right, also with other roundings: where it errs, other roundings
    lead to other errors. The first two are about the volume, for tests of calls.
    """
    lines, wrong, total = [], 0, 0
    (folder / "speech").mkdir(parents=True, exist_ok=True)
    for i, voice in enumerate(SAMPLE):
        while True:
            (words, _, samples), = cell(rng, "value", [voice], 15, 30, 1, trained)
            engine.hears(samples)
            if len(samples) < 2.3 * speech.RATE and (i > 1 or "volume" in words) and \
                    engine.answer() == words and engine.answer(precise=True) == words:
                break
        name = f"speech/{i}.wav"
        (folder / name).write_bytes(engine.wave.read_bytes())
        lines.append({"sound": name, "text": words})
        wrong += train_listen.errors(words.split(), engine.answer().split())
        total += len(words.split())
    (folder / "speech.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder.parent / "lfmd-talk.json").write_text(json.dumps({"hearing": {
        "words": total, "word_errors": round(100 * wrong / total, 1)}}, indent=1) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("program", help="lfm-run")
    p.add_argument("folder", help="of the model files")
    p.add_argument("name", help="of the language model; the others are named after it")
    p.add_argument("--count", type=int, default=100, help="clips per cell")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--clips", help="folder of the training clips")
    p.add_argument("--shards", type=int, default=0)
    p.add_argument("--rows-only", action="store_true", help="the encoder alone, without answers")
    p.add_argument("--show", type=int, default=0, help="print that many wrong answers of a cell")
    p.add_argument("--json", help="write the figures here")
    p.add_argument("--sample", type=pathlib.Path, help="only write the sounds of the engine's test")
    args = p.parse_args()
    torch.set_num_threads(1)
    engine = Engine(args.program, args.folder, args.name)
    trained = {clip[0] for clip in speech.shards(args.clips, args.shards)} if args.shards else set()
    ways = {"rows": engine.read} | ({} if args.rows_only else {"answer": engine.answer})
    if args.sample:
        return write_sample(engine, random.Random(f"{args.seed}/sample"), trained, args.sample)
    figures = {}
    for name, (split, voices, low, high) in CELLS.items():
        rng, total, known_total = random.Random(f"{args.seed}/{name}"), 0, 0
        wrong, known, exact, shown = (dict.fromkeys(ways, 0) for _ in range(4))
        for words, _, samples in cell(rng, split, voices, low, high, args.count, trained):
            engine.hears(samples)
            wanted = words.split()
            usual = sentences.KNOWN.issuperset(wanted)
            total += len(wanted)
            known_total += usual * len(wanted)
            for way, call in ways.items():
                found = call()
                miss = train_listen.errors(wanted, found.split())
                wrong[way] += miss
                known[way] += usual * miss
                exact[way] += not miss
                if miss and shown[way] < args.show:
                    shown[way] += 1
                    print(f"   {way}: {words} | {found}")
        row = {"clips": args.count, "words": total}
        for way in ways:
            row[way] = {"wer": round(100 * wrong[way] / total, 1),
                        "exact": round(100 * exact[way] / args.count, 1)}
            if known_total:
                row[way]["wer of usual words"] = round(100 * known[way] / known_total, 1)
        figures[name] = row
        print(f"{name:32}", json.dumps(row), flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

