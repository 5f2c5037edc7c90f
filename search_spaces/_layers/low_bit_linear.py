"""A linear layer over tokens whose weights have few bits: the low-bit 1x1 convolution on a line."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces._layers.rounding import RoundedConv2d


class LowBitLinear(nn.Module):
    """Map (N, T, c_in) to (N, T, c_out) with weights of `bits`, a scale per output and a bias.

    Inputs stay float: deployed, it saves memory and not time.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv  # (N, c_in, T, 1) to (N, c_out, T, 1)

    @classmethod
    def like(cls, layer: nn.Linear, bits: int) -> LowBitLinear:
        """Return the layer of the same sizes and of the same start."""
        conv = RoundedConv2d(
            layer.in_features, layer.out_features, 1,
            bits=bits, scaled=True, bias=layer.bias is not None,
        )  # fmt: skip
        with torch.no_grad():
            weight = layer.weight.detach()
            conv.weight.copy_(weight.reshape(conv.weight.shape))
            if conv.scale is not None:  # undoes the division by the largest, so that both agree
                conv.scale.fill_(weight.tanh().abs().max())
        return cls(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, c_in) to (N, T, c_out)."""
        y: Tensor = self.conv(x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        return y


def lower(model: nn.Module, bits: int) -> None:
    """Give every linear layer of the tokens of a network weights of `bits`."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            model.set_submodule(name, LowBitLinear.like(layer, bits))
