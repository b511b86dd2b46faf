# SPDX-License-Identifier: MIT
"""Trains the text core: raw recall, then dialogues at a constant rate, then a cooldown.

The constant phase has no planned end. A cooldown is branched from any of its checkpoints into a
run directory of its own and lets the rate fall linearly to 2 %:

    python train/train_core.py --run RUN --steps 12000
    python train/train_core.py --run FINAL --branch RUN/last.pt --cooldown 3000

A further stage starts from an exported file, with a new optimiser and another mixture:

    python train/train_core.py --run MORE --start FILE.gguf --mixture focused --steps 4000

Every checkpoint holds all that the run depends on (weights, optimiser, step, position in the data),
so a killed run continues where it was when the same command is given again. The data is a function
of the seed and the pool's number alone.

A small network gains little from the threads of one process: every worker is a process with one
thread and a copy of the network, takes its own share of each step's batches, and the gradients are
added up. All workers then make the same update.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

import circuit
import data
import export_gguf
import tokenizer as tokens
from lfm2 import LFM2, Config

BATCH_TOKENS = 1024  # of one worker
LENGTH_STEP = 8  # row lengths are multiples of it: few shapes, few kernels to prepare
POOL = 1200  # dialogues drawn, sorted by length and cut into batches at a time
WARMUP = 60
RAW_ROWS, RAW_LENGTH, RAW_LIMIT, RAW_DONE = 5, 192, 400, 0.15


def batches_of(vocabulary, mixture, seed, pool):
    """The batches of one pool: rows of similar length, no row attends to another."""
    rng = random.Random(f"{seed}/pool {pool}")
    rows = []
    while len(rows) < POOL:
        for _, messages, where in data.MIXTURES[mixture](rng):
            rows.append(tokens.encode(vocabulary, data.render(messages, where)))
    return cut(rng, rows)


def cut(rng, rows):
    """Batches (ids, marks, companions) of rows (ids, learnt, companion or nothing)."""
    rows.sort(key=lambda row: len(row[0]))
    batches = []
    while rows:
        longest = -(-len(rows[-1][0]) // LENGTH_STEP) * LENGTH_STEP
        taken = rows[-max(1, BATCH_TOKENS // longest):]
        del rows[-len(taken):]
        ids = torch.zeros(len(taken), longest, dtype=torch.long)
        marks = torch.zeros(len(taken), longest, dtype=torch.bool)
        for i, (row, learnt, *_) in enumerate(taken):
            ids[i, :len(row)] = torch.tensor(row)
            marks[i, :len(row)] = torch.tensor(learnt)
        batches.append((ids, marks, [row[2] for row in taken if row[2:]]))
    rng.shuffle(batches)
    return batches


class Run:
    def __init__(self, args):
        self.args = args
        self.dir = pathlib.Path(args.run)
        self.dir.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        self.vocabulary = tokens.load(pathlib.Path(args.tokenizer))
        if args.start:
            self.model, _, _ = export_gguf.read(args.start)
        else:
            cfg = Config(vocab=self.vocabulary.get_vocab_size(), **json.loads(args.config))
            self.model = LFM2(cfg)
            circuit.initialise(self.model)
        matrices = [p for p in self.model.parameters() if p.dim() == 2]
        others = [p for p in self.model.parameters() if p.dim() != 2]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=args.rate, betas=(0.9, 0.98), fused=True)
        self.state = {"stage": "dialogues" if args.start else "raw", "step": 0, "tokens": 0,
                      "targets": 0, "pool": 0, "batch": 0, "loss": None, "cpu": 0.0, "cooled": 0}
        source = self.dir / "last.pt"
        if not source.exists() and args.branch:
            source = pathlib.Path(args.branch)
        if source.exists():
            self.load(source)
        self.stop, self.interrupted = False, False
        self.rank, self.workers = int(os.environ.get("TRAIN_RANK", 0)), args.workers
        if self.workers > 1:
            dist.init_process_group("gloo", init_method=f"file://{args.meet}", rank=self.rank,
                                    world_size=self.workers)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.interrupt)

    def interrupt(self, *_):
        self.interrupted = True

    def load(self, path):
        saved = torch.load(path, weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.state.update(saved["state"])
        print(f"continuing from {path} at step {self.state['step']}", flush=True)

    def save(self):
        part = self.dir / "last.pt.part"
        torch.save({"config": self.model.cfg.to_dict(), "args": vars(self.args),
                    "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
                    "state": dict(self.state)}, part)
        os.replace(part, self.dir / "last.pt")

    def learn(self, ids, marks, factor):
        """One step: this worker's batch, then everybody's gradients over everybody's targets."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.args.rate * factor
        wanted = marks[:, 1:]
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.args.float32):
            states = self.model.hidden(ids[:, :-1])[wanted]
            logits = self.model.logits(states)
        loss = F.cross_entropy(logits.float(), ids[:, 1:][wanted], reduction="sum")
        self.optimiser.zero_grad()
        loss.backward()
        grads = [p.grad for p in self.model.parameters()]
        shared = torch.cat([g.flatten() for g in grads] + [torch.tensor(
            [loss.item(), float(wanted.sum()), float(ids.numel()), float(self.interrupted)])])
        if self.workers > 1:
            dist.all_reduce(shared)
        total, targets, count, stop = shared[-4:].tolist()
        self.stop = stop > 0
        torch._foreach_copy_(grads, [v.view_as(g) for g, v in zip(grads, torch.split(
            shared[:-4] / targets, [g.numel() for g in grads]))])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        state, value = self.state, total / targets
        state["loss"] = value if state["loss"] is None else 0.98 * state["loss"] + 0.02 * value
        state["step"] += 1
        state["tokens"] += int(count)
        state["targets"] += int(targets)

    def raw_recall(self):
        """Stage 0: the circuit is settled when random lists are looked up almost without error."""
        state = self.state
        low = len(tokens.SPECIALS)
        while state["stage"] == "raw":
            rng = random.Random(f"{self.args.seed}/raw {state['step']}/{self.rank}")
            ids, marks = circuit.raw_batch(rng, low, self.model.cfg.vocab, RAW_ROWS, RAW_LENGTH,
                                           tokens.SPECIALS.index("<|startoftext|>"))
            self.learn(ids, marks, min(1.0, (state["step"] + 1) / WARMUP))
            if state["step"] >= RAW_LIMIT or state["loss"] < RAW_DONE:
                state.update(stage="dialogues", loss=None)
            if self.tick():
                return

    def factor(self):
        """Share of the full rate at this step, or None when the run is at its end."""
        if not self.args.cooldown:
            step = self.state["step"]
            return None if step >= self.args.steps else min(1.0, (step + 1) / WARMUP)
        done = self.state["cooled"] / self.args.cooldown
        if self.args.deadline:  # the branch never takes longer than it is given
            begun = self.state.setdefault("cooling_since", time.time())
            late = (time.time() - begun) / max(1, self.args.deadline - begun)
            if self.workers > 1:  # one clock for all
                told = torch.tensor([late], dtype=torch.float64)
                dist.broadcast(told, 0)
                late = told.item()
            done = max(done, late)
        return None if done >= 1 else max(0.02, 1 - 0.98 * done)

    def dialogues(self):
        """Stage 1: the mixture of data.py; the same stage cools down when that is asked for."""
        state = self.state
        while not self.stop:
            pool = batches_of(self.vocabulary, self.args.mixture, self.args.seed, state["pool"])
            while state["batch"] + self.workers <= len(pool):
                factor = self.factor()
                if factor is None:
                    return
                self.learn(*pool[state["batch"] + self.rank][:2], factor)
                state["batch"] += self.workers
                state["cooled"] += 1 if self.args.cooldown else 0
                if self.tick():
                    return
            state.update(pool=state["pool"] + 1, batch=0)

    def tick(self):
        """Log lines and checkpoints; true when the run was asked to stop."""
        now, state = time.time(), self.state
        if self.rank:
            return self.stop
        state["cpu"] += self.workers * (time.process_time() - self.cpu)
        self.cpu = time.process_time()
        if state["step"] % 50 == 0:
            print(f"{time.strftime('%H:%M:%S')} {state['stage']} step {state['step']} "
                  f"tokens {state['tokens']} cpu {state['cpu']:.0f} loss {state['loss'] or 0:.4f} "
                  f"rate {self.optimiser.param_groups[0]['lr']:.2e}", flush=True)
        if now - self.saved > self.args.save_seconds:
            self.saved = now
            self.save()
        return self.stop

    def go(self):
        self.saved, self.cpu = time.time(), time.process_time()
        size = sum(p.numel() for p in self.model.parameters())
        if not self.rank:
            print(f"{size} parameters, vocabulary {self.model.cfg.vocab}", flush=True)
        self.model.train()
        if self.state["stage"] == "raw":
            self.raw_recall()
        if not self.stop:
            self.dialogues()
        if self.rank:
            return
        self.save()
        print(f"ended at step {self.state['step']}: {json.dumps(self.state)}", flush=True)


def prepare_tokenizer(args):
    """Makes a missing tokenizer file once, before several workers look for it."""
    path = pathlib.Path(args.tokenizer)
    if args.start and not path.exists():
        _, pieces, merges = export_gguf.read(args.start)
        path.write_text(json.dumps(tokens.state_of(pieces, merges), ensure_ascii=False))
    tokens.load(path)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--run", required=True, help="directory of the checkpoints")
    p.add_argument("--tokenizer", required=True, help="tokenizer.json; made when missing")
    p.add_argument("--config", default="{}", help="JSON of settings of the network (lfm2.Config)")
    p.add_argument("--start", help="GGUF file to start from; a missing tokenizer is made from it")
    p.add_argument("--mixture", choices=data.MIXTURES, default="broad")
    p.add_argument("--steps", type=int, default=12000, help="end of the constant phase")
    p.add_argument("--rate", type=float, default=2.5e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    p.add_argument("--float32", action="store_true", help="no bf16 products")
    p.add_argument("--branch", help="checkpoint that a new run directory starts from")
    p.add_argument("--cooldown", type=int, default=0,
                   help="steps until the rate has fallen to 2 %%")
    p.add_argument("--deadline", type=float, help="unix time at which the cooldown ends early")
    p.add_argument("--save-seconds", type=float, default=120)
    p.add_argument("--meet", help=argparse.SUPPRESS)  # file where the workers find each other
    args = p.parse_args()
    torch.set_num_threads(1)
    others = []
    if not args.meet:
        prepare_tokenizer(args)
    if args.workers > 1 and not args.meet:
        args.meet = tempfile.mktemp(prefix="train-core-")
        for rank in range(1, args.workers):
            others.append(subprocess.Popen(
                [sys.executable] + sys.argv + ["--meet", args.meet],
                env=dict(os.environ, TRAIN_RANK=str(rank))))
    Run(args).go()
    for other in others:
        other.wait()


if __name__ == "__main__":
    sys.exit(main())
