"""From a network in training with quantised convolutions to the one that runs them on codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces._layers.decoded import DecodedConv2d
from search_spaces._layers.int_conv import IntConv2d
from search_spaces._layers.quantised import QuantisedConv2d
from search_spaces._layers.rounding import Signs, Steps
from search_spaces._layers.xnor import XnorConv2d


class Shift(nn.Module):
    """Add a number to every element: an image that is read in steps must not be negative."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        """Return x + by."""
        return x + self.by


class Bias(nn.Module):
    """Add a number per channel, which convolutions on codes do not: (N, C, H, W) as it comes."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return x + bias."""
        return x + self.bias.view(-1, 1, 1)


@torch.no_grad()
def deployed(layer: QuantisedConv2d) -> nn.Module:
    """Return the layer that runs a quantised convolution on its codes.

    Signs with signs: XNOR; codes with codes: integers; codes with floats: floats, decoded. What
    else stands before the input's steps (a shift, a ReLU) stays a layer of its own.
    """
    *before, reading = (
        layer.reading if isinstance(layer.reading, nn.Sequential) else [layer.reading]
    )
    codes, scale, where = layer.codes(), layer.scale, (layer.stride, layer.padding)
    main: nn.Module
    if isinstance(reading, Signs) and layer.bits == 1:
        main = XnorConv2d.from_signs(2.0 * codes - 1, *where, scale=scale)
    elif isinstance(reading, Signs):
        main = IntConv2d.from_codes(codes, layer.bits, *where, a_bits=1, scale=scale)
    elif isinstance(reading, Steps):
        main = IntConv2d.from_codes(
            codes, layer.bits, *where, a_bits=reading.bits, alpha=reading.alpha, scale=scale
        )
    else:
        if not isinstance(reading, nn.Identity):
            before.append(reading)
        main = DecodedConv2d.from_codes(codes, layer.bits, *where, scale=scale)
    parts = [*before, main] + ([] if layer.bias is None else [Bias(layer.bias)])
    return main if len(parts) == 1 else nn.Sequential(*parts)


def deploy(model: nn.Module) -> nn.Module:
    """Return `model` with every quantised convolution replaced by the layer that runs it."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, QuantisedConv2d):
            model.set_submodule(name, deployed(layer))
    return model
