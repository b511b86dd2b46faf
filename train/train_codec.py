# SPDX-License-Identifier: MIT
"""Codes for the voice and the network that turns them back into sound.

    python train/train_codec.py --run RUN --steps STEPS

The first start speaks SENTENCES sentences and fits the codes to them (RUN/codec.pt, which never
changes again); then the detokenizer learns on crops of the same sound. A killed run goes on from
its last checkpoint, at most two minutes old, when the same command is given again. Crops are drawn
from the seed and the number of the step.
"""

import argparse
import os
import pathlib
import random
import time

import torch
import torch.nn.functional as F

import codec
import sentences
import voice
from detokenizer import Detokenizer

BATCH, CROP, CONTEXT = 8, 16, 2  # frames; the first ones of a crop only lend their context
WARMUP, CONSTANT, LEAST = 50, 0.4, 0.03
HELD_OUT = 40  # sentences


def speak(count, seed):
    """[(samples, codes' frames)] of sentences of the training split, then of held-out ones."""
    parts = []
    for split, wanted in ((None, count), ("test", HELD_OUT)):
        rng, said = random.Random(f"{seed}/codec {split}"), set()
        while len(said) < wanted:
            text = sentences.sentence(rng, split)
            if text not in said:
                said.add(text)
                parts.append(torch.from_numpy(voice.speak(text).sound))
    return parts


def prepare(run, args):
    """The codec, and every sentence as (samples, codes)."""
    path = run / "codec.pt"
    if not path.exists():
        sounds = speak(args.sentences, args.seed)
        frames = [codec.frames_of(sound) for sound in sounds]
        coder = codec.Codec.fit(torch.cat(frames[:-HELD_OUT]), args.seed)
        left = {}
        for name, part in (("trained", frames[:-HELD_OUT]), ("held out", frames[-HELD_OUT:])):
            total = torch.cat(part)
            left[name] = 20 * (coder.encode(total)[1] / total.numel()).sqrt().item()
        print(f"{sum(len(s) for s in sounds) / codec.RATE / 60:.1f} minutes; error of the codes, "
              f"dB: {left}", flush=True)
        loudness = torch.cat([codec.spectrum(s).abs().clamp(min=1e-3).log()
                              for s in sounds[:200]]).mean(0)
        torch.save({"mean": coder.mean, "books": coder.books, "loudness": loudness,
                    "sentences": [((s * 32767).to(torch.int16), coder.encode(f)[0].to(torch.int16))
                                  for s, f in zip(sounds, frames)]}, path)
    saved = torch.load(path)
    return codec.Codec(saved["mean"], saved["books"]), saved["loudness"], saved["sentences"]


def stft(sound, size):
    return torch.stft(sound, size, size // 4, size, codec.window(size), return_complex=True)


def distance(spectra, sound):
    """L1 of log-mel bands; log-magnitudes and spectral convergence at three resolutions."""
    skip = CONTEXT * codec.FRAME
    rows = slice(CONTEXT * codec.ROWS, -2)
    made = codec.synthesis(spectra)
    mel = F.l1_loss(codec.log_mel(codec.spectrum(made)[:, rows]),
                    codec.log_mel(codec.spectrum(sound)[:, rows]))
    made, sound = made[:, skip:-codec.PAD], sound[:, skip:-codec.PAD]
    total = 0
    for size in (512, 1024, 2048):
        a, b = stft(made, size), stft(sound, size).abs()
        a = (a.real ** 2 + a.imag ** 2 + 1e-8).sqrt()
        total = total + (a - b).norm() / b.norm() + F.l1_loss((a + 1e-2).log(), (b + 1e-2).log())
    return 4 * mel + total / 3, 20 * mel.item()


def crops(sentences, rng):
    sounds, codes = [], []
    while len(sounds) < BATCH:
        sound, found = rng.choice(sentences)
        if len(found) < CROP:
            continue
        first = rng.randint(0, len(found) - CROP)
        codes.append(found[first:first + CROP])
        sounds.append(sound[first * codec.FRAME:(first + CROP) * codec.FRAME])
    return torch.stack(sounds).float() / 32767, torch.stack(codes).long()


@torch.no_grad()
def held_out(model, sentences):
    """Root-mean-square error of log-mel bands in dB."""
    total = count = 0
    for sound, codes in sentences:
        want = codec.log_mel(codec.spectrum(sound.float()[None] / 32767))
        have = codec.log_mel(codec.spectrum(model(codes.long()[None])))
        total, count = total + (have - want).square().sum(), count + want.numel()
    return 20 * (total / count).sqrt().item()


def factor(step, steps):
    """Share of the full rate: warm-up, constant, then a straight fall."""
    rest = max(0.0, step / steps - CONSTANT) / (1 - CONSTANT)
    return min(1.0, (step + 1) / WARMUP) * max(LEAST, 1 - rest)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--run", required=True, help="directory of the checkpoints")
    p.add_argument("--sentences", type=int, default=1500)
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--float32", action="store_true", help="no bf16 products")
    p.add_argument("--save-seconds", type=float, default=120)
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    run = pathlib.Path(args.run)
    run.mkdir(parents=True, exist_ok=True)
    coder, loudness, sentences = prepare(run, args)
    train, test = sentences[:-HELD_OUT], sentences[-HELD_OUT:]
    model = Detokenizer()
    model.start_from(coder, loudness)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.8, 0.99),
                                  weight_decay=0.01)
    step, cpu, last = 0, 0.0, run / "last.pt"
    if last.exists():
        saved = torch.load(last)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, cpu = saved["step"], saved["cpu"]

    def save():
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step,
                    "cpu": cpu, "mean": coder.mean, "books": coder.books}, run / "last.pt.part")
        os.replace(run / "last.pt.part", last)
        print(f"step {step}: held out {held_out(model, test[:12]):.2f} dB", flush=True)

    saved_at, begun, shown = time.time(), time.process_time() - cpu, [0.0, 0.0]
    while step < args.steps:
        for group in optimiser.param_groups:
            group["lr"] = args.rate * factor(step, args.steps)
        sound, codes = crops(train, random.Random(f"{args.seed}/crops {step}"))
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
            spectra = model.spectra(codes)
        loss, mel = distance(spectra, sound)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        step, cpu = step + 1, time.process_time() - begun
        shown = [a + b / 50 for a, b in zip(shown, (loss.item(), mel))]
        if step % 50 == 0:
            print(f"{time.strftime('%H:%M:%S')} step {step} cpu {cpu:.0f} loss {shown[0]:.3f} "
                  f"mel {shown[1]:.2f} dB", flush=True)
            shown = [0.0, 0.0]
        if time.time() - saved_at > args.save_seconds:
            saved_at = time.time()
            save()
    save()
    print(f"ended: held out {held_out(model, test):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
