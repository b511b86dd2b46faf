#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files with random weights for timing speech, at the size of LFM2.5-Audio-1.5B and
LFM2-Audio-1.5B.

    random_audio.py vocoder|tokenizer|mimi|audiodecoder TYPE FILE     TYPE: F32 F16 Q8_0 Q4_0

vocoder       depthformer, tables of codes, window of the transform
tokenizer     the backbone that turns codes into spectra
mimi          the other vocoder, under Kyutai's names; always F32
audiodecoder  depthformer and all of Mimi in one, as LFM2-Audio has them: in Q8_0 375009888 bytes,
              which is what the published file has

What they say is noise. Needs numpy and gguf.
"""

import argparse

import gguf
import numpy as np

H, D, FF, LAYERS = 2048, 1024, 2816, 6  # language model; depthformer
BOOKS, CODES, RATIOS = 8, 2048, (8, 6, 5, 4)
d, ff, KINDS = 512, 2304, "ccacacac"    # detokenizer


def depthformer(add):
    for i in range(LAYERS):
        p = f"depthformer.layers.{i}."
        add(p + "operator.qkv_proj.weight", (D * 3 // 2, D))
        add(p + "operator.out_proj.weight", (D, D))
        add(p + "operator.attention.q_layernorm.weight", (D // 32,))
        add(p + "operator.attention.k_layernorm.weight", (D // 32,))
        add(p + "feed_forward.w1.weight", (FF, D))
        add(p + "feed_forward.w3.weight", (FF, D))
        add(p + "feed_forward.w2.weight", (D, FF))
        add(p + "operator_norm.weight", (D,))
        add(p + "ffn_norm.weight", (D,))
    add("depth_linear.weight", (BOOKS * D, H))
    add("depth_linear.bias", (BOOKS * D,), 0)
    for i in range(BOOKS):
        p = f"depth_embeddings.{i}."
        tied = add(p + "embedding.weight", (CODES + 1, D))
        add(p + "embedding_norm.weight", (D,))
        add(p + "to_logits.weight", (CODES + 1, D), same_as=tied)
    add("audio_embedding.embedding.weight", (BOOKS * (CODES + 1), H))
    add("audio_embedding.embedding_norm.weight", (H,))
    add("audio_embedding.to_logits.weight", (BOOKS * (CODES + 1), H))


def vocoder(add, writer):
    writer.add_uint32("depthformer_n_layer", LAYERS)
    writer.add_uint32("depthformer_n_embd", D)
    depthformer(add)
    add("emb.emb.weight", (BOOKS * CODES, d))
    writer.add_tensor("istft.window", np.hanning(1281)[:-1].astype(np.float32))


def tokenizer(add, writer):
    for key, value in {"block_count": len(KINDS), "context_length": 128000, "embedding_length": d,
                       "feed_forward_length": ff, "attention.head_count": 16,
                       "vocab_size": 65536, "shortconv.l_cache": 3,
                       "attention.sliding_window": 30, "embedding_length_out": 1282}.items():
        writer.add_uint32(f"lfm2.{key}", value)
    writer.add_array("lfm2.attention.head_count_kv", [8 * (kind == "a") for kind in KINDS])
    writer.add_float32("lfm2.rope.freq_base", 1e6)
    writer.add_float32("lfm2.attention.layer_norm_rms_epsilon", 1e-5)
    add("token_embd.weight", (65536, d))
    add("token_embd_norm.weight", (d,))
    for i, kind in enumerate(KINDS):
        p = f"blk.{i}."
        if kind == "a":
            add(p + "attn_q.weight", (d, d))
            add(p + "attn_k.weight", (d // 2, d))
            add(p + "attn_v.weight", (d // 2, d))
            add(p + "attn_output.weight", (d, d))
            add(p + "attn_q_norm.weight", (d // 16,))
            add(p + "attn_k_norm.weight", (d // 16,))
        else:
            add(p + "shortconv.in_proj.weight", (3 * d, d))
            add(p + "shortconv.conv.weight", (d, 3), plain=True)
            add(p + "shortconv.out_proj.weight", (d, d))
        add(p + "ffn_gate.weight", (ff, d))
        add(p + "ffn_up.weight", (ff, d))
        add(p + "ffn_down.weight", (d, ff))
        add(p + "attn_norm.weight", (d,))
        add(p + "ffn_norm.weight", (d,))
    add("dense_2.weight", (1282, d))
    add("dense_2.bias", (1282,), 0)


def mimi(add, writer):
    for key, value in {"codebooks": BOOKS, "transformer_heads": 8, "transformer_context": 250,
                       "sample_rate": 24000}.items():
        writer.add_uint32(f"mimi.{key}", value)
    for kind, n in (("rvq_first", 1), ("rvq_rest", BOOKS - 1)):
        add(f"quantizer.{kind}.output_proj.weight", (d, d // 2, 1))
        for i in range(n):
            p = f"quantizer.{kind}.vq.layers.{i}.cb."
            add(p + "embedding_sum", (CODES, d // 2))
            add(p + "cluster_usage", (CODES,))
    add("upsample.convtr.convtr.convtr.weight", (d, 1, 4))
    for i in range(8):
        p = f"dec_tfm.layers.{i}."
        add(p + "self_attn.in_projs.0.weight", (3 * d, d))
        add(p + "self_attn.out_projs.0.weight", (d, d))
        add(p + "linear1.weight", (4 * d, d))
        add(p + "linear2.weight", (d, 4 * d))
        for norm in ("norm1", "norm2"):
            add(f"{p}{norm}.weight", (d,))
            add(f"{p}{norm}.bias", (d,), 0)
        add(p + "layer_scale_1.scale", (d,))
        add(p + "layer_scale_2.scale", (d,))

    def conv(name, shape, n):
        add(name + ".weight", shape)
        add(name + ".bias", (n,), 0)

    width = 1024
    conv("decoder.model.0.conv.conv", (width, d, 7), width)
    for i, ratio in enumerate(RATIOS):
        half = width // 2
        conv(f"decoder.model.{3 * i + 2}.convtr.convtr", (width, half, 2 * ratio), half)
        conv(f"decoder.model.{3 * i + 3}.block.1.conv.conv", (half // 2, half, 3), half // 2)
        conv(f"decoder.model.{3 * i + 3}.block.3.conv.conv", (half, half // 2, 1), half)
        width = half
    conv("decoder.model.14.conv.conv", (1, width, 3), 1)


def audiodecoder(add, writer):
    def conv(name, out, width, kernel, lengthens=False):
        add(name + ".conv.weight", (width, out, kernel) if lengthens else (out, width, kernel))
        add(name + ".conv.bias", (out, 1), 0)

    def block(name, width):
        conv(name + ".block.1", width // 2, width, 3)
        conv(name + ".block.3", width, width // 2, 1)

    depthformer(add)
    conv("encoder.layers.0", 64, 1, 7)
    for i, ratio in enumerate(reversed(RATIOS)):
        block(f"encoder.layers.{3 * i + 1}", 64 << i)
        conv(f"encoder.layers.{3 * i + 3}", 128 << i, 64 << i, 2 * ratio)
    conv("encoder.layers.14", d, 1024, 3)
    add("downsample.conv.weight", (d, d, 4))
    conv("decoder.layers.0", 1024, d, 7)
    for i, ratio in enumerate(RATIOS):
        conv(f"decoder.layers.{3 * i + 2}", 512 >> i, 1024 >> i, 2 * ratio, lengthens=True)
        block(f"decoder.layers.{3 * i + 3}", 512 >> i)
    conv("decoder.layers.14", 1, 64, 3)
    add("upsample.conv.weight", (d, 1, 4))
    for half in ("encoder", "decoder"):
        for i in range(8):
            p = f"{half}_transformer.layers.{i}."
            for part in "qkvo":
                add(p + f"self_attn.{part}_proj.weight", (d, d))
            add(p + "mlp.fc1.weight", (4 * d, d))
            add(p + "mlp.fc2.weight", (d, 4 * d))
            for norm in ("input_layernorm", "post_attention_layernorm"):
                add(p + norm + ".weight", (d,))
                add(p + norm + ".bias", (d,), 0)
            add(p + "self_attn_layer_scale.scale", (d,))
            add(p + "mlp_layer_scale.scale", (d,))
    for kind, n in (("semantic", 1), ("acoustic", 31)):
        p = f"quantizer.{kind}_rvq."
        add(p + "input_proj.weight", (d // 2, d))
        add(p + "output_proj.weight", (d, d // 2))
        for i in range(n):
            add(p + f"layers.{i}.codebook", (CODES, d // 2), plain=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["vocoder", "tokenizer", "mimi", "audiodecoder"])
    parser.add_argument("type", choices=["F32", "F16", "Q8_0", "Q4_0"])
    parser.add_argument("file")
    options = parser.parse_args()
    arch = {"vocoder": "a vocoder, not a language model", "tokenizer": "lfm2", "mimi": "mimi",
            "audiodecoder": "this model cannot be used as LLM, use it via --model-vocoder in TTS "
                            "examples"}
    writer = gguf.GGUFWriter(options.file, arch[options.kind], use_temp_file=True)
    file_type = gguf.GGMLQuantizationType[options.type]
    rng = np.random.default_rng(1)

    def add(name, shape, centre=1.0, plain=False, same_as=None):
        """Matrices keep the size of what goes through them; vectors lie around their centre."""
        if len(shape) == 1 or shape[1:] == (1,):
            data = centre + 0.1 * rng.standard_normal(shape, np.float32)
        elif same_as is None:
            data = rng.standard_normal(shape, np.float32) * np.prod(shape[1:]) ** -0.5
        if options.kind == "audiodecoder" and len(shape) == 3:
            writer.add_tensor(name, data.astype(np.float16))
            return None
        if len(shape) != 2 or shape[1] % 32 or plain or options.kind == "mimi":
            writer.add_tensor(name, data.astype(np.float32))
            return None
        data = gguf.quants.quantize(data, file_type) if same_as is None else same_as
        writer.add_tensor(name, data, raw_dtype=file_type)
        return data

    globals()[options.kind](add, writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
