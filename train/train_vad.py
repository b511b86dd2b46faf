# SPDX-License-Identifier: MIT
"""Trains the voice activity detector's network and writes audio/device/vad_weights.h.

    python train/train_vad.py [--work FOLDER] [--mixes N] [--epochs N]

Sentences of sentences.py in the voices of speech.py, which know the times of their phones, are put
between pauses, given a room, a level and noise, and run through the detector's own features (the C
file, compiled here). The network is one GRU layer; it says for each 10 ms whether there is speech,
where speech is a word with the gaps below 150 ms around its stops.

The shipped weights are of a run with the defaults, made before the features bounded the floor of
the first half second (FLOOR_FIRST_DB).
"""

import argparse
import ctypes
import pathlib
import random
import subprocess

import numpy as np
import torch

import sentences
import speech

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATE, FRAME, FEATURES, HIDDEN = 16000, 160, 8, 16
GAP = 15  # frames
KINDS = ["white", "pink", "brown", "hum", "babble", "keys", "music", "none"]


def features_library(folder):
    path = folder / "vad_features.so"
    wrapper = folder / "features.c"
    wrapper.write_text('#include "audio/device/vad_features.c"\n'
                       "void run(const float *x, int n, float *out) {\n"
                       "    struct vad_features f; vad_features_init(&f);\n"
                       "    for (int i = 0; i < n; i++)\n"
                       "        vad_features_frame(&f, x + i * VAD_FRAME,\n"
                       "                           out + i * VAD_FEATURES); }\n")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-D_GNU_SOURCE", f"-I{ROOT}", "-o", path,
                    wrapper, "-lm"], check=True)
    return ctypes.CDLL(str(path))


def features(library, x):
    x = np.ascontiguousarray(x, np.float32)
    out = np.zeros((len(x) // FRAME, FEATURES), np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    library.run(x.ctypes.data_as(pointer), len(out), out.ctypes.data_as(pointer))
    return out


def fill(labels):
    """Gaps below GAP frames between speech are speech."""
    labels, last = labels.copy(), None
    for i in np.flatnonzero(labels):
        if last is not None and i - last <= GAP:
            labels[last:i] = 1
        last = i
    return labels


def utterances(path, count):
    """Level 1 while words are said."""
    if not path.exists():
        rng, sounds, labels = random.Random(11), [], []
        voices = list(speech.VOICES)
        while len(sounds) < count:
            voice = rng.choices(voices, [speech.VOICES[v] for v in voices])[0]
            x, have, phones = speech.say(sentences.sentence(rng), voice, rate=rng.uniform(.85, 1.2),
                                         pitch=rng.uniform(30, 70))
            x = speech.resample(x, have, RATE)
            n = len(x) // FRAME
            label = np.zeros(n, np.uint8)
            for begin, end, phone in phones:
                if speech.PHONES[phone if phone < len(speech.PHONES) else 1] != "pau":
                    label[int(begin * 100):int(np.ceil(end * 100))] = 1
            if label.sum() < 5:
                continue
            x = x[:n * FRAME]
            x = x / np.sqrt((x.reshape(-1, FRAME)[label == 1] ** 2).mean())
            sounds.append(x.astype(np.float16))
            labels.append(label)
        np.savez(path, x=np.concatenate(sounds), l=np.concatenate(labels),
                 n=[len(label) for label in labels])
    data = np.load(path)
    ends = np.cumsum(data["n"])
    return [(data["x"][(e - n) * FRAME:e * FRAME].astype(np.float32), data["l"][e - n:e])
            for e, n in zip(ends, data["n"])]


def coloured(rng, n, power):
    spectrum = np.fft.rfft(rng.standard_normal(n))
    return np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20) ** power, n)


def noise(kind, n, rng, clips):
    t = np.arange(n) / RATE
    x = np.zeros(n)
    if kind in ("white", "pink", "brown"):
        x = coloured(rng, n, {"white": 0, "pink": .5, "brown": 1}[kind])
    elif kind == "hum":
        mains = rng.choice([50, 60, rng.uniform(80, 200)])
        x = sum(np.sin(2 * np.pi * mains * h * t + rng.uniform(0, 6)) / h for h in range(1, 11))
        x = x / x.std() + coloured(rng, n, 1) * 100 * rng.uniform(.3, 3)
    elif kind == "babble":
        for _ in range(int(rng.integers(6, 12))):
            at = int(rng.integers(0, RATE))
            while at < n:
                clip = clips[int(rng.integers(len(clips)))][0]
                x[at:at + len(clip)] += clip[:n - at] * rng.uniform(.5, 1)
                at += len(clip) + int(rng.integers(RATE // 10))
    elif kind == "keys":
        at, rate = 0, rng.uniform(2, 8)
        while (at := at + int(rng.exponential(RATE / rate))) + 1600 < n:
            x[at:at + 1600] += (rng.standard_normal(1600) * rng.uniform(.3, 1.5) *
                                np.exp(-np.arange(1600) / rng.uniform(30, 400)))
    elif kind == "music":
        at = 0
        while at < n:
            length = int(RATE * rng.choice([.15, .3, .6]) * rng.uniform(.8, 1.2))
            piece = np.zeros(length)
            root = 110 * 2 ** (rng.integers(0, 25) / 12)
            for interval in (1, 1.26, 1.5)[:int(rng.integers(1, 4))]:
                for h in range(1, 7):
                    piece += np.sin(2 * np.pi * root * interval * h * t[:length]) / h
            piece *= np.exp(-t[:length] * rng.uniform(1, 8))
            x[at:at + length] += piece[:n - at]
            at += length
    return x


def room(rng, x):
    n = int(RATE * rng.uniform(.1, .4))
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * rng.uniform(0, .15)
    tail[0] = 1
    size = 1 << int(np.ceil(np.log2(len(x) + n)))
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size), size)[:len(x)]


def mix(rng, clips, n_frames=1200):
    """Sound and labels: 1 speech, 0 none, 2 does not matter (edges)."""
    x, label = np.zeros(n_frames * FRAME), np.zeros(n_frames, np.uint8)
    at = int(rng.integers(0, 250))
    while rng.random() < .95:
        clip, said = clips[int(rng.integers(len(clips)))]
        n = min(len(said), n_frames - at)
        if n < 30:
            break
        x[at * FRAME:(at + n) * FRAME] += clip[:n * FRAME] * 10 ** (rng.uniform(-3, 3) / 20)
        label[at:at + n] = said[:n]
        at += n + int(rng.integers(20, 400))
    if rng.random() < .5:
        x = room(rng, x)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    disturbance = noise(kind, len(x), rng, clips)
    if disturbance.any():
        disturbance /= disturbance.std()
    if rng.random() < .3:  # it begins or ends
        cut = int(rng.integers(len(x)))
        disturbance[:cut] *= rng.choice([0, .1]) if rng.random() < .5 else 1
        disturbance[cut:] *= rng.choice([0, 1])
    low = 8 if kind == "babble" else 0
    x = (x + disturbance * 10 ** (-rng.uniform(low, 30) / 20)) * 10 ** (rng.uniform(-50, -15) / 20)
    x = x + rng.standard_normal(len(x)) * 10 ** (rng.uniform(-85, -60) / 20)
    label = fill(label)
    edges = np.flatnonzero(np.diff(label.astype(int)))
    target = label.copy()
    for edge in edges:
        if label[edge]:  # an end: a room goes on for a while
            target[edge + 1:edge + 10][label[edge + 1:edge + 10] == 0] = 2
        else:  # a beginning: two frames to find out
            target[edge + 1:edge + 3] = 2
    return np.clip(x, -1, 1), target


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.out = torch.nn.Linear(HIDDEN, 1)

    def forward(self, x):
        return self.out(self.gru(x)[0])[..., 0]


def write(network, path):
    def table(name, values, shape):
        flat = [f"{v:.5g}" for v in values.detach().numpy().ravel()]
        flat = [v + ("f" if "." in v or "e" in v else ".0f") for v in flat]
        lines, line = [], "   "
        for v in flat:
            if len(line) + len(v) + 2 > 100:
                lines.append(line)
                line = "   "
            line += f" {v},"
        return f"static const float {name}[{shape}] = {{\n" + "\n".join(lines + [line]) + "\n};\n"

    gru = network.gru
    path.write_text(
        "/* SPDX-License-Identifier: MIT */\n#pragma once\n\n"
        "/* Made by train/train_vad.py. Rows of reset, update and new gate, as torch.nn.GRU has "
        "them. */\n\n"
        f"#define VAD_HIDDEN {HIDDEN}\n\n" +
        "\n".join([table("vad_w_in", gru.weight_ih_l0, "3 * VAD_HIDDEN * VAD_FEATURES"),
                   table("vad_w_state", gru.weight_hh_l0, "3 * VAD_HIDDEN * VAD_HIDDEN"),
                   table("vad_b_in", gru.bias_ih_l0, "3 * VAD_HIDDEN"),
                   table("vad_b_state", gru.bias_hh_l0, "3 * VAD_HIDDEN"),
                   table("vad_w_out", network.out.weight, "VAD_HIDDEN")]) +
        f"\nstatic const float vad_b_out = {network.out.bias.item():.5g}f;\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "train" / "work")
    parser.add_argument("--mixes", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    clips = utterances(arguments.work / "vad-speech.npz", 200)
    library = features_library(arguments.work)
    x, y = [], []
    for _ in range(arguments.mixes):
        sound, label = mix(rng, clips)
        x.append(features(library, sound))
        y.append(label)
    x, y = torch.tensor(np.stack(x)), torch.tensor(np.stack(y))
    held_out = arguments.mixes // 10
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    steps = arguments.epochs * ((len(x) - held_out) // 30)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, steps)
    for epoch in range(arguments.epochs):
        order = torch.randperm(len(x) - held_out) + held_out
        for batch in order[:len(order) // 30 * 30].split(30):
            target = y[batch]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                network(x[batch]), (target == 1).float(), weight=(target != 2).float())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            said, target = network(x[:held_out]) > 0, y[:held_out]
            missed = (~said)[target == 1].float().mean().item()
            false = said[target == 0].float().mean().item()
        print(f"epoch {epoch}: loss {loss.item():.4f}, held out: missed {missed:.3f}, "
              f"false {false:.3f}", flush=True)
    write(network, ROOT / "audio" / "device" / "vad_weights.h")


if __name__ == "__main__":
    main()
