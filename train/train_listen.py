# SPDX-License-Identifier: MIT
"""Teaches the encoder and its adapter to hear.

It learns phones at 50 per second and letters at 25 (by heads that are thrown away), and the core's
pieces at 12.5 as dot products with the core's own embeddings, so that a row becomes the embedding
of the piece that is said.

    python train/train_listen.py --run RUN/hear --core CORE.gguf --clips CLIPS --steps N

It can go on from an earlier run's end (--encoder). train_talk.py teaches the core to read its rows.

A killed run goes on from its last checkpoint, at most two minutes old, when the same command is
given again. Every batch is drawn from the seed and the number of the step.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import conformer
import export_gguf
import sentences
import speech
import tokenizer as tokens
from muon import Muon

FRAMES = 3400  # of one batch
NEAR = 150  # clips of a batch are that close in the order of lengths
WARMUP = 60
MUON = 10  # its rate in that of AdamW
FRAMES_ALONE = 0.06  # of the run: nothing but phones, without which the letters start late
WEIGHTS = {"phones": 0.5, "letters": 1, "pieces": 1, "rows": 0.3}
PIECES_FIRST = 0.15  # share of the weight of pieces and rows at the begin; 1 at the end
LETTERS = " abcdefghijklmnopqrstuvwxyz'"
PIECES = {"<|reserved_8|>": "<|audio_start|>", "<|reserved_9|>": "<|text_end|>"}
# Between pieces. The padding piece would not do: under the output norm no row comes near it.
SILENT = tokens.SPECIALS.index("<|startoftext|>")
CHECKED = 48  # clips of each kind


def grown(path):
    """The core of a file with the pieces of speech, and its vocabulary as JSON."""
    model, pieces, merges = export_gguf.read(path)
    return model, tokens.state_of([PIECES.get(piece, piece) for piece in pieces], merges)


class Heads(nn.Module):
    """Readers of phones and letters; not part of the shipped file."""

    def __init__(self, width):
        super().__init__()
        self.phones = nn.Linear(width, 4 * len(speech.PHONES))
        self.letters = nn.Linear(width, 2 * (1 + len(LETTERS)))

    def forward(self, states):
        clips, n, _ = states.shape
        return (self.phones(states).view(clips, 4 * n, -1),
                self.letters(states).view(clips, 2 * n, -1))


class Reader:
    """Pieces from adapted rows, by the core's own embeddings."""

    def __init__(self, core):
        self.table = core.embed.weight.detach().clone()
        self.gain = core.norm.weight.detach().clone()
        self.scale = self.table[:, 1:].std()

    def __call__(self, rows):
        rows = F.rms_norm(rows, (rows.shape[-1],)) * self.gain
        return F.log_softmax(F.linear(rows, self.table), -1)

    def miss(self, rows, scores):
        """Distance of rows to the embeddings of what they say."""
        said = scores.detach().exp() @ self.table
        return ((rows - said) / self.scale).square().mean()


def soft_rows(rng, ids, reader, noise=0.8):
    """Rows of a sentence as an encoder would give them, pieces far apart, some noise; and where the
    pieces are.

    One piece in fifteen is mixed with another, as a row is that may mean either.
    """
    rows, places = [], []
    for i in ids:
        rows += [reader.table[SILENT]] * min(int(rng.expovariate(0.4)), 9)
        places.append(len(rows))
        share = rng.uniform(0.5, 1) if rng.random() < 1 / 15 else 1
        rows.append(share * reader.table[i] + (1 - share) * reader.table[rng.randrange(
            len(tokens.SPECIALS), len(reader.table))])
    rows = torch.stack(rows + [reader.table[SILENT]] * rng.randint(1, 6))
    return rows + torch.randn_like(rows) * noise * reader.scale * rng.random(), places


def aligned(scores, ids):
    """The row [n, pieces] that says each of the ids on the best path, None if there are too few."""
    symbols = [SILENT] + [s for i in ids for s in (i, SILENT)]
    emitted = scores[:, symbols].numpy()
    again = np.array([k < 2 or k % 2 == 0 or symbols[k] == symbols[k - 2]
                      for k in range(len(symbols))])
    best, ways = np.full(len(symbols), -np.inf), []
    best[:2] = emitted[0, :2]
    for row in emitted[1:]:
        steps = np.full((3, len(symbols)), -np.inf)
        steps[0], steps[1, 1:], steps[2, 2:] = best, best[:-1], best[:-2]
        steps[2, again] = -np.inf
        ways.append(steps.argmax(0))
        best = steps.max(0) + row
    state = len(symbols) - 1 - int(best[-2] > best[-1])
    if best[state] == -np.inf:
        return None
    path = [state]
    for way in reversed(ways):
        path.append(path[-1] - way[path[-1]])
    path, places = np.array(path[::-1]), []
    for k in range(1, len(symbols), 2):
        own = np.flatnonzero(path == k)
        places.append(int(own[emitted[own, k].argmax()]))
    return places


def ctc(scores, lengths, targets, blank):
    """Loss per target symbol."""
    sizes = torch.tensor([len(t) for t in targets])
    total = F.ctc_loss(scores.transpose(0, 1), torch.cat(targets), lengths, sizes, blank,
                       reduction="none", zero_infinity=True)
    return total.sum() / sizes.sum()


def errors(wanted, found):
    """Edit distance of two lists."""
    line = list(range(len(found) + 1))
    for i, a in enumerate(wanted, 1):
        above, line[0] = line[0], i
        for j, b in enumerate(found, 1):
            above, line[j] = line[j], min(line[j] + 1, line[j - 1] + 1, above + (a != b))
    return line[-1]


def collapsed(path):
    """Pieces of a greedy path."""
    return [a for a, b in zip(path, [SILENT] + path) if a not in (SILENT, b)]


def padded(features):
    out = torch.zeros(len(features), max(map(len, features)), speech.MELS)
    for row, x in zip(out, features):
        row[:len(x)] = x
    return out, torch.tensor([len(x) for x in features])


class Clips:
    """Clips in the order of their lengths, so that neighbours make a batch."""

    def __init__(self, folder, count, vocabulary):
        self.clips = sorted(speech.shards(folder, count), key=lambda clip: len(clip[2]))
        for i, (words, *rest) in enumerate(self.clips):
            ids = torch.tensor(vocabulary.encode(words, add_special_tokens=False).ids)
            self.clips[i] = (words, ids, *rest)

    def batch(self, rng, frames):
        """Some clips of about the same length with about so many frames in all."""
        near = min(NEAR, len(self.clips) // 4)
        at = rng.randrange(near, len(self.clips) - near)
        count = max(2, frames // (len(self.clips[at][3]) + 20))
        return [self.clips[i] for i in rng.sample(range(at - near, at + near), min(count, near))]


class Run:
    def __init__(self, args):
        self.args, self.dir = args, pathlib.Path(args.run)
        self.dir.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        core, vocabulary = grown(args.core)
        table = self.dir / "tokenizer.json"
        table.write_text(json.dumps(vocabulary, ensure_ascii=False))
        self.vocabulary = tokens.load(table)
        self.reader = Reader(core)
        self.clips = Clips(args.clips, args.shards, self.vocabulary)
        self.augment = speech.Augment(args.seed)
        cfg = conformer.Config(out=core.cfg.hidden)
        encoder = conformer.Encoder(cfg)
        with torch.no_grad():  # rows start as small as embeddings, with their constant
            encoder.mm3.weight.mul_(self.reader.scale)
            encoder.mm3.bias.zero_()[0] = self.reader.table[:, 0].mean()
        self.parts = {"encoder": encoder, "heads": Heads(cfg.hidden)}
        if args.encoder:
            saved = torch.load(args.encoder, weights_only=False)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
        self.optimisers = self.optimise()
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self.state = {"step": 0, "cpu": 0.0, "begun": time.time(), "clips": 0, "seconds": 0.0,
                      "losses": {}}
        self.interrupted = False
        if (self.dir / "last.pt").exists():
            self.load(self.dir / "last.pt")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.interrupt)

    def optimise(self):
        """Matrices of the encoder by Muon, all else by AdamW."""
        matrices, others, rate = [], [], self.args.rate
        for part in self.parts.values():
            for name, p in part.named_parameters():
                muon = name.startswith("blocks") and p.dim() == 2 and "bias_" not in name
                (matrices if muon else others).append(p)
        return [torch.optim.AdamW(others, rate, (0.9, 0.98), weight_decay=0.01, fused=True),
                Muon(matrices, MUON * rate)]

    def interrupt(self, *_):
        self.interrupted = True

    def load(self, path):
        saved = torch.load(path, weights_only=False)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        for optimiser, state in zip(self.optimisers, saved["optimisers"]):
            optimiser.load_state_dict(state)
        self.state.update(saved["state"])
        print(f"continuing from {path} at step {self.state['step']}", flush=True)

    def save(self):
        part = self.dir / "last.pt.part"
        saved = {name: module.state_dict() for name, module in self.parts.items()}
        saved |= {"state": dict(self.state), "listen": self.parts["encoder"].cfg.to_dict(),
                  "optimisers": [o.state_dict() for o in self.optimisers]}
        torch.save(saved, part)
        os.replace(part, self.dir / "last.pt")

    def heard(self, rng, frames):
        """A batch of clips with their augmented features and phones."""
        batch = self.clips.batch(rng, frames)
        shown = [self.augment(rng, *clip[3:]) for clip in batch]
        x, lengths = padded([x for x, _ in shown])
        self.state["clips"] += len(batch)
        self.state["seconds"] += lengths.sum().item() / 100
        return batch, x, lengths, [phones for _, phones in shown]

    def hear(self, rng):
        batch, x, lengths, phones = self.heard(rng, FRAMES)
        encoder, n = self.parts["encoder"], (lengths + conformer.STRIDE - 1) // conformer.STRIDE
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.args.float32):
            states, valid = encoder.states(x, lengths)
        states = states.float()
        guess, letters = self.parts["heads"](states)
        target = torch.full(guess.shape[:2], speech.NO_PHONE)
        for row, ids in zip(target, phones):
            row[:len(ids)] = ids
        losses = {"phones": F.cross_entropy(guess.flatten(0, 1), target.flatten(),
                                            ignore_index=speech.NO_PHONE)}
        shares, done = {}, 1.0 if self.args.encoder else self.done()
        if done >= FRAMES_ALONE:
            losses["letters"] = ctc(letters.log_softmax(-1), 2 * n, [torch.tensor(
                [1 + LETTERS.index(c) for c in clip[0]]) for clip in batch], 0)
            rows = encoder.adapt(states)
            scores = self.reader(rows)
            share = PIECES_FIRST + (1 - PIECES_FIRST) * done
            shares = {"pieces": share, "rows": share}
            losses["pieces"] = ctc(scores, n, [clip[1] for clip in batch], SILENT)
            losses["rows"] = self.reader.miss(rows[valid], scores[valid])
        right = guess.argmax(-1) == target
        self.note("right", right[target != speech.NO_PHONE].float().mean())
        return self.total(losses, shares)

    def total(self, losses, shares={}):
        for name, loss in losses.items():
            self.note(name, loss)
        return sum(WEIGHTS[name] * shares.get(name, 1) * loss for name, loss in losses.items())

    def note(self, name, value):
        losses, value = self.state["losses"], float(torch.as_tensor(value).detach())
        losses[name] = 0.98 * losses.get(name, value) + 0.02 * value

    def done(self):
        """Share of the run that is behind, by steps or, with a deadline, by the clock."""
        state, args = self.state, self.args
        done = state["step"] / args.steps
        if args.deadline:
            done = max(done, (time.time() - state["begun"]) / (args.deadline - state["begun"]))
        return done

    def factor(self, done):
        return min(1.0, (self.state["step"] + 1) / WARMUP,
                   max(0.02, (1 - done) / (1 - self.args.constant)))

    @torch.no_grad()
    def check(self):
        """Word errors of sentences that training never draws, by the greedy path of pieces."""
        encoder, report = self.parts["encoder"].eval(), {}
        if not hasattr(self, "kept"):
            rng = random.Random(f"{self.args.seed}/check")
            self.kept = [(kind, *heard) for kind, voices in
                         (("known", list(speech.VOICES)), ("new", speech.HELD_OUT))
                         for heard in tested(rng, "test", voices, CHECKED)]
        for kind, words, _, samples in self.kept:
            x = speech.normalised(speech.log_mel(samples))[None]
            rows, _ = encoder(x, torch.tensor([x.shape[1]]))
            path = self.reader(rows)[0].argmax(-1).tolist()
            found = self.vocabulary.decode(collapsed(path)).split()
            wrong, total = report.get(kind, (0, 0))
            report[kind] = wrong + errors(words.split(), found), total + len(words.split())
        encoder.train()
        print("  word errors, new sentences, voices", {
            kind: f"{100 * wrong / total:.1f}%" for kind, (wrong, total) in report.items()},
            flush=True)

    def go(self):
        args, state, saved, clock = self.args, self.state, time.time(), time.process_time()
        while (done := self.done()) < 1 and not self.interrupted:
            rng = random.Random(f"{args.seed}/{state['step']}")
            for optimiser, rates in zip(self.optimisers, self.rates):
                for group, rate in zip(optimiser.param_groups, rates):
                    group["lr"] = rate * self.factor(done)
                optimiser.zero_grad()
            self.hear(rng).backward()
            for part in self.parts.values():
                torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
            state["step"] += 1
            state["cpu"] += time.process_time() - clock
            clock = time.process_time()
            if state["step"] % 50 == 0:
                print(f"{time.strftime('%H:%M:%S')} step {state['step']} cpu "
                      f"{state['cpu']:.0f} clips {state['clips']} {100 * done:.0f}%",
                      {k: round(v, 3) for k, v in state["losses"].items()}, flush=True)
            if state["step"] % args.check == 0:
                self.check()
                clock = time.process_time()
            if time.time() - saved > args.save_seconds:
                self.save()
                saved = time.time()
        self.save()
        if not self.interrupted:
            self.check()
        print(f"ended at step {state['step']}: {json.dumps(state)}", flush=True)


def tested(rng, split, voices, count, low=5, high=35):
    """Noisy clips of sentences that training never draws: (words, voice, samples at 16 kHz)."""
    out = []
    while len(out) < count:
        words, voice = sentences.sentence(rng, split), voices[len(out) % len(voices)]
        samples, hz, _ = speech.say(words, voice, rng.uniform(0.85, 1.2), rng.randint(30, 70))
        out.append((words, voice, speech.recorded(
            rng, speech.resample(samples, hz, speech.RATE), rng.uniform(low, high))))
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--run", required=True, help="directory of the checkpoints")
    p.add_argument("--core", required=True, help="GGUF file of the text core")
    p.add_argument("--clips", required=True, help="folder of speech.py's shards; missing are made")
    p.add_argument("--shards", type=int, default=24)
    p.add_argument("--encoder", help="checkpoint that the encoder starts from")
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--deadline", type=float, help="unix time at which the run ends early")
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--constant", type=float, default=0.55, help="share of the run at the full rate")
    p.add_argument("--float32", action="store_true", help="no bf16 products")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--check", type=int, default=400, help="steps between looks at new sentences")
    p.add_argument("--save-seconds", type=float, default=120)
    args = p.parse_args()
    torch.set_num_threads(1)
    Run(args).go()


if __name__ == "__main__":
    sys.exit(main())
