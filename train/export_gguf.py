# SPDX-License-Identifier: MIT
"""Writes a model as GGUF, in the layout of the released LFM2 files, and reads one back.

Matrices become the wanted type where their rows allow it; norms, convolution taps, router and its
bias stay F32, as they do in every released file.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
import torch

import vision
from lfm2 import LFM2, Config

HERE = pathlib.Path(__file__).resolve().parent
KINDS = {"f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
         "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
         "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0)}


def tensors(model):
    """(GGUF name, array, keeps F32) of every tensor of a model."""
    def array(p):
        return p.detach().float().numpy()

    yield "token_embd.weight", array(model.embed.weight), False
    yield "token_embd_norm.weight", array(model.norm.weight), True
    if model.dense is not None:
        yield "dense_2.weight", array(model.dense.weight), False
    for i, block in enumerate(model.blocks):
        def name(tail):
            return f"blk.{i}.{tail}"

        yield name("attn_norm.weight"), array(block.op_norm.weight), True
        yield name("ffn_norm.weight"), array(block.ffn_norm.weight), True
        op = block.op
        if model.cfg.layout[i] == "c":
            yield name("shortconv.in_proj.weight"), array(op.in_proj.weight), False
            yield name("shortconv.conv.weight"), array(op.conv), True
            yield name("shortconv.out_proj.weight"), array(op.out_proj.weight), False
        else:
            for part in ("q", "k", "v", "output"):
                yield name(f"attn_{part}.weight"), array(getattr(op, part).weight), False
            yield name("attn_q_norm.weight"), array(op.q_norm.weight), True
            yield name("attn_k_norm.weight"), array(op.k_norm.weight), True
        ffn = block.ffn
        if hasattr(ffn, "router"):
            yield name("ffn_gate_inp.weight"), array(ffn.router.weight), True
            yield name("exp_probs_b.bias"), array(ffn.bias), True
            for part in ("gate", "up", "down"):
                stack = np.stack([array(getattr(e, part).weight) for e in ffn.experts])
                yield name(f"ffn_{part}_exps.weight"), stack, False
        else:
            for part in ("gate", "up", "down"):
                yield name(f"ffn_{part}.weight"), array(getattr(ffn, part).weight), False


def token_types(pieces, specials):
    return [gguf.TokenType.CONTROL if p in specials else gguf.TokenType.NORMAL for p in pieces]


def finish(w, named, kind):
    """Adds (GGUF name, array, keeps F32) tensors to a file and closes it."""
    for name, array, plain in named:
        use = gguf.GGMLQuantizationType.F32 if plain else KINDS[kind][0]
        if use == gguf.GGMLQuantizationType.Q8_0 and array.shape[-1] % 32:
            use = gguf.GGMLQuantizationType.F16
        w.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), use), raw_dtype=use)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write(path, model, pieces, merges, specials, kind="q8_0", context=2048, about=None,
          more=None):
    """One GGUF file. `about` holds general.* strings, `more` keys of any other kind."""
    cfg = model.cfg
    arch = "lfm2moe" if cfg.experts else "lfm2"
    w = gguf.GGUFWriter(path, arch)
    for key, value in (about or {}).items():
        w.add_string(f"general.{key}", value)
    w.add_file_type(KINDS[kind][1])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_block_count(len(cfg.layout))
    w.add_context_length(context)
    w.add_embedding_length(cfg.hidden)
    w.add_feed_forward_length(cfg.ffn)
    w.add_head_count(cfg.heads)
    w.add_head_count_kv([cfg.kv_heads if c == "a" else 0 for c in cfg.layout])
    w.add_layer_norm_rms_eps(cfg.eps)
    w.add_rope_freq_base(cfg.rope_theta)
    w.add_vocab_size(cfg.vocab)
    w.add_shortconv_l_cache(cfg.conv_kernel)
    if not cfg.causal:
        w.add_causal_attention(False)
    if cfg.embedding_out:
        w.add_uint32(f"{arch}.embedding_length_out", cfg.embedding_out)
    if cfg.experts:
        w.add_expert_count(cfg.experts)
        w.add_expert_used_count(cfg.experts_used)
        w.add_expert_feed_forward_length(cfg.expert_ffn)
        w.add_leading_dense_block_count(cfg.dense_layers)
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("lfm2")
    w.add_token_list(pieces)
    w.add_token_types(token_types(pieces, set(specials)))
    w.add_token_merges(merges)
    w.add_bos_token_id(pieces.index("<|startoftext|>"))
    w.add_eos_token_id(pieces.index("<|im_end|>"))
    w.add_pad_token_id(pieces.index("<|pad|>"))
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    for key, value in (more or {}).items():
        {str: w.add_string, float: w.add_float32, int: w.add_uint32}[type(value)](key, value)
    w.add_chat_template((HERE / "chat_template.jinja").read_text().strip())
    finish(w, tensors(model), kind)


def read(path):
    """Model, pieces and (left, right) merges of a dense causal file that `write` wrote."""
    file = gguf.GGUFReader(path)

    def value(key):
        return file.fields[key].contents()

    heads, kv_heads = value("lfm2.attention.head_count"), value("lfm2.attention.head_count_kv")
    pieces = value("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value("tokenizer.ggml.merges")]
    model = LFM2(Config(
        vocab=len(pieces), hidden=value("lfm2.embedding_length"),
        layout="".join("a" if n else "c" for n in kv_heads), ffn=value("lfm2.feed_forward_length"),
        heads=heads, kv_heads=max(kv_heads), conv_kernel=value("lfm2.shortconv.l_cache"),
        rope_theta=value("lfm2.rope.freq_base"),
        eps=value("lfm2.attention.layer_norm_rms_epsilon")))
    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in file.tensors}
    for name, array, _ in tensors(model):
        array[...] = stored[name].reshape(array.shape)  # shares its memory with the parameter
    return model, pieces, merges


def rounded(model, kind):
    """The same model with the weights that a file of this kind gives back."""
    copy = LFM2(model.cfg)
    copy.load_state_dict(model.state_dict())
    if kind != "f32":
        use = KINDS[kind][0]
        with torch.no_grad():
            for p in copy.parameters():
                if p.dim() == 2 and p.shape[-1] % 32 == 0:
                    raw = gguf.quants.quantize(p.numpy(), use)
                    p.copy_(torch.from_numpy(gguf.quants.dequantize(raw, use)))
    return copy.eval()


def vision_tensors(encoder):
    """(GGUF name, array, keeps F32) of every tensor of an encoder and its projector."""
    def array(p):
        return p.detach().float().numpy()

    def pair(name, part, plain=False):
        yield f"{name}.weight", array(part.weight), plain
        yield f"{name}.bias", array(part.bias), True

    side, hidden = vision.PATCH, encoder.cfg.hidden
    taps = array(encoder.patch.weight).reshape(hidden, side, side, 3)  # (row, column, channel)
    yield "v.patch_embd.weight", taps.transpose(0, 3, 1, 2), True
    yield "v.patch_embd.bias", array(encoder.patch.bias), True
    yield "v.position_embd.weight", array(encoder.position), True
    for i, block in enumerate(encoder.blocks):
        for name, part in (("ln1", block.ln1), ("ln2", block.ln2)):
            yield from pair(f"v.blk.{i}.{name}", part, True)
        for name, part in (("attn_q", block.q), ("attn_k", block.k), ("attn_v", block.v),
                           ("attn_out", block.out), ("ffn_up", block.up), ("ffn_down", block.down)):
            yield from pair(f"v.blk.{i}.{name}", part)
    yield from pair("v.post_ln", encoder.post, True)
    if encoder.cfg.norm:
        yield from pair("mm.input_norm", encoder.norm, True)
    yield from pair("mm.1", encoder.mm1)
    yield from pair("mm.2", encoder.mm2)


def write_vision(path, encoder, kind="q8_0", about=None, budget=True):
    """The mmproj file of an encoder; `budget` adds the limits of its views."""
    cfg = encoder.cfg
    w = gguf.GGUFWriter(path, "clip")
    w.add_type("mmproj")
    for key, value in (about or {}).items():
        w.add_string(f"general.{key}", value)
    w.add_file_type(KINDS[kind][1])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.projector_type", "lfm2")
    for key, value in (("projection_dim", cfg.out), ("image_size", vision.TABLE * vision.PATCH),
                       ("patch_size", vision.PATCH), ("embedding_length", cfg.hidden),
                       ("feed_forward_length", cfg.ffn), ("block_count", cfg.layers),
                       ("attention.head_count", cfg.heads),
                       ("projector.scale_factor", vision.TOKEN // vision.PATCH)):
        w.add_uint32(f"clip.vision.{key}", value)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [0.5] * 3)
    w.add_array("clip.vision.image_std", [0.5] * 3)
    w.add_bool("clip.use_gelu", True)
    if budget:
        w.add_uint32("lfmd.vision.min_image_tokens", cfg.min_tokens)
        w.add_uint32("lfmd.vision.max_image_tokens", cfg.max_tokens)
        w.add_bool("lfmd.vision.tiling", False)
    finish(w, vision_tensors(encoder), kind)


def read_vision(path):
    """The encoder of a file that `write_vision` wrote."""
    file = gguf.GGUFReader(path)

    def value(key, default=None):
        field = file.fields.get(key)
        return default if field is None else field.contents()

    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in file.tensors}
    encoder = vision.Encoder(vision.Config(
        out=value("clip.vision.projection_dim"), hidden=value("clip.vision.embedding_length"),
        layers=value("clip.vision.block_count"), heads=value("clip.vision.attention.head_count"),
        ffn=value("clip.vision.feed_forward_length"), projector=stored["mm.1.bias"].shape[0],
        norm="mm.input_norm.weight" in stored,
        min_tokens=value("lfmd.vision.min_image_tokens", 64),
        max_tokens=value("lfmd.vision.max_image_tokens", 256)))
    for name, array, _ in vision_tensors(encoder):
        array[...] = stored[name].reshape(array.shape)  # shares its memory with the parameter
    return encoder.eval()


def vocabulary_of(path):
    """Pieces, merges and special names of a tokenizer.json."""
    state = json.loads(pathlib.Path(path).read_text())
    table = state["model"]["vocab"]
    pieces = sorted(table, key=table.get)
    merges = [" ".join(m) if isinstance(m, list) else m for m in state["model"]["merges"]]
    return pieces, merges, [t["content"] for t in state["added_tokens"]]


ABOUT = {"name": "lfmd-core", "basename": "lfmd-core", "license": "mit", "author": "lfmd authors"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("output")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--vision", help="write the encoder of the checkpoint into this mmproj file")
    p.add_argument("--kind", choices=KINDS, default="q8_0")
    args = p.parse_args()
    saved = torch.load(args.checkpoint, weights_only=False)
    model = LFM2(Config(**saved["config"]))
    model.load_state_dict(saved["model"])
    write(args.output, model, *vocabulary_of(args.tokenizer), args.kind, about={
        **ABOUT, "size_label": "4.6M",
        "description": "Small assistant trained from scratch on generated dialogues"})
    if args.vision:
        encoder = vision.Encoder(vision.Config(**saved["vision"]))
        encoder.load_state_dict(saved["encoder"])
        write_vision(args.vision, encoder, args.kind, {
            **ABOUT, "size_label": "1.1M",
            "description": "Image encoder of lfmd-core, trained from scratch on drawings"})


if __name__ == "__main__":
    main()
