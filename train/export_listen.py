# SPDX-License-Identifier: MIT
"""Writes the audio encoder as GGUF, in the layout of the released mmproj files, and reads one back.

    python train/export_listen.py RUN/last.pt models/mmproj-lfmd-talk-q8_0.gguf

Batch norm goes into the file as a scale and a bias. Convolutions, norms and biases stay F32.
"""

import argparse

import gguf
import torch

import conformer
import export_gguf

EPS = 1e-5
ABOUT = {"name": "lfmd-talk", "basename": "lfmd-talk", "license": "mit", "author": "lfmd authors",
         "description": "Audio encoder of lfmd-talk, trained from scratch on synthetic voices"}
INSIDE = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_out": "out"}


def tensors(encoder):
    """(GGUF name, array, keeps F32) of every tensor of an encoder and its adapter."""
    def array(p):
        return p.detach().float().numpy()

    def pair(name, part, plain=False):
        yield f"{name}.weight", array(part.weight), plain
        yield f"{name}.bias", array(part.bias), True

    for i in (0, 2, 3, 5, 6):
        part = getattr(encoder.subsampling, f"conv{i}")
        yield f"a.conv1d.{i}.weight", array(part.weight), True
        yield f"a.conv1d.{i}.bias", array(part.bias)[:, None, None], True
    yield from pair("a.pre_encode.out", encoder.subsampling.out)
    for i, block in enumerate(encoder.blocks):
        name = f"a.blk.{i}."
        for tail, part in (("", block.first), ("_1", block.second)):
            yield from pair(f"{name}ffn_norm{tail}", part.norm, True)
            yield from pair(f"{name}ffn_up{tail}", part.up)
            yield from pair(f"{name}ffn_down{tail}", part.down)
        attention, convolution = block.attention, block.convolution
        yield from pair(name + "ln1", attention.norm, True)
        for tail, part in INSIDE.items():
            yield from pair(name + tail, getattr(attention, part))
        yield name + "linear_pos.weight", array(attention.position.weight), False
        yield name + "pos_bias_u", array(attention.bias_u), True
        yield name + "pos_bias_v", array(attention.bias_v), True
        yield from pair(name + "norm_conv", convolution.norm, True)
        yield from pair(name + "conv_pw1", convolution.pw1, True)
        yield name + "conv_dw.weight", array(convolution.dw.weight)[:, 0], True
        yield name + "conv_dw.bias", array(convolution.dw.bias), True
        yield from pair(name + "conv_norm", Folded(convolution.batch_norm), True)
        yield from pair(name + "conv_pw2", convolution.pw2, True)
        yield from pair(name + "ln2", block.norm, True)
    yield from pair("mm.a.mlp.0", encoder.norm, True)
    yield from pair("mm.a.mlp.1", encoder.mm1)
    yield from pair("mm.a.mlp.3", encoder.mm3)


class Folded:
    """A batch norm as what it does to a value: times weight, plus bias.

    The statistics of one that was read from a file are 0 and 1 - eps, which fold to themselves.
    """

    def __init__(self, norm):
        if not norm.running_mean.any():
            self.weight, self.bias = norm.weight, norm.bias
            return
        self.weight = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.bias = norm.bias - norm.running_mean * self.weight


def write(path, encoder, kind="q8_0", about=ABOUT):
    cfg = encoder.cfg
    w = gguf.GGUFWriter(path, "clip")
    w.add_type("mmproj")
    for key, value in about.items():
        w.add_string(f"general.{key}", value)
    w.add_file_type(export_gguf.KINDS[kind][1])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_bool("clip.has_audio_encoder", True)
    w.add_string("clip.projector_type", "lfm2a")
    for key, value in (("num_mel_bins", conformer.MELS), ("embedding_length", cfg.hidden),
                       ("feed_forward_length", cfg.ffn), ("block_count", cfg.layers),
                       ("attention.head_count", cfg.heads), ("projection_dim", cfg.out)):
        w.add_uint32(f"clip.audio.{key}", value)
    w.add_float32("clip.audio.attention.layer_norm_epsilon", EPS)
    export_gguf.finish(w, tensors(encoder), kind)


def read(path):
    """The encoder of a file that `write` wrote."""
    file = gguf.GGUFReader(path)

    def value(key):
        return file.fields[f"clip.audio.{key}"].contents()

    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in file.tensors}
    encoder = conformer.Encoder(conformer.Config(
        out=value("projection_dim"), hidden=value("embedding_length"), layers=value("block_count"),
        heads=value("attention.head_count"), ffn=value("feed_forward_length"),
        channels=stored["a.conv1d.0.bias"].size, kernel=stored["a.blk.0.conv_dw.weight"].shape[-1],
        adapter=stored["mm.a.mlp.1.bias"].size))
    for block in encoder.blocks:
        block.convolution.batch_norm.running_var.fill_(1 - block.convolution.batch_norm.eps)
    for name, array, _ in tensors(encoder):
        array[...] = stored[name].reshape(array.shape)  # shares its memory with the parameter
    return encoder.eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("output")
    p.add_argument("--kind", choices=export_gguf.KINDS, default="q8_0")
    args = p.parse_args()
    saved = torch.load(args.checkpoint, weights_only=False)
    encoder = conformer.Encoder(conformer.Config(**saved["listen"]))
    encoder.load_state_dict(saved["encoder"])
    write(args.output, encoder.eval(), args.kind)


if __name__ == "__main__":
    main()
