# SPDX-License-Identifier: MIT
"""Hidden state of a step -> the eight codes of a frame, one after another, as LFM2-Audio does it.

Shapes follow the released files: 32 heads and 8 KV heads whatever the width, adjacent-pair rotary
positions, one norm and one table for each book, whose rows are logits and embedding alike.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

import codec
from lfm2 import RMSNorm, SwiGLU, linear

HEADS, KV_HEADS, THETA, EPS = 32, 8, 1e6, 1e-5
VALUES = codec.CODES + 1  # with the end


class Layer(nn.Module):
    def __init__(self, dim, ffn):
        super().__init__()
        self.dim = dim // HEADS
        self.operator_norm, self.ffn_norm = RMSNorm(dim, EPS), RMSNorm(dim, EPS)
        self.qkv = linear(dim, (HEADS + 2 * KV_HEADS) * self.dim)
        self.out = linear(dim, dim)
        self.q_norm, self.k_norm = RMSNorm(self.dim, EPS), RMSNorm(self.dim, EPS)
        self.ffn = SwiGLU(dim, ffn)

    def turned(self, x):
        """Rotary positions over the books; pairs are neighbours."""
        inverse = THETA ** (-torch.arange(0, self.dim, 2) / self.dim)
        angle = torch.arange(x.shape[1])[:, None, None] * inverse
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    def forward(self, x):
        frames, books, _ = x.shape
        parts = self.qkv(self.operator_norm(x)).view(frames, books, -1, self.dim)
        q, k, v = parts.split([HEADS, KV_HEADS, KV_HEADS], 2)
        q = self.turned(self.q_norm(q)).unflatten(2, (KV_HEADS, -1))
        k = self.turned(self.k_norm(k))
        score = torch.einsum("fighd,fjgd->fghij", q, k) * self.dim ** -0.5
        later = torch.ones(books, books, dtype=torch.bool).triu(1)
        share = score.masked_fill(later, -torch.inf).softmax(-1)
        y = torch.einsum("fghij,fjgd->fighd", share, v)
        x = x + self.out(y.reshape(frames, books, -1))
        return x + self.ffn(self.ffn_norm(x))


class Depthformer(nn.Module):
    def __init__(self, hidden, dim=128, layers=2, ffn=384):
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(hidden, codec.BOOKS * dim)
        self.layers = nn.ModuleList(Layer(dim, ffn) for _ in range(layers))
        self.tables = nn.Parameter(torch.randn(codec.BOOKS, VALUES, dim) * 0.3)
        self.norms = nn.ModuleList(RMSNorm(dim, EPS) for _ in range(codec.BOOKS))
        with torch.no_grad():
            for norm in self.norms:
                norm.weight.fill_(0.3)
            for layer in self.layers:
                layer.out.weight.mul_(0.5)
                layer.ffn.down.weight.mul_(0.5)

    def states(self, hidden, codes):
        """[frames, books, dim] of hidden [frames, hidden] and the books drawn so far."""
        x = self.linear(hidden).view(len(hidden), codec.BOOKS, self.dim)[:, :codes.shape[1] + 1]
        drawn = [self.tables[i][codes[:, i]] for i in range(x.shape[1] - 1)]
        x = x + torch.stack([torch.zeros_like(x[:, 0]), *drawn], 1)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, hidden, codes):
        """Logits [frames, books, VALUES] of the first books, given all codes before the last."""
        states = self.states(hidden, codes)
        return torch.stack([F.linear(self.norms[i](states[:, i]), self.tables[i])
                            for i in range(states.shape[1])], 1)

    @torch.no_grad()
    def draw(self, hidden, temperature, top_k, generator):
        """Codes [frames, BOOKS]; the end only by the first book."""
        codes = torch.zeros(len(hidden), 0, dtype=torch.long)
        for i, norm in enumerate(self.norms):
            logits = F.linear(norm(self.states(hidden, codes)[:, i]), self.tables[i])
            if i:
                logits[:, codec.END] = -torch.inf
            if temperature:
                least = logits.topk(top_k).values[:, -1:]
                share = (logits.masked_fill(logits < least, -torch.inf) / temperature).softmax(-1)
                drawn = torch.multinomial(share, 1, generator=generator)
            else:
                drawn = logits.argmax(-1, keepdim=True)
            codes = torch.cat([codes, drawn], 1)
        codes[codes[:, 0] == codec.END] = codec.END
        return codes
