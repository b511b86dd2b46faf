# SPDX-License-Identifier: MIT
"""Teaches the text core to see, in four stages of their own; each writes RUN/last.pt.

    encode   the encoder alone: what every token shows (dense heads, thrown away later), while the
             projector is fitted to soft tokens, i.e. to sums of the core's own word embeddings
    soft     the core alone: it answers about pictures whose tokens are those sums, without pixels,
             beside the dialogues that it can already hold, and is told by lookup.py where to look;
             runs at the same time as `encode`
    joint    both at a low rate, answers through the pixels, with the dense targets kept
    read     the core alone, through the pixels of the encoder as it is

    python train/train_vision.py encode --run RUN/encode --core CORE.gguf --steps N
    python train/train_vision.py soft   --run RUN/soft   --core CORE.gguf --steps N
    python train/train_vision.py joint  --run RUN/joint  --core CORE.gguf --steps N \\
        --encoder RUN/encode/last.pt --text RUN/soft/last.pt
    python train/train_vision.py read   --run RUN/read --core CORE.gguf --steps N \\
        --encoder RUN/joint/last.pt --text RUN/joint/last.pt

A killed run goes on from its last checkpoint, at most two minutes old, when the same command is
given again. All data is drawn from the seed and the number of the step.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import export_gguf
import lookup
import pictures
import questions
import tokenizer as tokens
import train_core
import vision
from lfm2 import LFM2, Config
from muon import Muon

PAGES = 0.25  # of the steps of `encode` have words alone: letters take longest
WARMUP = 60
PICTURES = 32  # in a step of `encode`
FULL = 0.65  # of the steps of `encode` have pictures that show as much as they can
PARTS_AT = 2  # block whose patches tell the letter or the object that they belong to
FIT = {"encode": 1.0, "joint": 4.0}  # weight of the distance to the soft tokens
MORE = 8  # pictures for the dense targets alone in a step of `joint`
NOISE = 0.2  # of soft tokens, in their standard deviation
DENSE = 0.3  # weight of the dense targets in the joint stage
LOOK = 0.5  # weight of the loss that says where to look
LISTS = 0.12  # of the steps of `soft` are lists to look up in
BLIND = 0.12  # of the dialogues ask for a picture that is not there
CLASS = {name: i for i, name in enumerate(pictures.CLASSES)}
COLOUR = {name: i for i, name in enumerate(pictures.COLOURS)}
LETTER = {name: i + 1 for i, name in enumerate(pictures.SYMBOLS)}


def grown(path):
    """The core of a file with the pieces that pictures need; the vocabulary as JSON."""
    model, pieces, merges = export_gguf.read(path)
    pieces = [s for s in tokens.SPECIALS] + pieces[len(tokens.SPECIALS):]
    if tokens.TILES[0] not in pieces:
        old, start = model, tokens.SPECIALS.index("<|image_start|>")
        cfg = Config(**{**old.cfg.to_dict(), "vocab": len(pieces) + len(tokens.TILES)})
        model = LFM2(cfg)
        state = old.state_dict()
        rows = state["embed.weight"]
        state["embed.weight"] = torch.cat([rows, rows[start].expand(len(tokens.TILES), -1)])
        model.load_state_dict(state)
        pieces += tokens.TILES
    return model, tokens.state_of(pieces, merges)


class Softener:
    """Soft tokens: sums of word embeddings that say what a token of the view shows."""

    def __init__(self, table, vocabulary):
        table = table.detach().clone()
        constant = table[:, 0].mean()

        def total(text):
            return table[vocabulary.encode(text, add_special_tokens=False).ids].sum(0)

        self.classes = torch.stack([total(c if len(c) == 1 else
                                          " small" if c == pictures.TINY else f" {c}")
                                    for c in pictures.CLASSES])
        self.colours = torch.stack([total(f" {c}") for c in pictures.COLOURS])
        self.places = {p: total(f" {p}") for p in pictures.CORNERS + [pictures.MIDDLE]}
        self.table, self.constant, self.scale = table, constant, self.classes[:, 1:].std()

    def tokens(self, scene):
        """[tokens, hidden] of one scene."""
        return self.of(scene.labels, scene.rows * scene.cols)

    def of(self, labels, count):
        out = self.classes[0].repeat(count, 1)
        for token, (name, colour, place) in labels.items():
            out[token] = self.classes[CLASS[name]]
            if colour:
                out[token] += self.colours[COLOUR[colour]]
            if place:
                out[token] += self.places[place]
        out[:, 0] = self.constant
        return out


class Heads(nn.Module):
    """Readers of the dense targets; not part of the shipped file."""

    def __init__(self, width):
        super().__init__()
        self.classes = nn.Linear(width, len(CLASS))
        self.colours = nn.Linear(width, len(COLOUR))
        self.letters = nn.Linear(width, 1 + len(LETTER))
        self.areas = nn.Linear(width, len(CLASS))
        self.register_buffer("weights", torch.ones(len(CLASS)))
        self.weights[0] = 0.15
        self.register_buffer("letter_weights", torch.ones(1 + len(LETTER)))
        self.letter_weights[0] = 0.1

    def targets(self, scenes):
        n = scenes[0].rows * scenes[0].cols
        classes = torch.zeros(len(scenes), n, dtype=torch.long)
        colours = torch.full((len(scenes), n), -100)
        letters = torch.zeros(len(scenes), 2 * scenes[0].rows, 2 * scenes[0].cols, dtype=torch.long)
        areas = torch.zeros_like(letters)
        for i, s in enumerate(scenes):
            for token, (name, colour, _) in s.labels.items():
                classes[i, token] = CLASS[name]
                if colour:
                    colours[i, token] = COLOUR[colour]
            for x0, y0, x1, y1, name in s.painted:
                cols, rows = 2 * s.cols, 2 * s.rows
                if name in LETTER:
                    letters[i, min(rows - 1, int((y0 + y1) / 2 * rows)),
                            min(cols - 1, int((x0 + x1) / 2 * cols))] = LETTER[name]
                else:
                    areas[i, max(0, round(y0 * rows)):round(y1 * rows),
                          max(0, round(x0 * cols)):round(x1 * cols)] = CLASS[name]
        return classes, colours, letters, areas

    def forward(self, states, watch, scenes, note, report=None):
        rows, cols = scenes[0].rows, scenes[0].cols
        pooled = states.view(len(scenes), rows, 2, cols, 2, -1).mean((2, 4)).flatten(1, 2)
        classes, colours, letters, areas = self.targets(scenes)
        guess = self.classes(pooled).flatten(0, 1)
        tint = self.colours(pooled).flatten(0, 1)

        def loss(name, found, wanted, weights=None):
            one = F.cross_entropy(found.flatten(0, -2), wanted.flatten(), weights)
            note(name, one)
            return one

        total = loss("class", guess, classes, self.weights) + \
            loss("letter", self.letters(watch[PARTS_AT]), letters, self.letter_weights)
        if (colours >= 0).any():
            total = total + 0.5 * loss("colour", tint, colours)
        if areas.any():
            total = total + loss("area", self.areas(watch[PARTS_AT]), areas, self.weights)
        if report is not None:
            best = guess.argmax(-1).view_as(classes)
            for i, s in enumerate(scenes):
                for token, (name, colour, _) in s.labels.items():
                    group = s.kind if len(name) > 1 else "letter"
                    report.setdefault(group, []).append(bool(best[i, token] == CLASS[name]))
                    if colour:
                        right = tint.view(len(scenes), -1, len(COLOUR))[i, token].argmax()
                        report.setdefault("colour", []).append(bool(right == COLOUR[colour]))
                wrong = (best[i] != classes[i]).sum().item()
                report.setdefault(f"all of {s.kind}", []).append(wrong == 0)
        return total


def pixels(scenes):
    return torch.stack([torch.from_numpy(vision.patches(s.image, s.view)) for s in scenes])


class Run:
    def __init__(self, args):
        self.args, self.dir = args, pathlib.Path(args.run)
        self.dir.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        core, vocabulary = grown(args.core)
        table = self.dir / "tokenizer.json"
        table.write_text(json.dumps(vocabulary, ensure_ascii=False))
        self.vocabulary = tokens.load(table)
        self.soft = Softener(core.embed.weight, self.vocabulary)
        self.parts = {}
        if args.stage != "encode":
            self.parts["model"] = core
            self.lookup = lookup.Lookup(core, self.vocabulary)
        if args.stage != "soft":
            cfg = vision.Config(out=core.cfg.hidden)
            self.parts["encoder"] = vision.Encoder(cfg)
        if args.stage in ("encode", "joint"):
            self.parts["heads"] = Heads(cfg.hidden)
        else:
            self.parts.get("encoder", nn.Module()).requires_grad_(False)
        for source, names in ((args.encoder, ("encoder", "heads")), (args.text, ("model",))):
            saved = torch.load(source, weights_only=False) if source else {}
            for name in names:
                if name in saved and name in self.parts:
                    self.parts[name].load_state_dict(saved[name], strict=False)
        every = [p for part in self.parts.values() for p in part.parameters() if p.requires_grad]
        self.parameters = every
        # Fresh matrices of the encoder learn much faster by Muon; `joint` only adapts them.
        muon = [p for n, p in self.parts["encoder"].named_parameters() if p.dim() == 2
                and n.startswith(("blocks", "mm"))] if args.stage == "encode" else []
        chosen = {id(p) for p in muon}
        rest = [p for p in every if id(p) not in chosen]
        self.optimisers = [torch.optim.AdamW(
            [{"params": [p for p in rest if p.dim() == 2], "weight_decay": 0.02},
             {"params": [p for p in rest if p.dim() != 2], "weight_decay": 0.0}],
            lr=args.rate, betas=(0.9, 0.98), fused=True)]
        if muon:
            self.optimisers.append(Muon(muon))
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self.state = {"stage": args.stage, "step": 0, "cpu": 0.0, "begun": time.time(),
                      "pictures": 0, "tokens": 0, "targets": 0, "losses": {}}
        last = self.dir / "last.pt"
        if last.exists():
            saved = torch.load(last, weights_only=False)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            for optimiser, kept in zip(self.optimisers, saved["optimisers"]):
                optimiser.load_state_dict(kept)
            self.state.update(saved["state"])
            print(f"continuing at step {self.state['step']}", flush=True)
        elif args.stage == "soft" and not args.text:
            self.lookup.install(self.soft, self.vocabulary, args.seed)
        self.interrupted, self.pool, self.lists, self.text = False, [], [], []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.interrupt)

    def interrupt(self, *_):
        self.interrupted = True

    def save(self):
        part = self.dir / "last.pt.part"
        saved = {name: p.state_dict() for name, p in self.parts.items()}
        if "encoder" in self.parts:
            saved["vision"] = self.parts["encoder"].cfg.to_dict()
        if "model" in self.parts:
            saved["config"] = self.parts["model"].cfg.to_dict()
        torch.save({**saved, "optimisers": [o.state_dict() for o in self.optimisers],
                    "args": vars(self.args), "state": dict(self.state)}, part)
        os.replace(part, self.dir / "last.pt")

    # --- losses of one step ---------------------------------------------------------------------

    def see(self, scenes, report=None):
        """Image tokens of scenes of one size, and the dense loss."""
        encoder, watch = self.parts["encoder"], {}
        rows, cols = 2 * scenes[0].rows, 2 * scenes[0].cols
        states = encoder.features(pixels(scenes), rows, cols, watch)
        out = encoder.project(states, rows, cols)
        loss = self.parts["heads"](states, watch, scenes, self.note, report)
        wanted = torch.stack([self.soft.tokens(s) for s in scenes])
        weight = torch.full(wanted.shape[:2], 0.3)
        for i, s in enumerate(scenes):
            weight[i, list(s.labels)] = 1.0
        miss = ((out - wanted) / self.soft.scale).square().mean(-1)
        miss = (miss * weight).sum() / weight.sum()
        self.note("fit", miss)
        return out, loss + FIT[self.args.stage] * miss

    def encode(self, rng, count=PICTURES):
        full = rng.random() < FULL
        while True:
            size = pictures.sizes(rng, rng.random() < 0.35)
            blank = pictures.Scene(size)
            if blank.rows * blank.cols <= 24 or rng.random() < 0.4:
                break  # small views are cheap
        kind = "words" if self.args.stage == "encode" and rng.random() < PAGES else None
        scenes = [pictures.scene(rng, None, kind, size, full) for _ in range(count)]
        self.state["pictures"] += len(scenes)
        return "encode", self.see(scenes)[1]

    def answers(self, x, ids, marks):
        model = self.parts["model"]
        wanted = marks[:, 1:]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
            logits = model.logits(model.states(x[:, :-1])[wanted])
        self.state["tokens"] += ids.numel()
        self.state["targets"] += int(wanted.sum())
        return F.cross_entropy(logits.float(), ids[:, 1:][wanted])

    def dialogue(self, rng):
        """One step of the text core's own mixtures."""
        if rng.random() < BLIND:
            ids, marks, _ = rng.choice(questions.blind_batches(rng, self.vocabulary))
            return "blind", self.answers(self.parts["model"].embed(ids), ids, marks)
        if not self.text:
            mixture = rng.choice(["broad", "focused", "focused"])
            self.text = train_core.batches_of(self.vocabulary, mixture, f"{self.args.seed}/text",
                                              rng.randrange(1 << 30))
        ids, marks, _ = self.text.pop()
        return "text", self.answers(self.parts["model"].embed(ids), ids, marks)

    def picture(self, rng):
        if rng.random() < self.args.text_share:
            return self.dialogue(rng)
        model, soft, dense = self.parts["model"], self.args.stage == "soft", 0.0
        if soft and rng.random() < LISTS:
            if not self.lists:
                self.lists = train_core.cut(rng, self.lookup.rows(rng, self.soft, 150))
            name, (ids, marks, pairs) = "lists", self.lists.pop()
            seen, things = torch.cat([p[0] for p in pairs]), [p[1] for p in pairs]
        else:
            if not self.pool:
                self.pool = (questions.sketch_batches if soft else questions.batches)(
                    rng, self.vocabulary)
            name, (ids, marks, scenes) = self.args.stage, self.pool.pop()
            self.state["pictures"] += len(scenes)
            things = [{t: (c, k, p) for t, (k, c, p) in s.labels.items()} for s in scenes]
            if soft:
                seen = torch.cat([self.soft.tokens(s) for s in scenes])
            elif self.args.stage == "read":
                rows, cols = 2 * scenes[0].rows, 2 * scenes[0].cols
                seen = self.parts["encoder"](pixels(scenes), rows, cols).flatten(0, 1)
            else:
                seen, dense = self.see(scenes)
                seen = seen.flatten(0, 1)
                dense = dense + self.encode(rng, MORE)[1]
        if soft:
            seen = seen + torch.randn_like(seen) * NOISE * self.soft.scale * rng.random()
        x = model.embed(ids).masked_scatter((ids == questions.IMAGE)[..., None], seen)
        loss = self.answers(x, ids, marks)
        self.note(name, loss)
        for part, value in self.lookup.losses(ids, marks, things).items():
            self.note(part, value)
            loss = loss + LOOK * value
        return "dense" if self.args.stage == "joint" else "all", loss + DENSE * dense

    def note(self, name, loss):
        losses, value = self.state["losses"], loss.item()
        losses[name] = 0.98 * losses.get(name, value) + 0.02 * value

    def factor(self):
        """Share of the full rate, or None at the end: constant, then falling to 2 %."""
        state, args = self.state, self.args
        done = state["step"] / args.steps
        if args.deadline:
            done = max(done, (time.time() - state["begun"]) / (args.deadline - state["begun"]))
        if done >= 1:
            return None
        return min(1.0, (state["step"] + 1) / WARMUP, max(0.02, (1 - done) / (1 - args.fall)))

    def check(self):
        """The dense targets on scenes that training never draws."""
        rng, report = random.Random(f"{self.args.seed}/check"), {}
        with torch.no_grad():
            for _ in range(14):
                size = pictures.sizes(rng, rng.random() < 0.35)
                self.see([pictures.scene(rng, "test", size=size) for _ in range(24)], report)
        print("  held out", {k: f"{100 * sum(v) / len(v):.0f}% of {len(v)}"
                             for k, v in sorted(report.items())}, flush=True)

    def go(self):
        args, state = self.args, self.state
        saved = 0
        step = self.encode if args.stage == "encode" else self.picture
        clock = time.process_time()
        while (factor := self.factor()) is not None and not self.interrupted:
            for optimiser, rates in zip(self.optimisers, self.rates):
                for group, rate in zip(optimiser.param_groups, rates):
                    group["lr"] = rate * factor
            name, loss = step(random.Random(f"{args.seed}/{args.stage}/{state['step']}"))
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
            self.note(name, loss)
            state["step"] += 1
            state["cpu"] += time.process_time() - clock
            clock = time.process_time()
            if state["step"] % 50 == 0:
                print(f"{time.strftime('%H:%M:%S')} {args.stage} {state['step']} cpu "
                      f"{state['cpu']:.0f} pictures {state['pictures']} tokens {state['tokens']} "
                      f"rate {args.rate * factor:.1e}",
                      {k: round(v, 3) for k, v in state["losses"].items()}, flush=True)
            if "heads" in self.parts and state["step"] % args.check == 0:
                self.check()
                clock = time.process_time()
            if time.time() - saved > args.save_seconds:
                self.save()
                saved = time.time()
        self.save()
        print(f"ended at step {state['step']}: {json.dumps(state)}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("stage", choices=["encode", "soft", "joint", "read"])
    p.add_argument("--run", required=True, help="directory of the checkpoints")
    p.add_argument("--core", required=True, help="GGUF file of the text core")
    p.add_argument("--encoder", help="checkpoint that the encoder starts from")
    p.add_argument("--text", help="checkpoint that the core starts from")
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--deadline", type=float, help="unix time at which the run ends early")
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--fall", type=float, default=0.5, help="share of the run at the full rate")
    p.add_argument("--text-share", type=float, default=0.4, help="steps of dialogues alone")
    p.add_argument("--bf16", action="store_true", help="bf16 products in the core")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--check", type=int, default=500, help="steps between looks at held-out scenes")
    p.add_argument("--save-seconds", type=float, default=120)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    Run(args).go()


if __name__ == "__main__":
    sys.exit(main())
