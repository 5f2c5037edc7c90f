"""Our count beside fvcore's, which prices the operators of a traced graph."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from nasx.cost.compared import Findings, Ours, note_own_prices

NAME = "fvcore"
CONVOLUTIONS = {"aten.convolution", "aten._convolution"}
PRODUCTS = {"linear", "matmul", "mm", "addmm", "bmm", "einsum"}  # as fvcore names what it prices
WITHOUT = {  # operators of a traced graph that hold products, and that fvcore does not price
    "aten::scaled_dot_product_attention", "aten::_native_multi_head_attention",
    "aten::_transformer_encoder_layer_fwd", "aten::gru", "aten::lstm", "aten::rnn_tanh",
    "aten::rnn_relu", "aten::gru_cell", "aten::lstm_cell", "aten::rnn_tanh_cell",
    "aten::rnn_relu_cell", "aten::baddbmm", "aten::addbmm", "aten::mv", "aten::addmv",
    "aten::dot", "aten::vdot", "aten::inner", "aten::bilinear", "aten::tensordot",
    "aten::chain_matmul", "aten::linalg_multi_dot", "aten::affine_grid_generator",
    "aten::conv_tbc", "aten::_convolution_mode", "aten::_int_mm", "aten::_scaled_mm",
}  # fmt: skip
Cells = dict[str, Counter[str]]  # by layer, children not included


def run(model: nn.Module, inputs: tuple[Any, ...], mine: Ours) -> tuple[int, Findings]:
    """Return fvcore's count of `model(*inputs)` and why it differs. ImportError without fvcore."""
    from fvcore.nn import FlopCountAnalysis

    with torch.no_grad():
        found = FlopCountAnalysis(model, inputs)
        found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        found.tracer_warnings("none")
        total = round(found.total())
    layers = [name for name, _ in model.named_modules()]
    names = {found.canonical_module_name(name): name for name in layers}
    theirs = _own({names[n]: ops for n, ops in found.by_module_and_operator().items()})
    without = _own({name: found.unsupported_ops(name) for name in layers})
    findings = Findings()
    within: dict[str, int] = {}
    for layer in layers:
        owner = mine.own_price(layer)
        if owner is not None:
            within[owner] = within.get(owner, 0) + round(sum(theirs[layer].values()))
        else:
            _layer(findings, mine, layer, theirs[layer], without)
    note_own_prices(findings, mine, within, NAME)
    return total, findings


def _own(whole: Cells) -> Cells:
    """Take what a layer's children hold out of what it holds."""
    own = {layer: Counter(ops) for layer, ops in whole.items()}
    for layer, ops in whole.items():
        if layer:
            own[layer.rpartition(".")[0]].subtract(ops)
    return {layer: Counter({op: n for op, n in ops.items() if n}) for layer, ops in own.items()}


def _layer(
    findings: Findings, mine: Ours, layer: str, theirs: Counter[str], without: Cells
) -> None:
    own = mine.of_layer(layer)
    convolved = {op: n for op, n in own.items() if op in CONVOLUTIONS}
    rest = {op: n for op, n in own.items() if op not in CONVOLUTIONS}
    macs = round(theirs["conv"]) - sum(convolved.values())
    findings.note("aten.convolution", macs, _why(layer, macs, {}, without))
    products = {op: n for op, n in theirs.items() if op in PRODUCTS}
    macs = round(sum(products.values())) - sum(rest.values())
    where = ", ".join(sorted(rest or products))
    findings.note(where, macs, _why(layer, macs, products, without))
    for operator, n in theirs.items():
        if operator != "conv" and operator not in PRODUCTS:
            why = "fvcore counts its elements as MACs; nasx shows them as elementwise"
            findings.note(operator, round(n), why)


def _why(layer: str, macs: int, products: dict[str, int], without: Cells) -> str | None:
    missing = sorted(op for op in without[layer] if op in WITHOUT)
    if macs < 0 and missing:
        return f"fvcore has no price for {', '.join(missing)}"
    parts = layer.split(".")
    for n in range(len(parts)):
        above = ".".join(parts[:n])
        fused = sorted(op for op in without[above] if op.startswith("aten::_") and op in WITHOUT)
        if macs < 0 and fused:
            return f"computed within {', '.join(fused)}, which fvcore does not price"
    if "einsum" in products:
        return "fvcore prices an einsum by numpy's contraction path, not by the products computed"
    if "matmul" in products:
        return "fvcore prices a matmul by its left factor alone, also where that is broadcast"
    return None
