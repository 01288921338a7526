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

from models.tiny.attention import attention


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
    rope_base: float = 500_000.0
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
        seen = attention(q, k, v.to(q.dtype))
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
                    scale = 0.0  # at first each layer hands on what it got
                nn.init.normal_(parameter, std=scale)
        inverse = shape.rope_base ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        _begin_with_copying(self, inverse)
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


@torch.no_grad()
def _begin_with_copying(network: Network, inverse: Tensor, pairs: int = 2) -> None:
    """Set up heads that copy what followed the last time, which training would take long to find.

    An induction circuit (Olsson et al. 2022): a head of the first layer carries each token's
    predecessor along, a head of the second looks where the predecessor was the present token, and
    copies the token from there. What is set here is only where training begins.
    """
    shape = network.shape
    width, head, half = shape.width, shape.head, shape.head // 2
    first, second = network.blocks[0], network.blocks[1]
    network.embedding.normal_()
    network.embedding *= 0.05 * width**0.5 / network.embedding.norm(dim=1, keepdim=True)
    network.embedding[:, 0] = 0.3  # one entry that all tokens share, for heads that look at places
    level = 0.3 / (0.3**2 / width + 0.05**2) ** 0.5  # of that entry behind the norm
    slow = inverse < 1 / 2000  # pairs that a few hundred positions hardly turn
    for index in range(pairs):
        rows = slice(index * head, (index + 1) * head)
        fast = (inverse > 0.02).float()  # the others hardly tell a place from the next
        first.q[rows], first.k[rows] = 0.0, 0.0
        first.q[rows, 0] = 8.0 / level * torch.cat((fast * inverse.cos(), -fast * inverse.sin()))
        first.k[rows, 0] = 8.0 / level * torch.cat((fast, torch.zeros(half)))
        seen, kept = _orthogonal(head, width), _orthogonal(head, width)
        seen[:, 0] = 0.0
        first.v[rows] = seen
        first.o[:, rows] = kept.T * 0.05
        turned = torch.cat((slow, slow)).float()[:, None]
        second.q[rows] = 1.5 * seen * turned
        second.k[rows] = 1.5 * kept * turned
        copied = _orthogonal(head, width)
        copied[:, 0] = 0.0
        second.v[rows] = copied
        second.o[:, rows] = copied.T * 0.1


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return turned.to(x.dtype)
