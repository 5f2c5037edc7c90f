"""Our count beside thop's, which adds up rules of modules by their exact type."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd

from nasx.cost.compared import Findings, Ours, note_own_prices

NAME = "thop"


def run(model: nn.Module, inputs: tuple[Any, ...], mine: Ours) -> tuple[int, Findings]:
    """Return thop's MACs of `model(*inputs)` and why they differ; the model is changed."""
    rules = importlib.import_module("thop.profile")
    places = dict(model.named_modules(remove_duplicate=False))
    total, _, tree = rules.profile(model, inputs, verbose=False, ret_layer_info=True)
    names = {module: name for name, module in model.named_modules()}
    layers: dict[str, list[int]] = {}
    for place, macs in {"": 0, **_own(tree, int(total))}.items():
        layers.setdefault(names[places[place]], []).append(macs)
    findings = Findings()
    within: dict[str, int] = {}
    for name, module in model.named_modules():
        theirs = layers.get(name, [])
        owner = mine.own_price(name)
        if owner is not None:
            within[owner] = within.get(owner, 0) + sum(theirs)
            continue
        _layer(findings, mine, name, module, theirs, rules.register_hooks)
    note_own_prices(findings, mine, within, NAME)
    return int(total), findings


def _own(tree: dict[str, Any], total: int, place: str = "") -> dict[str, int]:
    """Return each layer's own MACs by the place where it stands, from thop's nested totals."""
    found = {place: total - sum(int(macs) for macs, _, _ in tree.values())}
    for name, (macs, _, below) in tree.items():
        found.update(_own(below, int(macs), f"{place}.{name}" if place else name))
    return found


def _layer(
    findings: Findings,
    mine: Ours,
    name: str,
    module: nn.Module,
    theirs: list[int],
    rules: dict[type, Any],
) -> None:
    kind, own = type(module).__name__, mine.of_layer(name)
    places = sum(1 for n in theirs if n)
    once = sum(theirs) // places**2 if places else 0
    findings.note(
        kind,
        sum(theirs) - once,
        f"stands in {places} places: thop hooks it and adds it up at each of them",
    )
    macs = once - sum(own.values())
    if macs:
        findings.note(kind, macs, _why(mine, name, module, once, own, rules))


def _why(
    mine: Ours,
    name: str,
    module: nn.Module,
    theirs: int,
    own: dict[str, int],
    rules: dict[type, Any],
) -> str | None:
    if type(module) not in rules:
        known = [b.__name__ for b in type(module).__mro__ if b in rules and b is not nn.Sequential]
        if known:
            return f"thop looks layers up by exact type: this subclass of {known[0]} is not seen"
        called = ", ".join(sorted(own))
        return f"thop sees modules only: {called}, called in this forward, is not seen"
    if not own:
        written = mine.elementwise.get(name, 0)
        normal = written and isinstance(module, _NormBase | nn.LayerNorm)
        each = f" ({theirs / written:.4g} per element)" if normal else ""
        return f"thop counts its elements as MACs{each}; nasx shows them as elementwise"
    if isinstance(module, _ConvTransposeNd):
        return "thop prices a transposed convolution by its output elements, not by its inputs"
    if not theirs:
        return "its hook was not called: a layer above computed it in one fused kernel"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _why_recurrent(module, theirs - sum(own.values()))
    return None


def _why_recurrent(module: nn.Module, macs: int) -> str | None:
    if getattr(module, "proj_size", 0):
        return "thop does not know proj_size, and counts gates and biases as MACs"
    if macs > 0:
        return "thop counts gates, biases and padding as MACs; nasx counts products with weights"
    return None
