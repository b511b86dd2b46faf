# SPDX-License-Identifier: MIT
"""Writes the speaking model as GGUF, in the layout of the released LFM2-Audio files.

    python train/export_talk.py RUN/talk/last.pt --detokenizer RUN/codec/last.pt --name lfmd-talk \\
        --folder models

gives lfmd-talk-q8_0.gguf (the language model), vocoder-lfmd-talk-q8_0.gguf (depthformer, tables of
the codes, embedding and window of the detokenizer) and tokenizer-lfmd-talk-q8_0.gguf (the layers of
the detokenizer).
"""

import argparse
import pathlib

import gguf
import torch

import codec
import detokenizer
import export_gguf
import tokenizer as tokens
import train_talk
from lfm2 import LFM2, Config

HOW_TO_SPEAK = {"lfmd.speech.voice": "US female",  # as the system turn names it
                "lfmd.speech.words": 16,  # of a text at most, and nothing but words
                "lfmd.speech.temperature": 0.0, "lfmd.speech.top_k": 1}  # of codes
NO_MODEL = "this model cannot be used as LLM, use it via --model-vocoder in TTS examples"


def array(parameter):
    return parameter.detach().float().numpy()


def depth_tensors(depth):
    """(GGUF name, array, keeps F32) of a depthformer."""
    yield "depth_linear.weight", array(depth.linear.weight), False
    yield "depth_linear.bias", array(depth.linear.bias), True
    for i, layer in enumerate(depth.layers):
        name = f"depthformer.layers.{i}."
        yield name + "operator_norm.weight", array(layer.operator_norm.weight), True
        yield name + "ffn_norm.weight", array(layer.ffn_norm.weight), True
        yield name + "operator.qkv_proj.weight", array(layer.qkv.weight), False
        yield name + "operator.out_proj.weight", array(layer.out.weight), False
        for part, norm in (("q", layer.q_norm), ("k", layer.k_norm)):
            yield f"{name}operator.attention.{part}_layernorm.weight", array(norm.weight), True
        for part, matrix in (("w1", layer.ffn.gate), ("w3", layer.ffn.up), ("w2", layer.ffn.down)):
            yield f"{name}feed_forward.{part}.weight", array(matrix.weight), False
    for i, norm in enumerate(depth.norms):
        name = f"depth_embeddings.{i}."
        yield name + "embedding_norm.weight", array(norm.weight), True
        for table in ("embedding", "to_logits"):  # one table, named twice as in the released files
            yield f"{name}{table}.weight", array(depth.tables[i]), False


def vocoder_tensors(talker, sound):
    yield from depth_tensors(talker.depth)
    yield "audio_embedding.embedding.weight", array(talker.codes.weight), False
    yield "emb.emb.weight", array(sound.embed.weight), False
    yield "istft.window", array(codec.window()), True


def write_vocoder(path, talker, sound, kind, about):
    w = gguf.GGUFWriter(path, NO_MODEL)
    for key, value in about.items():
        w.add_string(f"general.{key}", value)
    w.add_file_type(export_gguf.KINDS[kind][1])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_uint32("depthformer_n_layer", len(talker.depth.layers))
    w.add_uint32("depthformer_n_embd", talker.depth.dim)
    export_gguf.finish(w, vocoder_tensors(talker, sound), kind)


def write_detokenizer(path, sound, kind, about):
    cfg = sound.core.cfg
    w = gguf.GGUFWriter(path, "lfm2")
    for key, value in about.items():
        w.add_string(f"general.{key}", value)
    w.add_file_type(export_gguf.KINDS[kind][1])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_block_count(len(cfg.layout))
    w.add_context_length(4096)
    w.add_embedding_length(cfg.hidden)
    w.add_feed_forward_length(cfg.ffn)
    w.add_head_count(cfg.heads)
    w.add_head_count_kv([cfg.kv_heads if c == "a" else 0 for c in cfg.layout])
    w.add_rope_freq_base(cfg.rope_theta)
    w.add_layer_norm_rms_eps(cfg.eps)
    w.add_vocab_size(cfg.vocab)
    w.add_shortconv_l_cache(cfg.conv_kernel)
    w.add_sliding_window(cfg.window)
    w.add_uint32("lfm2.embedding_length_out", 2 * codec.BINS)
    w.add_tokenizer_model("none")
    export_gguf.finish(w, [*export_gguf.tensors(sound.core),
                           ("dense_2.weight", array(sound.head.weight), False),
                           ("dense_2.bias", array(sound.head.bias), True)], kind)


def load_talker(paths):
    """The mean of the models of checkpoints of train_talk.py, its pieces and merges."""
    saved, *others = (torch.load(path, weights_only=False) for path in paths)
    talker = train_talk.Talker(LFM2(Config(**saved["config"])))
    talker.load_state_dict({name: sum((other["model"][name] for other in others), weight) /
                            len(paths) for name, weight in saved["model"].items()})
    return talker.eval(), saved["pieces"], saved["merges"]


def load_detokenizer(path):
    sound = detokenizer.Detokenizer()
    sound.load_state_dict(torch.load(path)["model"])
    return sound.eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("checkpoints", nargs="+", help="of train_talk.py; their mean is taken")
    p.add_argument("--detokenizer", required=True, help="checkpoint of train_codec.py")
    p.add_argument("--folder", required=True)
    p.add_argument("--name", default="lfmd-talk")
    p.add_argument("--kind", choices=export_gguf.KINDS, default="q8_0")
    args = p.parse_args()
    talker, pieces, merges = load_talker(args.checkpoints)
    sound = load_detokenizer(args.detokenizer)
    about = {"basename": args.name, "license": "mit", "author": "lfmd authors"}
    tail = pathlib.Path(args.folder) / f"{args.name}-{args.kind}.gguf"
    specials = [piece for piece in pieces if piece in tokens.SPECIALS + tokens.AUDIO + tokens.TILES]
    export_gguf.write(tail, talker.core, pieces, [" ".join(merge) for merge in merges], specials,
                      args.kind, more=HOW_TO_SPEAK, about={
                          **about, "name": args.name, "size_label": "4.6M",
                          "description": "Small assistant that hears and speaks, trained from "
                                         "scratch on generated talk"})
    write_vocoder(tail.with_name(f"vocoder-{tail.name}"), talker, sound, args.kind,
                  {**about, "name": f"vocoder of {args.name}",
                   "description": "Depthformer and tables of the codes of one voice"})
    write_detokenizer(tail.with_name(f"tokenizer-{tail.name}"), sound, args.kind,
                      {**about, "name": f"detokenizer of {args.name}", "size_label": "1.9M",
                       "description": "Codes of one voice into spectra"})


if __name__ == "__main__":
    main()
