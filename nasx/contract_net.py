"""The contract's look at one network: its output, its gradients, its cost."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nasx.contract_faults import Faults
from nasx.contract_varying import check_varying
from nasx.cost.card import CostCard, card_of
from nasx.shape import Boxes, TaskShape
from nasx.space import Space
from nasx.tasks.base import Batch, answer, heads_of
from nasx.tasks.degrade import scale_of

SAMPLES = 4  # of one batch
LARGE = 10_000_000  # parameters beyond which a network is looked at by shapes alone


def built(candidate: Space, shape: TaskShape) -> nn.Module:
    """Return the untrained network from a fixed seed, whatever the global one is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return candidate.build(shape)


def inspect(candidate: Space, shape: TaskShape, faults: Faults) -> CostCard | None:
    """Build, run, differentiate and price one candidate; return its card.

    A large network is built and run on shapes alone, and has no card: its small siblings stand for
    its gradients and prices.
    """
    if _large(candidate, shape, faults):
        return None
    model = built(candidate, shape)
    if not isinstance(model, nn.Module):
        faults.add("build", candidate, "build(shape) must return a torch.nn.Module")
        return None
    size = candidate.input_shape(shape)
    images = shape.kind in ("restore", "detect")  # in [0, 1]
    draw = torch.rand if images else torch.randn
    inputs = draw(SAMPLES, *size, generator=torch.Generator().manual_seed(0))
    outputs: list[Tensor] | None = None
    with faults.guard(f"a batch of {tuple(inputs.shape)}", candidate):
        outputs = list(_answers(model.train(), inputs, shape))
    if outputs is None:
        return None
    said = _misshapen(outputs, inputs, shape, _heads(model, shape))
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
        first, second = (list(_answers(deployed, inputs, shape)) for _ in range(2))
    if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        faults.add("eval", candidate, "two passes in eval mode differ: be random in training only")
    heads = _heads(deployed, shape)
    said = _misshapen(first, inputs, shape, heads)
    if said:
        faults.add("decide", candidate, f"after decide(model), {said}")
    if heads != _outputs(shape):
        idle = ", ".join(heads[len(_outputs(shape)) :])
        faults.add("decide", candidate, f"decide(model) leaves heads of no use: drop {idle}")
    card = card_of(deployed, size, trained=model)
    again = lambda model, x: _answers(model, x, shape)  # noqa: E731
    check_varying(candidate, deployed, inputs, first, card, again, faults)
    if card.unpriced:
        said = f"{', '.join(card.unpriced)} has no price: give the layer count_ops (nasx.cost.ops)"
        faults.add("cost", candidate, said)
    return card


def _large(candidate: Space, shape: TaskShape, faults: Faults) -> bool:
    """Return whether a network is large; if so, look at what it answers, without a number in it."""
    try:
        with torch.device("meta"):
            model = candidate.build(shape)
            if sum(p.numel() for p in model.parameters()) <= LARGE:
                return False
            inputs = torch.zeros(SAMPLES, *candidate.input_shape(shape))
            outputs = list(_answers(model.train(), inputs, shape))
    except Exception:  # it needs numbers to be built or run
        return False
    said = _misshapen(outputs, inputs, shape, _heads(model, shape))
    if said:
        faults.add("output", candidate, said)
    return True


def _answers(model: nn.Module, inputs: Tensor, shape: TaskShape) -> Iterator[Tensor]:
    """Yield what a network answers, head by head."""
    for head in _heads(model, shape):
        yield from tensors(answer(model, Batch(inputs, {}, head), shape))


def _outputs(shape: TaskShape) -> tuple[str, ...]:
    """Return the heads that a task names; one without a name where it names none."""
    return shape.outputs if isinstance(shape.outputs, tuple) else ("",)


def _heads(model: nn.Module, shape: TaskShape) -> tuple[str, ...]:
    """Return the task's heads, then those that a network has beside them (for pre-training)."""
    own = _outputs(shape)
    return own + tuple(head for head in heads_of(model) if head not in own)


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


def _misshapen(
    outputs: list[Tensor], inputs: Tensor, shape: TaskShape, heads: tuple[str, ...]
) -> str | None:
    got = ", ".join(str(tuple(o.shape)) for o in outputs) or "nothing"
    if any(not o.is_meta and not torch.isfinite(o).all() for o in outputs):
        return "the output is not finite: check the initial weights"
    if shape.kind == "classify" and [tuple(o.shape) for o in outputs] != [(SAMPLES, shape.classes)]:
        return f"the output is {got}, wanted ({SAMPLES}, {shape.classes}): (samples, classes)"
    if shape.kind == "restore" and isinstance(shape.outputs, tuple):
        scales = [scale_of(head) for head in heads]
        height, width = inputs.shape[-2:]
        wanted = [(SAMPLES, 3, s * height, s * width) for s in scales]
        if [tuple(o.shape) for o in outputs] != wanted:
            return (
                f"the output is {got}, wanted {', '.join(map(str, wanted))} for {', '.join(heads)}"
            )
    if isinstance(shape.outputs, Boxes):
        return _no_detector(outputs, inputs, shape.outputs, got)
    if not outputs or any(o.shape[:1] != (SAMPLES,) for o in outputs):
        return f"the output is {got}, wanted {SAMPLES} samples first"
    return None


def _no_detector(outputs: list[Tensor], inputs: Tensor, boxes: Boxes, got: str) -> str | None:
    """Return what is wrong with the answers of a detector."""
    sides = [[math.ceil(side / s) for side in inputs.shape[-2:]] for s in boxes.strides]
    count = sum(math.prod(both) for both in sides)
    wanted = (SAMPLES, count, 4 + boxes.classes)
    if [tuple(o.shape) for o in outputs] != [wanted]:
        return (
            f"the output is {got}, wanted {wanted}: samples, the points of strides "
            f"{boxes.strides}, four distances and {boxes.classes} classes"
        )
    if not outputs[0].is_meta and bool((outputs[0][..., :4] < 0).any()):
        return "a distance to a box's side is below 0: take its softplus or exp"
    return None
