"""The training code's own arithmetic, against PyTorch's. Needs the extra `train`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is in the extra `train` only")


@pytest.mark.parametrize("tokens", [1, 127, 128, 333])
def test_attention_and_its_gradients_are_pytorch_s(tokens: int) -> None:
    from models.tiny.attention import attention

    torch.manual_seed(0)
    given = [torch.randn(2, 3, tokens, 16, requires_grad=True) for _ in range(3)]
    weight = torch.randn(2, 3, tokens, 16)
    ours = attention(*given)
    theirs = torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(out, given, weight) for out in (ours, theirs)]
    for mine, yours in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-5)


def test_an_update_is_nearly_orthogonal() -> None:
    from models.tiny.optimiser import orthogonal

    torch.manual_seed(0)
    for shape in ((64, 64), (128, 32), (32, 128)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(2, *shape)))
        assert values.max() < 1.4
        assert values.quantile(0.1) > 0.5  # the very smallest would take more steps


def test_copying_heads_copy_what_followed_the_last_time() -> None:
    """Before any training, the second of two equal stretches is told from the first."""
    from models.tiny.network import Network, Shape

    torch.manual_seed(0)
    network = Network(Shape(512, layers=2))
    ids = torch.randint(0, 512, (1, 60)).repeat(1, 2)
    with torch.no_grad():
        scores = network.logits(network(ids))[0]
    ranks = [(scores[i] > scores[i, ids[0, i + 1]]).sum().item() for i in range(70, 119)]
    assert sum(ranks) / len(ranks) < 60  # of 512; chance is 256
