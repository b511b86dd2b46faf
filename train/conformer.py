# SPDX-License-Identifier: MIT
"""The FastConformer encoder of LFM2-Audio with its adapter, at any size.

Features [clips, T, 128] become one row for the language model per 80 ms: ceil(T / 8) of them.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

MELS = 128
STRIDE = 8  # frames of a row


@dataclass
class Config:
    out: int  # width of the language model
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    channels: int = 32  # of the subsampling
    kernel: int = 9
    ffn: int = 512
    adapter: int = 256

    def to_dict(self):
        return asdict(self)


class Subsampling(nn.Module):
    """Strided convolutions over time and mels, the last two depthwise; numbered as in files."""

    def __init__(self, cfg):
        super().__init__()
        c = cfg.channels
        self.conv0 = nn.Conv2d(1, c, 3, 2, 1)
        self.conv2, self.conv3 = nn.Conv2d(c, c, 3, 2, 1, groups=c), nn.Conv2d(c, c, 1)
        self.conv5, self.conv6 = nn.Conv2d(c, c, 3, 2, 1, groups=c), nn.Conv2d(c, c, 1)
        self.out = nn.Linear(c * MELS // STRIDE, cfg.hidden)

    def forward(self, x):
        x = F.relu(self.conv0(x[:, None]))
        x = F.relu(self.conv3(self.conv2(x)))
        x = F.relu(self.conv6(self.conv5(x)))
        return self.out(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.norm = nn.LayerNorm(cfg.hidden)
        self.up, self.down = nn.Linear(cfg.hidden, cfg.ffn), nn.Linear(cfg.ffn, cfg.hidden)

    def forward(self, x):
        return self.down(F.silu(self.up(self.norm(x))))


class Attention(nn.Module):
    """Transformer-XL attention: content and position each with a learnt bias on the query."""

    def __init__(self, cfg):
        super().__init__()
        self.heads, self.dim = cfg.heads, cfg.hidden // cfg.heads
        self.norm = nn.LayerNorm(cfg.hidden)
        self.q, self.k, self.v, self.out = (nn.Linear(cfg.hidden, cfg.hidden) for _ in range(4))
        self.position = nn.Linear(cfg.hidden, cfg.hidden, bias=False)
        self.bias_u = nn.Parameter(torch.zeros(self.heads, self.dim))
        self.bias_v = nn.Parameter(torch.zeros(self.heads, self.dim))

    def forward(self, x, valid, table):
        def split(y):
            return y.unflatten(-1, (self.heads, self.dim)).transpose(-3, -2)

        y = self.norm(x)
        q, k, v = split(self.q(y)), split(self.k(y)), split(self.v(y))
        clips, heads, n, _ = q.shape
        far = (q + self.bias_v[:, None]) @ split(self.position(table)).transpose(-2, -1)
        # Row r of the table is distance n - 1 - r; column j of line i has to be distance i - j.
        far = F.pad(far, (1, 0)).view(clips, heads, 2 * n, n)[:, :, 1:].view(clips, heads, n, -1)
        mask = (far[..., :n] * self.dim ** -0.5).masked_fill(~valid[:, None, None], -1e9)
        y = F.scaled_dot_product_attention(q + self.bias_u[:, None], k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))


class Convolution(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d = cfg.hidden
        self.norm = nn.LayerNorm(d)
        self.pw1, self.pw2 = nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.dw = nn.Conv1d(d, d, cfg.kernel, padding=cfg.kernel // 2, groups=d)
        self.batch_norm = nn.BatchNorm1d(d)

    def forward(self, x, valid):
        y = F.glu(self.pw1(self.norm(x)), -1) * valid[..., None]
        y = self.dw(y.transpose(1, 2)).transpose(1, 2)
        z = torch.zeros_like(y)
        z[valid] = self.batch_norm(y[valid])
        return self.pw2(F.silu(z))


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.first, self.second = FeedForward(cfg), FeedForward(cfg)
        self.attention, self.convolution = Attention(cfg), Convolution(cfg)
        self.norm = nn.LayerNorm(cfg.hidden)

    def forward(self, x, valid, table):
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, valid, table)
        x = x + self.convolution(x, valid)
        return self.norm(x + 0.5 * self.second(x))


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.subsampling = Subsampling(cfg)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.hidden)
        self.mm1, self.mm3 = nn.Linear(cfg.hidden, cfg.adapter), nn.Linear(cfg.adapter, cfg.out)

    def distances(self, n):
        """Sines and cosines of the distances n-1 .. -(n-1), interleaved."""
        at = torch.arange(n - 1, -n, -1.0)[:, None]
        wave = torch.exp(torch.arange(0, self.cfg.hidden, 2) * (-math.log(1e4) / self.cfg.hidden))
        return torch.stack([(at * wave).sin(), (at * wave).cos()], -1).flatten(1)

    def states(self, x, lengths):
        """Rows [clips, E, hidden] and which of them are of the clip, for `lengths` frames each."""
        with torch.autocast("cpu", enabled=False):  # strided convolutions are slower in bf16
            x = self.subsampling(x)
        n = x.shape[1]
        valid = torch.arange(n) < (lengths[:, None] + STRIDE - 1) // STRIDE
        table = self.distances(n)
        for block in self.blocks:
            x = block(x, valid, table)
        return x, valid

    def adapt(self, states):
        return self.mm3(F.gelu(self.mm1(self.norm(states))))

    def forward(self, x, lengths):
        states, valid = self.states(x, lengths)
        return self.adapt(states), valid
