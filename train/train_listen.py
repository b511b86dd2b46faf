# SPDX-License-Identifier: MIT
"""Teaches the encoder to hear, and the text core to write down what its rows say.

    hear   the encoder and its adapter: phones at 50 per second and letters at 25 (heads that are
           thrown away), and the core's pieces at 12.5 as dot products with the core's own
           embeddings, so that a row becomes the embedding of the piece that is said
    soft   the core alone, at the same time: transcripts as answers to rows that are made of
           those embeddings, without any sound, between dialogues

    python train/train_listen.py hear --run RUN/hear --core CORE.gguf --clips CLIPS --steps N
    python train/train_listen.py soft --run RUN/soft --core CORE.gguf --steps N

train_talk.py brings both together. `hear` can go on from an earlier run's end (--encoder).

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

import torch
import torch.nn as nn
import torch.nn.functional as F

import conformer
import export_gguf
import sentences
import speech
import tokenizer as tokens
import train_core
from muon import Muon

FRAMES = 3400  # of one batch
NEAR = 150  # clips of a batch are that close in the order of lengths
WARMUP = 60
MUON = 10  # its rate in that of AdamW
FRAMES_ALONE = 0.06  # of the run: nothing but phones, without which the letters start late
WEIGHTS = {"phones": 0.5, "letters": 1, "pieces": 1, "rows": 0.3, "answer": 1, "text": 1}
PIECES_FIRST = 0.15  # share of the weight of pieces and rows when `hear` begins; 1 at its end
SENTENCES = 12  # of a step of `soft`
LETTERS = " abcdefghijklmnopqrstuvwxyz'"
SYSTEM = "Perform ASR."
PIECES = {"<|reserved_8|>": "<|audio_start|>", "<|reserved_9|>": "<|text_end|>"}
# Between pieces. The padding piece would not do: under the output norm no row comes near it.
SILENT = tokens.SPECIALS.index("<|startoftext|>")
CHECKED = 48  # clips of each kind


def grown(path):
    """The core of a file with the pieces of speech, and its vocabulary as JSON."""
    model, pieces, merges = export_gguf.read(path)
    return model, tokens.state_of([PIECES.get(piece, piece) for piece in pieces], merges)


def prompt(vocabulary):
    """Ids before and after the rows of the request for a transcript."""
    before = f"<|startoftext|><|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    return [vocabulary.encode(part, add_special_tokens=False).ids
            for part in (before, "<|im_end|>\n<|im_start|>assistant\n")]


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


def soft_rows(rng, ids, reader, noise=0.25):
    """Rows of a sentence as an encoder would give them: pieces far apart, some noise.

    One piece in fifteen is mixed with another, as a row is that may mean either.
    """
    rows = []
    for i in ids:
        rows += [reader.table[SILENT]] * min(int(rng.expovariate(0.4)), 9)
        share = rng.uniform(0.5, 1) if rng.random() < 1 / 15 else 1
        rows.append(share * reader.table[i] + (1 - share) * reader.table[rng.randrange(
            len(tokens.SPECIALS), len(reader.table))])
    rows = torch.stack(rows + [reader.table[SILENT]] * rng.randint(1, 6))
    return rows + torch.randn_like(rows) * noise * reader.scale * rng.random()


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
        if args.stage != "soft":
            self.clips = Clips(args.clips, args.shards, self.vocabulary)
            self.augment = speech.Augment(args.seed)
        cfg = conformer.Config(out=core.cfg.hidden)
        encoder = conformer.Encoder(cfg)
        with torch.no_grad():  # rows start as small as embeddings, with their constant
            encoder.mm3.weight.mul_(self.reader.scale)
            encoder.mm3.bias.zero_()[0] = self.reader.table[:, 0].mean()
        self.parts = {"model": core}
        if args.stage == "hear":
            self.parts = {"encoder": encoder, "heads": Heads(cfg.hidden)}
        if args.encoder:
            saved = torch.load(args.encoder, weights_only=False)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
        self.optimisers = self.optimise()
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self.state = {"stage": args.stage, "step": 0, "cpu": 0.0, "begun": time.time(), "clips": 0,
                      "seconds": 0.0, "tokens": 0, "losses": {}}
        self.before, self.after = map(torch.tensor, prompt(self.vocabulary))
        self.end = torch.tensor([tokens.SPECIALS.index("<|im_end|>")])
        self.text, self.interrupted = [], False
        if (self.dir / "last.pt").exists():
            self.load(self.dir / "last.pt")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.interrupt)

    def optimise(self):
        """Matrices of the encoder by Muon, all else by AdamW."""
        matrices, others, rate = [], [], self.args.rate
        for part in self.parts.values():
            for name, p in part.named_parameters():
                muon = "model" not in self.parts and name.startswith("blocks") and p.dim() == 2
                (matrices if muon and "bias_" not in name else others).append(p)
        optimisers = [torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01,
                                        fused=True)]
        return optimisers + ([Muon(matrices, MUON * rate)] if matrices else [])

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
        saved |= {"state": dict(self.state),
                  "optimisers": [o.state_dict() for o in self.optimisers]}
        if "encoder" in self.parts:
            saved["listen"] = self.parts["encoder"].cfg.to_dict()
        if "model" in self.parts:
            saved["config"] = self.parts["model"].cfg.to_dict()
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

    def written(self, sentences_rows):
        """Loss of the core's transcripts of (ids, rows); rows stand where a user's words would."""
        model, lines, marks = self.parts["model"], [], []
        for ids, rows in sentences_rows:
            answer = torch.cat([ids, self.end])
            known = torch.cat([model.embed(self.before), rows, model.embed(self.after)])
            lines.append(torch.cat([known, model.embed(answer[:-1])]))
            marks.append(torch.cat([answer.new_full((len(known) - 1,), -1), answer]))
        lines = nn.utils.rnn.pad_sequence(lines, batch_first=True)
        marks = nn.utils.rnn.pad_sequence(marks, batch_first=True, padding_value=-1)
        self.state["tokens"] += marks.numel()
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.args.float32):
            states = model.states(lines)[marks >= 0]
        return F.cross_entropy(model.logits(states.float()), marks[marks >= 0])

    def soft(self, rng):
        said = [torch.tensor(self.vocabulary.encode(sentences.sentence(rng),
                                                    add_special_tokens=False).ids)
                for _ in range(SENTENCES)]
        return self.total({"answer": self.written(
            [(ids, soft_rows(rng, ids.tolist(), self.reader)) for ids in said])})

    def dialogue(self, rng):
        """A step of the mixtures that the core has learnt before."""
        if not self.text:
            self.text = train_core.batches_of(
                self.vocabulary, rng.choice(["broad", "focused", "focused"]),
                f"{self.args.seed}/text", rng.randrange(1 << 30))
        ids, marks, _ = self.text.pop()
        model, wanted = self.parts["model"], marks[:, 1:]
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.args.float32):
            states = model.hidden(ids[:, :-1])[wanted]
        logits = model.logits(states.float())
        self.state["tokens"] += ids.numel()
        return self.total({"text": F.cross_entropy(logits, ids[:, 1:][wanted])})

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
            rng = random.Random(f"{args.seed}/{args.stage}/{state['step']}")
            for optimiser, rates in zip(self.optimisers, self.rates):
                for group, rate in zip(optimiser.param_groups, rates):
                    group["lr"] = rate * self.factor(done)
                optimiser.zero_grad()
            step = getattr(self, args.stage)
            if args.stage == "soft" and rng.random() < args.text_share:
                step = self.dialogue
            loss = step(rng)
            loss.backward()
            for part in self.parts.values():
                torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
            state["step"] += 1
            state["cpu"] += time.process_time() - clock
            clock = time.process_time()
            if state["step"] % 50 == 0:
                print(f"{time.strftime('%H:%M:%S')} {args.stage} {state['step']} cpu "
                      f"{state['cpu']:.0f} clips {state['clips']} {100 * done:.0f}%",
                      {k: round(v, 3) for k, v in state["losses"].items()}, flush=True)
            if "encoder" in self.parts and state["step"] % args.check == 0:
                self.check()
                clock = time.process_time()
            if time.time() - saved > args.save_seconds:
                self.save()
                saved = time.time()
        self.save()
        if "encoder" in self.parts and not self.interrupted:
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
    p.add_argument("stage", choices=["hear", "soft"])
    p.add_argument("--run", required=True, help="directory of the checkpoints")
    p.add_argument("--core", required=True, help="GGUF file of the text core")
    p.add_argument("--clips", help="folder of speech.py's shards; missing are made")
    p.add_argument("--shards", type=int, default=24)
    p.add_argument("--encoder", help="checkpoint that the encoder starts from")
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--deadline", type=float, help="unix time at which the run ends early")
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--constant", type=float, default=0.55, help="share of the run at the full rate")
    p.add_argument("--float32", action="store_true", help="no bf16 products")
    p.add_argument("--text-share", type=float, default=0.3, help="steps of dialogues alone")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--check", type=int, default=400, help="steps between looks at new sentences")
    p.add_argument("--save-seconds", type=float, default=120)
    args = p.parse_args()
    torch.set_num_threads(1)
    Run(args).go()


if __name__ == "__main__":
    sys.exit(main())
