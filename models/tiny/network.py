"""A Llama in PyTorch, as llama.cpp computes it.

Knows tensors. Does not know tokens' meaning, training or files. Rotary embeddings turn the halves
of a head against each other, as in Hugging Face's Llama; `models.tiny.export` reorders the rows
for llama.cpp, which turns neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network. `width` and `hidden` are multiples of 32, which Q8_0 needs."""

    vocabulary: int
    width: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 4
    hidden: int = 512
    context: int = 4096
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.width // self.heads


class Block(nn.Module):
    """One layer: attention and a gated feed-forward, each behind a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, key = shape.width, shape.kv_heads * shape.head
        self.attn_norm = nn.Parameter(torch.ones(width))
        self.ffn_norm = nn.Parameter(torch.ones(width))
        self.q = nn.Parameter(torch.empty(width, width))
        self.k = nn.Parameter(torch.empty(key, width))
        self.v = nn.Parameter(torch.empty(key, width))
        self.o = nn.Parameter(torch.empty(width, width))
        self.gate = nn.Parameter(torch.empty(shape.hidden, width))
        self.up = nn.Parameter(torch.empty(shape.hidden, width))
        self.down = nn.Parameter(torch.empty(width, shape.hidden))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, tokens, width) to the same."""
        shape = self.shape
        batch, tokens, width = x.shape
        h = F.rms_norm(x, (width,), self.attn_norm, shape.epsilon)
        q = F.linear(h, self.q).view(batch, tokens, shape.heads, shape.head).transpose(1, 2)
        k = F.linear(h, self.k).view(batch, tokens, shape.kv_heads, shape.head).transpose(1, 2)
        v = F.linear(h, self.v).view(batch, tokens, shape.kv_heads, shape.head).transpose(1, 2)
        q, k = _turn(q, cos, sin), _turn(k, cos, sin)
        share = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        seen = F.scaled_dot_product_attention(q, k, v.to(q.dtype), is_causal=True)
        x = x + F.linear(seen.transpose(1, 2).reshape(batch, tokens, width), self.o)
        h = F.rms_norm(x, (width,), self.ffn_norm, shape.epsilon)
        return x + F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down)


class Network(nn.Module):
    """Token ids to the last layer's output; `logits` turns rows of that into scores."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                fan = parameter.shape[1]
                scale = 0.02 if name == "embedding" else fan**-0.5
                if name.endswith((".o", ".down")):
                    scale /= (2 * shape.layers) ** 0.5
                nn.init.normal_(parameter, std=scale)
        inverse = shape.rope_base ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        angles = torch.outer(torch.arange(shape.context).float(), inverse)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, tokens) of ids to (batch, tokens, width)."""
        x = F.embedding(ids, self.embedding)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.rms_norm(x, (self.shape.width,), self.norm, self.shape.epsilon)

    def logits(self, rows: Tensor) -> Tensor:
        """(n, width) to (n, vocabulary); the embedding serves again, tied."""
        return F.linear(rows, self.embedding)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return turned.to(x.dtype)
