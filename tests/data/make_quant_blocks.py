#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write quant_blocks_more.gguf and .bin: random raw blocks of every handled tensor type, and their
exact dequantisation by gguf-py (pip install gguf numpy). Seeded; the files are checked in.

The tensor NAME holds 3 rows of 256 values of type NAME; the .bin holds the values as f32 in the
same order. Scales include zero, negative, subnormal and large halves.
"""
import os

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as T

TYPES = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K,
         T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS]
# Byte offsets of the halves in a block.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82],
          T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0],
          T.IQ4_XS: [0]}
ROWS, WIDTH = 3, 256
SPECIAL = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x0400, 0x3C00], np.uint16)


def raw_blocks(rng, kind):
    values, size = GGML_QUANT_SIZES[kind]
    n = ROWS * WIDTH // values
    if kind == T.F32:
        return rng.standard_normal(n).astype(np.float32).view(np.uint8)
    if kind in (T.F16, T.BF16):
        bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
        exponent = 0x7C00 if kind == T.F16 else 0x7F80
        bits[(bits & exponent) == exponent] &= 0x83FF  # no infinity, no NaN
        bits[:len(SPECIAL)] = SPECIAL if kind == T.F16 else bits[:len(SPECIAL)]
        return bits.view(np.uint8)
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for offset in HALVES[kind]:
        scale = (rng.standard_normal(n) * 10.0 ** rng.integers(-6, 2, n)).astype(np.float16)
        bits = scale.view(np.uint16).copy()
        if n > len(SPECIAL):
            bits[:len(SPECIAL)] = SPECIAL
        else:
            bits[0] = 0x8123  # a negative subnormal
        blocks[:, offset:offset + 2] = bits.view(np.uint8).reshape(n, 2)
    return blocks.reshape(-1)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    rng = np.random.default_rng(20260901)
    writer = gguf.GGUFWriter(os.path.join(here, "quant_blocks_more.gguf"), "test")
    values = []
    for kind in TYPES:
        raw = raw_blocks(rng, kind).reshape(ROWS, -1)
        values.append(gguf.quants.dequantize(raw.view(np.float32) if kind == T.F32 else raw.view(
            np.float16) if kind == T.F16 else raw, kind).reshape(-1))
        writer.add_tensor(kind.name, raw, raw_shape=raw.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.concatenate(values).astype("<f4").tofile(os.path.join(here, "quant_blocks_more.bin"))


main()
