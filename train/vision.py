# SPDX-License-Identifier: MIT
"""The SigLIP2-shaped encoder and the projector of LFM2-VL in PyTorch, and the sizes of its views.

A picture becomes one view of 32 x 32 pixel tokens. The arithmetic is that of the released models,
so the engine has one vision path for all of them.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

PATCH, TOKEN, TABLE = 16, 32, 16  # pixels of a patch and of a token; side of the position table


@dataclass
class Config:
    out: int  # width of the text model
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    ffn: int = 512
    projector: int = 256
    norm: bool = False  # LayerNorm before the projector
    min_tokens: int = 16
    max_tokens: int = 36

    def to_dict(self):
        return asdict(self)


def view_size(width, height, low, high):
    """(width, height) in pixels of the single view of a picture, between low and high tokens."""
    w = max(TOKEN, round(width / TOKEN) * TOKEN)
    h = max(TOKEN, round(height / TOKEN) * TOKEN)
    if w * h > high * TOKEN * TOKEN:
        beta = math.sqrt(height * width / (high * TOKEN * TOKEN))
        h = max(TOKEN, math.floor(height / beta / TOKEN) * TOKEN)
        w = max(TOKEN, math.floor(width / beta / TOKEN) * TOKEN)
    elif w * h < low * TOKEN * TOKEN:
        beta = math.sqrt(low * TOKEN * TOKEN / (height * width))
        h = math.ceil(height * beta / TOKEN) * TOKEN
        w = math.ceil(width * beta / TOKEN) * TOKEN
    return w, h


def patches(image, size):
    """A Pillow picture, stretched to the size, as rows of 768 numbers in -1..1."""
    width, height = size
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)  # antialiased, 8-bit result
    a = np.asarray(image, np.float32).reshape(height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return (a.transpose(0, 2, 1, 3, 4).reshape(-1, PATCH * PATCH * 3) - 127.5) / 127.5


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads = cfg.heads
        self.ln1 = nn.LayerNorm(cfg.hidden, eps=1e-6)
        self.ln2 = nn.LayerNorm(cfg.hidden, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Linear(cfg.hidden, cfg.hidden) for _ in range(4))
        self.up, self.down = nn.Linear(cfg.hidden, cfg.ffn), nn.Linear(cfg.ffn, cfg.hidden)

    def forward(self, x):
        def split(y):
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        y = self.ln1(x)
        y = F.scaled_dot_product_attention(split(self.q(y)), split(self.k(y)), split(self.v(y)))
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.patch = nn.Linear(PATCH * PATCH * 3, cfg.hidden)
        self.position = nn.Parameter(torch.randn(TABLE * TABLE, cfg.hidden) * 0.3)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.post = nn.LayerNorm(cfg.hidden, eps=1e-6)
        self.norm = nn.LayerNorm(4 * cfg.hidden, eps=1e-5) if cfg.norm else nn.Identity()
        self.mm1 = nn.Linear(4 * cfg.hidden, cfg.projector)
        self.mm2 = nn.Linear(cfg.projector, cfg.out)

    def positions(self, rows, cols):
        """The table for a view of rows x cols patches, [rows * cols, hidden]."""
        table = self.position.view(TABLE, TABLE, -1).permute(2, 0, 1)[None]
        table = F.interpolate(table, (rows, cols), mode="bilinear", align_corners=False,
                              antialias=True)
        return table[0].permute(1, 2, 0).flatten(0, 1)

    def features(self, x, rows, cols, watch=None):
        """Post-normed patch states of [views, rows * cols, 768]; `watch` gets those of a block."""
        x = self.patch(x) + self.positions(rows, cols)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if watch is not None:
                watch[i] = x
        return self.post(x)

    def squares(self, states, rows, cols):
        """[views, tokens, 4 hidden]: every token joins a square of four patches."""
        views, _, d = states.shape
        x = states.view(views, rows // 2, 2, cols // 2, 2, d).transpose(2, 3)
        return x.reshape(views, rows * cols // 4, 4 * d)

    def projected(self, squares):
        return self.mm2(F.gelu(self.mm1(self.norm(squares))))

    def project(self, states, rows, cols):
        """[views, tokens, out]."""
        return self.projected(self.squares(states, rows, cols))

    def forward(self, x, rows, cols):
        return self.project(self.features(x, rows, cols), rows, cols)
