"""Causal attention for training on a CPU, forward and backward.

PyTorch's own for the CPU handles small tiles one by one. This takes 128 queries at a time against
all keys before them, which are large enough products for the BLAS and skip most of what the causal
mask would hide.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

QUERIES = 128  # 96 and 200 are a little slower, 300 a fifth


@torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(batch, heads, tokens, size) each, to the same: softmax(q k^T / sqrt(size)) v, causal."""
    result: Tensor = _Attention.apply(q, k, v)
    return result


class _Attention(torch.autograd.Function):
    """The backward pass is FlashAttention's (Dao et al. 2022, appendix B), weights kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = q.shape
        tokens, size = shape[2:]
        q, k, v = (each.reshape(-1, tokens, size) for each in (q * size**-0.5, k, v))
        hidden = torch.full((QUERIES, QUERIES), float("-inf"), dtype=q.dtype).triu(1)
        seen = torch.empty_like(q)
        weights = []
        for begin in range(0, tokens, QUERIES):
            end = min(begin + QUERIES, tokens)
            scores = q[:, begin:end] @ k[:, :end].mT
            scores[..., begin:] += hidden[: end - begin, : end - begin]
            weights.append(torch.softmax(scores, -1))
            seen[:, begin:end] = weights[-1] @ v[:, :end]
        ctx.save_for_backward(q, k, v, seen, *weights)
        ctx.shape = shape
        return seen.view(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, seen, *weights = ctx.saved_tensors
        tokens, size = q.shape[1:]
        grad = grads[0].reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.zeros(k.shape), torch.zeros(v.shape)
        common = (grad.float() * seen.float()).sum(-1, keepdim=True).to(q.dtype)
        for part, begin in zip(weights, range(0, tokens, QUERIES), strict=True):
            end = min(begin + QUERIES, tokens)
            given = grad[:, begin:end]
            dv[:, :end] += part.mT @ given
            scores = (given @ v[:, :end].mT - common[:, begin:end]) * part
            dq[:, begin:end] = scores @ k[:, :end]
            dk[:, :end] += scores.mT @ q[:, begin:end]
        dq *= size**-0.5
        dq, dk, dv = (each.to(q.dtype).view(ctx.shape) for each in (dq, dk, dv))
        return dq, dk, dv
