# SPDX-License-Identifier: MIT
"""Held-out figures of a checkpoint, and the sample of them that the engine's tests repeat.

A test item is one conversation; it counts when every token of every reply is what greedy decoding
gives after the correct beginning, which is the same as generating every reply. Items whose user
text occurs in a large draw of training conversations with the same answer are dropped, except in
the "fresh" split, which measures the training distribution itself.
"""

import argparse
import collections
import json
import pathlib
import random

import torch

import data
import export_gguf
import tokenizer as tokens
from lfm2 import LFM2, Config

TOOLS = list(data.TOOL_INTENTS)
SPLITS = {
    "fresh": (None, data.INTENTS, {}),
    "value": ("value", [i for i in TOOLS if i not in ("app", "phone")] + ["clock", "shapes"], {}),
    "frame": ("frame", [i for i in TOOLS if i != "units"] + ["clock"], {}),
    "phrase": ("phrase", TOOLS + ["clock", "refusal"], {}),
    "word": ("word", ["app", "phone", "note", "copy", "refusal"], {}),
    "recall": ("value", ["recall"], {}),
    "recall word": ("word", ["recall"], {}),
    "listed": ("value", TOOLS, {"tools": True}),
    "unlisted": ("value", TOOLS, {"tools": True}),
    "mixed": (None, ["mixed"], {}),
}


def item(rng, name, intent, pairs=None):
    """Messages and setting of one test conversation."""
    split = SPLITS[name][0]
    if name == "mixed":
        while True:
            intents, messages, where = data.conversation(rng)
            if 2 <= len(intents) <= 4:
                return messages, where
    if name in ("listed", "unlisted"):
        tool = data.TOOL_INTENTS[intent][1]
        while True:
            where = data.setting(rng, split, tools=True)
            if (tool in where.tools) == (name == "listed"):
                break
    else:
        now = True if intent == "clock" and split else None
        where = data.setting(rng, split, now=now, tools=False if split else None)
    options = {"pairs": pairs} if pairs else {}
    return data.exchange(rng, intent, split, where, **options), where


def trained_texts(count, seed):
    """(user text, reply) pairs of a large draw from each mixture of the training."""
    seen = set()
    for draw in data.MIXTURES.values():
        rng = random.Random(f"{seed}/leak")
        for _ in range(count):
            for _, messages, _ in draw(rng):
                seen.update((asked["content"], reply["content"]) for asked, reply
                            in zip(messages, messages[1:]) if asked["role"] == "user")
    return seen


def items(count, seed, seen):
    """Every test item: {split: {cell: [(messages, setting)]}}, and how many leaked fell out."""
    made, dropped = {}, collections.Counter()
    for name, (split, intents, _) in SPLITS.items():
        cells = {}
        for intent in intents:
            if intent == "recall" and split:
                cells.update({f"recall {n}": (intent, n) for n in (2, 4, 8)})
            else:
                cells[intent] = (intent, None)
        made[name] = {}
        for cell, (intent, pairs) in cells.items():
            rng = random.Random(f"{seed}/{name}/{cell}")
            kept = []
            while len(kept) < count:
                messages, where = item(rng, name, intent, pairs)
                if split and intent != "clock" and \
                        (messages[0]["content"], messages[1]["content"]) in seen:
                    dropped[name] += 1
                    continue
                kept.append((messages, where))
            made[name][cell] = kept
    return made, dropped


@torch.no_grad()
def judged(model, vocabulary, conversations, batch=24):
    """For every conversation the list of its replies: correct or not."""
    encoded = [tokens.encode(vocabulary, data.render(*c)) for c in conversations]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]))
    results = [None] * len(encoded)
    for start in range(0, len(order), batch):
        chosen = order[start:start + batch]
        longest = max(len(encoded[i][0]) for i in chosen)
        ids = torch.zeros(len(chosen), longest, dtype=torch.long)
        for row, i in enumerate(chosen):
            ids[row, :len(encoded[i][0])] = torch.tensor(encoded[i][0])
        best = model(ids[:, :-1]).argmax(-1)
        for row, i in enumerate(chosen):
            line, learnt = encoded[i]
            replies, open_reply = [], False
            for j in range(1, len(line)):
                if learnt[j]:
                    right = best[row, j - 1].item() == line[j]
                    if open_reply:
                        replies[-1] = replies[-1] and right
                    else:
                        replies.append(right)
                open_reply = learnt[j]
            results[i] = replies
    return results


def load_model(path):
    saved = torch.load(path, weights_only=False)
    model = LFM2(Config(**saved["config"]))
    model.load_state_dict(saved["model"])
    return model.eval(), saved


def figures(model, vocabulary, made, show=0):
    """{split: {"n", "exact", "cells": {cell: exact}}}, in per cent."""
    out, wrong = {}, []
    for name, cells in made.items():
        flat = [(cell, c) for cell, group in cells.items() for c in group]
        right = judged(model, vocabulary, [c for _, c in flat])
        good = collections.Counter(cell for (cell, _), r in zip(flat, right) if all(r))
        total = collections.Counter(cell for cell, _ in flat)
        out[name] = {"n": len(flat), "exact": round(100 * sum(good.values()) / len(flat), 1),
                     "cells": {c: round(100 * good[c] / total[c], 1) for c in total}}
        wrong += [(name, cell, c, r) for (cell, c), r in zip(flat, right) if not all(r)]
    if show:
        shown = random.Random(1).sample(wrong, min(show, len(wrong)))
        for name, cell, (messages, where), r in shown:
            replies = [(a["content"], b["content"]) for a, b in zip(messages, messages[1:])
                       if b["role"] == "assistant"]
            print(f"  {name}/{cell}:", [pair for pair, ok in zip(replies, r) if not ok][:1])
    return out


def sample(made, each, seed):
    """Lines for the engine's test: one reply each, taken from the same items as the figures."""
    rng, lines, conversations = random.Random(f"{seed}/sample"), [], []
    for name, cells in made.items():
        flat = [(cell, c) for cell, group in cells.items() for c in group]
        for cell, (messages, where) in rng.sample(flat, min(each, len(flat))):
            end = rng.choice([i for i, m in enumerate(messages) if m["role"] == "assistant"])
            system = where.system()
            before = ([{"role": "system", "content": system}] if system else []) + messages[:end]
            line = {"split": name, "intent": cell, "messages": before,
                    "expect": messages[end]["content"]}
            if where.tools is not None:
                line["tools"] = [t["name"] for t in where.tool_list()]
            lines.append(line)
            conversations.append((messages[:end + 1], where))
    return lines, conversations


def write_sample(model, vocabulary, made, folder, seed, each=56):
    """core.jsonl and, beside the folder, what this model reaches on exactly these lines."""
    lines, conversations = sample(made, each, seed)
    right, total = collections.Counter(), collections.Counter()
    for line, replies in zip(lines, judged(model, vocabulary, conversations)):
        total[line["split"]] += 1
        right[line["split"]] += replies[-1]
    (folder / "core.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    (folder.parent / "lfmd-core.json").write_text(json.dumps(
        {s: {"n": total[s], "exact": round(100 * right[s] / total[s], 1)} for s in total},
        indent=1) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--count", type=int, default=100, help="items per cell")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--leak", type=int, default=100000,
                   help="draws from each training mixture to look through")
    p.add_argument("--show", type=int, default=0, help="print that many wrong replies")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--json", help="write the figures here")
    p.add_argument("--sample", type=pathlib.Path,
                   help="folder for the engine test (core.jsonl; lfmd-core.json beside it)")
    p.add_argument("--kind", choices=export_gguf.KINDS, default="q8_0",
                   help="weights as a file of this kind holds them")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    model, saved = load_model(args.checkpoint)
    model = export_gguf.rounded(model, args.kind)
    vocabulary = tokens.load(pathlib.Path(args.tokenizer))
    made, dropped = items(args.count, args.seed, trained_texts(args.leak, args.seed))
    out = figures(model, vocabulary, made, args.show)
    for name, row in out.items():
        print(f"{name:12} {row['exact']:5} of {row['n']}", row["cells"])
    print("dropped as seen in training:", dict(dropped))
    if args.json:
        state = saved["state"]
        pathlib.Path(args.json).write_text(json.dumps({
            "steps": state["step"], "tokens": state["tokens"], "targets": state["targets"],
            "cpu_seconds": round(state["cpu"]), "kind": args.kind, "dropped": dict(dropped),
            "splits": out}, indent=1))
    if args.sample:
        args.sample.mkdir(parents=True, exist_ok=True)
        write_sample(model, vocabulary, made, args.sample, args.seed)


if __name__ == "__main__":
    main()
