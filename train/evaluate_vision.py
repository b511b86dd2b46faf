# SPDX-License-Identifier: MIT
"""Held-out figures of the shipped pair of files, and the sample that the engine's tests repeat.

    python train/evaluate_vision.py CORE.gguf MMPROJ.gguf --json models/eval/vision-figures.json

An item is one picture that training never draws and one question in a conversation of its own; it
counts when every token of the reply is what greedy decoding gives. The weights are those that the
files hold, so Q8_0 rounding is part of the figures.
"""

import argparse
import collections
import json
import pathlib
import random

import torch
from PIL import Image

import data
import export_gguf
import pictures
import questions
import tokenizer as tokens
import vision

# row of the table: (split, kind of scene, kind of question)
CELLS = {
    "what is at a place": ("test", "shapes", "at"),
    "where is it": ("test", "shapes", "where"),
    "colour of a shape": ("test", "shapes", "colour"),
    "shape of a colour": ("test", "shapes", "kind"),
    "count": ("test", "shapes", "count"),
    "count of a colour": ("test", "shapes", "count colour"),
    "count of a shape": ("test", "shapes", "count kind"),
    "is it there": ("test", "shapes", "is there"),
    "one sentence": ("test", "shapes", "short"),
    "in detail": ("test", "shapes", "long"),
    "an icon": ("test", "icons", "whole"),
    "an icon of a new theme": ("theme", "icons", "whole"),
    "a flag": ("test", "flags", "whole"),
    "no words": ("test", "shapes", "text"),
    "cannot tell: not there": ("test", "shapes", ("where", "colour", "kind")),
    "cannot tell: a word": ("test", ("words", "shapes and word", "widgets"), "text"),
    "cannot tell: beyond": ("test", ("shapes", "icons", "words"), "beyond"),
}


def item(rng, split, scenes, asked, cannot):
    """(scene, question, answer); `cannot` says whether the answer may be that."""
    while True:
        kind = scenes if isinstance(scenes, str) else rng.choice(scenes)
        scene = pictures.scene(rng, split, kind)
        q = questions.question(rng, scene, asked if isinstance(asked, str) else rng.choice(asked))
        if q and (q[2] == questions.CANNOT) == cannot:
            return scene, q[1], q[2]


def items(count, seed, cells=CELLS):
    made = {}
    for name, (split, scenes, asked) in cells.items():
        rng = random.Random(f"{seed}/{name}")
        made[name] = [item(rng, split, scenes, asked, name.startswith("cannot"))
                      for _ in range(count)]
    rng = random.Random(f"{seed}/blind")
    made["no picture"] = [(None, rng.choice(questions.WITHOUT), questions.NO_PICTURE)
                          for _ in range(count)]
    return made


class Pair:
    def __init__(self, core, mmproj):
        self.model, pieces, merges = export_gguf.read(core)
        self.model.eval()
        self.encoder = export_gguf.read_vision(mmproj)
        table = pathlib.Path(core).with_suffix(".tokenizer.json")
        table.write_text(json.dumps(tokens.state_of(pieces, merges), ensure_ascii=False))
        self.vocabulary = tokens.load(table)
        table.unlink()

    @torch.no_grad()
    def see(self, scene):
        x = torch.from_numpy(vision.patches(scene.image, scene.view))[None]
        return self.encoder(x, 2 * scene.rows, 2 * scene.cols)[0]

    @torch.no_grad()
    def replies(self, group, batch=24):
        """For every item the ids wanted and the greedy ids in their places."""
        encoded = []
        for scene, text, answer in group:
            content = questions.shown(scene, text) if scene else text
            ids, learnt = tokens.encode(self.vocabulary, data.render(
                [data.user(content), data.assistant(answer)], data.Setting(None, None)))
            end = max(i for i, mark in enumerate(learnt) if mark) + 1
            encoded.append((ids[:end], learnt[:end]))
        out = []
        for start in range(0, len(group), batch):
            rows = encoded[start:start + batch]
            longest = max(len(ids) for ids, _ in rows)
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            for i, (line, _) in enumerate(rows):
                ids[i, :len(line)] = torch.tensor(line)
            seen = [self.see(g[0]) for g in group[start:start + batch] if g[0]]
            x = self.model.embed(ids)
            if seen:
                x = x.masked_scatter((ids == questions.IMAGE)[..., None], torch.cat(seen))
            best = self.model.logits(self.model.states(x[:, :-1])).argmax(-1)
            for i, (line, learnt) in enumerate(rows):
                places = [j for j in range(1, len(line)) if learnt[j]]
                out.append(([line[j] for j in places], [best[i, j - 1].item() for j in places]))
        return out


def figures(pair, made, show=0):
    out = {}
    for name, group in made.items():
        replies = pair.replies(group)
        right = [wanted == found for wanted, found in replies]
        row = {"n": len(group), "exact": round(100 * sum(right) / len(right), 1)}
        out[name] = row
        print(f"{name:24}", row, flush=True)
        wrong = [(g, r) for g, r, ok in zip(group, replies, right) if not ok]
        for (_, text, answer), (_, found) in wrong[:show]:
            print("     ", text, "->", answer, "| got", pair.vocabulary.decode(found))
    return out


def write_sample(pair, seed, folder, each=3):
    """vision.jsonl, the pictures beside it, and what this pair reaches on exactly these lines."""
    made = items(each, f"{seed}/sample", {
        name: ("free", scenes if isinstance(scenes, str) else scenes[:2], asked)
        for name, (split, scenes, asked) in CELLS.items() if split != "theme"})
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines, right, total = [], collections.Counter(), collections.Counter()
    for name, group in made.items():
        group_of = name.split(":")[0]
        for i, (scene, _, _) in enumerate(group):
            if scene:  # few colours make small files
                file = folder / f"pictures/{name.replace(' ', '-').replace(':', '')}-{i}.png"
                scene.image.quantize(48).save(file, optimize=True)
                scene.image = Image.open(file).convert("RGB")
                scene.file = f"pictures/{file.name}"
        for (scene, text, answer), (wanted, found) in zip(group, pair.replies(group)):
            line = {"kind": group_of, "question": text, "expect": answer}
            if scene:
                line["picture"] = scene.file
            lines.append(line)
            total["all"] += 1
            right["all"] += wanted == found
    (folder / "vision.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    (folder.parent / "lfmd-see.json").write_text(json.dumps(
        {s: {"n": total[s], "exact": round(100 * right[s] / total[s], 1)} for s in total},
        indent=1) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("core")
    p.add_argument("mmproj")
    p.add_argument("--count", type=int, default=100, help="items per cell")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--show", type=int, default=0, help="print that many wrong replies of a cell")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--json", help="write the figures here")
    p.add_argument("--sample", type=pathlib.Path, help="folder for the engine test")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    pair = Pair(args.core, args.mmproj)
    out = figures(pair, items(args.count, args.seed), args.show)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(out, indent=1) + "\n")
    if args.sample:
        write_sample(pair, args.seed, args.sample)


if __name__ == "__main__":
    main()
