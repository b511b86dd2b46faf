# SPDX-License-Identifier: MIT
"""Teaches the text core to speak, and then to hear and to converse; each stage writes RUN/last.pt.

    read     sentences are read aloud: codes from text, beside the dialogues that it can hold
    talk     hears, reads aloud, answers in words and sound, and keeps its dialogues
    aloud    the same, most of all reading aloud

    python train/train_talk.py read --run RUN/read --core CORE.gguf --spoken FOLDER --steps STEPS
    python train/train_talk.py talk --run RUN/talk --core CORE.gguf --spoken FOLDER --steps STEPS \\
        --start RUN/read/last.pt --encoder RUN/hear/last.pt --clips CLIPS

From the second stage on the core also reads rows that are made of its own embeddings, without
sound, which cost little. The encoder stays as it is, unless it has a rate of its own.

What a network of this size does not find out by itself is told to it: which phones a frame speaks
(a head that is thrown away), and where to look (talks.py): some heads of every attention layer
have to look at the piece that is spoken or written next and at the one after it, and the rows of a
sound at the piece before theirs. Where a piece was heard is found by the encoder's own best path.

A killed run goes on from its last checkpoint, at most two minutes old, when the same command is
given again. All data is drawn from the seed and the number of the pool; sentences that are spoken
while the training runs are taken in with the next pool.
"""

import argparse
import json
import os
import pathlib
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from tokenizers import Tokenizer

import codec
import conformer
import export_gguf
import sentences
import speech
import talks
import tokenizer as tokens
import train_core
import train_listen
import voice
from depthformer import VALUES, Depthformer
from lfm2 import Attention

BATCH = 1000  # positions
# Rows drawn, sorted by length and cut into batches at a time.
POOL = {"short": 800, "spoken": 400, "heard": 300, "soft": 300, "begun": 300, "chat": 200}
WARMUP, LEAST = 60, 0.03
EMBEDDING_RATE, NEW_RATE = 0.2, 2.0  # in the core's
DEEP = 0.35  # of the frames teach all books, the rest the first one alone
NOISE = 0.1  # of the codes that the core reads are wrong ones, so that it learns to go on
BOOK_WEIGHTS = torch.tensor([8.0 ** (1 - i / 7) for i in range(codec.BOOKS)])
BOOK_WEIGHTS /= BOOK_WEIGHTS.sum()
WATCH = 1.0  # weight of the attention that is told
SHARES = {"read": {"dialogue": 15, "short": 85},
          "talk": {"dialogue": 12, "spoken": 28, "heard": 22, "soft": 12, "begun": 10, "chat": 16},
          "aloud": {"dialogue": 9, "spoken": 66, "heard": 10, "soft": 2, "begun": 3, "chat": 10}}


class Talker(nn.Module):
    """The core, the table of the codes, the depthformer; `phones` is thrown away."""

    def __init__(self, core):
        super().__init__()
        hidden = core.cfg.hidden
        self.core = core
        self.codes = nn.Embedding(codec.BOOKS * VALUES, hidden)
        nn.init.normal_(self.codes.weight, 0, 0.3 * core.embed.weight.std().item())
        self.depth = Depthformer(hidden)
        self.phones = nn.Linear(hidden, 3 * len(voice.PHONES))
        self.register_buffer("offsets", torch.arange(codec.BOOKS) * VALUES, persistent=False)
        for block in core.blocks:
            if isinstance(block.op, Attention):
                block.op.watched = True

    def code_rows(self, codes):
        return self.codes(codes + self.offsets).sum(-2)


def grown(path):
    """The core of a file, its pieces and merges with the names of the audio tokens."""
    model, pieces, merges = export_gguf.read(path)
    generator = torch.Generator().manual_seed(1)
    for name in tokens.AUDIO:
        if name in pieces:
            continue
        place = next(i for i, piece in enumerate(pieces) if piece.startswith("<|reserved_"))
        pieces[place] = name
        with torch.no_grad():
            row = model.embed.weight
            row[place] = row.std() * torch.randn(row.shape[1], generator=generator)
            row[place, 0] = row[pieces.index("<|im_start|>"), 0]  # the constant of circuit.py
    return model, pieces, merges


class Batch:
    """Rows side by side; `row` and `at` say where frames and learnt tokens stand."""

    def __init__(self, rows):
        self.ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            self.ids[i, :len(row)] = torch.tensor(row.ids)

        def flat(name):
            return torch.tensor([value for row in rows for value in getattr(row, name)])

        def numbers(name):
            return torch.tensor([i for i, row in enumerate(rows) for _ in getattr(row, name)])

        self.word_row, self.word_at = numbers("words"), flat("words")
        self.frame_row, self.at = numbers("frames"), flat("at")
        self.codes, self.phones = flat("frames"), flat("phones")
        self.told, self.soft, self.heard = (
            [(i, *item) for i, row in enumerate(rows) for item in getattr(row, name)]
            for name in ("told", "soft", "heard"))


def watch_loss(model, told):
    """How far the told heads are from the places they have to look at, for every layer."""
    told, losses = torch.tensor(sorted(told, key=lambda t: t[1])), []
    for block in model.core.blocks:
        if not isinstance(block.op, Attention):
            continue
        q, k = block.op.seen
        group, scores = block.op.heads // block.op.kv_heads, []
        for head, count in zip(*told[:, 1].unique_consecutive(return_counts=True)):
            row, at = told[sum(map(len, scores)):][:count, (0, 2)].T
            score = (q[row, head, at].float()[:, None] @ k[row, head // group].float().mT)[:, 0]
            later = torch.arange(score.shape[1]) > at[:, None]
            scores.append((score * q.shape[-1] ** -0.5).masked_fill(later, -torch.inf))
        losses.append(F.cross_entropy(torch.cat(scores), told[:, 3]))
    return torch.stack(losses)


def book_losses(depth, asked, codes, generator):
    """[BOOKS]: the first of every frame, the others of a part of them; the end has only one."""
    first = F.cross_entropy(depth(asked, codes[:, :0])[:, 0].float(), codes[:, 0])
    some = (torch.rand(len(codes), generator=generator) < DEEP) & (codes[:, 0] < codec.END)
    if not some.any():
        return F.pad(first[None], (0, codec.BOOKS - 1))
    logits = depth(asked[some], codes[some, :-1])[:, 1:].float()
    others = F.cross_entropy(logits.transpose(1, 2), codes[some, 1:], reduction="none").mean(0)
    return torch.cat([first[None], others])


class Ear:
    """The encoder, and what its rows say by the core's own embeddings."""

    def __init__(self, path, core, learns):
        listened = torch.load(path, weights_only=False)
        self.encoder = conformer.Encoder(conformer.Config(**listened["listen"])).eval()
        self.encoder.load_state_dict(listened["encoder"])
        self.reader, self.learns = train_listen.Reader(core), learns

    def __call__(self, heard, note):
        """Of sounds (row, position, features, ...): rows, where they and the soft loss belong."""
        features = [x for _, _, x, *_ in heard]
        sizes = torch.tensor([len(x) for x in features])
        with torch.set_grad_enabled(self.learns):
            padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
            states, valid = self.encoder.states(padded, sizes)
            with torch.autocast("cpu", enabled=False):
                rows = self.encoder.adapt(states.float())
                scores = self.reader(rows)
        lengths, told, loss = valid.sum(1).tolist(), [], 0
        for (i, first, _, answer, ids), n, score in zip(heard, lengths, scores.detach()):
            path = score[:n].argmax(-1).tolist()
            places = [t for t, (a, b) in enumerate(zip(path, [train_listen.SILENT] + path))
                      if a not in (train_listen.SILENT, b)]
            told += [(i, *one) for one in talks.before(first, n, places)]
            found = ids and train_listen.aligned(score[:n], ids)
            if found:
                told += [(i, *one) for one in
                         talks.copied(answer, [first + t for t in (*found, n)])]
        known = [j for j, (*_, ids) in enumerate(heard) if ids]
        if known:
            pieces = train_listen.ctc(scores[known], torch.tensor(lengths)[known],
                                      [torch.tensor(heard[j][4]) for j in known],
                                      train_listen.SILENT)
            note("pieces", pieces)
            if self.learns:
                loss = pieces + 0.3 * self.reader.miss(rows[valid], scores[valid])
        row = torch.tensor([i for (i, *_), n in zip(heard, lengths) for _ in range(n)])
        at = torch.cat([first + torch.arange(n) for (_, first, *_), n in zip(heard, lengths)])
        return (row, at), rows[valid], told, loss


def learn_rows(model, ear, batch, generator, note):
    """Loss of rows of talk."""
    codes, x = batch.codes, model.core.embed(batch.ids)
    if len(codes):
        wrong = torch.rand(codes.shape, generator=generator) < NOISE
        wrong &= codes < codec.END
        other = torch.randint(codec.CODES, codes.shape, generator=generator)
        read = torch.where(wrong, other, codes)
        x = x.index_put((batch.frame_row, batch.at), model.code_rows(read))
    told, total = batch.told, 0
    for i, first, rows in batch.soft:
        x[i, first:first + len(rows)] = rows
    if batch.heard:
        places, rows, found, total = ear(batch.heard, note)
        x, told = x.index_put(places, rows), told + found
    states = model.core.states(x)
    if len(batch.word_at):
        logits = model.core.logits(states[batch.word_row, batch.word_at - 1])
        words = F.cross_entropy(logits.float(), batch.ids[batch.word_row, batch.word_at])
        note("words", words)
        total = total + (words if batch.heard or batch.soft else 0.2 * words)
    if told:
        watched = watch_loss(model, told)
        note("watched", watched[1:].mean())
        total = total + WATCH * watched.mean()
    if len(codes):
        asked = states[batch.frame_row, batch.at - 1]
        books = book_losses(model.depth, asked, codes, generator)
        phones = F.cross_entropy(model.phones(asked).float().view(-1, len(voice.PHONES)),
                                 batch.phones.flatten().long())
        note("book 0", books[0])
        note("book 3", books[3])
        note("bits", books.sum() / 0.6931)
        note("phones", phones)
        total = total + (books * BOOK_WEIGHTS).sum() + 0.5 * phones
    return total


def learn_dialogues(model, ids, marks, note):
    wanted = marks[:, 1:]
    logits = model.core.logits(model.core.hidden(ids[:, :-1])[wanted])
    loss = F.cross_entropy(logits.float(), ids[:, 1:][wanted])
    note("dialogue", loss)
    return loss


class Data:
    """Endless batches of every task, each a function of the seed and its number."""

    def __init__(self, vocabulary, reader, args):
        self.vocabulary, self.builder, self.seed = vocabulary, talks.Builder(vocabulary), args.seed
        self.reader = reader
        self.folder, self.kept, self.pools = args.spoken, {"spoken": [], "chats": []}, {}
        if args.clips:
            self.clips = list(speech.shards(args.clips, args.shards))
            self.augment = speech.Augment(args.seed)

    def short(self, rng):
        """Read aloud without a system turn, which would be half of the row."""
        return self.builder.spoken(rng.choice(self.kept["spoken"]), "")

    def spoken(self, rng):
        return self.builder.spoken(rng.choice(self.kept["spoken"]))

    def heard(self, rng):
        words, _, *clip = rng.choice(self.clips)
        return self.builder.heard(words, self.augment(rng, *clip)[0])

    def softly(self, rng, words):
        """Rows of words without sound, made of the core's embeddings, and where pieces begin."""
        return train_listen.soft_rows(rng, self.builder.ids(words), self.reader)

    def soft(self, rng):
        """A transcript of such rows."""
        words = sentences.sentence(rng)
        return self.builder.heard(words, self.softly(rng, words))

    def begun(self, rng):
        """The first part of an exchange whose request is such rows."""
        messages, words, system = talks.exchange(rng)
        return self.builder.begins(system, messages, self.softly(rng, words))

    def chat(self, rng):
        while True:
            chat = rng.choice(self.kept["chats"])
            row = self.builder.chat(chat, self.augment(rng, *chat.clip)[0])
            if row:
                return row

    def pool(self, task, number):
        rng = random.Random(f"{self.seed}/{task} {number}")
        for kind in ("chats",) if task == "chat" else ("spoken",):
            self.kept[kind] = talks.load(self.folder, kind, self.kept[kind])
        rows = sorted((getattr(self, task)(rng) for _ in range(POOL[task])), key=len)
        batches = []
        while rows:
            taken = rows[-max(1, BATCH // len(rows[-1])):]
            del rows[-len(taken):]
            batches.append(taken)
        rng.shuffle(batches)
        return batches

    def batch(self, task, place):
        """The batch at `place` (pool, number), which is moved on."""
        if task not in self.pools or self.pools[task][0] != place[0]:
            pool = train_core.batches_of(self.vocabulary, "focused", self.seed, place[0]) \
                if task == "dialogue" else self.pool(task, place[0])
            self.pools[task] = place[0], pool
        pool = self.pools[task][1]
        found = pool[place[1]]
        place[:] = [place[0], place[1] + 1] if place[1] + 1 < len(pool) else [place[0] + 1, 0]
        return found


def progress(state, args):
    """Share of the run that is behind, by steps or, with a deadline, by the clock."""
    done = state["step"] / args.steps
    if args.deadline:
        begun = state.setdefault("begun", time.time())
        done = max(done, (time.time() - begun) / (args.deadline - begun))
    return done


def factor(done, step, args):
    """Share of the full rate: warm-up, constant, then a straight fall."""
    rest = max(0.0, done - 1 + args.fall) / args.fall
    return min(1.0, (step + 1) / WARMUP) * max(LEAST, 1 - rest)


def train(args):
    run = pathlib.Path(args.run)
    run.mkdir(parents=True, exist_ok=True)
    core, pieces, merges = grown(args.core)
    state = tokens.state_of(pieces, merges)
    vocabulary = Tokenizer.from_str(json.dumps(state))
    model = Talker(core)
    ear = Ear(args.encoder, core, args.ear_rate > 0) if args.encoder else None
    source = Data(vocabulary, ear and ear.reader, args)
    new = [p for name, p in model.named_parameters() if not name.startswith("core.")]
    old = [p for name, p in model.named_parameters()
           if name.startswith("core.") and name != "core.embed.weight"]
    optimiser = torch.optim.AdamW(
        [{"params": old, "share": 1.0}, {"params": new, "share": NEW_RATE},
         {"params": [core.embed.weight], "share": EMBEDDING_RATE}],
        lr=args.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    if args.ear_rate:
        optimiser.add_param_group({"params": list(ear.encoder.parameters()),
                                   "share": args.ear_rate / args.rate})
    state = {"step": 0, "cpu": 0.0, "places": {task: [0, 0] for task in SHARES[args.stage]}}
    last = run / "last.pt"
    if last.exists():
        kept = torch.load(last, weights_only=False)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        if ear:
            ear.encoder.load_state_dict(kept["encoder"])
        state["places"].update(kept["state"].pop("places"))
        state.update(kept["state"])
    elif args.start:
        model.load_state_dict(torch.load(args.start, weights_only=False)["model"])

    def save():
        saved = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "state": state,
                 "config": core.cfg.to_dict(), "pieces": pieces, "merges": merges}
        if ear:
            saved |= {"encoder": ear.encoder.state_dict(), "listen": ear.encoder.cfg.to_dict()}
        torch.save(saved, run / "last.pt.part")
        os.replace(run / "last.pt.part", last)

    shown = {}

    def note(name, value):
        shown.setdefault(name, []).append(value.item())

    saved_at, cpu = time.time(), time.process_time() - state["cpu"]
    while (done := progress(state, args)) < 1:
        rng = random.Random(f"{args.seed}/{args.stage} {state['step']}")
        generator = torch.Generator().manual_seed(rng.randrange(1 << 60))
        shares = SHARES[args.stage]
        task = rng.choices(list(shares), list(shares.values()))[0]
        found = source.batch(task, state["places"][task])
        for group in optimiser.param_groups:
            group["lr"] = args.rate * group["share"] * factor(done, state["step"], args)
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
            loss = learn_dialogues(model, *found[:2], note) if task == "dialogue" else \
                learn_rows(model, ear, Batch(found), generator, note)
        optimiser.zero_grad()
        loss.backward()
        for part in (model, ear.encoder) if args.ear_rate else (model,):
            torch.nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        state["step"] += 1
        state["cpu"] = time.process_time() - cpu
        if state["step"] % 50 == 0:
            print(f"{time.strftime('%H:%M:%S')} step {state['step']} cpu {state['cpu']:.0f} " +
                  " ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in sorted(shown.items())),
                  flush=True)
            shown.clear()
        if time.time() - saved_at > args.save_seconds:
            saved_at = time.time()
            save()
    save()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("stage", choices=SHARES)
    p.add_argument("--run", required=True, help="directory of the checkpoints")
    p.add_argument("--core", required=True, help="GGUF file of the text core")
    p.add_argument("--spoken", required=True, help="folder of talks.py")
    p.add_argument("--start", help="checkpoint of the stage before")
    p.add_argument("--encoder", help="checkpoint of train_listen.py with the encoder")
    p.add_argument("--clips", help="folder of speech.py's shards")
    p.add_argument("--shards", type=int, default=24, help="of them")
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--deadline", type=float, help="unix time at which the run ends early")
    p.add_argument("--fall", type=float, default=0.5, help="share of the steps in which it falls")
    p.add_argument("--rate", type=float, default=1.5e-3)
    p.add_argument("--ear-rate", type=float, default=0, help="of the encoder, if it learns as well")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--float32", action="store_true", help="no bf16 products")
    p.add_argument("--save-seconds", type=float, default=120)
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    train(args)


if __name__ == "__main__":
    main()
