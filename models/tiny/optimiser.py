"""Muon for the matrices, AdamW for the rest, which learns in fewer steps than AdamW alone.

Muon is Keller Jordan's (2024, kellerjordan.github.io/posts/muon): the momentum of a matrix,
brought near an orthogonal one by five Newton-Schulz steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic's coefficients, from the same source


class Muon(torch.optim.Optimizer):
    """For parameters of two dimensions. `lr` is the size of an update's entries."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": 0.05})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonal(torch.stack([self._direction(p, group) for p in parameters]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(update, alpha=-group["lr"] * scale)

    def _direction(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """The gradient with Nesterov's momentum."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        gradient = parameter.grad
        assert gradient is not None
        momentum.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"])


def orthogonal(matrices: Tensor) -> Tensor:
    """(n, rows, columns) to matrices with the same singular vectors, their values near 1.

    In bfloat16, which the method bears: the values end between about 0.7 and 1.2 anyhow.
    """
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    is_tall = x.shape[1] > x.shape[2]
    x = (x.mT if is_tall else x).bfloat16()
    for _ in range(5):
        product = x @ x.mT
        x = _A * x + (_B * product + _C * product @ product) @ x
    return (x.mT if is_tall else x).float()
