# SPDX-License-Identifier: MIT
"""Fits the projector of a finished encoder to the soft tokens once more, and writes OUT.

    python train/fit_projector.py ENCODER OUT.pt --core CORE.gguf

ENCODER is a checkpoint of train_vision.py or an mmproj file. The encoder stands still, so its
states are computed once and the small projector is trained on them in minutes. Squared error alone
leaves a token nearest to a wrong thing now and then, above all to a wrong place, whose words weigh
little in the sum; so every shape's token also has to be nearest to its own sum among all sums of a
colour, a shape and a place, and an empty token to none of them.
"""

import argparse
import json
import pathlib
import random
import sys
import tempfile

import torch
import torch.nn.functional as F

import export_gguf
import pictures
import tokenizer as tokens
import train_vision
import vision

BATCH, GROUP = 400, 16  # tokens of things and as many empty ones; pictures of one size
EMPTY = 0.2  # weight of an empty token in the squared error
SHARPNESS, NEAREST = 20.0, 0.5
COLOURS = list(pictures.COLOURS)
PLACES = pictures.CORNERS + [pictures.MIDDLE]


def sums(soft):
    """Of every (shape, colour, place), then of nothing: [n, hidden]."""
    shapes = soft.classes[[pictures.CLASSES.index(s) for s in pictures.SHAPES]]
    places = torch.stack([soft.places[p] for p in PLACES])
    every = shapes[:, None, None] + soft.colours[None, :, None] + places[None, None]
    every = torch.cat([every.flatten(0, 2), soft.classes[:1]])
    every[:, 0] = soft.constant
    return every


def index(name, colour, place):
    """Of a label in sums(), -1 for a thing that is no shape."""
    if name not in pictures.SHAPES:
        return -1
    row = pictures.SHAPES.index(name) * len(COLOURS) + COLOURS.index(colour)
    return row * len(PLACES) + PLACES.index(place)


@torch.no_grad()
def collect(encoder, soft, rng, split, count):
    """States that the projector reads, the soft tokens, and what is nearest, of every token."""
    states, wanted, nearest = [], [], []
    nothing = len(sums(soft)) - 1
    for _ in range(count // GROUP):
        kind = "shapes" if split else rng.choices(list(pictures.KINDS),
                                                  list(pictures.KINDS.values()))[0]
        size = pictures.sizes(rng, kind in ("words", "widgets"))
        scenes = [pictures.scene(rng, split, kind, size, rng.random() < 0.2)
                  for _ in range(GROUP)]
        rows, cols = 2 * scenes[0].rows, 2 * scenes[0].cols
        seen = encoder.features(train_vision.pixels(scenes), rows, cols)
        states.append(encoder.squares(seen, rows, cols).flatten(0, 1))
        for s in scenes:
            wanted.append(soft.tokens(s))
            one = torch.full((s.rows * s.cols,), nothing)
            for token, label in s.labels.items():
                one[token] = index(*label)
            nearest.append(one)
    return torch.cat(states), torch.cat(wanted), torch.cat(nearest)


@torch.no_grad()
def report(encoder, every, states, nearest):
    """Shares of the shapes' tokens, and of the empty ones, that are nearest to what they are."""
    found = torch.cdist(encoder.projected(states), every).argmin(1)
    empty = nearest == len(every) - 1
    right = found == nearest
    return {"shape": round(right[~empty].float().mean().item(), 3),
            "empty": round(right[empty].float().mean().item(), 4)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("encoder")
    p.add_argument("out")
    p.add_argument("--core", required=True, help="GGUF file of the text core")
    p.add_argument("--pictures", type=int, default=9000)
    p.add_argument("--steps", type=int, default=1400)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    core, vocabulary = train_vision.grown(args.core)
    with tempfile.TemporaryDirectory() as folder:
        table = pathlib.Path(folder, "tokenizer.json")
        table.write_text(json.dumps(vocabulary, ensure_ascii=False))
        soft = train_vision.Softener(core.embed.weight, tokens.load(table))
    if args.encoder.endswith(".gguf"):
        encoder = export_gguf.read_vision(args.encoder)
    else:
        encoder = vision.Encoder(vision.Config(out=core.cfg.hidden))
        encoder.load_state_dict(torch.load(args.encoder, weights_only=False)["encoder"])
    rng, every = random.Random(f"{args.seed}/fit"), sums(soft)
    held = collect(encoder, soft, rng, "test", 480)
    print("before", report(encoder, every, held[0], held[2]), flush=True)
    states, wanted, nearest = collect(encoder, soft, rng, None, args.pictures)
    empty = nearest == len(every) - 1
    things, nothings = (~empty).nonzero()[:, 0], empty.nonzero()[:, 0]
    projector = [*encoder.mm1.parameters(), *encoder.mm2.parameters()]
    optimiser = torch.optim.AdamW(projector, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(args.steps):
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, 2 * (1 - step / args.steps) + 0.01)
        chosen = torch.cat([i[torch.randint(len(i), (BATCH,))] for i in (things, nothings)])
        out, near = encoder.projected(states[chosen]), nearest[chosen]
        weight = torch.where(empty[chosen], EMPTY, 1.0)
        fit = ((out - wanted[chosen]) / soft.scale).square().mean(-1)
        fit = (fit * weight).sum() / weight.sum()
        known = near >= 0
        far = torch.cdist(out[known], every).square() / (every.shape[1] * soft.scale ** 2)
        loss = fit + NEAREST * F.cross_entropy(-SHARPNESS * far, near[known])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 200 == 199:
            print(step + 1, f"fit {fit.item():.3f} loss {loss.item():.3f}",
                  report(encoder, every, held[0], held[2]), flush=True)
    torch.save({"encoder": encoder.state_dict(), "vision": encoder.cfg.to_dict()}, args.out)


if __name__ == "__main__":
    sys.exit(main())
