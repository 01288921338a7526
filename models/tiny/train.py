"""Train the tiny model: `python -m models.tiny.train [--smoke] [--out DIR]`.

Needs the extra `train` (PyTorch). Draws the data, learns the vocabulary, trains, and writes
tiny-tools.gguf with a training log beside it. On two CPU cores: an hour and more, or a minute with
`--smoke`, which shows that everything runs and makes a model of no use. The same seed on the same
machine and PyTorch gives the same file.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.tiny import corpus, export, vocabulary
from models.tiny.corpus import Corpus
from models.tiny.network import Network, Shape
from models.tiny.optimiser import Muon


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    conversations: int = 46_000
    tokens: int = 5120  # vocabulary
    steps: int = 6400
    batch: int = 4096  # tokens of a step, padding included
    longest: int = 1152
    width: int = 256
    layers: int = 5
    hidden: int = 512
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    seed: int = 1
    compiled: bool = True  # by torch.compile, which needs a C++ compiler


SMOKE = Plan(
    conversations=300, tokens=4096, steps=20, batch=3072, longest=768, layers=2, compiled=False
)


def batches(data: Corpus, plan: Plan, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, weights) of about `plan.batch` tokens; conversations of like length meet."""
    rng = random.Random(seed)
    lengths = np.diff(data.starts)
    while True:
        order = list(range(len(data)))
        rng.shuffle(order)
        pools = [
            sorted(order[i : i + 256], key=lengths.__getitem__) for i in range(0, len(order), 256)
        ]
        groups = [group for pool in pools for group in _groups(pool, lengths, plan.batch)]
        rng.shuffle(groups)
        for group in groups:
            longest = int(max(lengths[index] for index in group))
            ids = np.zeros((len(group), longest), dtype=np.int64)
            weights = np.zeros((len(group), longest), dtype=np.uint8)
            for row, index in enumerate(group):
                begin, end = data.starts[index], data.starts[index + 1]
                ids[row, : end - begin] = data.ids[begin:end]
                weights[row, : end - begin] = data.weights[begin:end]
            yield torch.from_numpy(ids), torch.from_numpy(weights)


def _groups(pool: list[int], lengths: Any, budget: int) -> Iterator[list[int]]:
    group: list[int] = []
    for index in pool:
        if group and (len(group) + 1) * int(lengths[index]) > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def loss_of(network: Network, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of what the assistant says, and how often its token was the likeliest."""
    hidden = network(ids[:, :-1])
    wanted = weights[:, 1:] > 0
    scores = network.logits(hidden[wanted]).float()
    targets, weight = ids[:, 1:][wanted], weights[:, 1:][wanted].float()
    hits = (scores.argmax(-1) == targets).float().mean()
    losses = F.cross_entropy(scores, targets, reduction="none")
    return (losses * weight).sum() / weight.sum(), hits


def rate(step: int, steps: int) -> float:
    """The learning rate's share: a short rise, a plateau, a straight fall over the last half."""
    rise = min(1.0, (step + 1) / max(1, steps // 40))
    return rise * min(1.0, 2 * (steps - step) / steps)


def train(plan: Plan, data: Corpus, held_out: Corpus, log: list[dict[str, Any]]) -> Network:
    torch.manual_seed(plan.seed)
    shape = Shape(plan.tokens, plan.width, plan.layers, hidden=plan.hidden)
    network = Network(shape)
    if plan.compiled:
        for block in network.blocks:
            block.forward = torch.compile(block.forward, dynamic=True)
    matrices = [p for name, p in network.blocks.named_parameters() if p.ndim == 2]
    others = [p for p in network.parameters() if p.ndim != 2 or p is network.embedding]
    muon = Muon(matrices, plan.matrix_rate)
    adam = torch.optim.AdamW(others, plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    source = batches(data, plan, plan.seed)
    begun, seen = time.monotonic(), 0
    for step in range(plan.steps):
        share = rate(step, plan.steps)
        muon.param_groups[0]["lr"] = plan.matrix_rate * share
        adam.param_groups[0]["lr"] = plan.other_rate * share
        ids, weights = next(source)
        seen += ids.numel()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, hits = loss_of(network, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step()
        adam.step()
        muon.zero_grad()
        adam.zero_grad()
        if step % 50 == 49 or step + 1 == plan.steps:
            row = {
                "step": step + 1,
                "loss": round(loss.item(), 4),
                "accuracy": round(hits.item(), 4),
                "tokens": seen,
                "seconds": round(time.monotonic() - begun),
            }
            if step % 200 == 199 or step + 1 == plan.steps:
                row |= evaluate(network, held_out, plan)
            log.append(row)
            print(json.dumps(row), flush=True)
    return network


@torch.no_grad()
def evaluate(network: Network, held_out: Corpus, plan: Plan) -> dict[str, float]:
    """Loss and accuracy on conversations of another seed (not the bench: same phrases)."""
    source = batches(held_out, plan, 0)
    losses, hits = zip(*(loss_of(network, *next(source)) for _ in range(6)), strict=True)
    values = {"held_out_loss": losses, "held_out_accuracy": hits}
    return {name: round(float(torch.stack(each).mean()), 4) for name, each in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--smoke", action="store_true", help="a minute's run, of no use but to test"
    )
    parser.add_argument("--out", type=Path, default=Path("build/tiny"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    plan = SMOKE if options.smoke else Plan()
    if options.steps:
        plan = Plan(**(asdict(plan) | {"steps": options.steps}))
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    words = vocabulary.learn(
        corpus.texts(plan.seed, min(6000, plan.conversations)), corpus.phrases(), plan.tokens
    )
    template = corpus.TEMPLATE.read_text("utf-8")
    bare = options.out / "vocabulary.gguf"
    vocabulary.write_vocabulary(words, template, bare)
    data = corpus.encode(bare, plan.seed + 1, plan.conversations, plan.longest)
    held_out = corpus.encode(bare, plan.seed + 2, min(500, plan.conversations), plan.longest)
    share = (data.weights > 0).mean()
    print(
        f"{len(data)} conversations, {len(data.ids):,} tokens, {share:.0%} of them said by the "
        f"model; {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    log: list[dict[str, Any]] = []
    network = train(plan, data, held_out, log)
    torch.save(network.state_dict(), options.out / "network.pt")
    probe = held_out.ids[: held_out.starts[1]].tolist()[: plan.longest]
    target = options.out / "tiny-tools.gguf"
    for kind, path in (("f32", options.out / "tiny-tools-f32.gguf"), ("q8_0", target)):
        export.write(network, words, template, path, kind)
        log.append(
            {
                "file": path.name,
                "bytes": path.stat().st_size,
                "largest_log_probability_difference": round(
                    export.difference(network, path, probe), 5
                ),
            }
        )
        print(json.dumps(log[-1]), flush=True)
    record = {
        "plan": asdict(plan),
        "parameters": sum(p.numel() for p in network.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seconds": round(time.monotonic() - begun),
        "log": log,
    }
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
