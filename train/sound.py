# SPDX-License-Identifier: MIT
"""What the engine's vocoders and depthformer must compute, in float64, from the files alone.

    python train/sound.py FOLDER            # random-weight files and their references
    python train/sound.py --check FOLDER    # against references that somebody else computed

Weights are a dictionary by GGUF name of arrays as the file has them, slow axis first. Formulas are
written for reading, not for speed: no caches, no streams, every row looks at all that it may see.
make_fixtures.py writes the files under tests/data/audio by this.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np

BOOKS, HEADS, KV_HEADS, REPEAT, HOP, RATIOS = 8, 32, 8, 6, 320, (8, 6, 5, 4)
SEED = 97


# --- parts ------------------------------------------------------------------------------------

def rms_norm(x, w, eps=1e-5):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def layer_norm(x, w, b, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w + b


def silu(x):
    return x / (1 + np.exp(-x))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def gelu(x):
    from math import erf
    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def rotated(x, theta, adjacent):
    """x is [rows, heads, dim]; row t stands at position t."""
    rows, _, dim = x.shape
    angle = np.arange(rows)[:, None, None] * theta ** (-np.arange(0, dim, 2) / dim)
    cos, sin = np.cos(angle), np.sin(angle)
    out = np.empty_like(x)
    a, b = (slice(0, None, 2), slice(1, None, 2)) if adjacent else \
        (slice(0, dim // 2), slice(dim // 2, None))
    out[..., a] = x[..., a] * cos - x[..., b] * sin
    out[..., b] = x[..., a] * sin + x[..., b] * cos
    return out


def attended(q, k, v, window):
    """q [rows, heads, dim]; k, v [rows, KV heads, dim]; a row sees the last `window` rows."""
    rows, heads, dim = q.shape
    group = heads // k.shape[1]
    late = np.arange(rows)[:, None] - np.arange(rows)[None, :]
    out = np.empty_like(q)
    for h in range(heads):
        score = q[:, h] @ k[:, h // group].T / np.sqrt(dim)
        score[(late < 0) | (late >= window)] = -np.inf
        share = np.exp(score - score.max(-1, keepdims=True))
        out[:, h] = share / share.sum(-1, keepdims=True) @ v[:, h // group]
    return out.reshape(rows, -1)


# --- depthformer ------------------------------------------------------------------------------

def depth_logits(t, hidden, codes):
    """[BOOKS, codes + 1] of one frame whose codes are known."""
    slices = (t["depth_linear.weight"] @ hidden + t["depth_linear.bias"]).reshape(BOOKS, -1)
    x = slices.copy()
    for i in range(1, BOOKS):
        x[i] += t[f"depth_embeddings.{i - 1}.embedding.weight"][codes[i - 1]]
    for p in layers(t, "depthformer.layers.{}."):
        h = rms_norm(x, t[p + "operator_norm.weight"])
        qkv = (h @ t[p + "operator.qkv_proj.weight"].T).reshape(BOOKS, HEADS + 2 * KV_HEADS, -1)
        q = rms_norm(qkv[:, :HEADS], t[p + "operator.attention.q_layernorm.weight"])
        k = rms_norm(qkv[:, HEADS:-KV_HEADS], t[p + "operator.attention.k_layernorm.weight"])
        y = attended(rotated(q, 1e6, True), rotated(k, 1e6, True), qkv[:, -KV_HEADS:], BOOKS)
        x = x + y @ t[p + "operator.out_proj.weight"].T
        h = rms_norm(x, t[p + "ffn_norm.weight"])
        x = x + (silu(h @ t[p + "feed_forward.w1.weight"].T) *
                 (h @ t[p + "feed_forward.w3.weight"].T)) @ t[p + "feed_forward.w2.weight"].T
    return np.stack([t[f"depth_embeddings.{i}.to_logits.weight"] @
                     rms_norm(x[i], t[f"depth_embeddings.{i}.embedding_norm.weight"])
                     for i in range(BOOKS)])


def code_row(t, codes):
    table = t["audio_embedding.embedding.weight"]
    return sum(table[i * (len(table) // BOOKS) + code] for i, code in enumerate(codes))


def layers(t, form):
    i = 0
    while any(name.startswith(form.format(i)) for name in t):
        yield form.format(i)
        i += 1


# --- detokenizer ------------------------------------------------------------------------------

def spectra(t, keys, codes):
    """Hidden rows and log magnitudes with phases of all frames, of both files' tensors together."""
    table = t["emb.emb.weight"]
    books = np.arange(BOOKS) * (len(table) // BOOKS)
    x = np.repeat(table[np.asarray(codes) + books].mean(1), REPEAT, 0)
    heads, theta = keys["lfm2.attention.head_count"], keys["lfm2.rope.freq_base"]
    eps = keys["lfm2.attention.layer_norm_rms_epsilon"]
    window = keys["lfm2.attention.sliding_window"]
    for p in layers(t, "blk.{}."):
        h = rms_norm(x, t[p + "attn_norm.weight"], eps)
        if p + "attn_q.weight" in t:
            q, k, v = (((h @ t[f"{p}attn_{part}.weight"].T)
                        .reshape(len(x), -1, x.shape[1] // heads)) for part in "qkv")
            q = rotated(rms_norm(q, t[p + "attn_q_norm.weight"], eps), theta, False)
            k = rotated(rms_norm(k, t[p + "attn_k_norm.weight"], eps), theta, False)
            y = attended(q, k, v, window) @ t[p + "attn_output.weight"].T
        else:
            b, c, v = np.split(h @ t[p + "shortconv.in_proj.weight"].T, 3, -1)
            taps = t[p + "shortconv.conv.weight"]
            past = np.pad(b * v, ((taps.shape[1] - 1, 0), (0, 0)))
            y = sum(past[j:j + len(x)] * taps[:, j] for j in range(taps.shape[1]))
            y = (c * y) @ t[p + "shortconv.out_proj.weight"].T
        x = x + y
        h = rms_norm(x, t[p + "ffn_norm.weight"], eps)
        x = x + (silu(h @ t[p + "ffn_gate.weight"].T) *
                 (h @ t[p + "ffn_up.weight"].T)) @ t[p + "ffn_down.weight"].T
    hidden = rms_norm(x, t["token_embd_norm.weight"], eps)
    return hidden, hidden @ t["dense_2.weight"].T + t["dense_2.bias"]


def synthesis(spectrum, window):
    """Samples of rows of log magnitudes and phases."""
    size = len(window)
    level, phase = np.split(spectrum, 2, -1)
    waves = np.fft.irfft(np.exp(level) * np.exp(1j * phase), size) * window
    total = np.zeros(HOP * (len(waves) - 1) + size)
    weight = np.zeros_like(total)
    for i, wave in enumerate(waves):
        total[HOP * i:HOP * i + size] += wave
        weight[HOP * i:HOP * i + size] += window ** 2
    cut = (size - HOP) // 2
    return total[cut:-cut] / weight[cut:-cut]


# --- Mimi -------------------------------------------------------------------------------------

def convolved(t, name, x):
    """Causal; x is [rows, channels]."""
    w = t[name + ".weight"]
    past = np.pad(x, ((w.shape[2] - 1, 0), (0, 0)))
    y = sum(past[j:j + len(x)] @ w[:, :, j].T for j in range(w.shape[2]))
    return y + t.get(name + ".bias", 0)


def lengthened(t, name, x):
    """Transposed convolution whose kernel is twice its stride; what reaches past the end is cut."""
    w = t[name + ".weight"]
    own, stride = name.startswith("upsample"), w.shape[2] // 2  # each channel alone
    y = np.zeros((len(x) * stride + stride, w.shape[0] if own else w.shape[1]))
    for i, row in enumerate(x):
        y[i * stride:i * stride + 2 * stride] += \
            (w[:, 0] * row[:, None]).T if own else np.einsum("c,cok->ko", row, w)
    return y[:len(x) * stride] + t.get(name + ".bias", 0)


def mimi_wave(t, keys, codes):
    def latent(kind, books):
        rows = 0
        for i, book in enumerate(books):
            p = f"quantizer.{kind}.vq.layers.{i}.cb."
            usage = np.maximum(t[p + "cluster_usage"], 1e-5)[:, None]
            rows = rows + (t[p + "embedding_sum"] / usage)[book]
        return rows @ t[f"quantizer.{kind}.output_proj.weight"][:, :, 0].T

    codes, heads = np.asarray(codes).T, keys["mimi.transformer_heads"]
    x = latent("rvq_first", codes[:1]) + latent("rvq_rest", codes[1:])
    x = lengthened(t, "upsample.convtr.convtr.convtr", x)
    for p in layers(t, "dec_tfm.layers.{}."):
        h = layer_norm(x, t[p + "norm1.weight"], t[p + "norm1.bias"])
        q, k, v = np.split((h @ t[p + "self_attn.in_projs.0.weight"].T)
                           .reshape(len(x), 3 * heads, -1), 3, 1)
        y = attended(rotated(q, 1e4, True), rotated(k, 1e4, True), v,
                     keys["mimi.transformer_context"])
        x = x + t[p + "layer_scale_1.scale"] * (y @ t[p + "self_attn.out_projs.0.weight"].T)
        h = layer_norm(x, t[p + "norm2.weight"], t[p + "norm2.bias"])
        x = x + t[p + "layer_scale_2.scale"] * \
            (gelu(h @ t[p + "linear1.weight"].T) @ t[p + "linear2.weight"].T)
    x = convolved(t, "decoder.model.0.conv.conv", x)
    for i in range(len(RATIOS)):
        x = lengthened(t, f"decoder.model.{3 * i + 2}.convtr.convtr", elu(x))
        h = convolved(t, f"decoder.model.{3 * i + 3}.block.1.conv.conv", elu(x))
        x = x + convolved(t, f"decoder.model.{3 * i + 3}.block.3.conv.conv", elu(h))
    return convolved(t, "decoder.model.14.conv.conv", elu(x))[:, 0]


# --- files ------------------------------------------------------------------------------------

def read(path):
    """Tensors in float64 and keys of a file."""
    reader = gguf.GGUFReader(path)
    return ({t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
             .reshape(t.shape[::-1]) for t in reader.tensors},
            {name: field.contents() for name, field in reader.fields.items()})


def write(path, arch, keys, tensors, kind):
    """Matrices in the file's type, everything else in F32."""
    writer = gguf.GGUFWriter(path, arch)
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name, array in tensors.items():
        plain = array.ndim != 2 or array.shape[1] % 32 or kind == "F32" or "codebook" in name
        half = name.startswith(("decoder.layers", "upsample.conv.")) and name.endswith("weight")
        use = gguf.GGMLQuantizationType["F16" if half else "F32" if plain else kind]
        writer.add_tensor(name, gguf.quants.quantize(array.astype(np.float32), use), raw_dtype=use)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Weights(dict):
    """Random tensors: matrices keep the size of what goes through them, norms lie around one."""

    def __init__(self, seed):
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def matrix(self, name, *shape, scale=1.0):
        self[name] = self.rng.standard_normal(shape) * scale * np.prod(shape[1:]) ** -0.5

    def vector(self, name, size, centre):
        self[name] = centre + 0.2 * self.rng.standard_normal(size)


def vocoder(hidden, dim, ffn, n_layers, codes, width, n_fft, tied, seed):
    t = Weights(seed)
    for i in range(n_layers):
        p = f"depthformer.layers.{i}."
        t.vector(p + "operator_norm.weight", dim, 1)
        t.vector(p + "ffn_norm.weight", dim, 1)
        t.matrix(p + "operator.qkv_proj.weight", dim * 3 // 2, dim)
        t.matrix(p + "operator.out_proj.weight", dim, dim)
        t.vector(p + "operator.attention.q_layernorm.weight", dim // HEADS, 1)
        t.vector(p + "operator.attention.k_layernorm.weight", dim // HEADS, 1)
        t.matrix(p + "feed_forward.w1.weight", ffn, dim)
        t.matrix(p + "feed_forward.w3.weight", ffn, dim)
        t.matrix(p + "feed_forward.w2.weight", dim, ffn)
    t.matrix("depth_linear.weight", BOOKS * dim, hidden)
    t.vector("depth_linear.bias", BOOKS * dim, 0)
    for i in range(BOOKS):
        p = f"depth_embeddings.{i}."
        t.matrix(p + "embedding.weight", codes + 1, dim, scale=4)
        t.vector(p + "embedding_norm.weight", dim, 1)
        if tied:
            t[p + "to_logits.weight"] = t[p + "embedding.weight"]
        else:
            t.matrix(p + "to_logits.weight", codes + 1, dim, scale=4)
    t.matrix("audio_embedding.embedding.weight", BOOKS * (codes + 1), hidden)
    t.vector("audio_embedding.embedding_norm.weight", hidden, 1)
    t.matrix("emb.emb.weight", BOOKS * codes, width, scale=8)
    t["istft.window"] = np.hanning(n_fft + 1)[:-1]
    return t, {"depthformer_n_layer": n_layers, "depthformer_n_embd": dim}


def tokenizer(width, layout, heads, kv_heads, ffn, window, n_fft, seed):
    t = Weights(seed)
    t.matrix("token_embd.weight", 32, width)
    t.vector("token_embd_norm.weight", width, 1)
    for i, kind in enumerate(layout):
        p = f"blk.{i}."
        t.vector(p + "attn_norm.weight", width, 1)
        t.vector(p + "ffn_norm.weight", width, 1)
        if kind == "a":
            t.matrix(p + "attn_q.weight", width, width, scale=2)
            t.matrix(p + "attn_k.weight", width // heads * kv_heads, width, scale=2)
            t.matrix(p + "attn_v.weight", width // heads * kv_heads, width)
            t.matrix(p + "attn_output.weight", width, width)
            t.vector(p + "attn_q_norm.weight", width // heads, 1.5)
            t.vector(p + "attn_k_norm.weight", width // heads, 1.5)
        else:
            t.matrix(p + "shortconv.in_proj.weight", 3 * width, width)
            t.matrix(p + "shortconv.conv.weight", width, 3)
            t.matrix(p + "shortconv.out_proj.weight", width, width)
        t.matrix(p + "ffn_gate.weight", ffn, width)
        t.matrix(p + "ffn_up.weight", ffn, width)
        t.matrix(p + "ffn_down.weight", width, ffn)
    t.matrix("dense_2.weight", n_fft + 2, width)
    t.vector("dense_2.bias", n_fft + 2, 0)
    return t, {
        "lfm2.block_count": len(layout), "lfm2.context_length": 4096,
        "lfm2.embedding_length": width, "lfm2.feed_forward_length": ffn,
        "lfm2.attention.head_count": heads,
        "lfm2.attention.head_count_kv": [kv_heads * (kind == "a") for kind in layout],
        "lfm2.rope.freq_base": 1e6, "lfm2.attention.layer_norm_rms_epsilon": 1e-5,
        "lfm2.vocab_size": 32, "lfm2.shortconv.l_cache": 3,
        "lfm2.attention.sliding_window": window, "lfm2.embedding_length_out": n_fft + 2}


def mimi(dim, width, heads, ffn, n_layers, context, codes, channels, seed):
    t = Weights(seed)
    for kind, n in (("rvq_first", 1), ("rvq_rest", BOOKS - 1)):
        t.matrix(f"quantizer.{kind}.output_proj.weight", dim, width, 1)
        for i in range(n):
            p = f"quantizer.{kind}.vq.layers.{i}.cb."
            t.matrix(p + "embedding_sum", codes, width, scale=8)
            t[p + "cluster_usage"] = t.rng.uniform(0.5, 4, codes)
            t[p + "cluster_usage"][0] = 0  # never used: counts as 1e-5
            t[p + "embedding_sum"][0] *= 1e-5
    t.matrix("upsample.convtr.convtr.convtr.weight", dim, 1, 4, scale=2)
    for i in range(n_layers):
        p = f"dec_tfm.layers.{i}."
        t.matrix(p + "self_attn.in_projs.0.weight", 3 * dim, dim, scale=1.5)
        t.matrix(p + "self_attn.out_projs.0.weight", dim, dim)
        t.matrix(p + "linear1.weight", ffn, dim)
        t.matrix(p + "linear2.weight", dim, ffn)
        for norm in ("norm1", "norm2"):
            t.vector(f"{p}{norm}.weight", dim, 1)
            t.vector(f"{p}{norm}.bias", dim, 0)
        t.vector(p + "layer_scale_1.scale", dim, 0.7)
        t.vector(p + "layer_scale_2.scale", dim, 0.7)

    def convolution(name, shape, out):
        t.matrix(name + ".weight", *shape, scale=1.3)
        t.vector(name + ".bias", out, 0)

    convolution("decoder.model.0.conv.conv", (channels, dim, 7), channels)
    for i, ratio in enumerate(RATIOS):
        half = max(channels // 2, 2)
        convolution(f"decoder.model.{3 * i + 2}.convtr.convtr", (channels, half, 2 * ratio), half)
        convolution(f"decoder.model.{3 * i + 3}.block.1.conv.conv", (half // 2, half, 3), half // 2)
        convolution(f"decoder.model.{3 * i + 3}.block.3.conv.conv", (half, half // 2, 1), half)
        channels = half
    convolution("decoder.model.14.conv.conv", (1, channels, 3), 1)
    return t, {"mimi.codebooks": BOOKS, "mimi.transformer_heads": heads,
               "mimi.transformer_context": context, "mimi.sample_rate": 24000}


# Kyutai's names, and those of the transformers library.
RENAMED = (("rvq_first.", "semantic_rvq."), ("rvq_rest.", "acoustic_rvq."), (".vq.", "."),
           ("cb.embedding_sum", "codebook"), ("upsample.convtr.convtr.convtr", "upsample.conv"),
           ("dec_tfm.", "decoder_transformer."), ("out_projs.0.", "o_proj."),
           ("norm1.", "input_layernorm."), ("norm2.", "post_attention_layernorm."),
           ("linear1.", "mlp.fc1."), ("linear2.", "mlp.fc2."),
           ("layer_scale_1.", "self_attn_layer_scale."), ("layer_scale_2.", "mlp_layer_scale."),
           ("decoder.model.", "decoder.layers."), ("conv.conv.", "conv."),
           ("convtr.convtr.", "conv."))


def renamed(name):
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def audiodecoder(depthformer, codec):
    """Depthformer and Mimi in one file, as LFM2-Audio has them, with some of what is not used."""
    t = {name: array for name, array in depthformer.items() if name[:4] not in ("emb.", "istf")}
    for name, array in codec.items():
        if name.endswith("embedding_sum"):
            usage = np.maximum(codec[name.replace("embedding_sum", "cluster_usage")], 1e-5)
            t[renamed(name)] = array / usage[:, None]
        elif "in_projs" in name:
            for part, piece in zip("qkv", np.split(array, 3)):
                t[renamed(name).replace("in_projs.0", part + "_proj")] = piece
        elif "output_proj" in name:
            t[renamed(name)] = array[:, :, 0]
            t[renamed(name).replace("output", "input")] = array[:, :, 0].T
        elif name.startswith("decoder") and name.endswith("bias"):
            t[renamed(name)] = array[:, None]
        elif not name.endswith("cluster_usage"):
            t[renamed(name)] = array
    t["quantizer.acoustic_rvq.layers.7.codebook"] = t["quantizer.acoustic_rvq.layers.6.codebook"]
    t["encoder.layers.0.conv.weight"] = t["decoder.layers.14.conv.weight"]
    return t


def codec_of(t, codec):
    """The same tensors as in `codec`, from a file of both."""
    back = {}
    for name, array in codec.items():
        if name.endswith("cluster_usage"):
            back[name] = np.ones(len(array))
        elif "in_projs" in name:
            back[name] = np.concatenate([t[renamed(name).replace("in_projs.0", part + "_proj")]
                                         for part in "qkv"])
        else:
            back[name] = t[renamed(name)].reshape(array.shape)
    return back


# --- references -------------------------------------------------------------------------------

def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng, codes, hidden = np.random.default_rng(SEED), 40, 32
    state = {"reference": "train/sound.py in float64", "models": []}

    def save(name, array):
        array.astype("<f4").tofile(folder / name)
        return name

    for seed, (kind, tied) in enumerate((("F16", True), ("Q8_0", False)), SEED):
        stem = kind.lower()
        names = [f"vocoder.{stem}.gguf", f"tokenizer.{stem}.gguf"]
        t, keys = vocoder(hidden, 64, 32, 2, codes, 32, 640, tied, seed)
        write(folder / names[0], "a vocoder, not a language model", keys, t, kind)
        t, keys = tokenizer(32, "cac", 2, 1, 32, 7, 640, seed + 10)
        write(folder / names[1], "lfm2", keys, t, kind)
        t, _ = read(folder / names[0])
        more, keys = read(folder / names[1])
        frames = rng.integers(0, codes, (5, BOOKS))
        depth_frames = rng.integers(0, codes + 1, (3, BOOKS))
        states = rng.standard_normal((3, hidden)).astype(np.float32)
        logits = [depth_logits(t, h, c) for h, c in zip(states, depth_frames)]
        rows, spectrum = spectra({**t, **more}, keys, frames)
        wave = synthesis(spectrum, t["istft.window"])
        state["models"].append({
            "vocoder": names[0], "tokenizer": names[1], "type": kind,
            "depth_codes": depth_frames.tolist(), "hidden": save(f"{stem}.hidden.bin", states),
            "logits": save(f"{stem}.logits.bin", np.stack(logits)),
            "code_rows": save(f"{stem}.code_rows.bin",
                              np.stack([code_row(t, c) for c in depth_frames])),
            "codes": frames.tolist(), "rows": save(f"{stem}.rows.bin", rows),
            "wave": save(f"{stem}.wave.bin", wave)})
        print(kind, "logit std", np.std(logits).round(3), "wave rms",
              np.sqrt((wave ** 2).mean()).round(4))
    t, keys = mimi(16, 8, 2, 32, 2, 5, codes, 16, SEED + 20)
    write(folder / "mimi.gguf", "mimi", keys, t, "F32")
    t, keys = read(folder / "mimi.gguf")
    frames = rng.integers(0, codes, (4, BOOKS))
    frames[1, :2] = 0
    wave = mimi_wave(t, keys, frames)
    state["mimi"] = {"file": "mimi.gguf", "codes": frames.tolist(),
                     "wave": save("mimi.wave.bin", wave)}
    print("mimi wave rms", np.sqrt((wave ** 2).mean()).round(4))
    depthformer, _ = vocoder(hidden, 64, 32, 2, codes, 32, 640, True, SEED)
    codec, keys = mimi(64, 32, 8, 32, 2, 250, codes, 16, SEED + 30)
    write(folder / "audiodecoder.q8_0.gguf", "a vocoder, not a language model", {},
          audiodecoder(depthformer, codec), "Q8_0")
    t, _ = read(folder / "audiodecoder.q8_0.gguf")
    wave = mimi_wave(codec_of(t, codec), keys, frames)
    state["audiodecoder"] = {"file": "audiodecoder.q8_0.gguf", "codes": frames.tolist(),
                             "wave": save("audiodecoder.wave.bin", wave)}
    print("audiodecoder wave rms", np.sqrt((wave ** 2).mean()).round(4))
    (folder / "sound.json").write_text(json.dumps(state))


def check(folder):
    """The largest difference to each reference of a folder laid out like the shared one."""
    def values(entry):
        return np.fromfile(folder / entry["file"], "<f4").reshape(entry["shape"])

    for name, case in json.loads((folder / "detok/index.json").read_text()).items():
        kind = name.split(".")[1]
        t, _ = read(folder / f"vocoder.{kind}.gguf")
        more, keys = read(folder / f"tokenizer.{kind}.gguf")
        wave = synthesis(spectra({**t, **more}, keys, case["codes_frames_x_8"])[1],
                         t["istft.window"])
        print(f"detok {name}: {np.abs(wave - values(case['wave'])).max():.2e}")
    t, keys = read(folder / "mimi_decoder.f32.gguf")
    for name, case in json.loads((folder / "mimi/index.json").read_text()).items():
        if "wave" in case:
            wave = mimi_wave(t, keys, case["codes_frames_x_8"])
            print(f"mimi {name}: {np.abs(wave - values(case['wave'])).max():.2e}")
    t, _ = read(folder / "vocoder.f16.gguf")
    for name, case in json.loads((folder / "gen/index.json").read_text()).items():
        frames = [i for i, event in enumerate(case["events"]) if len(event) == BOOKS]
        if not frames:
            continue
        hidden, logits = values(case["hidden_per_step"]), values(case["depth_logits_first_frames"])
        worst = max(np.abs(depth_logits(t, hidden[i], case["events"][i]) - expected).max()
                    for i, expected in zip(frames, logits))
        print(f"depthformer {name}: {worst:.2e}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--check", action="store_true")
    args = p.parse_args()
    (check if args.check else make)(args.folder)


if __name__ == "__main__":
    main()
