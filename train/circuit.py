# SPDX-License-Identifier: MIT
"""An induction circuit as the starting point of training, and the raw recall that settles it.

Looking something up by content does not emerge within minutes from a random start. The weights are
therefore drawn so that the network can already do it; its architecture is unchanged, and every
weight is trained afterwards like any other:

  - channel 0 of every embedding is a constant, which opens the gates of the short convolutions, so
    they start as linear maps;
  - the convolution before each attention layer adds R x[t-1], with R a random rotation: every
    position carries a rotated copy of the one before it;
  - the first query head of each KV group asks with A x[t] and is answered by keys A R' r[j], i.e.
    it finds the position after an equal token; values and output B, B' copy what stands there.
"""

import torch

GATE, SHARPNESS, STRENGTH = 4.0, 2.0, 6.0


def orthogonal(n):
    return torch.linalg.qr(torch.randn(n, n))[0]


@torch.no_grad()
def initialise(model):
    cfg, d = model.cfg, model.cfg.hidden
    model.embed.weight.normal_(0, d ** -0.5)
    model.embed.weight[:, 0] = GATE * d ** -0.5
    constant = GATE / (1 + (GATE ** 2 - 1) / d) ** 0.5  # channel 0 after the norm
    shift = orthogonal(d)
    shift[0], shift[:, 0] = 0, 0
    for i, block in enumerate(model.blocks):
        op = block.op
        if cfg.layout[i] == "c":
            w = op.in_proj.weight
            w[:2 * d] *= 0.2
            w[:2 * d, 0] = 1 / constant
            if cfg.layout[i + 1:i + 2] == "a":
                value = orthogonal(d)
                value[:, 0] = 0
                w[2 * d:] = value
                op.conv *= 0.3
                op.conv[:, -2], op.conv[:, -1] = 1, 0
                op.out_proj.weight.copy_(shift @ value.t() * d ** -0.5)
            else:
                op.out_proj.weight *= 0.1
            op.out_proj.weight[0] = 0
        else:
            dim, group = cfg.head_dim, cfg.heads // cfg.kv_heads
            op.output.weight *= 0.1
            for k in range(cfg.kv_heads):
                ask, copy = orthogonal(d)[:dim], orthogonal(d)[:dim]
                ask[:, 0], copy[:, 0] = 0, 0
                q, kv = k * group * dim, k * dim
                op.q.weight[q:q + dim] = ask
                op.k.weight[kv:kv + dim] = ask @ shift.t()
                op.v.weight[kv:kv + dim] = copy
                op.output.weight[:, q:q + dim] = STRENGTH * d ** -0.5 * copy.t()
            op.output.weight[0] = 0
            op.q_norm.weight.fill_(SHARPNESS)
            op.k_norm.weight.fill_(SHARPNESS)
        block.ffn.down.weight *= 0.1
        block.ffn.down.weight[0] = 0


def raw_batch(rng, low, vocab, rows, length, bos):
    """Strings to repeat and key-value lists to look up in, of random tokens low..vocab-1."""
    ids = torch.zeros(rows, length, dtype=torch.long)
    marks = torch.zeros(rows, length, dtype=torch.bool)
    for row in range(rows):
        line, learnt = [], []
        while len(line) < length:
            if rng.random() < 0.5:
                text = [rng.randrange(low, vocab) for _ in range(rng.randint(4, 20))]
                line += [bos] + text + text
                learnt += [False] * (len(text) + 2) + [True] * (len(text) - 1)
            else:
                keys = rng.sample(range(low, vocab), rng.randint(2, 16))
                values = [rng.randrange(low, vocab) for _ in keys]
                line.append(bos)
                line += [t for pair in zip(keys, values) for t in pair]
                learnt += [False] * (1 + 2 * len(keys))
                for i in rng.sample(range(len(keys)), len(keys)):
                    line += [keys[i], values[i]]
                    learnt += [False, True]
        ids[row] = torch.tensor(line[:length])
        marks[row] = torch.tensor(learnt[:length])
    return ids, marks
