# SPDX-License-Identifier: MIT
"""The LFM2 text backbone in PyTorch, as small as the formulas allow.

One class serves training, the reference logits of the engine's tests and both layouts of the
family: causal or bidirectional, dense or with experts. Names of the parameters follow the GGUF
tensor names, so that the export is a plain walk over them.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    """Everything that the file's metadata states about the network."""

    vocab: int
    hidden: int = 192
    layout: str = "ccaccaccac"  # c = short convolution, a = attention
    ffn: int = 512
    heads: int = 6
    kv_heads: int = 2
    conv_kernel: int = 3
    rope_theta: float = 1e6
    eps: float = 1e-5
    causal: bool = True
    window: int = 0  # rows that a row sees, itself included; 0 = all before it
    experts: int = 0  # 0 = dense everywhere
    experts_used: int = 0
    expert_ffn: int = 0
    dense_layers: int = 0  # layers below the first one with experts
    embedding_out: int = 0  # width of the retrieval projection, 0 = none

    @property
    def head_dim(self):
        return self.hidden // self.heads

    def to_dict(self):
        return asdict(self)


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class ShortConv(nn.Module):
    """Gated causal convolution over a few positions: out = Wo (c * conv(b * x))."""

    def __init__(self, cfg):
        super().__init__()
        self.kernel = cfg.conv_kernel
        self.causal = cfg.causal
        self.in_proj = linear(cfg.hidden, 3 * cfg.hidden)
        self.conv = nn.Parameter(torch.randn(cfg.hidden, cfg.conv_kernel) * 0.3)
        self.out_proj = linear(cfg.hidden, cfg.hidden)

    def forward(self, x, cos, sin):
        b, c, v = self.in_proj(x).chunk(3, -1)
        length = x.shape[1]
        before = self.kernel - 1 if self.causal else (self.kernel - 1) // 2
        p = F.pad(b * v, (0, 0, before, self.kernel - 1 - before))
        taps = self.conv.to(p.dtype)
        y = p[:, :length] * taps[:, 0]
        for j in range(1, self.kernel):
            y = torch.addcmul(y, p[:, j:j + length], taps[:, j])
        return self.out_proj(c * y)


class Attention(nn.Module):
    """Grouped-query attention with normed queries and keys and half-split rotary positions."""

    watched = False  # keep the last queries and keys for a loss of their own

    def __init__(self, cfg):
        super().__init__()
        self.heads, self.kv_heads, self.dim = cfg.heads, cfg.kv_heads, cfg.head_dim
        self.causal, self.window = cfg.causal, cfg.window
        self.q = linear(cfg.hidden, self.heads * self.dim)
        self.k = linear(cfg.hidden, self.kv_heads * self.dim)
        self.v = linear(cfg.hidden, self.kv_heads * self.dim)
        self.output = linear(self.heads * self.dim, cfg.hidden)
        self.q_norm = RMSNorm(self.dim, cfg.eps)
        self.k_norm = RMSNorm(self.dim, cfg.eps)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape

        def split(y, heads):
            return y.view(rows, length, heads, self.dim)

        q = rotate(self.q_norm(split(self.q(x), self.heads)), cos, sin).transpose(1, 2)
        k = rotate(self.k_norm(split(self.k(x), self.kv_heads)), cos, sin).transpose(1, 2)
        v = split(self.v(x), self.kv_heads).transpose(1, 2)
        if self.watched:
            self.seen = q, k
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if self.window:
            near = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - self.window)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=near)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(y.transpose(1, 2).reshape(rows, length, -1))


def rotate(x, cos, sin):
    """x is [rows, length, heads, dim]; cos and sin are [length, 1, dim / 2] in x's type."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rotary_tables(length, cfg, dtype):
    dim = cfg.head_dim
    inv = cfg.rope_theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None, None] * inv
    return angle.cos().to(dtype), angle.sin().to(dtype)


class SwiGLU(nn.Module):
    def __init__(self, hidden, width):
        super().__init__()
        self.gate, self.up = linear(hidden, width), linear(hidden, width)
        self.down = linear(width, hidden)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Sigmoid router: the bias takes part in the selection only, the weights are renormalised."""

    def __init__(self, cfg):
        super().__init__()
        self.used = cfg.experts_used
        self.router = linear(cfg.hidden, cfg.experts)
        self.bias = nn.Parameter(torch.zeros(cfg.experts))
        self.experts = nn.ModuleList(
            SwiGLU(cfg.hidden, cfg.expert_ffn) for _ in range(cfg.experts))

    def forward(self, x):
        score = self.router(x).sigmoid()
        chosen = (score + self.bias).topk(self.used, -1).indices
        weight = score.gather(-1, chosen)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-6)
        dense = torch.zeros_like(score).scatter(-1, chosen, weight)
        return sum(dense[..., e, None] * f(x) for e, f in enumerate(self.experts))


class Block(nn.Module):
    def __init__(self, cfg, layer):
        super().__init__()
        self.op_norm = RMSNorm(cfg.hidden, cfg.eps)
        self.ffn_norm = RMSNorm(cfg.hidden, cfg.eps)
        self.op = ShortConv(cfg) if cfg.layout[layer] == "c" else Attention(cfg)
        expert = cfg.experts and layer >= cfg.dense_layers
        self.ffn = Experts(cfg) if expert else SwiGLU(cfg.hidden, cfg.ffn)

    def forward(self, x, cos, sin):
        x = x + self.op(self.op_norm(x), cos, sin)
        return x + self.ffn(self.ffn_norm(x))


class LFM2(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab, cfg.hidden)
        self.blocks = nn.ModuleList(Block(cfg, i) for i in range(len(cfg.layout)))
        self.norm = RMSNorm(cfg.hidden, cfg.eps)
        self.dense = linear(cfg.hidden, cfg.embedding_out) if cfg.embedding_out else None
        deep = (2 * len(cfg.layout)) ** -0.5
        for name, p in self.named_parameters():
            if name.endswith(("out_proj.weight", "output.weight", "down.weight")):
                nn.init.normal_(p, 0, deep * p.shape[1] ** -0.5)
            elif name == "embed.weight":
                nn.init.normal_(p, 0, 0.02)
            elif p.dim() == 2 and not name.endswith("op.conv"):
                nn.init.normal_(p, 0, p.shape[1] ** -0.5)
            elif name.endswith("op.conv"):
                with torch.no_grad():
                    p[:, -1] += 1

    def hidden(self, ids):
        """Final-normed states [rows, length, hidden]."""
        return self.states(self.embed(ids))

    def states(self, x):
        """The same from embeddings [rows, length, hidden], of tokens or of pictures."""
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        cos, sin = rotary_tables(x.shape[1], self.cfg, kind)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, states):
        return F.linear(states, self.embed.weight)

    def forward(self, ids):
        return self.logits(self.hidden(ids))

    def embeddings(self, ids):
        """Normalised retrieval vectors [rows, length, embedding_out]."""
        return F.normalize(self.dense(self.hidden(ids)), dim=-1)
