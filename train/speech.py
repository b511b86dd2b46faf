# SPDX-License-Identifier: MIT
"""Speech for training: voices with the times of their phones, log-mels, noise, stores of clips.

Voices are Debian's, named "synthesiser:voice": espeak-ng through its library, flite and festival as
programs. All of them name their phones; `PHONES` is the one set that they are mapped to.

    python train/speech.py --out FOLDER --shards N

writes shards of training clips; each is made from its number alone. A clip is (words, voice,
clean log-mel [T, 128] as float16, phone ids at 50 per second [ceil(T / 2)], power of the samples).
"""

import argparse
import atexit
import collections
import ctypes
import os
import pathlib
import random
import re
import subprocess
import tempfile
import wave

import numpy as np
import torch

import sentences

RATE = 16000
MELS, WINDOW, HOP, FFT = 128, 400, 160, 512
FLOOR = 2.0 ** -24
SHARD = 400  # clips

ESPEAK = """en-us en en-gb-x-rp en-029 en-gb-scotland en-us+f1 en-us+f2 en-us+m2 en-us+m3 en-us+m4
en+f4 en+m7 en-us+f5 en+m1 en-us-nyc en-us+Annie en-us+Alicia en+Andy en-us+Lee en-us+Michael
en+Belinda en-us+klatt2 en+klatt4 en-us+Steph en+Mario en-us+Alex en-us+victor en+sandro en-us+Zac
en-us+shelby en+norbert en-us+grandpa""".split()
VOICES = {  # voices of the training and their weights
    **{f"espeak:{name}": 2 for name in ESPEAK},
    "flite:slt": 12, "flite:awb": 12, "flite:kal16": 6, "flite:kal": 2,
    "festival:ked_diphone": 12, "festival:cmu_us_slt_arctic_hts": 6}
HELD_OUT = ["espeak:en+f3", "espeak:en-us+m6", "flite:rms"]

# The phones of the CMU dictionary; espeak-ng's are mapped to the nearest.
PHONES = """pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh
t th uh uw v w y z zh""".split()
NUMBER = {name: i for i, name in enumerate(PHONES)}
NO_PHONE = 255
FROM_ESPEAK = dict(pair.split("=") for pair in """I=ih I2=ih I#=ih i=iy i:=iy E=eh a=ae a#=ax aa=ae
A:=aa A@=aa 0=aa O:=ao O=ao O2=ao o@=ao O@=ao V=ah U=uh u:=uw U@=uh @=ax @2=ax @-=ax @L=l 3=er 3:=er
VR=er IR=er i@=ih i@3=ih e@=eh eI=ey aI=ay aI@=ay aI2=ay aI3=ay aU=aw oU=ow OI=oy n=n n-=n m=m N=ng
l=l l#=l r=r r-=r w=w w#=w j=y h=hh p=p b=b t=t t2=t t#=d t[=t ?=t d=d k=k x=k g=g f=f v=v T=th D=dh
s=s z=z S=sh Z=zh tS=ch dZ=jh _=pau _:=pau _!=pau""".split())
FROM_FLITE = {"pau": "pau", "ssil": "pau", "brth": "pau", "h#": "pau", "#": "pau", "axr": "er",
              "el": "l", "em": "m", "en": "n", "nx": "n", "dx": "d", "hv": "hh", "ix": "ih",
              "ux": "uw"}


def phone(name, table):
    return NUMBER.get(table.get(name, name), NO_PHONE)


def letters(text):
    """Synthesisers take the letters of "p m" for words otherwise."""
    return re.sub(r"\bp m\b", "pee em", re.sub(r"\ba m\b", "ay em", text))


def read_wave(path):
    with wave.open(str(path)) as file:
        raw = file.readframes(file.getnframes())
        return np.frombuffer(raw, np.int16).astype(np.float32) / 32768, file.getframerate()


class Espeak:
    """The library in its retrieval mode; one voice at a time, not for several threads."""

    class Event(ctypes.Structure):
        _fields_ = [("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text", ctypes.c_int),
                    ("length", ctypes.c_int), ("msec", ctypes.c_int), ("sample", ctypes.c_int),
                    ("user", ctypes.c_void_p), ("name", ctypes.c_char * 8)]

    PHONEME, RETRIEVAL, SPEED, PITCH, UTF8 = 7, 2, 1, 3, 1

    def __init__(self):
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.hz = self.library.espeak_Initialize(self.RETRIEVAL, 500, None, 1)
        self.sound, self.events = [], []
        self.callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int,
                                         ctypes.POINTER(self.Event))(self.heard)
        self.library.espeak_SetSynthCallback(self.callback)

    def heard(self, samples, count, events):
        if samples and count > 0:
            self.sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type:
            if events[i].type == self.PHONEME:
                self.events.append((events[i].msec / 1000, events[i].name.decode()))
            i += 1
        return 0

    def say(self, text, voice, rate, pitch):
        self.sound.clear()
        self.events.clear()
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice}")
        self.library.espeak_SetParameter(self.SPEED, round(165 / rate), 0)
        self.library.espeak_SetParameter(self.PITCH, round(pitch), 0)
        raw = text.encode() + b"\0"
        self.library.espeak_Synth(raw, len(raw), 0, 0, 0, self.UTF8, None, None)
        self.library.espeak_Synchronize()
        samples = np.concatenate(self.sound).astype(np.float32) / 32768
        starts = [start for start, _ in self.events] + [len(samples) / self.hz]
        return samples, self.hz, [(start, end, phone(name, FROM_ESPEAK)) for (start, name), end
                                  in zip(self.events, starts[1:])]


class Flite:
    def __init__(self, folder):
        self.file = folder / "flite.wav"

    def say(self, text, voice, rate, pitch):
        told = subprocess.run(
            ["flite", "-voice", voice, "--setf", f"duration_stretch={rate:.3f}", "-psdur", "-t",
             text, "-o", self.file], capture_output=True, check=True, text=True).stdout
        segments, start = [], 0.0
        for item in told.split():
            name, end = item.rsplit(":", 1)
            segments.append((start, float(end), phone(name, FROM_FLITE)))
            start = float(end)
        return *read_wave(self.file), segments


class Festival:
    """One interpreter for all clips: it starts slowly."""

    def __init__(self, folder):
        self.wave, self.segments = folder / "festival.wav", folder / "festival.segs"
        self.process = subprocess.Popen(["festival", "--pipe"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)

    def say(self, text, voice, rate, pitch):
        self.process.stdin.write(
            f"(voice_{voice})(Parameter.set 'Duration_Stretch {rate:.3f})"
            f'(set! said (utt.synth (Utterance Text "{text}")))'
            f'(utt.save.segs said "{self.segments}")(utt.save.wave said "{self.wave}" \'riff)'
            '(format t "\\ndone\\n")(fflush nil)\n')
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.strip() == "done":
                break
        segments, start = [], 0.0
        for line in self.segments.read_text().splitlines()[1:]:
            end, _, name = line.split()
            segments.append((start, float(end), phone(name, FROM_FLITE)))
            start = float(end)
        return *read_wave(self.wave), segments


SYNTHESISERS = {"espeak": lambda folder: Espeak(), "flite": Flite, "festival": Festival}
STARTED, FOLDER = {}, None


def say(text, voice, rate=1.0, pitch=50):
    """Samples, their number per second, and (start, end, phone id) in seconds.

    `rate` stretches time; `pitch` (0 to 100) is espeak-ng's alone.
    """
    global FOLDER
    FOLDER = FOLDER or tempfile.TemporaryDirectory(prefix="speech-")
    kind, name = voice.split(":")
    if kind not in STARTED:
        STARTED[kind] = SYNTHESISERS[kind](pathlib.Path(FOLDER.name))
    return STARTED[kind].say(letters(text), name, rate, pitch)


def resample(x, have, want):
    """By Fourier transform of the whole clip."""
    if have == want:
        return x
    size = round(len(x) * want / have)
    old = np.fft.rfft(x)
    new = np.zeros(size // 2 + 1, complex)
    both = min(len(old), len(new))
    new[:both] = old[:both]
    return (np.fft.irfft(new, size) * (size / len(x))).astype(np.float32)


def phones_at(segments, times):
    """The phone id at every time, NO_PHONE where there is none."""
    ends = np.array([end for _, end, _ in segments])
    ids = np.array([number for _, _, number in segments] + [NO_PHONE], np.uint8)
    return ids[np.searchsorted(ends, times, "right")]


# --- features: log-mels as the released models take them ------------------------------------------

def mel_of(hz):
    high = 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4)
    return np.where(hz < 1000, 3 * hz / 200, high)


def hz_of(mel):
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def filters():
    """Slaney's triangles of unit area, [128, 257]."""
    edges = hz_of(np.linspace(0, mel_of(np.array(RATE / 2.0)), MELS + 2))[:, None]
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    up, down = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.maximum(0, np.minimum(up, down)) * 2 / (high - low)


BANK = torch.from_numpy(filters()).float()
HANN = torch.hann_window(WINDOW, periodic=False)


def log_mel(samples):
    """ln(mel power + 2^-24) of samples at 16 kHz, [samples / 160 + 1, 128]."""
    x = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    x = torch.cat([x[:1], x[1:] - 0.97 * x[:-1]])
    spectrum = torch.stft(x, FFT, HOP, WINDOW, HANN, center=True, pad_mode="constant",
                          return_complex=True)
    return (BANK @ (spectrum.real ** 2 + spectrum.imag ** 2) + FLOOR).log().T.contiguous()


def normalised(mel):
    """Every bin to mean 0 and deviation 1 over all frames but the last, which becomes zero."""
    valid = mel[:-1].double()
    out = ((valid - valid.mean(0)) / (valid.std(0) + 1e-5)).float()
    return torch.cat([out, torch.zeros(1, MELS)])


# --- noise ----------------------------------------------------------------------------------------

def noise(rng, size):
    """Noise of unit power: white, coloured, modulated with a hum, or other people's talk."""
    kind = rng.randrange(6)
    if kind == 5:
        x = np.zeros(size, np.float32)
        for _ in range(rng.randint(2, 5)):
            voice = "espeak:" + rng.choice(ESPEAK)
            told = [resample(*say(sentences.sentence(rng), voice, rng.uniform(0.8, 1.2),
                                  rng.randint(20, 80))[:2], RATE) for _ in range(3)]
            x += np.resize(np.roll(np.concatenate(told), rng.randrange(RATE)), size)
    else:
        x = np.random.default_rng(rng.randrange(1 << 32)).standard_normal(size)
        if kind in (1, 2, 4):
            bins = np.arange(size // 2 + 1) * RATE / size
            power = rng.uniform(0.5, 2)
            x = np.fft.irfft(np.fft.rfft(x) / (bins + rng.choice([30, 300, 1000])) ** power, size)
        if kind in (3, 4):
            t = np.arange(size) / RATE
            x *= 1 + 0.7 * np.sin(2 * np.pi * rng.uniform(0.5, 4) * t)
            hum = rng.choice([50, 60, 100, 120, 400])
            x += x.std() * rng.uniform(0, 2) * np.sin(2 * np.pi * hum * t)
    return (x / np.sqrt((x ** 2).mean() + 1e-12)).astype(np.float32)


def recorded(rng, samples, snr):
    """A clip as a microphone hears it: silence around, noise, some gain; at most +-1."""
    power = (samples ** 2).mean()
    x = np.pad(samples, (rng.randint(0, 4000), rng.randint(0, 4000)))
    x = x + noise(rng, len(x)) * np.sqrt(power / 10 ** (snr / 10))
    return (x * (rng.uniform(0.3, 0.95) / np.abs(x).max())).astype(np.float32)


class Augment:
    """Other speakers, rooms, tempi and noise from a clean log-mel, without synthesis."""

    WARPS = np.linspace(0.86, 1.14, 15)

    def __init__(self, seed, pool=48, seconds=6):
        rng = random.Random(f"{seed}/noise")
        self.noises = torch.stack([log_mel(noise(rng, seconds * RATE)).exp() for _ in range(pool)])
        self.warps = []
        for factor in self.WARPS:
            at = np.clip(np.arange(MELS) * factor, 0, MELS - 1)
            low = np.minimum(at.astype(int), MELS - 2)
            matrix = np.zeros((MELS, MELS), np.float32)
            matrix[low, np.arange(MELS)] = 1 - (at - low)
            matrix[low + 1, np.arange(MELS)] = at - low
            self.warps.append(torch.from_numpy(matrix))

    def __call__(self, rng, mel, phones, power):
        """Normalised features [T, 128] and phones [ceil(T / 2)] of one presentation."""
        x = mel.float().exp()
        if rng.random() < 0.65:
            x = x @ rng.choice(self.warps)
        if rng.random() < 0.65:
            size = int(len(x) * rng.uniform(0.84, 1.2))
            at = torch.linspace(0, len(x) - 1.001, size)
            low, part = at.long(), (at - at.floor())[:, None]
            x = x[low] * (1 - part) + x[low + 1] * part
            phones = phones[torch.linspace(0, len(phones) - 0.001, (size + 1) // 2).long()]
        if rng.random() < 0.25:  # an echo that dies away, as in a room
            left, tail = rng.uniform(0.75, 0.9), rng.uniform(0.02, 0.15)
            decay = tail * left ** torch.arange(24.0)
            padded = torch.nn.functional.pad(x.T[:, None], (24, 0))
            x = x + torch.nn.functional.conv1d(padded, decay.flip(0)[None, None])[:, 0, :-1].T
        before, after = 2 * rng.randint(0, 13), rng.randint(0, 24)
        x = torch.nn.functional.pad(x, (0, 0, before, after))
        silence = phones.new_full((1,), NUMBER["pau"])
        half = (len(x) + 1) // 2
        phones = torch.cat([silence.expand(before // 2), phones, silence.expand(half)])[:half]
        added = rng.choice(self.noises)
        start = rng.randrange(max(1, len(added) - len(x)))
        added = added[(start + torch.arange(len(x))) % len(added)]
        x = (x + added * (power / 10 ** (rng.uniform(3, 38) / 10))) * rng.uniform(0.05, 1)
        x = normalised((x + FLOOR).log())
        for _ in range(2):
            low = rng.randint(0, MELS - 14)
            x[:, low:low + rng.randint(0, 14)] = 0
        for _ in range(1 + len(x) // 150):
            low = rng.randrange(len(x))
            x[low:low + rng.randint(0, 8)] = 0
        return x, phones


# --- stores ---------------------------------------------------------------------------------------

def clip(rng):
    words = sentences.sentence(rng)
    voice = rng.choices(list(VOICES), list(VOICES.values()))[0]
    return clip_of(words, voice, rng.uniform(0.82, 1.25), rng.randint(25, 75))


def clip_of(words, voice, rate, pitch):
    samples, hz, segments = say(words, voice, rate, pitch)
    mel = log_mel(resample(samples, hz, RATE))
    phones = phones_at(segments, np.arange((len(mel) + 1) // 2) * 2 * HOP / RATE)
    return words, voice, mel.half(), torch.from_numpy(phones), float((samples ** 2).mean())


def shards(folder, count, seed=1):
    """The clips of the first `count` shards; missing ones are made."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"clips-{i}.pt"
        if not path.exists():
            rng = random.Random(f"{seed}/shard {i}")
            part = path.with_suffix(f".{os.getpid()}")
            torch.save([clip(rng) for _ in range(SHARD)], part)
            os.replace(part, path)
            print("made", path, flush=True)
        yield from torch.load(path, weights_only=False)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--out", required=True)
    p.add_argument("--shards", type=int, required=True)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(1)
    voices, frames = collections.Counter(), 0
    for _, voice, mel, _, _ in shards(args.out, args.shards, args.seed):
        voices[voice] += 1
        frames += len(mel)
    print(f"{frames / 360000:.2f} hours", voices)


if __name__ == "__main__":
    main()
