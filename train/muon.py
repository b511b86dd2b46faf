# SPDX-License-Identifier: MIT
"""Muon: momentum whose direction is made orthogonal; for fresh matrices that learn together."""

import torch

RATE = 0.02


class Muon(torch.optim.Optimizer):
    """In F32: PyTorch's own needs fast bf16."""

    def __init__(self, parameters, lr=RATE, decay=0.02, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p]
                mean = kept.setdefault("mean", torch.zeros_like(p))
                mean.mul_(group["momentum"]).add_(p.grad)
                way = p.grad + group["momentum"] * mean
                wide = way.shape[0] > way.shape[1]
                x = way.T if wide else way
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
                p.mul_(1 - group["lr"] * group["decay"])
                scale = max(1, p.shape[0] / p.shape[1]) ** 0.5
                p.add_(x.T if wide else x, alpha=-group["lr"] * scale)
