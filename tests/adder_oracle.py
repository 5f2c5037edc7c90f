"""The adder convolution as its paper spells it: all filters x taps x places at once, in float64."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def official(
    x: Tensor, w: Tensor, grad: Tensor, stride: int, padding: int, eta: float = 0.2
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, input gradient and weight gradient."""
    x, w, grad = x.double(), w.double(), grad.double()
    kernel = w.shape[2]
    columns = F.unfold(x, kernel, padding=padding, stride=stride)[:, None]  # (N, 1, K, L)
    filters = w.flatten(1)[None, :, :, None]  # (1, O, K, 1)
    g = grad.flatten(2)[:, :, None]  # (N, O, 1, L)
    difference = filters - columns
    y = -difference.abs().sum(2).view_as(grad)
    of_columns = (difference.clamp(-1, 1) * g).sum(1)
    of_x = F.fold(of_columns, x.shape[2:], kernel, padding=padding, stride=stride)
    raw = -(difference * g).sum((0, 3)).view_as(w)
    return y, of_x, raw * (eta * math.sqrt(w.numel()) / raw.norm().clamp_min(1e-12))


def drawn(
    samples: int, channels: int, side: int, filters: int, kernel: int, stride: int, padding: int,
    scale: float = 1.0, seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return an input, filters and an output's gradient, normal; the first two times `scale`."""
    generator = torch.Generator().manual_seed(seed)
    out = (side + 2 * padding - kernel) // stride + 1
    x = scale * torch.randn(samples, channels, side, side, generator=generator)
    w = scale * torch.randn(filters, channels, kernel, kernel, generator=generator)
    return x, w, torch.randn(samples, filters, out, out, generator=generator)
