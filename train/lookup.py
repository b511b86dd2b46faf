# SPDX-License-Identifier: MIT
"""Look-up by content: the words "red circle" find the picture token that shows a red circle.

Answers alone do not teach it within hours, as they do not teach it for lists of text (circuit.py).
So two attention heads that dialogues hardly use are given the weights for it, and while pictures
are learnt a loss of its own tells them which tokens they have to look at: those that agree with
everything that the last words name, or the first token of the text when none does, which is how a
thing that is missing can be noticed. Every weight is trained like any other.
"""

import random

import torch
import torch.nn.functional as F

import pictures
import questions
import tokenizer as tokens
import train_core
from lfm2 import rotary_tables
from pictures import COLOURS, CORNERS, MIDDLE, PLURALS, SHAPES

COUNT, FIND = (5, 3), (8, 0)  # (layer, query head), each the first of its key-value group
RETURN = (8, 1)  # looks back from the start of an answer to the words that were looked up
SHARPNESS, STRENGTH = 3.0, 2.0
WORDS_BACK = 3  # words that a query joins at the start
PLACES = CORNERS + [MIDDLE]
PARTS = [list(COLOURS), SHAPES, PLACES]  # a thing is (colour, shape, place)
ANY = ["shape", "shapes", "sentence"]  # words that ask about all of them


class Lookup:
    def __init__(self, model, vocabulary):
        self.model = model
        for layer, _ in (COUNT, FIND):
            model.blocks[layer].op.watched = True

        def ids(text):
            return tuple(vocabulary.encode(text, add_special_tokens=False).ids)

        self.words = [[ids(f" {w}") for w in part] for part in PARTS]
        forms = [(form, part, w) for part, listed in enumerate(PARTS + [ANY]) for w in listed
                 for form in {w, w.capitalize(), f" {w}", PLURALS.get(w, w),
                              f" {PLURALS.get(w, w)}"}]
        self.ends = {}
        for form, part, word in sorted(forms, key=lambda f: -len(ids(f[0]))):
            self.ends.setdefault(ids(form)[-1], []).append((ids(form), part, word))
        self.colon, self.stop = ids(":")[-1], ids(".")[-1]
        self.after = {self.colon, ids("?")[-1]}  # still ask for what stands before them

    # --- which token has to be looked at --------------------------------------------------------

    def named(self, line):
        """{position: {part: word}} of what the last words of a row name after its picture."""
        found = {}
        start = len(line) - line[::-1].index(questions.IMAGE)
        for t in range(start, len(line)):
            for form, part, word in self.ends.get(line[t], ()):
                before = t - len(form)
                if tuple(line[before + 1:t + 1]) == form:
                    found[t] = {part: word} if part < len(PARTS) else {}
                    # "red circle", "red shapes"
                    if part in (1, len(PARTS)) and 0 in found.get(before, {}):
                        found[t][0] = found[before][0]
                    break
            if line[t] in self.after and t - 1 in found:
                found[t] = found[t - 1]
        return found

    def targets(self, ids, marks, things):
        """[(row, position, positions to look at)] of COUNT and FIND, then of RETURN.

        things: {token: (colour, shape, place)} of every row."""
        find, back = [], []
        for row, shown in enumerate(things):
            line, learnt = ids[row].tolist(), marks[row].tolist()
            first = line.index(questions.IMAGE)
            last = None
            named = self.named(line)
            for t in range(first, len(line) - 1):
                if t in named:
                    last = t
                    hits = [first + token for token, thing in shown.items()
                            if all(thing[part] == word for part, word in named[t].items())]
                    find.append((row, t, hits or [0]))
                if learnt[t + 1] and not learnt[t]:
                    if last is not None and line[t] != self.colon:
                        back.append((row, t, [last]))
                    last = None
        return find, back

    def divergence(self, layer, head, wanted, length, counts=False):
        """From equal shares of the targets to where the head looks; `counts`: the first token of
        the text has a share as well, so that the shares tell how many there are."""
        row, at = (torch.tensor([w[i] for w in wanted]) for i in (0, 1))
        share = torch.zeros(len(wanted), length)
        for i, (_, _, hits) in enumerate(wanted):
            share[i, hits + [0] * counts] = 1.0
        op = self.model.blocks[layer].op
        q, k = op.seen
        shared = head // (op.heads // op.kv_heads)
        score = torch.einsum("pd,pnd->pn", q[row, head, at].float(), k[row, shared].float())
        later = torch.arange(length) > at[:, None]
        score = (score * q.shape[-1] ** -0.5).masked_fill(later, -1e9).log_softmax(-1)
        return F.kl_div(score, share / share.sum(1, keepdim=True), reduction="batchmean")

    def losses(self, ids, marks, things):
        """{name: loss} after the model has read the batch but for its last ids."""
        find, back = self.targets(ids, marks, things)
        length = ids.shape[1] - 1
        out = {}
        if find:
            out["count"] = self.divergence(*COUNT, find, length, True)
            out["find"] = self.divergence(*FIND, find, length)
        if back:
            out["back"] = self.divergence(*RETURN, back, length)
        return out

    # --- lists to look up in --------------------------------------------------------------------

    def rows(self, rng, soft, count):
        """(ids, learnt, (picture tokens, things)): unlike things, then each by a part of it."""
        out = []
        for _ in range(count):
            cells = rng.randint(16, 30)
            n = rng.randint(2, 5)
            things = list(zip(*(rng.sample(range(len(part)), n) for part in PARTS)))
            places = rng.sample(range(cells), n)
            line = [tokens.SPECIALS.index("<|startoftext|>")] + [questions.IMAGE] * cells
            learnt = [False] * len(line)
            for thing in rng.sample(things, n):
                asked = rng.choice([(0,), (1,), (2,), (2,), (0, 1), (0, 1), (0, 1)])
                key = [i for p in asked for i in self.words[p][thing[p]]]
                value = [i for p in range(3) if p not in asked for i in self.words[p][thing[p]]]
                line += key + [self.colon] + value + [self.stop]
                learnt += [False] * (len(key) + 1) + [True] * len(value) + [False]
            shown = {at: tuple(part[i] for part, i in zip(PARTS, thing))
                     for at, thing in zip(places, things)}
            labels = {at: (shape, colour, place) for at, (colour, shape, place) in shown.items()}
            out.append((line, learnt, (soft.of(labels, cells), shown)))
        return out

    # --- the start ------------------------------------------------------------------------------

    @torch.no_grad()
    def install(self, soft, vocabulary, seed):
        """Weights for COUNT and FIND: linear readers of what a token shows and what was said."""
        table = soft.table
        rng = random.Random(f"{seed}/lookup")
        own = table[sorted({i for part in self.words for word in part for i in word})].clone()
        own[:, 0] = 0  # channel 0 is a constant
        width = self.model.cfg.head_dim
        basis = torch.linalg.svd(own - own.mean(0), full_matrices=False)[2][:width]
        batches = train_core.cut(rng, self.rows(rng, soft, 300))
        for _ in range(12):
            for ids, marks, scenes in questions.sketch_batches(rng, vocabulary):
                batches.append((ids, marks, [(soft.tokens(s), None) for s in scenes]))
        for layer, head in (COUNT, FIND):
            self.install_head(layer, head, basis, batches)

    def install_head(self, layer, head, basis, batches):
        model = self.model
        shown, says, spoken, said = [], [], [], []
        for ids, _, pairs in batches:
            image = ids == questions.IMAGE
            x = model.embed(ids)
            x = x.masked_scatter(image[..., None], torch.cat([seen for seen, _ in pairs]))
            says_all = x.clone()
            says_all[..., 0] = 0
            says_all = says_all @ basis.T
            cos, sin = rotary_tables(x.shape[1], model.cfg, x.dtype)
            for block in model.blocks[:layer]:
                x = block(x, cos, sin)
            x = model.blocks[layer].op_norm(x)
            last, text = torch.zeros_like(says_all), ~image & (ids != 0)
            for back in range(WORDS_BACK):
                last += F.pad(says_all, (0, 0, back, 0))[:, :ids.shape[1]]
                text &= ~F.pad(image, (back, 0))[:, :ids.shape[1]]
            shown.append(x[image])
            says.append(says_all[image])
            spoken.append(x[text])
            said.append(last[text])

        def reader(inputs, outputs):
            x, y = torch.cat(inputs), torch.cat(outputs)
            square = x.T @ x
            square += 0.01 * square.diagonal().mean() * torch.eye(len(square))
            return torch.linalg.solve(square, x.T @ y).T

        op = model.blocks[layer].op
        group, width, n = op.heads // op.kv_heads, op.dim, len(basis)
        q, kv = head * width, head // group * width
        key, query = reader(shown, says), reader(spoken, said)
        op.q.weight[q:q + n] = SHARPNESS * query
        op.k.weight[kv:kv + n] = SHARPNESS * key
        op.v.weight[kv:kv + n] = key
        op.output.weight[:, q:q + group * width] = 0  # the others of the group knew other keys
        op.output.weight[:, q:q + n] = STRENGTH * basis.T
