"""The contract's look at one network: its output, its gradients, its cost."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nasx.contract_faults import Faults
from nasx.cost.card import CostCard, card_of
from nasx.shape import TaskShape
from nasx.space import Space

SAMPLES = 4  # of one batch


def built(candidate: Space, shape: TaskShape) -> nn.Module:
    """Return the untrained network from a fixed seed, whatever the global one is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return candidate.build(shape)


def inspect(candidate: Space, shape: TaskShape, faults: Faults) -> CostCard | None:
    """Build, run, differentiate and price one candidate; return its card."""
    model = built(candidate, shape)
    if not isinstance(model, nn.Module):
        faults.add("build", candidate, "build(shape) must return a torch.nn.Module")
        return None
    size = candidate.input_shape(shape)
    inputs = torch.randn(SAMPLES, *size, generator=torch.Generator().manual_seed(0))
    outputs: list[Tensor] | None = None
    with faults.guard(f"a batch of {tuple(inputs.shape)}", candidate):
        outputs = list(tensors(model.train()(inputs)))
    if outputs is None:
        return None
    said = _misshapen(outputs, shape)
    if said:
        faults.add("output", candidate, said)
        return None
    weights = torch.Generator().manual_seed(1)
    loss = sum((o * torch.randn(o.shape, generator=weights)).sum() for o in outputs)
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    dead = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if dead:
        said = f"no gradient reaches {', '.join(dead[:3])} ({len(dead)} in all): use or drop them"
        faults.add("gradients", candidate, said)
    deployed = candidate.decide(copy.deepcopy(model)).eval()
    with torch.no_grad():
        first, second = list(tensors(deployed(inputs))), list(tensors(deployed(inputs)))
    if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        faults.add("eval", candidate, "two passes in eval mode differ: be random in training only")
    said = _misshapen(first, shape)
    if said:
        faults.add("decide", candidate, f"after decide(model), {said}")
    card = card_of(deployed, size, trained=model)
    if card.unpriced:
        said = f"{', '.join(card.unpriced)} has no price: give the layer count_ops (nasx.cost.ops)"
        faults.add("cost", candidate, said)
    return card


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a network's output."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def _misshapen(outputs: list[Tensor], shape: TaskShape) -> str | None:
    got = ", ".join(str(tuple(o.shape)) for o in outputs) or "nothing"
    if any(not torch.isfinite(o).all() for o in outputs):
        return "the output is not finite: check the initial weights"
    if shape.kind == "classify" and [tuple(o.shape) for o in outputs] != [(SAMPLES, shape.classes)]:
        return f"the output is {got}, wanted ({SAMPLES}, {shape.classes}): (samples, classes)"
    if shape.kind == "restore" and any(o.ndim != 4 for o in outputs):
        return f"the output is {got}, wanted images (samples, channels, height, width)"
    if not outputs or any(o.shape[:1] != (SAMPLES,) for o in outputs if shape.kind != "detect"):
        return f"the output is {got}, wanted {SAMPLES} samples first"
    return None
