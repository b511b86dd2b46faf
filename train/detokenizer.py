# SPDX-License-Identifier: MIT
"""Codes -> sound: LFM2 layers with a sliding window and an inverse short-time Fourier transform.

The mean of a frame's code embeddings is repeated for its six rows; the layers, each of which sees
30 rows at most, turn every row into 641 log-magnitudes and 641 phases. Everything is causal but the
overlap of the windows, so sound can be made frame by frame.
"""

import torch
import torch.nn as nn

import codec
from lfm2 import LFM2, Config

CONFIG = dict(vocab=32, hidden=192, layout="caca", ffn=512, heads=6, kv_heads=2, rope_theta=1e6,
              window=30)  # the layers have no tokens; the file's table is a formality
LOUDEST = 12.0  # natural logarithm of a magnitude; far above any sound


class Detokenizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = LFM2(Config(**CONFIG))
        hidden = CONFIG["hidden"]
        self.embed = nn.Embedding(codec.BOOKS * codec.CODES, hidden)
        self.head = nn.Linear(hidden, 2 * codec.BINS)
        self.register_buffer("offsets", torch.arange(codec.BOOKS) * codec.CODES, persistent=False)

    def start_from(self, coder, loudness):
        """Embeddings from the centroids, in their principal directions; bias = mean spectrum."""
        with torch.no_grad():
            points = coder.books.flatten(0, 1)
            _, _, axes = torch.linalg.svd(points - points.mean(0), full_matrices=False)
            points = points @ axes[:CONFIG["hidden"]].T
            self.embed.weight.copy_(points / points[:codec.CODES].std() * 4)
            self.head.weight.mul_(0.3)
            self.head.bias.zero_()[:codec.BINS] = loudness

    def spectra(self, codes):
        """Complex [batch, rows, BINS] of codes [batch, frames, BOOKS]."""
        x = self.embed(codes + self.offsets).mean(2).repeat_interleave(codec.ROWS, 1)
        level, phase = self.head(self.core.states(x)).float().chunk(2, -1)
        return torch.polar(level.clamp(max=LOUDEST).exp(), phase)

    def forward(self, codes):
        """Samples [batch, frames * FRAME]."""
        return codec.synthesis(self.spectra(codes))
