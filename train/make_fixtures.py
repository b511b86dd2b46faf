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
import wave

import gguf
import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, Regex

import conformer
import export_gguf
import export_listen
import sound
import tokenizer as tokens
import vision
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


def vocabulary(marks=()):
    """Specials, the 256 bytes and a few merges; the pieces and the tokenizer that reads them.

    `marks` are further specials at the end of the vocabulary.
    """
    specials = tokens.SPECIALS[:14]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space = tokens.SPACE
    merges = [("t", "h"), ("h", "e"), ("i", "n"), ("th", "e"), ("r", "e"), ("e", "n"), ("a", "t"),
              ("h", "at"), ("u", "s"), ("e", "r"), ("us", "er"), ("s", "t"), ("a", "n"),
              ("a", "s"), (space, "the"), (space, "th"), (space, "hat"), ("1", "2"), ("12", "3"),
              ("3", "4")]
    pieces = specials + alphabet + [a + b for a, b in merges] + list(marks)
    specials = specials + list(marks)
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


# --- pictures -----------------------------------------------------------------------------------

ASKED = "Where is the thin red hat?"
PICTURE_CASES = {  # name: size, settings that differ from the reference processor's
    "single": ((70, 50), {"min_image_tokens": 4, "max_image_tokens": 16, "tiling": False}),
    "wide": ((300, 40), {"min_image_tokens": 4, "max_image_tokens": 16, "tiling": False}),
    "tall": ((33, 130), {"min_image_tokens": 4, "max_image_tokens": 16, "tiling": False}),
    "tiled": ((160, 96), {"min_image_tokens": 1, "max_image_tokens": 4, "tile_size": 64}),
}


def resized(image, size):
    """The integer filter that the engine must match to the bit."""
    def weights(n_in, n_out):
        scale = n_in / n_out
        reach, inverse = max(1.0, scale), 1 / scale if scale >= 1 else 1.0
        rows = []
        for i in range(n_out):
            centre = scale * (i + 0.5)
            low = max(int(centre - reach + 0.5), 0)
            high = min(int(centre + reach + 0.5), n_in)
            w = [max(0.0, 1 - abs((j - centre + 0.5) * inverse)) for j in range(low, high)]
            rows.append((low, [x / sum(w) for x in w]))
        largest, bits = max(max(w) for _, w in rows), 0
        while bits < 22 and int(0.5 + largest * 2 ** (bits + 1)) < 32768:
            bits += 1
        return bits, [(low, [int(0.5 + x * 2 ** bits) for x in w]) for low, w in rows]

    def along(a, n_out):  # the first axis
        bits, rows = weights(a.shape[0], n_out)
        out = [sum(a[low + k] * q for k, q in enumerate(w)) for low, w in rows]
        return np.clip((np.stack(out) + (1 << bits - 1)) >> bits, 0, 255)

    a = image.astype(np.int64)
    if size[0] != a.shape[1]:
        a = along(a.transpose(1, 0, 2), size[0]).transpose(1, 0, 2)
    if size[1] != a.shape[0]:
        a = along(a, size[1])
    return a.astype(np.uint8)


def grid_of(width, height, settings):
    """(cols, rows) of the tiles, (1, 1) for a single view."""
    if not settings.get("tiling", True):
        return 1, 1
    w, h = (max(16, round(side / 32) * 32) for side in (width, height))
    if w * h <= settings["max_image_tokens"] * 1024 * 2.0:
        return 1, 1
    listed = [(c, r) for c in range(1, 11) for r in range(1, 11) if 2 <= c * r <= 10]
    gap = [abs(width / height - c / r) for c, r in listed]
    assert gap.count(min(gap)) == 1, "the reference has its own order for ties"
    return listed[gap.index(min(gap))]


def views_of(image, settings):
    """Grid and pixel arrays of the views, tiles in rows, then the thumbnail."""
    height, width, _ = image.shape
    whole = resized(image, vision.view_size(width, height, settings["min_image_tokens"],
                                            settings["max_image_tokens"]))
    cols, rows = grid_of(width, height, settings)
    if cols * rows == 1:
        return (1, 1), [whole]
    side = settings["tile_size"]
    large = resized(image, (cols * side, rows * side))
    return (cols, rows), [large[r * side:(r + 1) * side, c * side:(c + 1) * side]
                          for r in range(rows) for c in range(cols)] + [whole]


def random_encoder(cfg, seed):
    torch.manual_seed(seed)
    encoder = vision.Encoder(cfg).eval()
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if p.dim() == 2 and name != "position":
                p.copy_(1.5 * torch.randn_like(p) * p.shape[1] ** -0.5)
            else:
                p.copy_((1.0 if "ln" in name and name.endswith("weight") else 0.0)
                        + 0.3 * torch.randn_like(p))
    return encoder


@torch.no_grad()
def encoded(encoder, views):
    """Embeddings of every view, in float64."""
    exact = vision.Encoder(encoder.cfg).double().eval()
    exact.load_state_dict(encoder.state_dict())
    return [exact(torch.from_numpy(vision.patches(Image.fromarray(v), v.shape[1::-1]))[None]
                  .double(), v.shape[0] // 16, v.shape[1] // 16)[0] for v in views]


@torch.no_grad()
def seen(folder):
    """A text model with image tokens, two encoders for it, and what the pairs must compute."""
    marks = tokens.SPECIALS[14:18] + tokens.TILES
    pieces, merges, specials, bpe = vocabulary(marks)
    text = random_model(Config(vocab=len(pieces), hidden=32, layout="ca", ffn=32, heads=2,
                               kv_heads=1), SEED + 8)
    export_gguf.write(folder / "tiny_text_f32.gguf", text, pieces, merges, specials, "f32", 512,
                      {"name": "tiny_text"})
    exact = LFM2(text.cfg).double().eval()
    exact.load_state_dict(text.state_dict())
    rng, state = np.random.default_rng(SEED), {
        "text": "tiny_text_f32.gguf", "reference": "train/vision.py and train/lfm2.py in float64",
        "question": ASKED, "pictures": {}, "models": []}
    pixels = {}
    for name, ((width, height), settings) in PICTURE_CASES.items():
        coarse = rng.integers(0, 256, (5, 7, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image = np.asarray(smooth)
        image = np.clip(image.astype(int) + rng.integers(-2, 3, image.shape), 0, 255)
        pixels[name] = image.astype(np.uint8)
        Image.fromarray(pixels[name]).save(folder / f"{name}.png", optimize=True)
        (cols, rows), views = views_of(pixels[name], settings)
        state["pictures"][name] = {
            "file": f"{name}.png", "width": width, "height": height, "settings": settings,
            "cols": cols, "rows": rows, "views": [
                {"width": v.shape[1], "height": v.shape[0], "tokens": v.size // 3 // 1024,
                 "sum": int(v.sum(dtype=np.int64))} for v in views]}
    for seed, (kind, norm) in enumerate((("f32", True), ("q8_0", False))):
        encoder = random_encoder(vision.Config(out=32, hidden=32, layers=2, heads=2, ffn=64,
                                               projector=32, norm=norm), SEED + 16 + seed)
        file = f"mmproj-tiny_text_{kind}.gguf"
        export_gguf.write_vision(folder / file, encoder, kind, {"name": f"tiny_vision_{kind}"},
                                 budget=kind == "q8_0")
        encoder = export_gguf.read_vision(folder / file)
        model = {"mmproj": file, "cases": []}
        for name, picture in state["pictures"].items():
            (cols, rows), views = views_of(pixels[name], picture["settings"])
            rows_of = encoded(encoder, views)
            line = "<|image_start|>"
            for i, e in enumerate(rows_of):
                if len(rows_of) > 1:
                    line += "<|img_thumbnail|>" if i == len(rows_of) - 1 else \
                        f"<|img_row_{i // cols + 1}_col_{i % cols + 1}|>"
                line += "<image>" * len(e)
            prompt = bpe.encode("<|startoftext|><|im_start|>user\n" + line + "<|image_end|>" + ASKED
                                + "<|im_end|>\n<|im_start|>assistant\n").ids
            ids, out, margins = torch.tensor([prompt]), [], []
            image = (ids[0] == pieces.index("<image>"))[:, None]
            x = exact.embed(ids[0]).masked_scatter(image, torch.cat(rows_of))
            for _ in range(8):
                more = exact.embed(torch.tensor(out, dtype=torch.long))
                last = exact.logits(exact.states(torch.cat([x, more])[None]))[0, -1]
                if not out:
                    logits = last
                top = last.topk(2)
                out.append(top.indices[0].item())
                margins.append(round((top.values[0] - top.values[1]).item(), 5))
            every = torch.cat(rows_of)
            model["cases"].append({
                "picture": name, "shape": list(every.shape), "ids": prompt,
                "embeddings": save(folder, f"{kind}.{name}.embeddings.bin", every.numpy()),
                "logits": save(folder, f"{kind}.{name}.logits.bin", logits.numpy()),
                "greedy": out, "margins": margins})
            print(kind, name, (cols, rows), list(every.shape), "std", round(every.std().item(), 3),
                  "margin", min(margins), "distinct", len(set(out)))
        state["models"].append(model)
    (folder / "vision.json").write_text(json.dumps(state))


# --- sounds -------------------------------------------------------------------------------------

RATE, HOP = 16000, 160
SOUNDS = {"short": 1440, "uneven": 12345, "longer": 24000}  # samples; the first is 10 frames


def glides(rng, n):
    """16-bit samples: gliding tones under envelopes with gaps, and some noise."""
    t = np.arange(n) / RATE
    x = 0.003 * rng.standard_normal(n)
    for low, high in ((140, 210), (900, 500), (1700, 3400), (6000, 4200)):
        phase = 2 * np.pi * np.cumsum(np.linspace(low, high, n)) / RATE
        loud = np.clip(np.sin(2 * np.pi * (2.3 * t + rng.random())), 0, 1)
        x += 0.15 * loud * np.sin(phase + 6 * rng.random())
    return np.round(x * 20000).astype("<i2")


def features(samples):
    """Normalised log-mel [128, frames], the last one zero, by its definition."""
    def hz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))

    edges = hz(np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), conformer.MELS + 2))
    bins, bank = np.arange(257) * RATE / 512, np.zeros((conformer.MELS, 257))
    for m, (left, top, right) in enumerate(zip(edges, edges[1:], edges[2:])):
        rise, fall = (bins - left) / (top - left), (right - bins) / (right - top)
        bank[m] = np.maximum(0, np.minimum(rise, fall)) * 2 / (right - left)
    x = samples / 32768
    x = np.pad(np.append(x[:1], x[1:] - 0.97 * x[:-1]), 256)
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    frames = np.stack([x[t:t + 512] * window for t in range(0, len(samples) - HOP + 1, HOP)])
    logs = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ bank.T + 2.0 ** -24)
    out = (logs - logs.mean(0)) / (logs.std(0, ddof=1) + 1e-5)
    return np.pad(out, ((0, 1), (0, 0))).T


def random_ear(cfg, seed):
    torch.manual_seed(seed)
    encoder = conformer.Encoder(cfg).eval()
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if p.dim() > 1 and "bias" not in name:
                p.copy_(1.4 * torch.randn_like(p) * p[0].numel() ** -0.5)
            else:
                p.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0)
                        + 0.2 * torch.randn_like(p))
        for block in encoder.blocks:
            norm = block.convolution.batch_norm
            norm.running_mean.copy_(0.3 * torch.randn_like(norm.running_mean))
            norm.running_var.copy_(0.5 + torch.rand_like(norm.running_var))
    return encoder


@torch.no_grad()
def heard(folder):
    """Sounds, their features, and what two encoders make of them."""
    rng, state, inputs = np.random.default_rng(SEED), {
        "reference": "train/conformer.py in float64, features by NumPy in float64",
        "clips": [], "models": []}, {}
    for name, n in SOUNDS.items():
        samples = glides(rng, n)
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, n, "NONE", ""))
            file.writeframes(samples.tobytes())
        inputs[name] = features(samples)
        state["clips"].append({"name": name, "wav": f"{name}.wav", "samples": n,
                               "mel": save(folder, f"{name}.mel.bin", inputs[name]),
                               "shape": list(inputs[name].shape)})
    torch.set_default_dtype(torch.float64)
    for seed, kind in enumerate(("f32", "f16", "q8_0")):
        cfg = conformer.Config(out=32, hidden=32, layers=2, heads=2, channels=8, kernel=9, ffn=64,
                               adapter=32)
        path = folder / f"mmproj-tiny_{kind}.gguf"
        export_listen.write(path, random_ear(cfg, SEED + 32 + seed), kind,
                            {"name": f"tiny_audio_{kind}"})
        torch.set_default_dtype(torch.float32)  # of what the file holds
        encoder = export_listen.read(path)
        torch.set_default_dtype(torch.float64)
        encoder.double()
        model = {"mmproj": path.name, "cases": []}
        for name, mel in inputs.items():
            # Rounded, as the engine will read them.
            x = torch.from_numpy(mel.T.astype(np.float32)).double()[None]
            hidden, _ = encoder.states(x, torch.tensor([x.shape[1]]))
            rows = encoder.adapt(hidden)
            model["cases"].append({
                "clip": name, "rows": rows.shape[1], "d": cfg.hidden, "n_embd": cfg.out,
                "hidden": save(folder, f"{kind}.{name}.hidden.bin", hidden[0].numpy()),
                "embeddings": save(folder, f"{kind}.{name}.embeddings.bin", rows[0].numpy())})
            print(kind, name, list(rows.shape), "std", round(rows.std().item(), 3))
        state["models"].append(model)
    torch.set_default_dtype(torch.float32)
    (folder / "audio.json").write_text(json.dumps(state))


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
    (folder / "vision").mkdir(exist_ok=True)
    seen(folder / "vision")
    (folder / "audio").mkdir(exist_ok=True)
    heard(folder / "audio")
    sound.make(folder / "audio")


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
