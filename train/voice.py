# SPDX-License-Identifier: MIT
"""The voice that the default model speaks with: flite's slt, with the times of phones and words.

Debian's libflite is called directly, since its programs do not tell which word a phone belongs to.
The voice always speaks at one rate, and a sentence always begins the same time before its first
phone: what a network has to guess is then a function of the words alone.
"""

import ctypes
import functools
from dataclasses import dataclass

import numpy as np

import codec
import speech

PHONES = """pau aa ae ah ao aw ax axr ay b ch d dh dx eh el em en er ey f g hh hv ih iy jh k l m n
nx ng ow oy p r s sh t th uh uw v w y z zh""".split()
PHONE = {name: i for i, name in enumerate(PHONES)}
BEFORE, AFTER = 0.04, 0.08  # seconds of silence around the phones
FLITE_RATE = 16000


class Wave(ctypes.Structure):
    _fields_ = [("type", ctypes.c_char_p), ("rate", ctypes.c_int), ("n_samples", ctypes.c_int),
                ("n_channels", ctypes.c_int), ("samples", ctypes.POINTER(ctypes.c_short))]


@functools.cache
def flite():
    """The library with its types declared, and the voice."""
    library = ctypes.CDLL("libflite.so.1", ctypes.RTLD_GLOBAL)
    for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    slt = ctypes.CDLL("libflite_cmu_us_slt.so.1")
    address = ctypes.c_void_p
    for name, result, *arguments in [
            ("flite_init", None), ("delete_utterance", None, address),
            ("flite_synth_text", address, ctypes.c_char_p, address),
            ("utt_wave", ctypes.POINTER(Wave), address),
            ("utt_relation", address, address, ctypes.c_char_p),
            ("relation_head", address, address), ("item_next", address, address),
            ("item_parent", address, address), ("item_as", address, address, ctypes.c_char_p),
            ("ffeature_string", ctypes.c_char_p, address, ctypes.c_char_p),
            ("ffeature_float", ctypes.c_float, address, ctypes.c_char_p)]:
        getattr(library, name).restype = result
        getattr(library, name).argtypes = arguments
    library.flite_init()
    slt.register_cmu_us_slt.restype = address
    slt.register_cmu_us_slt.argtypes = [address]
    return library, slt.register_cmu_us_slt(None)


@dataclass
class Spoken:
    sound: np.ndarray  # float32 at 24 kHz, whole frames of codes
    segments: list  # (end in seconds, phone, index of the word or -1 for silence)


def speak(text):
    """A sentence of words that are letters and apostrophes, separated by single spaces."""
    library, slt = flite()
    utterance = library.flite_synth_text(speech.letters(text).encode(), slt)
    wave = library.utt_wave(utterance).contents
    sound = np.ctypeslib.as_array(wave.samples, (wave.n_samples,)) / 32768
    segments, word, before = [], -1, None
    item = library.relation_head(library.utt_relation(utterance, b"Segment"))
    while item:
        name = library.ffeature_string(item, b"name").decode()
        token = None
        if name != "pau":
            syllable = library.item_parent(library.item_as(item, b"SylStructure"))
            spelled = library.item_as(library.item_parent(syllable), b"Token")
            token = library.item_parent(spelled)
            word += token != before
            before = token
        segments.append((library.ffeature_float(item, b"end"), name, word if token else -1))
        item = library.item_next(item)
    library.delete_utterance(utterance)

    first = segments[0][0] if segments[0][1] == "pau" else 0.0
    stop = segments[-2][0] if segments[-1][1] == "pau" else segments[-1][0]
    start = max(0, round((first - BEFORE) * FLITE_RATE))
    frames = -(-(round((stop + AFTER) * FLITE_RATE) - start) * codec.RATE
               // (FLITE_RATE * codec.FRAME))
    cut = np.zeros(frames * codec.FRAME * FLITE_RATE // codec.RATE)
    part = sound[start:start + len(cut)]
    cut[:len(part)] = part
    shift = start / FLITE_RATE
    return Spoken(speech.resample(cut, FLITE_RATE, codec.RATE),
                  [(end - shift, PHONE[name], word) for end, name, word in segments])
