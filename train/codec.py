# SPDX-License-Identifier: MIT
"""The codes of one voice: residual k-means on log-mel spectra, and the spectra themselves.

A frame of codes stands for 80 ms: six rows of a short-time spectrum at 24 kHz, each seen through
MELS bands up to 8 kHz. Eight books quantise the frame of 6 x MELS numbers one after another, each
what the books before have left. The codes are fitted once and never change afterwards; the network
that turns them back into sound (detokenizer.py) learns what they mean.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F

RATE = 24000
WINDOW, HOP = 1280, 320
ROWS = 6  # of the spectrum in a frame of codes
FRAME = ROWS * HOP
PAD = (WINDOW - HOP) // 2  # on both sides, so that HOP samples belong to every row
BINS = WINDOW // 2 + 1
MELS, TOP = 80, 8000.0  # the voice was made at 16 kHz
FLOOR = 1e-3  # of a band's amplitude: what is quieter is silence
BOOKS, CODES = 8, 512
END = CODES  # the code after the last one ends the sound


@functools.cache
def mel_bank():
    """[BINS, MELS] triangles of equal area on Slaney's scale."""
    def mel(hz):
        return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000)
                        / np.log(6.4))

    grid = np.linspace(0, RATE / 2, 20001)
    edges = np.interp(np.linspace(0, mel(np.array(TOP)), MELS + 2), mel(grid), grid)
    hz = np.linspace(0, RATE / 2, BINS)[:, None]
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    bank = np.minimum((hz - low) / (mid - low), (high - hz) / (high - mid)).clip(0)
    return torch.tensor(bank * 2 / (high - low), dtype=torch.float32)


@functools.cache
def window(size=WINDOW):
    return torch.hann_window(size)


def spectrum(sound):
    """Complex [..., rows, BINS] of [..., rows * HOP] samples."""
    return torch.fft.rfft(F.pad(sound, (PAD, PAD)).unfold(-1, WINDOW, HOP) * window())


def synthesis(spectra):
    """Samples [batch, rows * HOP] of complex [batch, rows, BINS]: overlap-add, window undone."""
    rows = spectra.shape[1]
    length = (rows - 1) * HOP + WINDOW

    def overlap(pieces):
        return F.fold(pieces.transpose(1, 2), (1, length), (1, WINDOW), stride=(1, HOP)).flatten(1)

    sound = overlap(torch.fft.irfft(spectra, WINDOW) * window())
    weight = overlap((window() ** 2).expand(1, rows, WINDOW))
    return sound[:, PAD:-PAD] / weight[:, PAD:-PAD]


def log_mel(spectra):
    """log10 of the bands' amplitudes, [..., rows, MELS]."""
    return (spectra.abs() @ mel_bank()).clamp(min=FLOOR).log10()


def frames_of(sound):
    """[frames, ROWS * MELS] of a sound whose length is a multiple of FRAME."""
    return log_mel(spectrum(sound)).reshape(-1, ROWS * MELS)


def nearest(points, centres):
    return ((centres ** 2).sum(1) - 2 * points @ centres.T).argmin(1)


def k_means(points, rounds, generator):
    centres = points[torch.randperm(len(points), generator=generator)[:CODES]].clone()
    for _ in range(rounds):
        index = nearest(points, centres)
        count = torch.bincount(index, minlength=CODES).float()[:, None]
        mean = torch.zeros_like(centres).index_add_(0, index, points) / count.clamp(min=1)
        spare = points[torch.randint(len(points), (CODES,), generator=generator)]
        centres = torch.where(count > 0, mean, spare)
    return centres


class Codec:
    """mean [ROWS * MELS], books [BOOKS, CODES, ROWS * MELS]."""

    def __init__(self, mean, books):
        self.mean, self.books = mean, books

    @classmethod
    def fit(cls, frames, seed, rounds=10):
        generator = torch.Generator().manual_seed(seed)
        mean = frames.mean(0)
        rest, books = frames - mean, []
        for _ in range(BOOKS):
            books.append(k_means(rest, rounds, generator))
            rest = rest - books[-1][nearest(rest, books[-1])]
        return cls(mean, torch.stack(books))

    def encode(self, frames):
        """Codes [frames, BOOKS] and the squared error that is left."""
        rest, codes = frames - self.mean, []
        for book in self.books:
            codes.append(nearest(rest, book))
            rest = rest - book[codes[-1]]
        return torch.stack(codes, 1), rest.square().sum()
