# SPDX-License-Identifier: MIT
"""Writes the random-weight models under tests/data and what they must compute.

    python train/make_fixtures.py tests/data
    python train/make_fixtures.py --check MODEL.gguf      # compare with references lying beside it

The sidecars have one layout with any reference made elsewhere: `<stem>.json` names the GGUF, the
cases (tokens, file of float32 logits, shape, argmax), chunk sizes, greedy ids, intermediates and
tolerances; `*.bin` is raw little-endian float32 without a header. All weights and tokens come from
seeds. The reference is lfm2.py in float64, rounded to float32.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, Regex

import export_gguf
import tokenizer as tokens
from lfm2 import LFM2, Config, Experts, ShortConv

TEXT = ("<|startoftext|><|im_start|>user\nWhere is the thin red hat? 12 hens, then 345 more!"
        "<|im_end|>\n<|im_start|>assistant\n")
SEED = 61
MODELS = {
    "tiny_dense_f32": dict(hidden=32, layout="caca", ffn=24, heads=2, kv_heads=1),
    "tiny_moe_f32": dict(hidden=32, layout="cca", ffn=24, heads=4, kv_heads=2, conv_kernel=4,
                         experts=4, experts_used=2, expert_ffn=16, dense_layers=1),
    "tiny_bidir_f32": dict(hidden=32, layout="cac", ffn=32, heads=2, kv_heads=2, causal=False,
                           embedding_out=16),
}


def vocabulary():
    """Specials, the 256 bytes and a few merges; the pieces and the tokenizer that reads them."""
    specials = tokens.SPECIALS[:14]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space = tokens.SPACE
    merges = [("t", "h"), ("h", "e"), ("i", "n"), ("th", "e"), ("r", "e"), ("e", "n"), ("a", "t"),
              ("h", "at"), ("u", "s"), ("e", "r"), ("us", "er"), ("s", "t"), ("a", "n"),
              ("a", "s"), (space, "the"), (space, "th"), (space, "hat"), ("1", "2"), ("12", "3"),
              ("3", "4")]
    pieces = specials + alphabet + [a + b for a, b in merges]
    bpe = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(tokens.LFM2_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return pieces, [" ".join(m) for m in merges], specials, bpe


def random_model(cfg, seed):
    """Weights large enough that every part of the network moves the argmax."""
    torch.manual_seed(seed)
    model = LFM2(cfg).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif name == "embed.weight":
                p.copy_(0.55 * torch.randn_like(p))
            elif name.endswith("ffn.bias"):
                p.copy_(0.3 * torch.randn_like(p))
            elif name.endswith("op.conv"):
                p.copy_(0.7 * torch.randn_like(p))
            else:
                p.copy_(1.3 * torch.randn_like(p) * p.shape[1] ** -0.5)
    return model


class Watch:
    """Collects the intermediates of a forward pass."""

    def __init__(self, model):
        self.outputs, self.products, self.router = [], {}, []
        for i, block in enumerate(model.blocks):
            block.register_forward_hook(lambda m, a, out: self.outputs.append(out[0]))
            if isinstance(block.op, ShortConv):
                block.op.in_proj.register_forward_hook(self.product(i, block.op.kernel))
            if isinstance(block.ffn, Experts):
                block.ffn.router.register_forward_hook(self.choice(i, block.ffn))

    def product(self, layer, kernel):
        def hook(module, args, out):
            b, _, x = out[0].chunk(3, -1)
            self.products[layer] = (b * x)[-(kernel - 1):]
        return hook

    def choice(self, layer, experts):
        def hook(module, args, out):
            score = out[0].sigmoid()
            chosen = (score + experts.bias).topk(experts.used, -1).indices
            weight = score.gather(-1, chosen)
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-6)
            self.router.append({"layer": layer, "experts": chosen.tolist(),
                                "weights": [[round(w, 7) for w in row] for row in weight.tolist()]})
        return hook


def save(folder, name, array):
    np.asarray(array, dtype="<f4").tofile(folder / name)
    return name


@torch.no_grad()
def reference(folder, stem, model, ids, specials):
    """Sidecar of a causal model."""
    cfg = model.cfg
    exact = LFM2(cfg).double().eval()
    exact.load_state_dict(model.state_dict())
    line = torch.tensor([ids])
    logits = exact(line)[0]
    prompt, out, margins = ids[:20], [], []
    for _ in range(24):
        top = exact(torch.tensor([prompt + out]))[0, -1].topk(2)
        out.append(top.indices[0].item())
        margins.append(round((top.values[0] - top.values[1]).item(), 5))
    watch = Watch(exact)
    first = ids[:24]
    states = exact.hidden(torch.tensor([first]))[0]
    parts = {"embed": exact.embed.weight[torch.tensor(first)], "final_norm": states}
    parts.update({f"l_out_{i}": o for i, o in enumerate(watch.outputs)})
    conv = torch.stack([watch.products[i] for i in sorted(watch.products)])
    inter = {
        "note": "raw little-endian f32, row-major [tokens, hidden] unless said otherwise",
        "tensors": {name: {"file": save(folder, f"{stem}.inter.{name}.bin", t.numpy()),
                           "shape": list(t.shape)} for name, t in parts.items()},
        "conv_state": {"file": save(folder, f"{stem}.inter.conv_state.bin", conv.numpy()),
                       "layers": sorted(watch.products), "shape": list(conv.shape),
                       "note": "[conv layer, l_cache-1 steps oldest first, hidden]"}}
    if watch.router:
        inter["router"] = watch.router
    (folder / f"{stem}.inter.intermediates.json").write_text(json.dumps(inter))
    n = len(ids)
    state = {
        "gguf": f"{stem}.gguf", "n_vocab": cfg.vocab,
        "reference": "train/lfm2.py in float64",
        "cases": [{"name": "prompt", "tokens": ids, "positions": list(range(n)),
                   "logits": save(folder, f"{stem}.prompt.logits.bin", logits.numpy()),
                   "shape": list(logits.shape), "argmax": logits.argmax(-1).tolist(),
                   "logit_std": round(logits.std().item(), 4)}],
        "text": TEXT,
        "chunk_splits": {"case": "prompt", "splits": [[1] * n, [n - 1, 1], [1, n - 1],
                                                      [2, 3, 5, 7, n - 17]]},
        "greedy": {"prompt": prompt, "ids": out, "margins": margins, "min_margin": min(margins)},
        "intermediates": {"tokens": first, "file": f"{stem}.inter.intermediates.json"},
        "tolerance": {"f32_engine_max_abs": 0.002}}
    (folder / f"{stem}.json").write_text(json.dumps(state))
    print(stem, "logit std", state["cases"][0]["logit_std"], "distinct argmax",
          len(set(state["cases"][0]["argmax"])), "min margin", min(margins))


@torch.no_grad()
def retrieval(folder, stem, model, bpe, pad):
    """Sidecar of a retrieval model: normalised rows of every position, and their MaxSim scores."""
    exact = LFM2(model.cfg).double().eval()
    exact.load_state_dict(model.state_dict())

    def rows(ids):
        return exact.embeddings(torch.tensor([ids]))[0]

    def ids_of(text):
        return bpe.encode("<|startoftext|>" + text).ids

    skip = [bpe.token_to_id(c) for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]
    state = {"gguf": f"{stem}.gguf", "dim": model.cfg.embedding_out,
             "bidirectional": not model.cfg.causal, "skiplist_ids": sorted(skip), "pad_id": pad,
             "queries": [], "documents": []}
    queries, plain, documents = [], [], []
    for i, text in enumerate(["Where is the hat?", "Ten red hens"]):
        real = ids_of(text)
        ids = real + [pad] * (32 - len(real))
        queries.append(rows(ids))
        plain.append(rows(real))
        state["queries"].append({
            "text": text, "ids": ids, "n_real": len(real),
            "embeddings": save(folder, f"{stem}.q{i}.bin", queries[-1].numpy()),
            "shape": list(queries[-1].shape),
            "embeddings_without_expansion": save(folder, f"{stem}.q{i}.noexp.bin",
                                                 plain[-1].numpy()),
            "shape_without_expansion": list(plain[-1].shape)})
    for i, text in enumerate(["The hat is in the hut, then.", "A hen; there are ten of them."]):
        ids = ids_of(text)
        keep = [j for j, t in enumerate(ids) if t not in skip]
        out = rows(ids)
        documents.append(out[keep])
        state["documents"].append({
            "text": text, "ids": ids, "keep": keep, "shape": list(out.shape),
            "embeddings": save(folder, f"{stem}.d{i}.bin", out.numpy())})

    def scores(asked):
        return [[round((q @ d.T).max(1).values.sum().item(), 6) for d in documents] for q in asked]

    state["maxsim"], state["maxsim_without_expansion"] = scores(queries), scores(plain)
    (folder / f"{stem}.json").write_text(json.dumps(state))
    print(stem, state["maxsim"])


def make(folder):
    pieces, merges, specials, bpe = vocabulary()
    ids = bpe.encode(TEXT).ids
    for seed, (stem, settings) in enumerate(MODELS.items(), SEED):
        model = random_model(Config(vocab=len(pieces), **settings), seed)
        export_gguf.write(folder / f"{stem}.gguf", model, pieces, merges, specials, "f32", 512,
                          {"name": stem})
        if model.cfg.embedding_out:
            retrieval(folder, stem, model, bpe, pieces.index("<|pad|>"))
        else:
            reference(folder, stem, model, ids, specials)


def read(path):
    """A GGUF of any of the layouts as an LFM2."""
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()

    def key(name, default=None):
        field = reader.fields.get(f"{arch}.{name}")
        return default if field is None else field.contents()

    heads = key("attention.head_count_kv")
    cfg = Config(
        vocab=key("vocab_size"), hidden=key("embedding_length"),
        layout="".join("a" if h else "c" for h in heads), ffn=key("feed_forward_length"),
        heads=key("attention.head_count"), kv_heads=max(heads),
        conv_kernel=key("shortconv.l_cache"), rope_theta=key("rope.freq_base"),
        eps=key("attention.layer_norm_rms_epsilon"), causal=key("attention.causal", True),
        experts=key("expert_count", 0), experts_used=key("expert_used_count", 0),
        expert_ffn=key("expert_feed_forward_length", 0),
        dense_layers=key("leading_dense_block_count", 0),
        embedding_out=key("embedding_length_out", 0))
    model = LFM2(cfg).eval()
    stored = {t.name: torch.from_numpy(np.array(gguf.quants.dequantize(t.data, t.tensor_type)))
              for t in reader.tensors}
    for name, view, _ in export_gguf.tensors(model):
        if "_exps." not in name:  # the arrays of tensors() share memory with the parameters
            view[...] = stored.pop(name).numpy().reshape(view.shape)
    with torch.no_grad():
        for i, block in enumerate(model.blocks):
            if isinstance(block.ffn, Experts):
                for part in ("gate", "up", "down"):
                    stack = stored.pop(f"blk.{i}.ffn_{part}_exps.weight")
                    for e, expert in enumerate(block.ffn.experts):
                        getattr(expert, part).weight.copy_(stack[e])
    assert not stored, f"not used: {sorted(stored)}"
    return model


@torch.no_grad()
def check(path):
    """This file's network against references that somebody else computed."""
    model = read(path).double()
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        sidecar = path.with_name(path.name.split(".")[0] + ".json")
    state = json.loads(sidecar.read_text())

    def stored(name, shape):
        return torch.from_numpy(np.fromfile(path.parent / name, "<f4").reshape(shape)).double()

    worst = 0.0
    for case in state.get("cases", []):
        out = model(torch.tensor([case["tokens"]]))[0][case["positions"]]
        worst = max(worst, (out - stored(case["logits"], case["shape"])).abs().max().item())
    for entry in state.get("queries", []) + state.get("documents", []):
        out = model.embeddings(torch.tensor([entry["ids"]]))[0]
        worst = max(worst, (out - stored(entry["embeddings"], entry["shape"])).abs().max().item())
    print(f"{path.name}: largest difference {worst:.2e}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder", nargs="?", type=pathlib.Path)
    p.add_argument("--check", nargs="+", type=pathlib.Path, default=[])
    args = p.parse_args()
    torch.set_num_threads(1)
    if args.folder:
        make(args.folder)
    for path in args.check:
        check(path)


if __name__ == "__main__":
    main()
